"""Confusion, IoU, mIoU and its uncertainty.

A confusion is a (K, K + 1) int64 array: rows are the true class, columns the predicted one, and the last column
counts labelled pixels that were predicted *unlabelled* (255): they are misses, never left out. A plain (K, K)
array is taken as well. Pixels whose truth is 255 are not counted. Confusions add up over frames.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    if predicted.shape != truth.shape:
        raise InputError(
            "predicted mask",
            expected=f"the size of the labels {truth.shape}",
            got=str(predicted.shape),
            remedy="score masks at camera size against labels of the same camera",
        )
    columns = classes + 2  # K classes, every other id, 255
    place = np.full(256, classes, np.intp)
    place[:classes] = np.arange(classes)
    place[UNLABELLED] = classes + 1
    pairs = (place * columns)[truth.ravel()] + place[predicted.ravel()]
    table = np.bincount(pairs, minlength=columns * columns).reshape(columns, columns)
    for name, stray, ids in (("label", table[classes].sum(), truth), ("mask", table[:, classes].sum(), predicted)):
        if stray:
            raise InputError(
                f"{name} image",
                expected=f"class ids below {classes}, or {UNLABELLED}",
                got=f"id {ids[(ids >= classes) & (ids != UNLABELLED)].max()}",
                remedy="score with a model of the label set that the labels were made with",
            )
    return np.delete(table[:classes], classes, axis=1).astype(np.int64)


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
    values = iou(counts)
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
    """A bootstrap interval."""

    low: float
    high: float
    level: float = 0.95

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of 0."""
        return self.low > 0.0 or self.high < 0.0


def bootstrap_miou(confusions: Counts, n: int = 1000, seed: int = 0, absent: str = "skip") -> Interval:
    """Return the 95 % percentile interval of mIoU when frames are drawn anew with replacement (Efron 1979).

    Args:
        confusions: (N, K, K or K + 1), one per frame.
        n: number of draws.
        seed: of the draws.
        absent: see `miou`.

    Raises:
        InputError: no frame.
    """
    return _interval(miou(_resampled(confusions, _draws(len(confusions), n, seed)), absent))


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


def _draws(frames: int, n: int, seed: int) -> Counts:
    """Return (n, frames): how often each draw holds each frame."""
    if frames == 0:
        raise InputError("bootstrap", expected="at least one frame", got="none", remedy="score a bag with labels")
    rng = np.random.default_rng(seed)
    return rng.multinomial(frames, np.full(frames, 1.0 / frames), size=n).astype(np.int64)


def _resampled(confusions: Counts, draws: Counts) -> Counts:
    flat = confusions.reshape(len(confusions), -1)
    return (draws @ flat).reshape(len(draws), *confusions.shape[1:])


def _interval(values: Floats, level: float = 0.95) -> Interval:
    tail = 50.0 * (1.0 - level)
    low, high = np.nanpercentile(values, [tail, 100.0 - tail])
    return Interval(float(low), float(high), level)
