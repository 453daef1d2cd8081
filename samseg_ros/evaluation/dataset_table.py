"""Scores of a model on a labelled dataset: IoU per class, mIoU over all and per condition and difficulty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from samseg_ros.datasets.labelled import LabelledDataset, Sample
from samseg_ros.errors import SamsegError
from samseg_ros.evaluation.metrics import Counts, accuracy, bootstrap_miou, confusion, iou, miou
from samseg_ros.labels import load_labels
from samseg_ros.pipeline import Pipeline
from samseg_ros.types import Frame

ALL = "all"


@dataclass(frozen=True)
class DatasetScores:
    """Confusions (N, K, K + 1) with the samples they belong to."""

    confusions: Counts
    samples: tuple[Sample, ...]
    classes: tuple[str, ...]

    def groups(self, by: str) -> list[str]:
        """Return the values of "condition" or "difficulty" in the order they came, then "all"."""
        return [*dict.fromkeys(v for s in self.samples if (v := getattr(s, by))), ALL]

    def part(self, by: str, group: str) -> Counts:
        """Return the confusions of one group."""
        return self.confusions[[i for i, s in enumerate(self.samples) if group in (ALL, getattr(s, by))]]

    def summary(self) -> dict[str, Any]:
        """Return every number, in %, for metrics.json. ``miou_absent_0``: a class that is absent counts 0."""
        total = self.confusions.sum(0)
        return {
            "frames": len(self.samples),
            "miou": 100 * float(miou(total)),
            "miou_absent_0": 100 * float(miou(total, absent="zero")),
            "accuracy": 100 * float(accuracy(total)),
            "iou": {name: _percent(v) for name, v in zip(self.classes, iou(total), strict=True)},
            "groups": {
                by: {g: 100 * float(miou(self.part(by, g).sum(0))) for g in self.groups(by)[:-1]}
                for by in ("condition", "difficulty")
            },
        }

    def markdown(self) -> str:
        """Return the tables as Markdown: IoU per class, then mIoU with its 95 % bootstrap interval per group."""
        total = self.confusions.sum(0)
        lines = ["| class | IoU |", "|---|---|"]
        lines += [
            f"| {name} | {'–' if np.isnan(v) else f'{100 * v:.1f}'} |"
            for name, v in zip(self.classes, iou(total), strict=True)
        ]
        lines += ["", "| part | frames | mIoU [95 %] |", "|---|---|---|"]
        rows = [(by, g) for by in ("condition", "difficulty") for g in self.groups(by)[:-1]] + [("condition", ALL)]
        for by, group in rows:
            counts = self.part(by, group)
            span = bootstrap_miou(counts)
            value = f"{100 * float(miou(counts.sum(0))):.1f} [{100 * span.low:.1f}, {100 * span.high:.1f}]"
            lines.append(f"| {group} | {len(counts)} | {value} |")
        return "\n".join(lines) + "\n"


def score_dataset(
    pipeline: Pipeline,
    dataset: LabelledDataset,
    sensors: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> DatasetScores:
    """Run a pipeline over a dataset and count at camera size.

    Args:
        sensors: what the pipeline is given of each frame; empty: everything.

    Raises:
        SamsegError: the label sets differ, or the dataset is empty.
    """
    labels = load_labels(dataset.labels)
    if labels.names != pipeline.labels.names:
        raise SamsegError(
            f"expected a model of the classes of {labels.name} ({len(labels)}), got one of {pipeline.labels.name} "
            f"({len(pipeline.labels)}); train on {labels.name}, or score on a dataset of the model's own labels"
        )
    if not len(dataset):
        raise SamsegError("scoring needs at least one sample")
    counts = []
    for i in range(len(dataset)):
        frame, truth = dataset[i]
        result = pipeline(only(frame, sensors) if sensors else frame)
        counts.append(confusion(result.labels, truth, len(labels)))
        if progress:
            progress(i + 1, len(dataset))
    return DatasetScores(np.stack(counts), tuple(dataset.samples), labels.names)


def retention(scored: Sequence[tuple[str, float]]) -> list[str]:
    """Return a line for each dataset after the first: what of the first one's mIoU is left on it.

    Args:
        scored: (dataset, mIoU), the first the one that was trained on.
    """
    (home, best), *others = scored
    return [
        f"retained of {home}'s mIoU on {name}: {value / best if best else 0:.2f} ({value:.1f} / {best:.1f})"
        for name, value in others
    ]


def only(frame: Frame, sensors: Sequence[str]) -> Frame:
    """Return a frame with the named sensors alone (the camera stays)."""
    return replace(
        frame,
        thermal=frame.thermal if "thermal" in sensors else None,
        points=frame.points if "lidar" in sensors else None,
        images={name: image for name, image in frame.images.items() if name in sensors},
    )


def _percent(value: float) -> float | None:
    return None if np.isnan(value) else 100 * float(value)
