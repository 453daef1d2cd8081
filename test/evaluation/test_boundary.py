"""Boundary F against a slow reference: every distance of every pair of boundary pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from samseg_ros.evaluation.boundary import boundary_counts, boundary_f, mean_boundary_f, tolerance_px

Ids = NDArray[np.uint8]


def _slow_boundary(ids: Ids, own: int, skip: int | None) -> list[tuple[int, int]]:
    found = []
    for y, x in np.argwhere(ids == own):
        around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        inside = [ids[p] for p in around if 0 <= p[0] < ids.shape[0] and 0 <= p[1] < ids.shape[1]]
        if any(i not in (own, skip) for i in inside):
            found.append((int(y), int(x)))
    return found


def _near(pixel: tuple[int, int], others: list[tuple[int, int]], radius: int) -> bool:
    return any((pixel[0] - y) ** 2 + (pixel[1] - x) ** 2 <= radius**2 for y, x in others)


def _slow_counts(predicted: Ids, truth: Ids, classes: int, radius: int) -> NDArray[np.int64]:
    hidden = [(int(y), int(x)) for y, x in np.argwhere(truth == 255)]
    counts = np.zeros((classes, 4), np.int64)
    for k in range(classes):
        ours, theirs = _slow_boundary(predicted, k, None), _slow_boundary(truth, k, 255)
        for first, (mine, partners) in enumerate(((ours, theirs), (theirs, ours))):
            counted = [p for p in mine if not _near(p, hidden, radius)]
            counts[k, 2 * first] = len(counted)
            counts[k, 2 * first + 1] = sum(_near(p, partners, radius) for p in counted)
    return counts


IDS = arrays(np.uint8, (7, 9), elements=st.sampled_from((0, 0, 0, 1, 1, 2, 255)))


@given(IDS, IDS, st.sampled_from((0.05, 0.13, 0.2)))
def test_counts_equal_those_of_all_pairs_of_pixels(predicted: Ids, truth: Ids, tolerance: float) -> None:
    expected = _slow_counts(predicted, truth, 3, tolerance_px((7, 9), tolerance))
    np.testing.assert_array_equal(boundary_counts(predicted, truth, 3, tolerance), expected)


def test_blobs_with_an_ignored_rim_are_counted_as_by_all_pairs() -> None:
    y, x = np.mgrid[:40, :50]
    truth = np.where((y - 20) ** 2 + (x - 25) ** 2 < 100, 1, 0).astype(np.uint8)
    truth[:, 40:42] = 255
    predicted = np.roll(truth, 2, axis=0) % 255
    found = boundary_counts(predicted, truth, 2, 0.03)  # 64 pixels of diagonal: 2 of tolerance
    np.testing.assert_array_equal(found, _slow_counts(predicted, truth, 2, 2))
    assert 0 < found[1, 1] <= found[1, 0]


def test_a_4x4_case_by_hand() -> None:
    truth = np.array([[0, 0, 1, 1]] * 4, np.uint8)
    predicted = np.array([[0, 1, 1, 1]] * 4, np.uint8)
    # Boundary of class 0: column 1 in truth, 0 predicted; of class 1: column 2 in truth, 1 predicted: one pixel apart.
    assert tolerance_px((4, 4), 0.17) == 1
    assert boundary_counts(predicted, truth, 2, 0.17).tolist() == [[4, 4, 4, 4], [4, 4, 4, 4]]
    predicted[3] = (
        1  # the last row has no class 0; class 0's new end is in row 2, column 0, class 1's in row 3, column 0
    )
    counts = boundary_counts(predicted, truth, 2, 0.17)
    # Of class 0 three are left, all matched; of the true four, (3, 1) has no partner within a pixel.
    # Class 1: (0..2, 1) and (3, 0); the last is two columns from (3, 2). The true (3, 2) is one diagonal from (2, 1).
    assert counts.tolist() == [[3, 3, 4, 3], [4, 3, 4, 3]]
    recall = 3 / 4
    assert boundary_f(counts)[0] == pytest.approx(2 * recall / (1 + recall))
    assert boundary_f(counts)[1] == pytest.approx(3 / 4)


def test_the_tolerance_is_three_quarters_of_a_percent_of_the_diagonal_in_whole_pixels() -> None:
    assert tolerance_px((480, 640)) == 6  # 800 * 0.0075 = 6 exactly
    assert tolerance_px((360, 480)) == 5  # 4.5
    assert tolerance_px((1080, 1920)) == 17  # 16.5


def test_counts_pool_over_frames_and_absent_classes_follow_the_rule() -> None:
    frames = np.array([[[10, 5, 20, 10], [0, 0, 0, 0], [0, 0, 4, 0]], [[10, 10, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]])
    pooled = frames.sum(0)
    # Class 0: precision 15/20, recall 10/20; class 1 never occurs; class 2 is never predicted.
    f = 2 * 0.75 * 0.5 / 1.25
    np.testing.assert_allclose(boundary_f(pooled), [f, np.nan, 0.0])
    assert mean_boundary_f(pooled) == pytest.approx((f + 0) / 2)
    assert mean_boundary_f(pooled, "zero") == pytest.approx((f + 0) / 3)
    assert np.isnan(mean_boundary_f(np.zeros((3, 4), np.int64)))


def test_what_the_prediction_says_near_ignored_pixels_changes_nothing() -> None:
    truth = np.zeros((20, 20), np.uint8)
    truth[:, 8:12] = 255
    plain, cut = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8)
    cut[:, 10:12] = 1
    assert boundary_counts(plain, truth, 2, 0.05).sum() == 0
    assert boundary_counts(cut, truth, 2, 0.05).sum() == 0  # its edges are in columns 9 to 12, two pixels are tolerated
