"""Calibration against torchmetrics, and temperatures that were put in."""

from __future__ import annotations

import numpy as np
import pytest

from samseg_ros.errors import InputError
from samseg_ros.evaluation.calibration import (
    TEMPERATURES,
    calibration_counts,
    expected_calibration_error,
    fit_temperature,
    reliability,
)
from samseg_ros.posterior import negative_log_likelihood, posterior


def test_a_4x4_case_by_hand() -> None:
    truth = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 255, 255], [2, 2, 255, 255]], np.uint8)
    predicted = np.array([[0, 0, 1, 0], [0, 1, 1, 255], [2, 2, 0, 1], [2, 1, 2, 255]], np.uint8)
    confidence = np.array([[255, 255, 204, 204], [255, 102, 204, 99], [204, 204, 9, 9], [204, 102, 9, 9]], np.uint8)
    counts = calibration_counts(predicted, confidence, truth)
    # Of 12 labelled pixels one is predicted unlabelled. 3 of 255: 3 right. 6 of 204: (0, 3) is wrong. 2 of 102: none.
    assert {level: row.tolist() for level, row in enumerate(counts) if row.any()} == {
        102: [2, 0],
        204: [6, 5],
        255: [3, 3],
    }
    # 204 / 255 = 0.8, 102 / 255 = 0.4
    assert expected_calibration_error(counts) == pytest.approx((6 * abs(0.8 - 5 / 6) + 2 * 0.4 + 3 * 0) / 11)
    pixels, said, right = reliability(counts)
    assert pixels[[5, 11, 14]].tolist() == [2, 6, 3]
    assert said[[5, 11, 14]] == pytest.approx([0.4, 0.8, 1.0])
    assert right[[5, 11, 14]] == pytest.approx([0, 5 / 6, 1])
    assert np.isnan(right[0])


def test_the_error_equals_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    classification = pytest.importorskip("torchmetrics.classification")
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, (50, 60)).astype(np.uint8)
    predicted = np.where(rng.random(truth.shape) < 0.7, truth, rng.integers(0, 4, truth.shape)).astype(np.uint8)
    # Levels that lie on no border of a bin (multiples of 17): there the two close their bins at other ends.
    levels = np.setdiff1d(np.arange(86, 255), np.arange(0, 256, 17)).astype(np.uint8)
    confidence = rng.choice(levels, truth.shape)
    truth[rng.random(truth.shape) < 0.1] = 255
    best = confidence.ravel() / 255.0
    posteriors = np.repeat((1 - best)[:, None] / 3, 4, axis=1)
    posteriors[np.arange(len(best)), predicted.ravel()] = best
    metric = classification.MulticlassCalibrationError(num_classes=4, n_bins=15, norm="l1", ignore_index=255)
    expected = metric(torch.from_numpy(posteriors), torch.from_numpy(truth.ravel().astype(np.int64)))
    counts = calibration_counts(predicted, confidence, truth)
    assert float(expected_calibration_error(counts)) == pytest.approx(float(expected), abs=2e-6)


def test_scores_add_up_over_frames_and_nothing_scored_has_no_error() -> None:
    counts = np.zeros((3, 256, 2), np.int64)
    counts[0, 100] = counts[1, 100] = 4, 1
    expected = [abs(100 / 255 - 0.25)] * 2
    assert expected_calibration_error(counts)[:2] == pytest.approx(expected)
    assert np.isnan(expected_calibration_error(counts)[2])
    assert expected_calibration_error(counts.sum(0)) == pytest.approx(expected[0])


def test_confidence_of_another_size_is_refused() -> None:
    square = np.zeros((2, 2), np.uint8)
    with pytest.raises(InputError, match=r"confidence: expected the size of the labels \(2, 2\), got \(1, 2\)"):
        calibration_counts(square, square[:1], square)


def _drawn(logits: np.ndarray, seed: int = 1) -> np.ndarray:
    """Draw the true class of every pixel from the softmax of (K, H, W) scores."""
    rng = np.random.default_rng(seed)
    noise = rng.gumbel(size=logits.shape)  # the largest of scores plus Gumbel noise is a draw from the softmax
    return np.asarray((logits + noise).argmax(0).astype(np.uint8))


def test_the_likelihood_equals_cross_entropy_on_enlarged_scores() -> None:
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 3, (5, 12, 16)).astype(np.float32)
    truth = rng.integers(0, 5, (48, 64)).astype(np.uint8)
    truth[:5] = 255
    sums, pixels = negative_log_likelihood(logits, truth, np.array([0.5, 1.0, 3.0]))
    assert pixels == 43 * 64
    large = functional.interpolate(torch.from_numpy(logits)[None], (48, 64), mode="bilinear", align_corners=False)
    for value, temperature in zip(sums, (0.5, 1.0, 3.0), strict=True):
        expected = functional.cross_entropy(
            large.double() / temperature,
            torch.from_numpy(truth.astype(np.int64))[None],
            ignore_index=255,
            reduction="sum",
        )
        assert value == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.37, 2.9])
def test_a_temperature_that_was_put_in_is_found_again(temperature: float) -> None:
    logits = np.random.default_rng(0).normal(0, 2, (6, 200, 300)).astype(np.float32)
    truth = _drawn(logits)  # calibrated as they are
    sums, pixels = negative_log_likelihood(logits * np.float32(temperature), truth, np.array(TEMPERATURES))
    fit = fit_temperature(sums, pixels)
    assert fit.temperature == pytest.approx(temperature, rel=0.01)
    assert fit.nll <= fit.nll_before + 1e-9
    if temperature != 1.0:
        size, sharp = truth.shape, logits * np.float32(temperature)
        before, after = (posterior(scores, size, 0.0) for scores in (sharp, sharp / np.float32(fit.temperature)))
        np.testing.assert_array_equal(after.labels, before.labels)
        errors = [
            float(expected_calibration_error(calibration_counts(p.labels, p.confidence, truth)))
            for p in (before, after)
        ]
        assert errors[1] < 0.006 < errors[0]


def test_the_spline_finds_the_least_value_of_a_dense_search() -> None:
    logits = np.random.default_rng(3).normal(0, 2, (4, 60, 80)).astype(np.float32)
    truth = np.where(np.random.default_rng(4).random((60, 80)) < 0.3, 0, _drawn(logits)).astype(np.uint8)
    fit = fit_temperature(*negative_log_likelihood(logits, truth, np.array(TEMPERATURES)))
    dense = np.linspace(0.9 * fit.temperature, 1.1 * fit.temperature, 401)
    sums, pixels = negative_log_likelihood(logits, truth, dense)
    assert fit.temperature == pytest.approx(dense[sums.argmin()], rel=1e-3)
    assert fit.nll == pytest.approx(sums.min() / pixels, rel=1e-6)
    assert fit.nll_before == pytest.approx(negative_log_likelihood(logits, truth, np.ones(1))[0][0] / pixels, rel=1e-6)


def test_scores_that_know_nothing_and_masks_without_scores_have_no_temperature() -> None:
    logits = np.random.default_rng(0).normal(0, 2, (3, 40, 40)).astype(np.float32)
    truth = np.random.default_rng(1).integers(0, 3, (40, 40)).astype(np.uint8)
    wrong = (logits.argmax(0) + 1 + truth % 2) % 3
    with pytest.raises(InputError, match=r"expected one between 0\.125 and 16, got the best at 16"):
        fit_temperature(*negative_log_likelihood(logits, wrong.astype(np.uint8), np.array(TEMPERATURES)))
    with pytest.raises(InputError, match="got 0 temperatures, 0 pixels"):
        fit_temperature(np.zeros(0), 0)
