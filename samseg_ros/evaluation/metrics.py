"""Confusion, IoU, mIoU and its uncertainty.

A confusion is a (K, K + 1) int64 array: rows are the true class, columns the predicted one, and the last column
counts labelled pixels that were predicted *unlabelled* (255): they are misses, never left out. A plain (K, K)
array is taken as well. Pixels whose truth is 255 are not counted. Confusions add up over frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samseg_ros.errors import InputError
from samseg_ros.types import UNLABELLED

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


def confusion(predicted: NDArray[np.uint8], truth: NDArray[np.uint8], classes: int) -> Counts:
    """Count one frame in one pass.

    Args:
        predicted: (H, W) class ids; 255 = unlabelled.
        truth: (H, W) class ids; 255 = not to be counted.
        classes: K.

    Returns:
        (K, K + 1) counts.

    Raises:
        InputError: the sizes differ, or an id is neither below K nor 255.
    """
    counts: Counts = confusions_by_part(predicted, truth, classes, None, 1)[0]
    return counts


def confusions_by_part(
    predicted: NDArray[np.uint8], truth: NDArray[np.uint8], classes: int, part: NDArray[np.uint8] | None, parts: int
) -> Counts:
    """Count one frame in one pass, each part of the image by itself.

    Args:
        predicted: (H, W) class ids; 255 = unlabelled.
        truth: (H, W) class ids; 255 = not to be counted.
        classes: K.
        part: (H, W) to which part each pixel belongs, below ``parts``; None: all to the last.
        parts: P.

    Returns:
        (P, K, K + 1) counts.

    Raises:
        InputError: as `confusion`.
    """
    for name, image in (("predicted mask", predicted), ("parts of the image", part)):
        if image is not None and image.shape != truth.shape:
            raise InputError(
                name,
                expected=f"the size of the labels {truth.shape}",
                got=str(image.shape),
                remedy="score masks at camera size against labels of the same camera",
            )
    columns = classes + 2  # K classes, every other id, 255
    place = np.full(256, classes, np.int32)
    place[:classes] = np.arange(classes)
    place[UNLABELLED] = classes + 1
    places = (place * columns)[truth.ravel()] + place[predicted.ravel()]
    first = (np.arange(parts, dtype=np.int32) * columns**2)[-1 if part is None else part.ravel()]
    found = np.bincount(places + first, minlength=parts * columns**2).reshape(parts, columns, columns)
    _refuse_strays(found.sum(0), predicted, truth, classes)
    return np.delete(found[:, :classes], classes, axis=2).astype(np.int64)


def _refuse_strays(table: Counts, predicted: NDArray[np.uint8], truth: NDArray[np.uint8], classes: int) -> None:
    for name, stray, ids in (("label", table[classes].sum(), truth), ("mask", table[:, classes].sum(), predicted)):
        if stray:
            raise InputError(
                f"{name} image",
                expected=f"class ids below {classes}, or {UNLABELLED}",
                got=f"id {ids[(ids >= classes) & (ids != UNLABELLED)].max()}",
                remedy="score with a model of the label set that the labels were made with",
            )


def iou(counts: Counts) -> Floats:
    """Return (..., K) intersection over union from (..., K, K or K + 1); NaN for a class that never occurs.

    A class occurs if it is true or predicted anywhere: one that is only predicted has IoU 0.
    """
    hits = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)
    classes = counts.shape[-2]
    union = counts.sum(-1) + counts[..., :classes].sum(-2) - hits
    return _ratio(hits, union, union > 0)


def miou(counts: Counts, absent: str = "skip") -> Floats:
    """Return (...) mean IoU over classes.

    Args:
        counts: (..., K, K or K + 1).
        absent: ``skip`` leaves classes that never occur out of the mean (torchmetrics' rule), ``zero`` counts them
            as 0 (the rule of DeLiVER's published numbers). NaN where nothing is labelled at all.

    Raises:
        InputError: another rule.
    """
    return mean_over_classes(iou(counts), absent)


def mean_over_classes(values: Floats, absent: str = "skip") -> Floats:
    """Return (...) the mean of (..., K) scores, NaN where a class is absent; rules and errors as in `miou`."""
    occurs = np.isfinite(values)
    if absent not in ("skip", "zero"):
        raise InputError("absent-class rule", expected="skip or zero", got=repr(absent), remedy="choose one of them")
    number = occurs.sum(-1) if absent == "skip" else np.full(occurs.shape[:-1], occurs.shape[-1])
    total = np.where(occurs, values, 0.0).sum(-1)
    return _ratio(total, number, np.asarray(occurs.any(-1)))


def accuracy(counts: Counts) -> Floats:
    """Return (...) the share of labelled pixels that are right; NaN where nothing is labelled."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1).sum(-1).astype(np.float64)
    total = counts.sum((-1, -2))
    return _ratio(hits, total, total > 0)


def _ratio(part: Floats, whole: NDArray[Any], where: NDArray[np.bool_]) -> Floats:
    """Divide, NaN elsewhere."""
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=where), np.float64)


@dataclass(frozen=True, slots=True)
class Interval:
    """A bootstrap interval of 95 %."""

    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of 0."""
        return self.low > 0.0 or self.high < 0.0


def bootstrap_miou(confusions: Counts, n: int = 1000, seed: int = 0) -> Interval:
    """Return the 95 % percentile interval of mIoU when frames are drawn anew with replacement (Efron 1979).

    Args:
        confusions: (N, K, K or K + 1), one per frame.
        n: number of draws.
        seed: of the draws.

    Raises:
        InputError: no frame.
    """
    return bootstrap(confusions, miou, n, seed)


def bootstrap(counts: Counts, score: Callable[[Counts], Floats], n: int = 1000, seed: int = 0) -> Interval:
    """Return the 95 % percentile interval of any score of summed counts, as `bootstrap_miou` does for mIoU.

    Args:
        counts: (N, ...), one per frame, which add up.
        score: (n, ...) summed counts to (n,) scores.
        n: number of draws.
        seed: of the draws.

    Raises:
        InputError: no frame.
    """
    return _interval(score(_resampled(counts, _draws(len(counts), n, seed))))


def bootstrap_difference(
    ours: Counts, other: Counts, n: int = 1000, seed: int = 0, absent: str = "skip"
) -> tuple[float, Interval]:
    """Return mIoU(ours) - mIoU(other) and its 95 % interval; both saw the same frames, which are drawn in pairs.

    Raises:
        InputError: no frame, or different numbers of frames.
    """
    if len(ours) != len(other):
        raise InputError(
            "paired bootstrap",
            expected=f"{len(ours)} frames of the other model",
            got=str(len(other)),
            remedy="score both models on the same frames in the same order",
        )
    draws = _draws(len(ours), n, seed)
    difference = miou(_resampled(ours, draws), absent) - miou(_resampled(other, draws), absent)
    return float(miou(ours.sum(0), absent) - miou(other.sum(0), absent)), _interval(difference)


def miou_text(confusions: Counts) -> str:
    """Write mIoU in % with its 95 % bootstrap interval over frames; a single frame has none."""
    value = f"{100 * float(miou(confusions.sum(0))):.1f}"
    if len(confusions) < 2:
        return value
    span = bootstrap_miou(confusions)
    return f"{value} [{100 * span.low:.1f}, {100 * span.high:.1f}]"


@lru_cache(maxsize=4)
def _draws(frames: int, n: int, seed: int) -> Counts:
    """Return (n, frames): how often each draw holds each frame."""
    if frames == 0:
        raise InputError("bootstrap", expected="at least one frame", got="none", remedy="score a bag with labels")
    rng = np.random.default_rng(seed)
    return rng.multinomial(frames, np.full(frames, 1.0 / frames), size=n).astype(np.int64)


def _resampled(confusions: Counts, draws: Counts) -> Counts:
    flat = confusions.reshape(len(confusions), -1).astype(np.float64)  # exact below 2^53, and much faster
    summed = (draws.astype(np.float64) @ flat).astype(np.int64)
    return summed.reshape(len(draws), *confusions.shape[1:])


def _interval(values: Floats) -> Interval:
    if not np.isfinite(values).any():
        return Interval(np.nan, np.nan)
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return Interval(float(low), float(high))
