"""Scoring masks against the labels of a recording, frame by frame and per condition."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samseg_ros.evaluation.metrics import Counts, accuracy, bootstrap_miou, confusion, iou, miou
from samseg_ros.labels import LabelSet

MAX_WAITING = 200
"""Masks, or labels, that wait for their partner at most; the oldest is given up."""


@dataclass(frozen=True, eq=False, slots=True)
class FrameScore:
    """One frame that has both a mask and labels."""

    stamp_ns: int
    condition: str
    """Empty where the recording names none."""
    confusion: Counts
    """(K, K + 1), see `metrics`."""


@dataclass(slots=True)
class Scorer:
    """Brings masks and labels of equal stamps together, in whatever order they come.

    Args:
        labels: the label set of masks and labels.
    """

    labels: LabelSet
    truths: int = 0
    """Labels that came."""
    _truth: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    _masks: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    _counts: dict[int, Counts] = field(default_factory=dict)
    _conditions: list[tuple[int, str]] = field(default_factory=list)

    def add_truth(self, stamp_ns: int, truth: NDArray[np.uint8]) -> None:
        """Add the labels (H, W) of a frame.

        Raises:
            InputError: labels and mask differ in size, or an id is neither below K nor 255.
        """
        self.truths += 1
        self._truth[stamp_ns] = truth
        self._match(stamp_ns, self._truth)

    def add_mask(self, stamp_ns: int, mask: NDArray[np.uint8]) -> None:
        """Add the mask (H, W) of a frame; raises as `add_truth`."""
        self._masks[stamp_ns] = mask
        self._match(stamp_ns, self._masks)

    def add_condition(self, time_ns: int, name: str) -> None:
        """Say that frames recorded from ``time_ns`` on belong to condition ``name``; times never go back.

        Frames before the first one belong to it too.
        """
        self._conditions.append((time_ns, name))

    def _match(self, stamp_ns: int, waiting: dict[int, NDArray[np.uint8]]) -> None:
        if stamp_ns in self._truth and stamp_ns in self._masks:
            mask, truth = self._masks.pop(stamp_ns), self._truth.pop(stamp_ns)
            self._counts[stamp_ns] = confusion(mask, truth, len(self.labels))
        elif len(waiting) > MAX_WAITING:
            del waiting[next(iter(waiting))]

    def frames(self, recorded_ns: Mapping[int, int]) -> list[FrameScore]:
        """Return what was scored so far, by stamp.

        Args:
            recorded_ns: stamp to the time at which that frame was recorded, on the clock of the conditions; a frame
                that is not in it counts as recorded at its stamp.
        """
        return [
            FrameScore(stamp, self._condition(recorded_ns.get(stamp, stamp)), self._counts[stamp])
            for stamp in sorted(self._counts)
        ]

    def _condition(self, time_ns: int) -> str:
        place = bisect_right(self._conditions, time_ns, key=lambda entry: entry[0])
        return self._conditions[max(place, 1) - 1][1] if self._conditions else ""


def summary(scores: list[FrameScore], labels: LabelSet) -> dict[str, Any]:
    """Return what metrics.json holds of these frames: mIoU under both rules, accuracy, IoU per class.

    Returns:
        ``frames, miou, miou_absent_zero, miou_interval (95 %, over frames), accuracy, iou {class: value or None}``.
    """
    per_frame = np.stack([score.confusion for score in scores])
    counts = per_frame.sum(0)
    interval = bootstrap_miou(per_frame)
    return {
        "frames": len(scores),
        "miou": finite(miou(counts, "skip")),
        "miou_absent_zero": finite(miou(counts, "zero")),
        "miou_interval": [finite(interval.low), finite(interval.high)],
        "accuracy": finite(accuracy(counts)),
        "iou": {name: finite(value) for name, value in zip(labels.names, iou(counts), strict=True)},
    }


def by_condition(scores: list[FrameScore], labels: LabelSet) -> dict[str, dict[str, Any]]:
    """Return `summary` of every condition, in the order in which they appear."""
    names = list(dict.fromkeys(score.condition for score in scores if score.condition))
    return {name: summary([s for s in scores if s.condition == name], labels) for name in names}


def finite(value: Any) -> float | None:
    """Return a plain number, None for NaN (JSON has none)."""
    return float(value) if np.isfinite(value) else None
