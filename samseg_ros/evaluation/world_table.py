"""The table of a model card: mIoU per condition and set of sensors, against nets trained with fewer sensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from samseg_ros.datasets.world import WorldDataset
from samseg_ros.errors import SamsegError
from samseg_ros.evaluation.dataset_table import only
from samseg_ros.evaluation.metrics import Counts, Interval, bootstrap_difference, confusion, iou, miou, miou_text
from samseg_ros.pipeline import Pipeline


@dataclass(frozen=True)
class Variant:
    """One row of the table: a pipeline and the sensors that it is given."""

    pipeline: Pipeline
    sensors: tuple[str, ...]


@dataclass(frozen=True)
class WorldTable:
    """Confusions (N, K, K + 1) of every row on the same frames, with their conditions."""

    confusions: dict[str, Counts]
    conditions: tuple[str, ...]
    """(N,) name of each frame's condition."""
    classes: tuple[str, ...]

    def part(self, row: str, condition: str | None) -> Counts:
        """Return the row's confusions in a condition (None: all)."""
        chosen = [i for i, name in enumerate(self.conditions) if condition in (None, name)]
        return self.confusions[row][chosen]

    def columns(self) -> list[str | None]:
        """Conditions in the order they came, then None for all of them."""
        return [*dict.fromkeys(self.conditions), None]

    def difference(self, ours: str, other: str, condition: str | None) -> tuple[float, Interval]:
        """Return the mIoU (points of 100) that ``ours`` has over ``other``, with its 95 % interval."""
        value, interval = bootstrap_difference(self.part(ours, condition), self.part(other, condition))
        return 100 * value, Interval(100 * interval.low, 100 * interval.high)

    def markdown(self, comparisons: Sequence[tuple[str, str]] = ()) -> str:
        """Return the table as Markdown: mIoU [95 % interval] per row and condition, then differences.

        Args:
            comparisons: (row, other row): a line each with what the first has over the second.
        """
        heads = [name or "all" for name in self.columns()]
        lines = ["| sensors | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
        for row in self.confusions:
            cells = [miou_text(self.part(row, name)) for name in self.columns()]
            lines.append(f"| {row} | " + " | ".join(cells) + " |")
        for ours, other in comparisons:
            cells = []
            for name in self.columns():
                value, span = self.difference(ours, other, name)
                interval = f" [{span.low:+.1f}, {span.high:+.1f}]" if len(self.part(ours, name)) > 1 else ""
                cells.append(f"{value:+.1f}{interval}")
            lines.append(f"| **{ours} − {other}** | " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def per_class_markdown(self) -> str:
        """Return IoU per class over all conditions as Markdown."""
        lines = ["| sensors | " + " | ".join(self.classes) + " |", "|---" * (len(self.classes) + 1) + "|"]
        for row in self.confusions:
            values = 100 * iou(self.part(row, None).sum(0))
            lines.append(f"| {row} | " + " | ".join("–" if np.isnan(v) else f"{v:.1f}" for v in values) + " |")
        return "\n".join(lines)

    def summary(self) -> dict[str, Any]:
        """Return every mIoU as numbers, for metrics.json."""
        return {
            row: {name or "all": 100 * float(miou(self.part(row, name).sum(0))) for name in self.columns()}
            for row in self.confusions
        }


def score_world(
    variants: Mapping[str, Variant], dataset: WorldDataset, progress: Callable[[int, int], None] | None = None
) -> WorldTable:
    """Run every variant over the same frames, through the pipeline, and count at camera size.

    Raises:
        SamsegError: a variant's label set is not the world's, or there is no frame.
    """
    rows: dict[str, list[Counts]] = {name: [] for name in variants}
    conditions: list[str] = []
    names = {name: v.pipeline.labels for name, v in variants.items()}
    for name, labels in names.items():
        if labels.name != "world":
            raise SamsegError(
                f"{name}: expected a model of the label set 'world', got {labels.name!r}; it cannot be scored here"
            )
    if not len(dataset) or not variants:
        raise SamsegError("scoring needs at least one frame and one model")
    for i in range(len(dataset)):
        shot = dataset.capture(i)
        for name, variant in variants.items():
            result = variant.pipeline(only(shot.frame, variant.sensors))
            rows[name].append(confusion(result.labels, shot.labels, len(variant.pipeline.labels)))
        conditions.append(shot.condition)
        if progress:
            progress(i + 1, len(dataset))
    tables = {name: np.stack(counts) for name, counts in rows.items()}
    return WorldTable(tables, tuple(conditions), next(iter(names.values())).names)


def sensor_sets(sensors: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return named sets to score a fused model with: everything, then without each auxiliary, then RGB alone."""
    auxiliaries = [s for s in sensors if s != "rgb"]
    sets = {"+".join(sensors): tuple(sensors)}
    if len(auxiliaries) > 1:
        for left_out in auxiliaries:
            kept = tuple(s for s in sensors if s != left_out)
            sets["+".join(kept)] = kept
    sets["rgb"] = ("rgb",)
    return sets


def baseline_names(baselines: Sequence[Sequence[str]], sensors: Sequence[str]) -> list[str]:
    """Name the rows of nets that were trained with some of a fused model's sensors, given the sensors of each.

    Raises:
        SamsegError: a net has other sensors, or two have the same.
    """
    sets = {kept: name for name, kept in sensor_sets(sensors).items()}
    for own in baselines:
        if tuple(own) not in sets or [tuple(b) for b in baselines].count(tuple(own)) > 1:
            known = ", ".join(sets.values())
            raise SamsegError(f"baselines: expected one net for some of the sensor sets {known}; got {'+'.join(own)}")
    return [f"{'+'.join(own)}-only net" for own in baselines]


def comparisons(baselines: Sequence[Sequence[str]], sensors: Sequence[str]) -> list[tuple[str, str]]:
    """Return what is compared: everything against each baseline, then each baseline against the same sensors."""
    names = baseline_names(baselines, sensors)
    whole = "+".join(sensors)
    same = [("+".join(own), name) for own, name in zip(baselines, names, strict=True) if "+".join(own) != whole]
    return [(whole, name) for name in names] + same
