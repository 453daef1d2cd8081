"""Calibration: is what is said with 80 % confidence right in 80 % of the pixels? And the temperature that makes it so.

Guo et al., On calibration of modern neural networks, ICML 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.optimize import minimize_scalar

from samseg_ros.errors import InputError
from samseg_ros.evaluation.metrics import Counts, Floats
from samseg_ros.types import UNLABELLED

BINS = 15
TEMPERATURES: tuple[float, ...] = tuple(float(t) for t in 2.0 ** np.linspace(-3, 4, 29))
"""Where the likelihood is measured to fit a temperature: 1/8 to 16, 1 among them."""


def calibration_counts(predicted: NDArray[np.uint8], confidence: NDArray[np.uint8], truth: NDArray[np.uint8]) -> Counts:
    """Count one frame's pixels per level of confidence.

    Args:
        predicted: (H, W) class ids; a pixel predicted 255 (unlabelled) claims nothing and is left out.
        confidence: (H, W) round(255 * max posterior).
        truth: (H, W) class ids; 255 = not to be counted.

    Returns:
        (256, 2) pixels, and those of them that are right.

    Raises:
        InputError: the sizes differ.
    """
    if not predicted.shape == confidence.shape == truth.shape:
        raise InputError(
            "confidence",
            expected=f"the size of the labels {truth.shape}",
            got=str(confidence.shape),
            remedy="score what the model says at camera size",
        )
    right = predicted == truth
    kind = 2 * ((predicted != UNLABELLED) & (truth != UNLABELLED)).view(np.uint8) + right.view(np.uint8)
    place = confidence.ravel().astype(np.int32) * 4 + kind.ravel()
    _, _, wrong, right_ = np.bincount(place, minlength=1024).reshape(256, 4).T
    return np.stack([wrong + right_, right_], axis=1).astype(np.int64)


def reliability(counts: Counts, bins: int = BINS) -> tuple[Floats, Floats, Floats]:
    """Return what a reliability diagram shows.

    Args:
        counts: (..., 256, 2), see `calibration_counts`.
        bins: B bins of equal width, each open below and closed above (confidence 0 belongs to the first).

    Returns:
        Three times (..., B): pixels; their mean confidence; the share of them that is right. NaN in empty bins.
    """
    levels = np.arange(256)
    edges = np.searchsorted(np.maximum((levels * bins + 254) // 255 - 1, 0), np.arange(bins))
    pixels, right = np.moveaxis(np.add.reduceat(counts, edges, axis=-2), -1, 0).astype(np.float64)
    said = np.add.reduceat(counts[..., 0] * levels, edges, axis=-1) / 255.0
    whole = np.where(pixels > 0, pixels, np.nan)
    return pixels, said / whole, right / whole


def expected_calibration_error(counts: Counts, bins: int = BINS) -> Floats:
    """Return (...) ECE: the difference of confidence and accuracy in each bin, weighted by its pixels; NaN for none."""
    pixels, confidence, accuracy = reliability(counts, bins)
    total = pixels.sum(-1)
    gap = np.nansum(pixels * np.abs(confidence - accuracy), axis=-1)
    return np.asarray(gap / np.where(total > 0, total, np.nan))


@dataclass(frozen=True, slots=True)
class TemperatureFit:
    """The best temperature, and what it gains."""

    temperature: float
    nll: float
    """Mean negative log likelihood of the true class with it, in nats."""
    nll_before: float
    """With the scores as they are."""


def fit_temperature(nll: Floats, pixels: int, temperatures: Sequence[float] = TEMPERATURES) -> TemperatureFit:
    """Find the temperature of least negative log likelihood: between the measured ones by a cubic spline over its log.

    Args:
        nll: (T,) summed over pixels, see `samseg_ros.posterior.negative_log_likelihood`.
        pixels: in those sums.
        temperatures: (T,) rising, where it was measured.

    Raises:
        InputError: nothing measured, or the best lies at an end of the range.
    """
    if pixels == 0 or len(nll) != len(temperatures):
        raise InputError(
            "temperature",
            expected=f"the likelihood of some pixels at {len(temperatures)} temperatures",
            got=f"{len(nll)} temperatures, {pixels} pixels",
            remedy="score a split with labels with the model itself, not with recorded masks",
        )
    at, best = np.log(temperatures), int(np.argmin(nll))
    if best in (0, len(at) - 1):
        raise InputError(
            "temperature",
            expected=f"one between {temperatures[0]:g} and {temperatures[-1]:g}",
            got=f"the best at {temperatures[best]:g}",
            remedy="a model that needs more than that knows nothing, or was scored on other labels: train it first",
        )
    curve = CubicSpline(at, np.asarray(nll) / pixels)
    found = minimize_scalar(curve, bounds=(at[best - 1], at[best + 1]), method="bounded", options={"xatol": 1e-6})
    return TemperatureFit(float(np.exp(found.x)), float(curve(found.x)), float(curve(0.0)))
