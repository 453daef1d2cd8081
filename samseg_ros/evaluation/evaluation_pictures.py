"""Which frames a page about an evaluation shows, and how they get into it: few and small, yet some for every cell."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from samseg_ros.errors import InputError
from samseg_ros.evaluation.measures import Scored
from samseg_ros.evaluation.metrics import Counts, miou
from samseg_ros.evaluation.page import jpeg

PICTURE_SIDE, JPEG_QUALITY = 640, 80
"""Longer side in pixels; larger pictures are made smaller inside the page."""
MAX_BYTES = 12_000_000
"""Of all pictures of one page, as base64. With the numbers beside them the file stays below about 15 MB."""
MAX_PICTURES = 120
"""How often one page asks for a picture: each may be another pass through a model."""
LISTED = 6
"""Frames named for one cell of the confusion."""
EXTREMES = 4
"""Worst frames of each run, and as many best ones."""


@dataclass(frozen=True, eq=False, slots=True)
class Shown:
    """One frame as a model saw it.

    Raises:
        InputError: mask or truth differs from the image in size.
    """

    image: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    mask: NDArray[np.uint8]
    """(H, W) class ids that the model gave, 255 = unlabelled."""
    truth: NDArray[np.uint8]
    """(H, W) true ones, 255 = not counted."""

    def __post_init__(self) -> None:
        for name in ("mask", "truth"):
            if getattr(self, name).shape != self.image.shape[:2]:
                raise InputError(
                    f"picture of a frame, {name}",
                    expected=f"the image's size {self.image.shape[:2]}",
                    got=str(getattr(self, name).shape),
                    remedy="show masks and labels at camera size",
                )


Picture = Callable[[Scored, int], Shown | None]
"""Gives frame ``index`` of what was scored, None where it cannot be had again."""


@dataclass(slots=True)
class Album:
    """The pictures of one board, taken in until there is no more room.

    Args:
        room: base64 characters.
        asks: how often a picture may be asked for.
    """

    room: int
    asks: int
    entries: list[dict[str, Any]] = field(default_factory=list)
    """``width, height, jpeg, truth, masks``: base64; truth and masks (one a run or None) are deflated class ids."""
    place: dict[int, int] = field(default_factory=dict)
    """Frame -> where it is among the entries."""

    def add(self, runs: Sequence[Scored], frame: int, picture: Picture) -> bool:
        """Take in a frame as all runs saw it; False: there was no room for it."""
        if self.asks < len(runs):
            return False
        self.asks -= len(runs)
        views = [picture(run, frame) for run in runs]
        entry = _entry(views)
        if entry is None:
            return True
        size = sum(len(text) for text in (entry["jpeg"], entry["truth"], *filter(None, entry["masks"])))
        if size > self.room:
            return False
        self.room -= size
        self.place[frame] = len(self.entries)
        self.entries.append(entry)
        return True


def collect(runs: Sequence[Scored], picture: Picture, share: float = 1.0) -> Album:
    """Choose frames and take their pictures in.

    Args:
        runs: on the same frames.
        share: of the page's bounds that these runs may use.
    """
    album = Album(int(MAX_BYTES * share), int(MAX_PICTURES * share))
    for frame in wanted([run.measures.confusions for run in runs], album.place):
        if frame not in album.place and not album.add(runs, frame, picture):
            break
    return album


def wanted(confusions: Sequence[Counts], held: Collection[int]) -> Iterator[int]:
    """Yield frames, the most telling first: worst and best, one for every cell of the confusion, then more for each.

    Cells go by the share of their true class, mistakes before what is right.

    Args:
        confusions: (N, K, K + 1) of each run.
        held: frames that there are pictures of by now; a cell that one of them shows well needs no other at first.
    """
    extremes = [by_score(counts) for counts in confusions]
    for i in range(EXTREMES):
        for frames in extremes:
            yield from (frames[min(i, len(frames) - 1)], frames[max(-1 - i, -len(frames))]) if frames else ()
    cells = [(run, *cell) for cell in _cells(confusions) for run in range(len(confusions))]
    tops = [top_frames(counts) for counts in confusions]
    for run, row, column in cells:
        shown_by = tops[run].get((row, column), [])
        if shown_by and not any(frame in held for frame, _ in shown_by):
            yield shown_by[0][0]
    for i in range(LISTED):
        for run, row, column in cells:
            yield from (frame for frame, _ in tops[run].get((row, column), [])[i : i + 1])


def by_score(confusions: Counts) -> list[int]:
    """Return the frames that have a score, from the worst mIoU to the best."""
    scores = miou(confusions)
    return [int(i) for i in np.argsort(scores, kind="stable") if np.isfinite(scores[i])]


def top_frames(confusions: Counts, number: int = LISTED) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Return for each cell that counts anything the frames with the most pixels of it: (frame, pixels)."""
    order = np.argsort(-confusions, axis=0, kind="stable")[:number]
    pixels = np.take_along_axis(confusions, order, axis=0)
    return {
        (int(r), int(c)): [(int(f), int(n)) for f, n in zip(order[:, r, c], pixels[:, r, c], strict=True) if n]
        for r, c in zip(*np.nonzero(confusions.any(0)), strict=True)
    }


def _cells(confusions: Sequence[Counts]) -> list[tuple[int, int]]:
    total = np.sum([counts.sum(0) for counts in confusions], axis=0).astype(np.float64)
    shares = total / np.maximum(total.sum(1, keepdims=True), 1)
    order = shares - 2 * np.eye(*shares.shape)
    return [divmod(int(place), shares.shape[1]) for place in np.argsort(-order, axis=None, kind="stable")]


def _entry(views: Sequence[Shown | None]) -> dict[str, Any] | None:
    """Return what goes into the page; the runs share the image and the truth of the first one that has them."""
    seen = [view for view in views if view is not None]
    if not seen:
        return None
    height, width = seen[0].truth.shape
    scale = min(1.0, PICTURE_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = cv2.resize(seen[0].image[:, :, ::-1], size, interpolation=cv2.INTER_AREA)
    return {
        "width": size[0],
        "height": size[1],
        "jpeg": jpeg(np.asarray(image, np.uint8), JPEG_QUALITY),
        "truth": _packed(seen[0].truth, size),
        "masks": [None if view is None else _packed(view.mask, size) for view in views],
    }


def _packed(ids: NDArray[np.uint8], size: tuple[int, int]) -> str:
    """Deflate class ids: lossless, and a browser unpacks them by itself, so that every cell can be marked in them."""
    small = cv2.resize(ids, size, interpolation=cv2.INTER_NEAREST)
    return base64.b64encode(zlib.compress(np.ascontiguousarray(small).tobytes(), 9)).decode()
