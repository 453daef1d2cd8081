"""Confusions of a model on a labelled dataset, by group; what a model's classes count as, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from samseg_ros.datasets.labelled import LabelledDataset, Sample
from samseg_ros.errors import SamsegError
from samseg_ros.evaluation.metrics import Counts, confusion
from samseg_ros.labels import LabelSet, load_labels, load_remap
from samseg_ros.pipeline import Pipeline
from samseg_ros.types import Frame

ALL = "all"


@dataclass(frozen=True)
class DatasetScores:
    """Confusions (N, K, K + 1) with the samples they belong to."""

    confusions: Counts
    samples: tuple[Sample, ...]

    def groups(self, by: str) -> list[str]:
        """Return the values of "condition" or "difficulty" in the order they came, then "all"."""
        return [*dict.fromkeys(v for s in self.samples if (v := getattr(s, by))), ALL]

    def part(self, by: str, group: str) -> Counts:
        """Return the confusions of one group."""
        return self.confusions[[i for i, s in enumerate(self.samples) if group in (ALL, getattr(s, by))]]


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
    class_table(pipeline.labels, labels)  # refuses other classes
    if not len(dataset):
        raise SamsegError("scoring needs at least one sample")
    counts = []
    for i in range(len(dataset)):
        frame, truth = dataset[i]
        result = pipeline(only(frame, sensors) if sensors else frame)
        counts.append(confusion(result.labels, truth, len(labels)))
        if progress:
            progress(i + 1, len(dataset))
    if not np.any(counts):
        raise SamsegError("scoring: expected some labelled pixels, got none; check the dataset's labels and its split")
    return DatasetScores(np.stack(counts), tuple(dataset.samples))


def class_table(own: LabelSet, labels: LabelSet, remap: str = "") -> NDArray[np.uint8]:
    """Return (256,): what each class of a model counts as on a dataset.

    Args:
        own: the model's classes.
        labels: the dataset's.
        remap: see `load_remap`; empty: they are the same.

    Raises:
        SamsegError: they differ, or as `load_remap`.
    """
    if remap:
        return load_remap(remap, own, labels)
    if labels.names != own.names:
        raise SamsegError(
            f"expected a model of the classes of {labels.name} ({len(labels)}), got one of {own.name} "
            f"({len(own)}); train on {labels.name}, score on a dataset of the model's own labels, or say "
            "with --remap which class counts as which"
        )
    return np.arange(256, dtype=np.uint8)


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
