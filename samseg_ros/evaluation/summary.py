"""Measures summed up: the numbers of metrics.json, and the tables beside it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from samseg_ros.evaluation.boundary import boundary_f, mean_boundary_f
from samseg_ros.evaluation.calibration import BINS, expected_calibration_error, reliability
from samseg_ros.evaluation.measures import BANDS, Measures, select
from samseg_ros.evaluation.metrics import Counts, Floats, accuracy, bootstrap, iou, miou
from samseg_ros.evaluation.scoring import finite
from samseg_ros.labels import LabelSet


def summarize(measures: Measures, labels: LabelSet) -> dict[str, Any]:
    """Sum up what one model did on one dataset.

    A dropped frame is counted as dropped and in nothing else. Scores are shares (0..1), None where nothing decides
    them; ``…_interval`` is the 95 % bootstrap interval over frames.

    Returns:
        ``frames, dropped, miou, miou_absent_zero, accuracy, boundary_f, boundary_f_absent_zero, ece`` and the interval
        of each; ``iou`` and ``boundary`` by class; ``reliability``: a row a bin; ``conditions, difficulties,
        sensors``: name to the same numbers of these frames; ``bands``: name to ``pixels, miou, miou_absent_zero,
        accuracy, iou``; ``latency_ms``.
    """
    scored = select(measures, ~measures.dropped)
    return {
        **totals(measures),
        "iou": _by_class(iou(scored.confusions.sum(0)), labels),
        "boundary": _by_class(boundary_f(scored.boundary.sum(0)), labels),
        "reliability": _reliability(scored.calibration.sum(0)),
        "conditions": _groups(measures, measures.conditions),
        "difficulties": _groups(measures, measures.difficulties),
        "sensors": _groups(measures, measures.sensors),
        "bands": {name: _band(scored.bands[:, i], labels) for i, name in enumerate(BANDS)},
        "latency_ms": spread(scored.latency_ms[np.isfinite(scored.latency_ms)].tolist()),
    }


def totals(measures: Measures) -> dict[str, Any]:
    """Return frames, dropped frames, and every score of `summarize` with its interval."""
    scored = select(measures, ~measures.dropped)
    return {"frames": len(scored), "dropped": int(measures.dropped.sum()), **_scores(scored)}


def frame_rows(measures: Measures) -> Iterator[dict[str, Any]]:
    """Yield what is known of each frame: a line of result.jsonl."""
    confusions = measures.confusions
    scores = {
        "miou": miou(confusions),
        "accuracy": accuracy(confusions),
        "boundary_f": mean_boundary_f(measures.boundary),
        "latency_ms": measures.latency_ms,
    }
    for i, name in enumerate(measures.names):
        yield {
            "index": i,
            "name": name,
            "condition": measures.conditions[i],
            "difficulty": measures.difficulties[i],
            "sensors": measures.sensors[i],
            "dropped": bool(measures.dropped[i]),
            **{key: finite(values[i]) for key, values in scores.items()},
        }


def write_scores(folder: Path, measures: Measures, labels: LabelSet) -> None:
    """Write per_class.csv, confusion.csv and result.jsonl."""
    counts = measures.confusions.sum(0)
    write_per_class(folder / "per_class.csv", counts, labels, boundary_f(measures.boundary.sum(0)))
    write_confusion(folder / "confusion.csv", counts, labels)
    lines = [json.dumps(row, allow_nan=False) + "\n" for row in frame_rows(measures)]
    (folder / "result.jsonl").write_text("".join(lines), encoding="utf-8")


def write_per_class(path: Path, counts: Counts, labels: LabelSet, boundary: Floats | None = None) -> None:
    """Write a CSV with a row a class from a (K, K + 1) confusion and, where measured, (K,) boundary F-scores."""
    hits, true, predicted = np.diagonal(counts), counts.sum(1), counts[:, : len(labels)].sum(0)
    with path.open("w", newline="") as stream:
        table = csv.writer(stream)
        head = ["id", "name", "iou", "recall", "precision", "true_pixels", "predicted_pixels"]
        table.writerow(head if boundary is None else [*head, "boundary_f"])
        for k, (name, value) in enumerate(zip(labels.names, iou(counts), strict=True)):
            recall = f"{hits[k] / true[k]:.6f}" if true[k] else ""
            precision = f"{hits[k] / predicted[k]:.6f}" if predicted[k] else ""
            row = [k, name, _cell(value), recall, precision, true[k], predicted[k]]
            table.writerow(row if boundary is None else [*row, _cell(boundary[k])])


def write_confusion(path: Path, counts: Counts, labels: LabelSet) -> None:
    """Write a (K, K + 1) confusion as a CSV: a row a true class, a column a predicted one, the last for unlabelled."""
    with path.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["true \\ predicted", *labels.names, "unlabelled"])
        for name, row in zip(labels.names, counts.tolist(), strict=True):
            table.writerow([name, *row])


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Return p50, p95, p99, mean and max; None each where there is no value."""
    if not values:
        return dict.fromkeys(("p50", "p95", "p99", "mean", "max"))
    p50, p95, p99 = np.percentile(values, [50, 95, 99])
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99), "mean": float(np.mean(values)), "max": max(values)}


def _scores(measures: Measures) -> dict[str, Any]:
    """Return each score of all frames together, with its interval."""
    confusions = measures.confusions
    scores: dict[str, tuple[Counts, Callable[[Counts], Floats]]] = {
        "miou": (confusions, miou),
        "miou_absent_zero": (confusions, partial(miou, absent="zero")),
        "accuracy": (confusions, accuracy),
        "boundary_f": (measures.boundary, mean_boundary_f),
        "boundary_f_absent_zero": (measures.boundary, partial(mean_boundary_f, absent="zero")),
        "ece": (measures.calibration, expected_calibration_error),
    }
    found: dict[str, Any] = {}
    for name, (counts, score) in scores.items():
        found[name] = finite(score(counts.sum(0)))
        found[f"{name}_interval"] = [None, None]
        if len(counts):
            interval = bootstrap(counts, score)
            found[f"{name}_interval"] = [finite(interval.low), finite(interval.high)]
    return found


def _groups(measures: Measures, values: Sequence[str]) -> dict[str, Any]:
    """Return the scores of the frames of each value, in the order in which they appear; an empty one is no group."""
    found = dict.fromkeys(filter(None, values))
    return {value: totals(select(measures, np.array([v == value for v in values]))) for value in found}


def _band(confusions: Counts, labels: LabelSet) -> dict[str, Any]:
    total = confusions.sum(0)
    interval = bootstrap(confusions, miou) if len(confusions) else None
    return {
        "pixels": int(total.sum()),
        "miou": finite(miou(total)),
        "miou_interval": [finite(interval.low), finite(interval.high)] if interval else [None, None],
        "miou_absent_zero": finite(miou(total, "zero")),
        "accuracy": finite(accuracy(total)),
        "iou": _by_class(iou(total), labels),
    }


def _by_class(values: Floats, labels: LabelSet) -> dict[str, float | None]:
    return {name: finite(value) for name, value in zip(labels.names, values, strict=True)}


def _reliability(counts: Counts) -> list[dict[str, Any]]:
    edges = np.linspace(0, 1, BINS + 1).tolist()
    rows = zip(edges, edges[1:], *reliability(counts), strict=False)
    return [
        {"from": low, "to": high, "pixels": int(pixels), "confidence": finite(said), "accuracy": finite(right)}
        for low, high, pixels, said, right in rows
    ]


def _cell(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6f}"
