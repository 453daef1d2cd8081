"""Masks and labels meet by stamp, whatever comes first."""

import numpy as np
import pytest

from samseg_ros.evaluation.scoring import MAX_WAITING, Scorer, by_condition, summary
from samseg_ros.labels import LabelSet

LABELS = LabelSet("toy", ("road", "car"), np.array([[1, 2, 3], [4, 5, 6]], np.uint8))
ROAD, CAR = np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8)
HALF = np.array([[0, 0], [1, 1]], np.uint8)


def _scored() -> Scorer:
    scorer = Scorer(LABELS)
    scorer.add_condition(100, "day")
    scorer.add_truth(100, ROAD)
    scorer.add_mask(100, HALF)  # road 2 of 4; car only predicted
    scorer.add_condition(200, "night")
    scorer.add_mask(200, CAR)
    scorer.add_truth(200, CAR)
    scorer.add_mask(300, CAR)  # without labels: not scored
    return scorer


def test_only_frames_with_both_mask_and_labels_are_scored() -> None:
    scores = _scored().frames({})
    assert [(s.stamp_ns, s.condition) for s in scores] == [(100, "day"), (200, "night")]
    assert scores[0].confusion.tolist() == [[2, 2, 0], [0, 0, 0]]


def test_the_summary_holds_both_absent_class_rules_by_hand() -> None:
    result = summary(_scored().frames({}), LABELS)
    # road: 2 / 4; car: 4 hits, 4 true, 6 predicted.
    assert result["iou"] == {"road": 0.5, "car": pytest.approx(4 / 6)}
    assert result["miou"] == result["miou_absent_zero"] == pytest.approx((0.5 + 4 / 6) / 2)
    assert result["accuracy"] == pytest.approx(6 / 8)
    assert result["frames"] == 2


def test_conditions_are_scored_apart_and_an_absent_class_is_none() -> None:
    conditions = by_condition(_scored().frames({}), LABELS)
    assert list(conditions) == ["day", "night"]
    assert conditions["day"]["miou"] == pytest.approx(0.25)
    assert conditions["night"]["iou"] == {"road": None, "car": 1.0}
    assert conditions["night"]["miou"] == 1.0
    assert conditions["night"]["miou_absent_zero"] == 0.5


def test_what_finds_no_partner_is_given_up_after_a_while() -> None:
    scorer = Scorer(LABELS)
    for stamp in range(MAX_WAITING + 2):
        scorer.add_truth(stamp, ROAD)
    scorer.add_mask(0, ROAD)
    scorer.add_mask(MAX_WAITING, ROAD)
    assert [score.stamp_ns for score in scorer.frames({})] == [MAX_WAITING]


def test_the_condition_is_looked_up_by_the_time_of_recording_not_by_the_stamp() -> None:
    scorer = Scorer(LABELS)
    for stamp, time, name in ((1, 1000, "day"), (2, 2000, "night")):  # stamps of a simulator, a wall clock's times
        scorer.add_condition(time, name)
        scorer.add_truth(stamp, ROAD)
        scorer.add_mask(stamp, ROAD)
    assert [score.condition for score in scorer.frames({1: 1000, 2: 2001})] == ["day", "night"]
