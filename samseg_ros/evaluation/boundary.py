"""Boundary F-score: do the outlines of the classes lie where they are?

Csurka et al., What is a good evaluation measure for semantic segmentation?, BMVC 2013: precision and recall of
boundary pixels within a tolerance, here pooled over frames. A pixel is on the boundary of its class if one of its four
neighbours has another id. Tolerance: 0.75 % of the image diagonal, as there, rounded up to whole pixels, as in DAVIS
(Perazzi et al., CVPR 2016; 0.8 % there); distances are Euclidean.

Pixels whose truth is 255 hide where the classes around them end. So they make no boundary in the truth, and pixels
within the tolerance of one are counted in neither map; as partners of others they still serve.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from samseg_ros.evaluation.metrics import Counts, Floats, mean_over_classes
from samseg_ros.types import UNLABELLED

TOLERANCE = 0.0075
"""Share of the image diagonal."""


def boundary_counts(
    predicted: NDArray[np.uint8], truth: NDArray[np.uint8], classes: int, tolerance: float = TOLERANCE
) -> Counts:
    """Count one frame's boundary pixels.

    Args:
        predicted: (H, W) class ids; 255 = unlabelled: another id than any class, without a boundary of its own.
        truth: (H, W) class ids; 255 = not to be counted.
        classes: K.
        tolerance: share of the image diagonal.

    Returns:
        (K, 4): predicted boundary pixels, those with a true one of their class within the tolerance; true boundary
        pixels, those with a predicted one.
    """
    radius = tolerance_px(truth.shape, tolerance)
    rows, columns = _disc(radius)
    ours, theirs = _boundary(predicted, classes, False), _boundary(truth, classes, True)
    hidden = np.pad(truth == UNLABELLED, radius) if (truth == UNLABELLED).any() else np.zeros((0, 0), np.bool_)
    counts = np.zeros((classes, 4), np.int64)
    _match(ours, np.pad(theirs, radius, constant_values=UNLABELLED), hidden, rows, columns, counts[:, :2])
    _match(theirs, np.pad(ours, radius, constant_values=UNLABELLED), hidden, rows, columns, counts[:, 2:])
    return counts


def tolerance_px(size: tuple[int, ...], tolerance: float = TOLERANCE) -> int:
    """Return the tolerance for images of (H, W) in pixels."""
    return math.ceil(round(tolerance * math.hypot(*size), 6))  # rounded: 6.000000001 is 6


def boundary_f(counts: Counts) -> Floats:
    """Return (..., K) F-scores from (..., K, 4) counts; NaN for a class that has no boundary pixel in either map."""
    predicted, right, true, found = np.moveaxis(counts.astype(np.float64), -1, 0)
    precision, recall = right / np.maximum(predicted, 1), found / np.maximum(true, 1)
    score = 2 * precision * recall / np.maximum(precision + recall, np.finfo(np.float64).tiny)
    return np.where(predicted + true > 0, score, np.nan)


def mean_boundary_f(counts: Counts, absent: str = "skip") -> Floats:
    """Return (...) the mean of `boundary_f` over classes; absent classes and errors as in `metrics.miou`."""
    return mean_over_classes(boundary_f(counts), absent)


@lru_cache(maxsize=8)
def _disc(radius: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places within a radius of (radius, radius), the nearest first."""
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1].reshape(2, -1)
    square = rows**2 + columns**2
    order = np.argsort(square, kind="stable")[: int((square <= radius**2).sum())]
    return rows[order] + radius, columns[order] + radius


@njit(cache=True, nogil=True)
def _boundary(ids, classes, skip_unlabelled):  # type: ignore[no-untyped-def]
    """Return (H, W): the class of a boundary pixel, 255 for every other."""
    height, width = ids.shape
    found = np.full((height, width), np.uint8(UNLABELLED), np.uint8)
    for y in range(height):
        for x in range(width):
            own = ids[y, x]
            up, down, left, right = ids[max(y - 1, 0), x], ids[min(y + 1, height - 1), x], own, own
            if x > 0:
                left = ids[y, x - 1]
            if x < width - 1:
                right = ids[y, x + 1]
            if own < classes and not (up == own and down == own and left == own and right == own):
                for other in (up, down, left, right):
                    if other != own and not (skip_unlabelled and other == UNLABELLED):
                        found[y, x] = own
    return found


@njit(cache=True, nogil=True)
def _match(boundary, partners, hidden, rows, columns, counts):  # type: ignore[no-untyped-def]
    """Add to (K, 2) how many pixels there are, and how many have a partner; the last three maps are padded."""
    for y in range(boundary.shape[0]):
        for x in range(boundary.shape[1]):
            own = boundary[y, x]
            if own == UNLABELLED:
                continue
            counted = True
            if hidden.size:
                for i in range(len(rows)):
                    if hidden[y + rows[i], x + columns[i]]:
                        counted = False
                        break
            if not counted:
                continue
            counts[own, 0] += 1
            for i in range(len(rows)):
                if partners[y + rows[i], x + columns[i]] == own:
                    counts[own, 1] += 1
                    break
