from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from samseg_ros.posterior import Posterior, at_pixels, entropy, posterior, probabilities, remapped
from samseg_ros.types import Segmentation


def scores(classes: int, height: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    return (3 * np.random.default_rng(seed).standard_normal((classes, height, width))).astype(np.float32)


def upsampled(logits: NDArray[np.float32], size: tuple[int, int]) -> torch.Tensor:
    """Torch's (K, H, W) scores at camera size."""
    return torch.nn.functional.interpolate(torch.from_numpy(logits)[None], size, mode="bilinear", align_corners=False)[
        0
    ]


def segmentation(logits: NDArray[np.float32], size: tuple[int, int], min_confidence: float = 0.0) -> Segmentation:
    p = posterior(logits, size, min_confidence)
    return Segmentation(p.labels, p.confidence, logits, p.pixel_share, p.mean_posterior)


@pytest.mark.parametrize(
    ("classes", "low", "size"),
    [
        (12, (120, 160), (480, 640)),
        (12, (96, 128), (480, 640)),
        (19, (64, 200), (375, 1242)),
        (25, (64, 64), (256, 256)),
        (3, (17, 23), (64, 64)),
        (2, (1, 1), (5, 7)),
        (5, (64, 64), (32, 33)),
        (255, (8, 8), (16, 16)),
    ],
)
def test_labels_are_those_of_torch_and_confidence_is_within_one_level(
    classes: int, low: tuple[int, int], size: tuple[int, int]
) -> None:
    logits = scores(classes, *low)
    expected = upsampled(logits, size)
    best = expected.softmax(0).max(0)
    p = posterior(logits, size, 0.0)
    two = expected.topk(2, dim=0).values
    tied = (two[0] - two[1] < 1e-5).numpy()  # nearer than float32 can tell after interpolation
    assert tied.mean() < 1e-3
    np.testing.assert_array_equal(p.labels[~tied], best.indices.numpy()[~tied])
    assert np.abs(p.confidence - 255 * best.values.numpy()).max() <= 0.51


def test_a_posterior_computed_by_hand() -> None:
    logits = np.zeros((2, 3, 4), np.float32)
    logits[1] = np.log(3)
    p = posterior(logits, (6, 8), 0.0)
    assert (p.labels == 1).all()
    assert (p.confidence == round(255 * 0.75)).all()
    assert p.pixel_share.tolist() == [0, 1]
    assert np.isnan(p.mean_posterior[0])
    assert p.mean_posterior[1] == pytest.approx(0.75, abs=1e-5)


def test_of_equal_scores_the_first_class_wins() -> None:
    assert not posterior(np.zeros((4, 2, 2), np.float32), (4, 4), 0.0).labels.any()


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.9, 1.0])
def test_pixels_below_the_threshold_are_unlabelled_and_keep_their_confidence(threshold: float) -> None:
    logits, size = scores(4, 20, 30), (80, 120)
    best = upsampled(logits, size).softmax(0).max(0).values.numpy()
    p = posterior(logits, size, threshold)
    clear = np.abs(best - threshold) > 1e-4
    np.testing.assert_array_equal((p.labels == 255)[clear], (best < threshold)[clear])
    np.testing.assert_array_equal(p.confidence, posterior(logits, size, 0.0).confidence)


def test_statistics_are_over_the_labelled_pixels() -> None:
    logits, size = scores(4, 20, 30), (80, 120)
    p = posterior(logits, size, 0.8)
    best = upsampled(logits, size).softmax(0).max(0).values.numpy()
    labelled = p.labels != 255
    assert 0.2 < labelled.mean() < 0.9
    for k in range(4):
        mine = p.labels == k
        assert p.pixel_share[k] == pytest.approx(mine.sum() / labelled.sum())
        assert p.mean_posterior[k] == pytest.approx(best[mine].mean(), abs=1e-4)
    assert p.pixel_share.sum() == pytest.approx(1)


def test_where_nothing_is_labelled_shares_are_zero_and_means_unknown() -> None:
    p = posterior(np.zeros((4, 5, 5), np.float32), (20, 20), 0.5)
    assert (p.labels == 255).all()
    assert p.pixel_share.tolist() == [0, 0, 0, 0]
    assert np.isnan(p.mean_posterior).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_leave_their_surroundings_unlabelled_and_nothing_else(bad: float) -> None:
    logits = scores(3, 10, 10)
    clean = posterior(logits, (40, 40), 0.0)
    logits[1, 5, 5] = bad
    p = posterior(logits, (40, 40), 0.0)
    touched = np.zeros((40, 40), bool)
    touched[18:26, 18:26] = True  # the cells beside 5 reach from 18 to 25
    assert (p.labels[touched] == 255).all()
    assert not p.confidence[touched].any()
    np.testing.assert_array_equal(p.labels[~touched], clean.labels[~touched])


@given(st.floats(0, 1e4), st.integers(0, 1000))
def test_very_large_scores_neither_overflow_nor_move_the_labels(scale: float, seed: int) -> None:
    logits = (np.random.default_rng(seed).standard_normal((5, 6, 6)) * scale).astype(np.float32)
    p = posterior(logits, (6, 6), 0.0)
    np.testing.assert_array_equal(p.labels, logits.argmax(0))
    expected = torch.from_numpy(logits).softmax(0).max(0).values.numpy()
    assert np.abs(p.confidence - 255 * expected).max() <= 0.51


def test_probabilities_at_a_stride_are_torchs_softmax_of_the_resized_scores() -> None:
    logits, size = scores(6, 15, 20), (60, 80)
    got = probabilities(logits, size, 8)
    expected = upsampled(logits, (60, 80)).numpy()
    # The centre of a cell of 8 lies between its 4th and 5th pixel: (60, 80) interpolated is linear in between.
    centre = [expected[:, r::8, c::8][:, :7, :10] for r in (3, 4) for c in (3, 4)]
    soft = torch.from_numpy(np.mean(centre, axis=0)).softmax(0).numpy().transpose(1, 2, 0)
    assert got.shape == (8, 10, 6)
    assert got.dtype == np.uint8
    assert np.abs(got[:7] - 255 * soft).max() < 0.51 + 0.2


def test_probabilities_at_the_stride_of_the_scores_are_their_softmax() -> None:
    logits = scores(6, 15, 20)
    soft = torch.from_numpy(logits).softmax(0).numpy().transpose(1, 2, 0)
    assert np.abs(probabilities(logits, (60, 80), 4) - 255 * soft).max() <= 0.501


def test_a_size_that_the_stride_does_not_divide_gets_a_last_cell_of_its_own() -> None:
    assert probabilities(scores(3, 10, 10), (41, 39), 4).shape == (11, 10, 3)


def test_the_entropy_of_equal_scores_is_the_logarithm_of_the_number_of_classes() -> None:
    nats = entropy(np.zeros((12, 5, 5), np.float32), (20, 20), 4)
    assert nats.shape == (5, 5)
    assert nats == pytest.approx(np.full((5, 5), np.log(12)))


def test_the_entropy_of_a_certain_pixel_is_zero() -> None:
    logits = np.full((3, 2, 2), -200, np.float32)
    logits[2] = 200
    assert not entropy(logits, (2, 2), 1).any()


def test_the_entropy_of_three_to_one_computed_by_hand() -> None:
    logits = np.array([0, np.log(3)], np.float32).reshape(2, 1, 1)
    assert entropy(logits, (1, 1), 1)[0, 0] == pytest.approx(-0.25 * np.log(0.25) - 0.75 * np.log(0.75))


def test_points_get_class_probability_and_entropy_of_their_pixel() -> None:
    logits, size = scores(7, 24, 32), (96, 130)
    soft = upsampled(logits, size).double().softmax(0).numpy()
    rng = np.random.default_rng(0)
    pixels = np.stack([rng.integers(0, 96, 500), rng.integers(0, 130, 500)], axis=1).astype(np.int32)
    at = soft[:, pixels[:, 0], pixels[:, 1]]
    class_id, probability, nats = at_pixels(segmentation(logits, size), pixels)
    assert (class_id.dtype, probability.dtype, nats.dtype) == (np.uint8, np.float32, np.float32)
    assert (class_id == at.argmax(0)).mean() > 0.99  # but for ties
    np.testing.assert_allclose(probability, at.max(0), atol=2e-5)
    np.testing.assert_allclose(nats, -(at * np.log(at)).sum(0), atol=5e-5)


def test_points_that_are_not_in_view_are_unknown() -> None:
    pixels = np.array([[-1, -1], [3, 3], [-1, -1]], np.int32)
    class_id, probability, nats = at_pixels(segmentation(scores(4, 6, 6), (24, 24)), pixels)
    assert class_id[[0, 2]].tolist() == [255, 255]
    assert probability[[0, 2]].tolist() == [0, 0]
    assert np.isnan(nats[[0, 2]]).all()
    assert class_id[1] < 4
    assert probability[1] >= 0.25
    assert 0 <= nats[1] <= np.log(4)


def test_points_on_unlabelled_pixels_are_unlabelled_but_keep_their_entropy() -> None:
    result = segmentation(np.zeros((4, 6, 6), np.float32), (24, 24), min_confidence=0.5)
    class_id, probability, nats = at_pixels(result, np.array([[5, 5]], np.int32))
    assert class_id.tolist() == [255]
    assert probability == pytest.approx([0.25])
    assert nats == pytest.approx([np.log(4)])


def test_no_points_give_nothing() -> None:
    assert [len(a) for a in at_pixels(segmentation(scores(4, 6, 6), (24, 24)), np.zeros((0, 2), np.int32))] == [0, 0, 0]


def test_scores_may_be_a_view_that_is_not_contiguous() -> None:
    logits = scores(4, 20, 30)
    view = np.asfortranarray(logits)
    first, second = posterior(logits, (40, 60), 0.0), posterior(view, (40, 60), 0.0)
    assert isinstance(second, Posterior)
    np.testing.assert_array_equal(first.labels, second.labels)


def test_remapped_statistics_are_those_of_the_remapped_labels() -> None:
    labels = np.array([[0, 0, 1, 1], [1, 2, 3, 255]], np.uint8)
    sure = np.array([[0.9, 0.7, 0.5, 0.6], [0.7, 0.8, 0.4, 0.1]])
    share = np.array([2, 3, 1, 1]) / 7
    mean = np.array([0.8, 0.6, 0.8, 0.4])
    table = np.full(256, 255, np.uint8)
    table[:4] = 2, 0, 2, 255  # 3 has no counterpart
    matrix = np.array([[0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 1, 0]], np.float32)
    confidence = np.rint(255 * sure).astype(np.uint8)
    result = remapped(Posterior(labels, confidence, share, mean), table, matrix)
    np.testing.assert_array_equal(result.labels, [[2, 2, 0, 0], [0, 2, 255, 255]])
    np.testing.assert_array_equal(result.confidence, confidence)
    np.testing.assert_allclose(result.pixel_share, [0.5, 0, 0.5])
    np.testing.assert_allclose(result.mean_posterior, [0.6, np.nan, (0.9 + 0.7 + 0.8) / 3])


def test_an_image_all_of_whose_classes_are_dropped_has_no_shares() -> None:
    one = Posterior(np.zeros((1, 2), np.uint8), np.full((1, 2), 9, np.uint8), np.ones(1), np.ones(1))
    result = remapped(one, np.full(256, 255, np.uint8), np.zeros((2, 1), np.float32))
    assert (result.labels == 255).all()
    assert result.pixel_share.tolist() == [0, 0] and np.isnan(result.mean_posterior).all()


def test_the_probability_of_a_published_class_is_the_sum_over_the_models_classes() -> None:
    logits = scores(5, 6, 7)
    matrix = np.array([[1, 0, 0, 1, 0], [0, 1, 1, 0, 0]], np.float32)  # the fifth has no counterpart
    exact = torch.from_numpy(logits).softmax(0).numpy()
    expected = np.stack([exact[0] + exact[3], exact[1] + exact[2]], axis=2)
    got = probabilities(logits, (6, 7), 1, matrix)
    assert np.abs(got - 255 * expected).max() <= 0.51
