"""Metrics of fused pictures, by hand and against slow references."""

import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from samseg_ros.evaluation.fusion_metrics import (
    NAMES,
    entropy,
    fusion_metrics,
    information_fidelity,
    mean_metrics,
    named,
    spatial_frequency,
    structural_similarity,
)

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (48, 64), np.uint8)
SMOOTH = np.add.outer(np.arange(48), 2 * np.arange(64)).astype(np.uint8)


def _flat(level: int) -> NDArray[np.uint8]:
    return np.full((48, 64), level, np.uint8)


@pytest.mark.parametrize(
    ("levels", "bits"),
    [([7], 0.0), ([0, 255], 1.0), ([0, 1, 2, 3], 2.0), (range(256), 8.0), ([5, 5, 5, 9], 0.811278)],
)
def test_entropy_counts_the_bits_of_the_levels(levels: list[int], bits: float) -> None:
    gray = np.array(levels, np.uint8).reshape(1, -1).repeat(3, axis=0)
    assert entropy(gray) == pytest.approx(bits, abs=1e-6)  # 0.811278 = 2 - 0.75 log2(3)


def test_spatial_frequency_of_a_chessboard_of_stripes_and_of_a_flat_picture_by_hand() -> None:
    chessboard = 10 * (np.indices((4, 5)).sum(0) % 2).astype(np.uint8)
    # 4 rows of 4 steps and 3 steps in each of 5 columns, 10² each, over 20 pixels
    assert spatial_frequency(chessboard) == pytest.approx((100 * (16 + 15) / 20) ** 0.5)
    stripes = np.tile(np.array([0, 200], np.uint8), (3, 2))  # uint8 must not wrap around: 200 each way
    assert spatial_frequency(stripes) == pytest.approx((200**2 * 9 / 12) ** 0.5)
    assert spatial_frequency(_flat(3)) == 0


@pytest.mark.parametrize(("a", "b"), [(100, 50), (0, 255), (20, 20)])
def test_ssim_of_flat_pictures_is_the_luminance_term(a: int, b: int) -> None:
    c1 = (0.01 * 255) ** 2  # without variance, contrast and structure are c2 / c2
    assert structural_similarity(_flat(a), _flat(b)) == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1))


def test_ssim_equals_the_formula_at_every_pixel() -> None:
    taps = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    window = np.outer(taps, taps) / taps.sum() ** 2

    def blurred(image: NDArray[np.float64]) -> NDArray[np.float64]:
        padded = np.pad(image, 5, mode="reflect")
        return (np.lib.stride_tricks.sliding_window_view(padded, (11, 11)) * window).sum((2, 3))

    x, y = NOISE.astype(np.float64), np.minimum(SMOOTH, NOISE).astype(np.float64)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = blurred(x), blurred(y)
    vx, vy, cov = blurred(x * x) - mx**2, blurred(y * y) - my**2, blurred(x * y) - mx * my
    by_hand = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    found = structural_similarity(NOISE, np.minimum(SMOOTH, NOISE))
    assert found == pytest.approx(by_hand.mean(), abs=1e-6)


def test_vif_is_1_for_the_source_itself_0_for_nothing_of_it_and_less_than_1_for_noise_on_it() -> None:
    pytest.importorskip("torchmetrics.functional.image")
    assert information_fidelity(NOISE, NOISE) == pytest.approx(1.0, abs=1e-6)
    assert information_fidelity(_flat(80), NOISE) == pytest.approx(0.0, abs=1e-6)
    noisy = np.clip(SMOOTH.astype(np.int64) + RNG.integers(-20, 21, SMOOTH.shape), 0, 255).astype(np.uint8)
    fidelity = information_fidelity(noisy, SMOOTH)
    assert fidelity is not None and 0.05 < fidelity < 0.95


def test_vif_of_a_flat_source_or_a_small_one_cannot_be_had() -> None:
    pytest.importorskip("torchmetrics.functional.image")
    assert information_fidelity(NOISE, _flat(80)) is None
    assert information_fidelity(NOISE[:40], NOISE[:40]) is None
    assert information_fidelity(NOISE[:41], NOISE[:41]) == pytest.approx(1.0, abs=1e-6)


def _rgb(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(gray[..., None], 3, axis=2)


def test_a_picture_that_is_its_camera_image_is_measured_so_and_thermal_is_held_against_the_thermal_image() -> None:
    pytest.importorskip("torchmetrics.functional.image")
    values = fusion_metrics(_rgb(NOISE), _rgb(NOISE), _rgb(SMOOTH))
    assert list(values) == [
        "entropy_bits",
        "spatial_frequency",
        "ssim_camera",
        "vif_camera",
        "ssim_thermal",
        "vif_thermal",
    ]
    assert (values["ssim_camera"], values["vif_camera"]) == pytest.approx((1.0, 1.0), abs=1e-6)
    assert values["ssim_thermal"] == structural_similarity(NOISE, SMOOTH)
    assert values["vif_thermal"] == information_fidelity(NOISE, SMOOTH)


def test_colours_are_weighed_as_an_eye_does() -> None:
    red, green = np.zeros((2, 48, 64, 3), np.uint8)
    red[:, :32, 0], green[:, :32, 1] = 255, 255
    # one edge in each row: luma of red 0.299 * 255 = 76, of green 0.587 * 255 = 150
    for image, step in ((red, 76), (green, 150)):
        assert fusion_metrics(image, image, None)["spatial_frequency"] == pytest.approx((step**2 / 64) ** 0.5)


def test_without_torchmetrics_vif_is_left_out_and_the_rest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.image", None)
    assert fusion_metrics(_rgb(NOISE), _rgb(NOISE), None).keys() == {"entropy_bits", "spatial_frequency", "ssim_camera"}


def test_a_metric_is_averaged_over_the_frames_that_have_it() -> None:
    frames = [{"entropy_bits": 1.0, "ssim_thermal": 0.5}, {"entropy_bits": 2.0}, {"entropy_bits": 6.0}]
    means = mean_metrics(frames)
    assert means == {"frames": 3, "thermal_frames": 1, "entropy_bits": 3.0, "ssim_thermal": 0.5}
    assert named(means) == [("entropy (bits)", "3.000"), ("SSIM with thermal", "0.500")]
    assert set(NAMES) >= means.keys() - {"frames", "thermal_frames"}
