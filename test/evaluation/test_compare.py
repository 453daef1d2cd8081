"""Models side by side on the same frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from samseg_ros.datasets.labelled import Sample
from samseg_ros.errors import InputError
from samseg_ros.evaluation.compare import compare, comparison_markdown, titles, told_apart
from samseg_ros.evaluation.measures import Measures, Prediction, Scored, concatenate, measure
from samseg_ros.evaluation.metrics import bootstrap_difference, miou
from samseg_ros.labels import LabelSet

LABELS = LabelSet("three", ("a", "b", "c"), np.zeros((3, 3), np.uint8))


def _measures(right: float, seed: int = 0, frames: int = 12, dropped: tuple[int, ...] = ()) -> Measures:
    parts = []
    for i in range(frames):
        truth = np.random.default_rng(i).integers(0, 3, (16, 16)).astype(np.uint8)
        rng = np.random.default_rng([seed, i])
        mask = np.where(rng.random(truth.shape) < right, truth, rng.integers(0, 3, truth.shape)).astype(np.uint8)
        said = None if i in dropped else Prediction(mask)
        parts.append(measure(said, truth, Sample(f"{i}", ("day", "night")[i % 2]), 3))
    return concatenate(parts)


def _scored(model: str, measures: Measures) -> Scored:
    return Scored(model, "streets", "", "", 0, measures, LABELS)


FIRST = _scored("first", _measures(0.6))
BETTER = _scored("better", _measures(0.8, seed=1))


def test_a_better_model_differs_and_the_same_one_does_not() -> None:
    better, same = compare([FIRST, BETTER, replace(FIRST, model="same")])
    expected, interval = bootstrap_difference(BETTER.measures.confusions, FIRST.measures.confusions)
    assert (better.name, better.frames, better.difference, better.interval) == ("better", 12, expected, interval)
    assert better.miou == pytest.approx(float(miou(BETTER.measures.confusions.sum(0))))
    assert better.differs and better.interval.low > 0.1
    assert (same.difference, same.interval.low, same.interval.high, same.differs) == (0.0, 0.0, 0.0, False)
    assert better.row()["difference_interval"] == [interval.low, interval.high] and better.row()["differs"]


def test_a_worse_model_is_below_zero_by_as_much() -> None:
    (worse,) = compare([BETTER, FIRST])
    (better,) = compare([FIRST, BETTER])
    assert worse.difference == -better.difference
    assert worse.differs


def test_frames_that_one_of_the_two_dropped_are_left_out_for_both() -> None:
    gaps = _scored("gaps", _measures(0.6, dropped=(3, 7)))
    (row,) = compare([FIRST, gaps])
    assert (row.frames, row.difference) == (10, 0.0)


def test_where_no_frame_is_common_nothing_is_said_and_nothing_breaks() -> None:
    halves = [_scored(f"{i}", _measures(0.6, dropped=tuple(range(6 * i, 6 * i + 6)))) for i in range(2)]
    (row,) = compare(halves)
    assert (row.frames, row.miou, row.difference, row.interval, row.differs) == (0, None, None, None, False)
    assert row.row()["difference_interval"] == [None, None]
    assert comparison_markdown(halves, [row]).splitlines()[3] == "| 1 | 0 | – | – |"


def test_one_condition_alone_can_be_compared() -> None:
    (row,) = compare([FIRST, BETTER], condition="night")
    night = slice(1, None, 2)
    assert row.frames == 6
    assert row.miou == float(miou(BETTER.measures.confusions[night].sum(0)))


def test_the_table_says_who_is_better() -> None:
    (row,) = compare([FIRST, BETTER])
    text = comparison_markdown([FIRST, BETTER], [row])
    first, better = text.splitlines()[2:]
    assert first == f"| first | 12 | {100 * float(miou(FIRST.measures.confusions.sum(0))):.1f} | |"
    assert better.startswith(f"| better | 12 | {100 * row.miou:.1f} | **+{100 * row.difference:.1f}** [+")


def test_names_tell_what_is_not_the_same_and_nothing_more() -> None:
    assert titles([FIRST, BETTER]) == ["first", "better"]
    fog = replace(FIRST, corruption="rgb.fog", severity=3)
    camera = replace(FIRST, sensors="rgb")
    assert titles([FIRST, fog]) == ["first", "first, rgb.fog 3"]
    assert titles([FIRST, camera]) == ["first, all sensors", "first, rgb"]


def test_models_of_one_name_are_told_apart() -> None:
    assert titles([FIRST, FIRST, BETTER, FIRST]) == ["first", "first (2)", "better", "first (3)"]
    assert told_apart(["a", "a", "a-2", "a"], "-{}") == ["a", "a-2", "a-2-2", "a-3"]


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="comparison: expected two models, got 1"):
        compare([FIRST])
    with pytest.raises(InputError, match="short: expected the same 12 frames in the same order, got 4"):
        compare([FIRST, _scored("short", _measures(0.6, frames=4))])
    other = replace(BETTER, labels=LabelSet("other", ("a", "b", "d"), LABELS.colors))
    with pytest.raises(InputError, match="better: expected the classes of three, got other"):
        compare([FIRST, other])
