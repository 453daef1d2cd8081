"""Run-length packing of masks, as Autoware sends them in an Image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RUN = np.dtype([("label", "u1"), ("length", "<i4")])
"""One run: 5 bytes."""


def run_lengths(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the packed bytes of an (H, W) mask: its rows one after the other, as runs of equal ids.

    The lengths sum to H x W; a run goes on over the end of a row.
    """
    pixels = np.ascontiguousarray(mask).reshape(-1)
    starts = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    edges = np.concatenate([[0], starts, [pixels.size]]) if pixels.size else np.zeros(1, np.int64)
    runs = np.empty(len(edges) - 1, RUN)
    runs["label"], runs["length"] = pixels[edges[:-1]], np.diff(edges)
    return runs.view(np.uint8)
