"""Several models on the same frames, side by side: what each has over the first, and whether that may be chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samseg_ros.errors import InputError
from samseg_ros.evaluation.measures import Scored
from samseg_ros.evaluation.metrics import Interval, bootstrap_difference, miou


@dataclass(frozen=True, slots=True)
class Comparison:
    """One model against the first, on the frames that neither of them dropped; all numbers are shares (0..1)."""

    name: str
    frames: int
    miou: float | None
    """Of this model on these frames; None where nothing decides it, as the next two: no frame, or no label in any."""
    difference: float | None
    """What it has over the first."""
    interval: Interval | None
    """95 % of the difference, by the paired bootstrap over frames (Efron 1979). Several models are not corrected for:
    of twenty that are equal to the first, one is expected to look different."""

    @property
    def differs(self) -> bool:
        """Whether the interval excludes 0."""
        return self.interval is not None and self.interval.excludes_zero

    def row(self) -> dict[str, Any]:
        """Return it for metrics.json."""
        return {
            "name": self.name,
            "frames": self.frames,
            "miou": self.miou,
            "difference": self.difference,
            "difference_interval": [self.interval.low, self.interval.high] if self.interval else [None, None],
            "differs": self.differs,
        }


def compare(scored: Sequence[Scored], condition: str = "") -> list[Comparison]:
    """Hold every model but the first against the first.

    Args:
        scored: at least two, on the same frames in the same order.
        condition: only frames of it; empty: all.

    Raises:
        InputError: less than two, or other frames or classes.
    """
    if len(scored) < 2:
        raise InputError("comparison", expected="two models", got=str(len(scored)), remedy="name a second model")
    first, names = scored[0], titles(scored)
    for other, name in zip(scored[1:], names[1:], strict=True):
        _require_same(first, other, name)
    chosen = np.array([condition in ("", c) for c in first.measures.conditions])
    return [_held_against(first, other, name, chosen) for other, name in zip(scored[1:], names[1:], strict=True)]


def comparison_markdown(scored: Sequence[Scored], rows: Sequence[Comparison]) -> str:
    """Write the table: mIoU in % and the difference to the first in points with its 95 % interval.

    A difference whose interval excludes 0 is bold.

    Args:
        scored: as they were compared.
        rows: what `compare` made of them.
    """
    first = scored[0]
    kept = first.measures.confusions[~first.measures.dropped]
    lines = ["| model | frames | mIoU | over the first [95 %] |", "|---|---|---|---|"]
    lines.append(f"| {titles(scored)[0]} | {len(kept)} | {100 * float(miou(kept.sum(0))):.1f} | |")
    for row in rows:
        miou_text = "–" if row.miou is None else f"{100 * row.miou:.1f}"
        lines.append(f"| {row.name} | {row.frames} | {miou_text} | {_over_the_first(row)} |")
    return "\n".join(lines) + "\n"


def _over_the_first(row: Comparison) -> str:
    if row.difference is None or row.interval is None:
        return "–"
    value = f"**{100 * row.difference:+.1f}**" if row.differs else f"{100 * row.difference:+.1f}"
    return f"{value} [{100 * row.interval.low:+.1f}, {100 * row.interval.high:+.1f}]"


def titles(scored: Sequence[Scored]) -> list[str]:
    """Name each: the model, and of sensors, corruption and dataset what is not the same for all; no two are equal."""
    parts = [
        (s.sensors or "all sensors", f"{s.corruption} {s.severity}" if s.corruption else "", s.dataset) for s in scored
    ]
    told = [len(set(column)) > 1 for column in zip(*parts, strict=True)]
    return told_apart(
        [
            ", ".join([s.model, *(text for text, is_told in zip(part, told, strict=True) if is_told and text)])
            for s, part in zip(scored, parts, strict=True)
        ],
        " ({})",
    )


def told_apart(names: Sequence[str], form: str) -> list[str]:
    """Return the names; one that was there before gets a number, 2 and so on, in the way that ``form`` says."""
    found: dict[str, None] = {}
    for name in names:
        numbered = (f"{name}{form.format(number)}" for number in count(2))
        found[next(one for one in chain([name], numbered) if one not in found)] = None
    return list(found)


def _held_against(first: Scored, other: Scored, name: str, chosen: NDArray[np.bool_]) -> Comparison:
    both = chosen & ~first.measures.dropped & ~other.measures.dropped
    ours, theirs = other.measures.confusions[both], first.measures.confusions[both]
    if not (ours.any() and theirs.any()):
        return Comparison(name, int(both.sum()), None, None, None)
    difference, interval = bootstrap_difference(ours, theirs)
    return Comparison(name, int(both.sum()), float(miou(ours.sum(0))), difference, interval)


def _require_same(first: Scored, other: Scored, name: str) -> None:
    if other.labels.names != first.labels.names:
        raise InputError(
            f"comparison with {name}",
            expected=f"the classes of {first.labels.name}",
            got=other.labels.name,
            remedy="compare models that were scored by the same label set",
        )
    if other.measures.names != first.measures.names:
        raise InputError(
            f"comparison with {name}",
            expected=f"the same {len(first.measures)} frames in the same order",
            got=f"{len(other.measures)}, not the same",
            remedy="score both on the same dataset, split and number of frames",
        )
