"""The tables of a page about an evaluation: every run in a row, compared with the first on the same frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samseg_ros.evaluation.boundary import boundary_f, mean_boundary_f
from samseg_ros.evaluation.calibration import expected_calibration_error
from samseg_ros.evaluation.measures import BANDS, Scored
from samseg_ros.evaluation.metrics import Counts, Floats, accuracy, bootstrap_difference, bootstrap_miou, iou, miou
from samseg_ros.evaluation.page import classes, percent

GROUPS = {"condition": "conditions", "difficulty": "difficulties", "sensors fused": "sensors"}
"""Heading of a grouping -> the field of `Measures` that says it."""


def score(counts: Counts) -> dict[str, Any]:
    """Return mIoU of (N, K, K + 1) counts and its 95 % interval, in %; no interval for a single frame."""
    value = percent(float(miou(counts.sum(0)))) if len(counts) else None
    span = bootstrap_miou(counts) if len(counts) > 1 and value is not None else None
    return {
        "frames": len(counts),
        "miou": value,
        "low": percent(span.low) if span else None,
        "high": percent(span.high) if span else None,
    }


def gain(ours: Counts, first: Counts) -> dict[str, Any] | None:
    """Return what a run has over the first in points of mIoU, its 95 % interval and whether that is clear.

    Args:
        ours: (N, K, K + 1), the same frames as ``first``; fewer than two say nothing.
    """
    if len(ours) < 2 or not (ours.any() and first.any()):
        return None
    value, span = bootstrap_difference(ours, first)
    verdict = ("better" if value > 0 else "worse") if span.excludes_zero else "unclear"
    return {"value": 100 * value, "low": 100 * span.low, "high": 100 * span.high, "verdict": verdict}


def overview(runs: Sequence[Scored]) -> list[dict[str, Any]]:
    """Return a row a run: everything pooled over the frames that it did not drop."""
    first, rows = runs[0].measures, []
    for i, run in enumerate(runs):
        m, total = run.measures, run.measures.confusions.sum(0)
        both = ~m.dropped & ~first.dropped
        rows.append(
            score(m.confusions[~m.dropped])
            | {
                "gain": gain(m.confusions[both], first.confusions[both]) if i else None,
                "zero": percent(float(miou(total, "zero"))),
                "accuracy": percent(float(accuracy(total))),
                "boundary": percent(float(mean_boundary_f(m.boundary.sum(0)))),
                "ece": percent(float(expected_calibration_error(m.calibration.sum(0)))),
                "dropped": int(m.dropped.sum()),
            }
        )
    return rows


def groupings(runs: Sequence[Scored]) -> list[dict[str, Any]]:
    """Return for each way to part the frames, or their pixels, that says anything: its groups, a row a run in each."""
    found = [{"name": name, "groups": _frame_groups(runs, field)} for name, field in GROUPS.items()]
    if any(run.measures.bands[:, :-1].any() for run in runs):
        kept = [~run.measures.dropped for run in runs]
        bands = [(name, _rows([run.measures.bands[:, b] for run in runs], kept)) for b, name in enumerate(BANDS)]
        found.append({"name": "distance", "groups": [{"name": name, "rows": rows} for name, rows in bands if rows]})
    return [grouping for grouping in found if grouping["groups"]]


def _frame_groups(runs: Sequence[Scored], field: str) -> list[dict[str, Any]]:
    said = [np.array(getattr(run.measures, field)) for run in runs]
    counts, kept = [run.measures.confusions for run in runs], [~run.measures.dropped for run in runs]
    groups = []
    for name in dict.fromkeys(str(group) for groups in said for group in groups if group):
        rows = _rows(counts, [(s == name) & k for s, k in zip(said, kept, strict=True)])
        groups.append({"name": name, "rows": rows})
    return [group for group in groups if group["rows"]]


def _rows(counts: Sequence[Counts], chosen: Sequence[NDArray[np.bool_]]) -> list[dict[str, Any]]:
    """Return a row for each run that has labelled pixels in the frames chosen of it.

    The gain is of the frames that were chosen of both, so it is None where they have less than two in common.
    """
    rows = []
    for i, (ours, frames) in enumerate(zip(counts, chosen, strict=True)):
        if ours[frames].any():
            both = frames & chosen[0]
            rows.append(score(ours[frames]) | {"run": i, "gain": gain(ours[both], counts[0][both]) if i else None})
    return rows


def per_class(runs: Sequence[Scored]) -> list[dict[str, Any]]:
    """Return IoU, then boundary F: a row a class with its score in each run (None: absent), and which are best."""
    ious = np.array([iou(run.measures.confusions.sum(0)) for run in runs])
    edges = np.array([boundary_f(run.measures.boundary.sum(0)) for run in runs])
    return [{"name": name, "rows": _class_rows(runs, v)} for name, v in (("IoU", ious), ("boundary F", edges))]


def _class_rows(runs: Sequence[Scored], values: Floats) -> list[dict[str, Any]]:
    rows = []
    for of_class, column in zip(classes(runs[0].labels), values.T, strict=True):
        best = np.nanmax(column) if len(runs) > 1 and np.isfinite(column).any() else np.inf
        rows.append({**of_class, "cells": [{"value": percent(v), "best": bool(v == best)} for v in column]})
    return rows


def latency(runs: Sequence[Scored]) -> list[dict[str, Any]]:
    """Return a row for each run that was timed: p50, p95, p99 in ms, and as shares (%) of the longest of them."""
    rows = []
    for i, run in enumerate(runs):
        times = run.measures.latency_ms[np.isfinite(run.measures.latency_ms)]
        if len(times):
            p50, p95, p99 = np.percentile(times, [50, 95, 99]).tolist()
            rows.append({"run": i, "frames": len(times), "p50": p50, "p95": p95, "p99": p99, "rate": 1000 / p50})
    longest = max((row["p99"] for row in rows), default=1.0)
    return [row | {"bar": [100 * row[level] / longest for level in ("p50", "p95", "p99")]} for row in rows]


def losses(runs: Sequence[Scored], stressed: Sequence[Scored]) -> list[dict[str, Any]]:
    """Return for each corruption mIoU over severity, and what it costs each run on average.

    Args:
        runs: without corruption.
        stressed: the same models under corruptions, on the same frames.

    Returns:
        ``name, runs: [points [(severity, mIoU %)], mean, lost (points of mIoU) or None]``, no points: not scored.
    """
    return [
        {"name": name, "runs": [_loss(run, [s for s in stressed if s.corruption == name]) for run in runs]}
        for name in dict.fromkeys(s.corruption for s in stressed)
    ]


def _loss(run: Scored, stressed: Sequence[Scored]) -> dict[str, Any]:
    own = [s for s in stressed if (s.model, s.sensors) == (run.model, run.sensors)]
    found = {s.severity: percent(float(miou(s.measures.confusions.sum(0)))) for s in own}
    points = [(severity, value) for severity, value in sorted(found.items()) if value is not None]
    clean = percent(float(miou(run.measures.confusions.sum(0))))
    if not points or clean is None:
        return {"points": [], "mean": None, "lost": None}
    mean = float(np.mean([value for _, value in points]))
    return {"points": [(0, clean), *points], "mean": mean, "lost": clean - mean}
