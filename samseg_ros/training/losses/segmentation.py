"""Losses of segmentation: logits (B, K, H, W) against labels (B, H, W), 255 = unlabelled.

Every loss is computed in float32, whatever precision the logits come in (float64 stays, but for lovasz). An image
without a labelled pixel costs 0 and has a zero gradient.

Over several processes or micro-batches, ``cross_entropy`` and ``focal`` (sums over pixels) and ``dice``, ``lovasz`` and
``surface`` (sums over images) are additive: with the ``divisor`` of the whole batch, the parts' values and gradients
add up to the whole batch's. ``ohem`` (ranks the pixels of the batch) and ``dice_batch`` (a ratio of sums over the
batch) are not: the parts' mean is another function than the loss of the whole batch.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from kornia.losses import focal_loss
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from segmentation_models_pytorch.losses import LovaszLoss
from torch import Tensor

from samseg_ros.errors import InputError
from samseg_ros.training.losses.precision import full_precision
from samseg_ros.types import UNLABELLED

TINY = 1e-7  # AD-SAM's, in Dice


def class_weights(counts: Tensor) -> Tensor:
    """Return 1 / ln(1.1 + share of pixels) per class, scaled to mean 1 (ENet, Paszke et al. 2016, section 5.2).

    Args:
        counts: (K,) pixels per class.

    Raises:
        InputError: no pixel is labelled.
    """
    if not counts.sum() > 0:
        raise InputError(
            "class weights", expected="labelled pixels", got="none", remedy="check the labels of the training split"
        )
    weights = 1 / torch.log(1.1 + counts / counts.sum())
    return weights / weights.mean()


def cross_entropy(
    logits: Tensor, labels: Tensor, weights: Tensor | None = None, divisor: Tensor | None = None
) -> Tensor:
    """Return the cross entropy summed over labelled pixels, each times its class's weight, over ``divisor``.

    Args:
        logits: (B, K, H, W). labels: (B, H, W).
        weights: (K,) of the classes; None: all 1.
        divisor: () sum of the weights of the labelled pixels; None: that of these labels.
    """
    logits = full_precision(logits)
    weights = None if weights is None else weights.to(logits)
    total = F.cross_entropy(logits, labels, weights, ignore_index=UNLABELLED, reduction="sum")
    return _ratio(total, weight_sum(labels, weights) if divisor is None else divisor)


def focal(logits: Tensor, labels: Tensor, alpha: float, gamma: float, divisor: Tensor | None = None) -> Tensor:
    """Return alpha (1 - p)^gamma (-log p) summed over labelled pixels, over ``divisor``.

    p is the softmax of the true class, and alpha is the same for every class, as in AD-SAM (Lin et al., *Focal Loss*
    2017, eq. 5, has 1 - alpha for the background).

    Args:
        logits: (B, K, H, W). labels: (B, H, W).
        alpha: factor.
        gamma: the larger, the less sure pixels weigh.
        divisor: () number of labelled pixels; None: that of these labels.
    """
    total = focal_loss(full_precision(logits), labels, None, gamma, "sum", ignore_index=UNLABELLED)
    return alpha * _ratio(total, weight_sum(labels) if divisor is None else divisor)


def ohem(logits: Tensor, labels: Tensor, threshold: float, min_kept: int) -> Tensor:
    """Return the mean cross entropy of the pixels that the network is least sure of, over the whole batch.

    These are the pixels whose probability of the true class is below max(``threshold``, that of the pixel ranked
    ``min_kept`` from the least sure, counted from 0). With fewer labelled pixels than ``min_kept`` all but the surest
    are kept. Where this leaves none (all are equally sure), all are kept. Source: MM SAM-adapter; Shrivastava et al.,
    *Training Region-based Object Detectors with Online Hard Example Mining* (2016).

    Args:
        logits: (B, K, H, W). labels: (B, H, W).
        threshold: probability of the true class from which a pixel counts as learnt.
        min_kept: pixels of the batch that are kept in any case.
    """
    valid = labels != UNLABELLED
    if not valid.any():
        return _zero(logits)
    losses = F.cross_entropy(full_precision(logits), labels, ignore_index=UNLABELLED, reduction="none")[valid]
    sureness = losses.detach().neg().exp()
    ranked = sureness.sort().values
    kept = sureness < ranked[min(min_kept, len(ranked) - 1)].clamp(min=threshold)
    return losses[kept].mean() if kept.any() else losses.mean()


def dice(logits: Tensor, labels: Tensor, divisor: Tensor | None = None) -> Tensor:
    """Return 1 - Dice, the mean over all classes of an image, summed over images, over ``divisor`` (AD-SAM).

    A class that is neither in the labels nor in the posterior scores 1; one that is only absent from the labels
    scores about 0.

    Args:
        logits: (B, K, H, W). labels: (B, H, W).
        divisor: () number of images; None: B.
    """
    posterior, target = _masked(logits, labels)
    overlap = (posterior * target).sum((2, 3))
    score = (2 * overlap + TINY) / (posterior.sum((2, 3)) + target.sum((2, 3)) + TINY)
    return _over_images(1 - score.mean(1), divisor)


def dice_batch(logits: Tensor, labels: Tensor) -> Tensor:
    """Return 1 - mean Dice over the classes present in the batch, each counted over all images at once.

    Args:
        logits: (B, K, H, W). labels: (B, H, W).
    """
    posterior, target = _masked(logits, labels)
    overlap, area = (posterior * target).sum((0, 2, 3)), target.sum((0, 2, 3))
    score = (2 * overlap + 1) / (posterior.sum((0, 2, 3)) + area + 1)
    present = area > 0
    return ((1 - score) * present).sum() / present.sum().clamp(min=1)


def lovasz(logits: Tensor, labels: Tensor, divisor: Tensor | None = None) -> Tensor:
    """Return the Lovász-Softmax loss, the mean over the classes of an image, summed over images, over ``divisor``.

    Source: Berman et al., *The Lovász-Softmax loss* (2018), per image, classes present in the image.

    Args:
        logits: (B, K, H, W). labels: (B, H, W).
        divisor: () number of images; None: B.
    """
    some = (labels != UNLABELLED).flatten(1).any(1)  # the library has no answer for an image without labels
    if not some.any():
        return _zero(logits)
    mean: Tensor = LovaszLoss("multiclass", per_image=True, ignore_index=UNLABELLED)(
        logits[some].float(),
        labels[some],  # the library knows no float64
    )
    return mean * some.sum() / (len(labels) if divisor is None else divisor)


def surface(logits: Tensor, labels: Tensor, divisor: Tensor | None = None) -> Tensor:
    """Return |posterior - truth| x distance to the nearest edge, the mean over an image, summed, over ``divisor``.

    Errors far from any edge of the labels cost most. The mean is over classes, rows and columns; unlabelled pixels
    contribute nothing but count. Source: AD-SAM, after Kervadec et al., *Boundary loss* (2019), unsigned.

    Args:
        logits: (B, K, H, W). labels: (B, H, W).
        divisor: () number of images; None: B.
    """
    posterior, target = _masked(logits, labels)
    distance = edge_distance(labels).to(posterior)
    return _over_images(((posterior - target).abs() * distance[:, None]).mean((1, 2, 3)), divisor)


def edge_distance(labels: Tensor) -> Tensor:
    """Return the distance (B, H, W) in pixels to the nearest edge pixel, float32.

    An edge pixel has one of its 4 neighbours in another class, 255 counting as a class. An image without an edge (one
    single label) has distance 0 all over: there is no edge to be far from.

    Args:
        labels: (B, H, W).
    """
    distances = np.stack([_edge_distance(image) for image in labels.cpu().numpy()])
    return torch.from_numpy(distances).to(labels.device)


def weight_sum(labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the () sum of the class weights of the labelled pixels; without weights, their number.

    Args:
        labels: (B, H, W).
        weights: (K,) of the classes.
    """
    valid = labels != UNLABELLED
    return valid.sum() if weights is None else weights[labels[valid]].sum()


def _edge_distance(labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """The distance map (H, W) of one image."""
    edge = np.zeros(labels.shape, bool)
    rows, columns = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    edge[1:] |= rows
    edge[:-1] |= rows
    edge[:, 1:] |= columns
    edge[:, :-1] |= columns
    if not edge.any():
        return np.zeros(labels.shape, np.float32)
    distance: NDArray[np.float32] = distance_transform_edt(~edge).astype(np.float32)
    return distance


def _masked(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax and one-hot labels, both (B, K, H, W) and 0 where unlabelled."""
    valid = (labels != UNLABELLED)[:, None]
    posterior = full_precision(logits).softmax(1) * valid
    index = labels[:, None].where(valid, 0)
    return posterior, torch.zeros_like(posterior).scatter_(1, index, valid.to(posterior))


def _over_images(values: Tensor, divisor: Tensor | None) -> Tensor:
    """Sum of (B,) values over the number of images."""
    return values.sum() / (len(values) if divisor is None else divisor)


def _ratio(total: Tensor, divisor: Tensor) -> Tensor:
    """Return total / divisor; nothing labelled: 0 / 1."""
    return total / divisor.where(divisor > 0, 1)


def _zero(logits: Tensor) -> Tensor:
    """A 0 with a zero gradient."""
    return full_precision(logits).sum() * 0
