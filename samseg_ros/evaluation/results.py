"""What a run measured: one row a frame, summed up into metrics.json and tables."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from samseg_ros import __version__
from samseg_ros.config import Config
from samseg_ros.evaluation.metrics import accuracy, miou
from samseg_ros.evaluation.scoring import FrameScore, by_condition, finite, summary
from samseg_ros.evaluation.summary import spread, write_confusion, write_per_class
from samseg_ros.labels import LabelSet
from samseg_ros.provenance import revision


@dataclass(slots=True)
class FrameRow:
    """One camera frame that went in: a line of result.jsonl."""

    index: int
    stamp_ns: int
    published: bool = False
    """Whether a mask came out for it."""
    latency_ms: float | None = None
    """Live: from publishing the image to receiving its mask. Direct: from messages to mask."""
    sensors: tuple[str, ...] = ()
    """Modalities that were fused; live: that were there to be fused."""
    offsets_s: dict[str, float] = field(default_factory=dict)
    """Stamp of each other input minus the camera's."""
    stages_ms: dict[str, float] = field(default_factory=dict)
    mask: str = ""
    """Picture of the mask, relative to the output folder."""
    fused: str = ""
    """The fused picture likewise; empty where the model makes none."""
    error: str = ""
    """Why there is no mask."""
    troubles: list[str] = field(default_factory=list)
    """What was wrong with an input that the mask was made without."""


@dataclass(frozen=True, slots=True)
class Run:
    """What was run: stands beside every result."""

    bag: str
    mode: str
    """``direct``, ``lockstep`` or ``real time``."""
    model: str
    topics: Mapping[str, str]
    config: Config
    rate: float = 0.0
    """Of real time; 0 in lockstep and direct."""
    notes: tuple[str, ...] = ()
    """What a reader has to know: a damaged recording, labels that do not fit."""


def metrics(
    run: Run, rows: Sequence[FrameRow], scores: list[FrameScore], labels: LabelSet, wall_s: float
) -> dict[str, Any]:
    """Sum a run up into what metrics.json holds."""
    published = [row for row in rows if row.published]
    latencies = [row.latency_ms for row in published if row.latency_ms is not None]
    stages = dict.fromkeys(stage for row in published for stage in row.stages_ms)
    result: dict[str, Any] = {
        "bag": run.bag,
        "mode": run.mode,
        "rate": run.rate,
        "model": run.model,
        "label_set": labels.name,
        "frames": {"received": len(rows), "published": len(published), "dropped": len(rows) - len(published)},
        "latency_ms": spread(latencies),
        "stages_ms": {s: spread([r.stages_ms[s] for r in published if s in r.stages_ms])["p50"] for s in stages},
        "fps": _rate(latencies, wall_s if run.rate else sum(latencies) * 1e-3),
        "wall_s": wall_s,
        "sensors": dict(Counter("+".join(row.sensors) for row in published)),
        "modalities": dict(Counter(name for row in published for name in row.sensors)),
        "troubles": dict(Counter(trouble for row in rows for trouble in row.troubles)),
        "errors": dict(Counter(row.error for row in rows if row.error)),
        "topics": dict(run.topics),
        "notes": list(run.notes),
        "version": __version__,
        "revision": revision(),
    }
    if scores:
        result["labels"] = summary(scores, labels) | {"conditions": by_condition(scores, labels)}
    return result


def _rate(latencies: Sequence[float], seconds: float) -> float | None:
    """Return masks per second: of real time, or, one frame after the other, of the time from set to mask."""
    return len(latencies) / seconds if latencies and seconds > 0 else None


def write_results(
    out: Path,
    run: Run,
    measured: Mapping[str, Any],
    rows: Sequence[FrameRow],
    scores: list[FrameScore],
    labels: LabelSet,
) -> None:
    """Write metrics.json, result.jsonl, config.yaml and, where there are labels, per_class.csv and confusion.csv."""
    (out / "metrics.json").write_text(json.dumps(measured, indent=2) + "\n")
    of_frame = {score.stamp_ns: score for score in scores}
    with (out / "result.jsonl").open("w") as stream:
        for row in rows:
            stream.write(json.dumps(asdict(row) | _score(of_frame.get(row.stamp_ns))) + "\n")
    origin = f"# samseg {__version__}, revision {measured['revision'] or 'unknown'}, {run.mode} replay of {run.bag}\n"
    tree = {"/**": {"ros__parameters": run.config.model_dump()}}
    (out / "config.yaml").write_text(origin + yaml.safe_dump(tree, sort_keys=False))
    if scores:
        counts = np.sum([score.confusion for score in scores], axis=0)
        write_per_class(out / "per_class.csv", counts, labels)
        write_confusion(out / "confusion.csv", counts, labels)


def _score(score: FrameScore | None) -> dict[str, Any]:
    if score is None:
        return {}
    return {
        "condition": score.condition,
        "miou": finite(miou(score.confusion)),
        "accuracy": finite(accuracy(score.confusion)),
    }
