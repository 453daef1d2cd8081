"""From class scores at the network's stride to labels, confidence and statistics at camera size.

The scores are upsampled bilinearly (pixel areas aligned, as ``torch.nn.functional.interpolate(mode="bilinear",
align_corners=False)`` does), then softmax, then the best class: nothing of size classes x camera is ever stored.
Entropies are in nats, 0..log(K).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from samseg_ros.types import UNLABELLED, Segmentation


@dataclass(frozen=True, eq=False, slots=True)
class Posterior:
    """The best class of every pixel, and per class how much of it there is and how sure it is."""

    labels: NDArray[np.uint8]
    """(H, W) class ids, 255 where the confidence is too low or a score is not finite."""
    confidence: NDArray[np.uint8]
    """(H, W) round(255 * max posterior)."""
    pixel_share: NDArray[np.float64]
    """(K,) share of the labelled pixels; sums to 1, or to 0 where nothing is labelled."""
    mean_posterior: NDArray[np.float64]
    """(K,) mean of the max posterior over the class's pixels, NaN for an absent class."""


def posterior(logits: NDArray[np.float32], size: tuple[int, int], min_confidence: float) -> Posterior:
    """Label every pixel of a camera image.

    Args:
        logits: (K, h, w) class scores that cover the whole image, K <= 255.
        size: camera (H, W).
        min_confidence: pixels whose max posterior is below become 255.
    """
    classes = logits.shape[0]
    labels, confidence = np.empty(size, np.uint8), np.empty(size, np.uint8)
    counts, sums = np.zeros(classes, np.int64), np.zeros(classes, np.float64)
    columns = _taps(size[1], logits.shape[2], np.arange(size[1]))
    rows = _taps(size[0], logits.shape[1], np.arange(size[0]))
    wide = _interpolate_columns(np.ascontiguousarray(logits, np.float32), *columns)
    _label(wide, *rows, np.float32(min_confidence), labels, confidence, counts, sums)
    share = counts / max(1, counts.sum())
    mean = np.divide(sums, counts, out=np.full(classes, np.nan), where=counts > 0)
    return Posterior(labels, confidence, share, mean)


def remapped(result: Posterior, table: NDArray[np.uint8], published_from_model: NDArray[np.float32]) -> Posterior:
    """Give every class its published id; what becomes 255 counts as unlabelled.

    The best class is chosen before: what is published is the remapped best class, not the best remapped class.

    Args:
        result: in the model's K classes.
        table: (256,) published ids.
        published_from_model: (P, K), the same as a matrix (`Segmentation.published_from_model`).
    """
    share = published_from_model @ result.pixel_share
    total = published_from_model @ (result.pixel_share * np.nan_to_num(result.mean_posterior))
    mean = np.divide(total, share, out=np.full(len(share), np.nan), where=share > 0)
    labels = np.asarray(cv2.LUT(result.labels, table), np.uint8)
    return Posterior(labels, result.confidence, share / (share.sum() or 1.0), mean)


def probabilities(
    logits: NDArray[np.float32],
    size: tuple[int, int],
    stride: int,
    published_from_model: NDArray[np.float32] | None = None,
) -> NDArray[np.uint8]:
    """Return round(255 * posterior) as (ceil(H / stride), ceil(W / stride), K), sampled at the centres of the cells.

    With a matrix (P, K) it is that of the P published classes, each the sum over its own.
    """
    p = _softmax(_at_stride(logits, size, stride))
    if published_from_model is not None:
        p = np.clip(np.tensordot(published_from_model, p, 1), 0, 1)
    return np.rint(255 * p).astype(np.uint8).transpose(1, 2, 0)


def entropy(logits: NDArray[np.float32], size: tuple[int, int], stride: int) -> NDArray[np.float32]:
    """Return the posterior's entropy in nats as (ceil(H / stride), ceil(W / stride)), at the centres of the cells."""
    p = _softmax(_at_stride(logits, size, stride))
    terms = p * np.log(p, out=np.zeros_like(p), where=p > 0)
    return np.asarray(-terms.sum(0), np.float32)


def negative_log_likelihood(
    logits: NDArray[np.float32], truth: NDArray[np.uint8], temperatures: NDArray[np.float64]
) -> tuple[NDArray[np.float64], int]:
    """Sum -log of the posterior that the true class has, in nats, with the scores divided by each temperature.

    Args:
        logits: (K, h, w) class scores that cover the whole image.
        truth: (H, W) class ids below K; 255 = not to be counted.
        temperatures: (T,) positive.

    Returns:
        (T,) sums, and over how many pixels.
    """
    columns = _taps(truth.shape[1], logits.shape[2], np.arange(truth.shape[1]))
    rows = _taps(truth.shape[0], logits.shape[1], np.arange(truth.shape[0]))
    wide = _interpolate_columns(np.ascontiguousarray(logits, np.float32), *columns)
    sums = np.zeros(len(temperatures), np.float64)
    _add_nll(wide, *rows, np.ascontiguousarray(truth), (1 / np.asarray(temperatures)).astype(np.float32), sums)
    return sums, int((truth != UNLABELLED).sum())


def at_pixels(
    segmentation: Segmentation, pixels: NDArray[np.int32]
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Look a segmentation up at the pixels of points (`LidarImage.pixels`).

    Args:
        segmentation: of the image that the points were projected into.
        pixels: (N, 2) row and column; -1 for a point that is not in view.

    Returns:
        (N,) class ids, (N,) max posterior, (N,) entropy in nats; 255, 0 and NaN for a point that is not in view.
    """
    height, width = segmentation.labels.shape
    seen = np.flatnonzero(pixels[:, 0] >= 0)
    rows, columns = pixels[seen, 0], pixels[seen, 1]
    class_id = np.full(len(pixels), UNLABELLED, np.uint8)
    probability, nats = np.zeros(len(pixels), np.float32), np.full(len(pixels), np.nan, np.float32)
    class_id[seen] = segmentation.labels[rows, columns]
    y0, y1, wy = _taps(height, segmentation.logits.shape[1], rows)
    x0, x1, wx = _taps(width, segmentation.logits.shape[2], columns)
    _look_up(np.ascontiguousarray(segmentation.logits, np.float32), y0, y1, wy, x0, x1, wx, seen, probability, nats)
    return class_id, probability, nats


Taps = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]
"""For each wanted position the two source positions and the weight of the second."""


def _taps(target: int, source: int, positions: NDArray[np.integer] | NDArray[np.floating]) -> Taps:
    """Return the bilinear taps of positions (pixel centres at whole numbers, 0..target - 1) in ``source`` cells."""
    scale = np.float32(source) / np.float32(target)  # in float32, as torch has it
    at = np.clip((positions.astype(np.float32) + np.float32(0.5)) * scale - np.float32(0.5), 0, source - 1)
    first = at.astype(np.int64)
    return first, np.minimum(first + 1, source - 1), (at - first).astype(np.float32)


def _at_stride(logits: NDArray[np.float32], size: tuple[int, int], stride: int) -> NDArray[np.float32]:
    """Return (K, ceil(H / stride), ceil(W / stride)) scores at the centres of cells of ``stride`` camera pixels."""
    centres = [np.arange(-(-side // stride)) * stride + 0.5 * stride - 0.5 for side in size]
    y0, y1, wy = _taps(size[0], logits.shape[1], centres[0])
    x0, x1, wx = _taps(size[1], logits.shape[2], centres[1])
    tall = logits[:, y0] + (logits[:, y1] - logits[:, y0]) * wy[:, None]
    return np.asarray(tall[:, :, x0] + (tall[:, :, x1] - tall[:, :, x0]) * wx, np.float32)


def _softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    weights = np.exp(scores - scores.max(0))
    return np.asarray(weights / weights.sum(0), np.float32)


@njit(cache=True, nogil=True, inline="always")
def _exp(x):  # type: ignore[no-untyped-def]
    """e^x for x <= 0 in float32, relative error below 5e-6, and unlike libm's it vectorises.

    2^t with t = n + f, |f| <= 1/2: a polynomial in f (Taylor of 2^f), and n goes straight into the exponent bits.
    """
    t = (np.float32(-87) if x < np.float32(-87) else x) * np.float32(1.44269504)  # NaN stays NaN
    n = np.floor(t + np.float32(0.5))
    f = t - n
    p = np.float32(1.5403530e-4) * f + np.float32(1.3333558e-3)
    p = p * f + np.float32(9.6181291e-3)
    p = p * f + np.float32(5.5504109e-2)
    p = p * f + np.float32(2.4022651e-1)
    p = p * f + np.float32(6.9314718e-1)
    p = p * f + np.float32(1)
    return p * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@njit(cache=True, nogil=True)
def _interpolate_columns(logits, x0, x1, wx):  # type: ignore[no-untyped-def]
    """Return (h, K, W): columns interpolated once, so that the rows that follow are contiguous."""
    classes, height, _ = logits.shape
    wide = np.empty((height, classes, len(x0)), np.float32)
    for k in range(classes):
        for y in range(height):
            for x in range(len(x0)):
                a, b = logits[k, y, x0[x]], logits[k, y, x1[x]]
                wide[y, k, x] = a + (b - a) * wx[x]
    return wide


@njit(cache=True, nogil=True)
def _label(wide, y0, y1, wy, min_confidence, labels, confidence, counts, sums):  # type: ignore[no-untyped-def]
    """Fill labels and confidence row by row; every inner loop runs along a row, so it vectorises."""
    _, classes, width = wide.shape
    scores = np.empty((classes, width), np.float32)
    best, total, winner = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.int32)
    for y in range(len(y0)):
        upper, lower, w = wide[y0[y]], wide[y1[y]], wy[y]
        best[:] = np.float32(-np.inf)
        winner[:] = 0
        for k in range(classes):
            above, below, row, this = upper[k], lower[k], scores[k], np.int32(k)
            for x in range(width):
                score = above[x] + (below[x] - above[x]) * w
                better = score > best[x]
                row[x] = score
                winner[x] = this if better else winner[x]
                best[x] = score if better else best[x]
        total[:] = 0
        for k in range(classes):
            row = scores[k]
            for x in range(width):
                total[x] += _exp(row[x] - best[x])
        for x in range(width):
            p = np.float32(1) / total[x]
            p = p if p <= np.float32(1.001) else np.float32(-1)  # NaN becomes -1
            winner[x] = winner[x] if p >= min_confidence else np.int32(UNLABELLED)
            total[x] = max(p, np.float32(0))
            labels[y, x] = np.uint8(winner[x])
            confidence[y, x] = np.uint8(np.int32(min(total[x], np.float32(1)) * np.float32(255) + np.float32(0.5)))
        for x in range(width):
            if winner[x] != UNLABELLED:
                counts[winner[x]] += 1
                sums[winner[x]] += total[x]


@njit(cache=True, nogil=True)
def _add_nll(wide, y0, y1, wy, truth, sharpness, sums):  # type: ignore[no-untyped-def]
    """Add to ``sums`` row by row; every inner loop runs along a row, so it vectorises."""
    _, classes, width = wide.shape
    scores = np.empty((classes, width), np.float32)
    best, total = np.empty(width, np.float32), np.empty(width, np.float32)
    for y in range(len(y0)):
        upper, lower, w = wide[y0[y]], wide[y1[y]], wy[y]
        best[:] = np.float32(-np.inf)
        for k in range(classes):
            above, below, row = upper[k], lower[k], scores[k]
            for x in range(width):
                row[x] = above[x] + (below[x] - above[x]) * w
                best[x] = max(best[x], row[x])
        for t in range(len(sharpness)):
            total[:] = 0
            for k in range(classes):
                row = scores[k]
                for x in range(width):
                    total[x] += _exp((row[x] - best[x]) * sharpness[t])
            for x in range(width):
                if truth[y, x] != UNLABELLED:
                    sums[t] += np.log(total[x]) + (best[x] - scores[truth[y, x], x]) * sharpness[t]


@njit(cache=True, nogil=True)
def _look_up(logits, y0, y1, wy, x0, x1, wx, index, probability, nats):  # type: ignore[no-untyped-def]
    """Write max posterior and entropy of the i-th pixel at index[i]."""
    classes = logits.shape[0]
    scores = np.empty(classes, np.float32)
    for i in range(len(index)):
        best = np.float32(-np.inf)
        for k in range(classes):
            upper = logits[k, y0[i], x0[i]] * (1 - wx[i]) + logits[k, y0[i], x1[i]] * wx[i]
            lower = logits[k, y1[i], x0[i]] * (1 - wx[i]) + logits[k, y1[i], x1[i]] * wx[i]
            scores[k] = upper + (lower - upper) * wy[i]
            best = max(best, scores[k])
        total, moment = np.float32(0), np.float32(0)  # sum of e^d and of d e^d, d = score - best
        for k in range(classes):
            d = scores[k] - best
            e = _exp(d)
            total += e
            moment += d * e
        probability[index[i]] = 1 / total
        nats[index[i]] = np.log(total) - moment / total
