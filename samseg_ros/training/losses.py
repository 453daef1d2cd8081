"""What the first weights are trained with: weighted cross entropy and Dice."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from samseg_ros.types import UNLABELLED


def class_weights(counts: Tensor) -> Tensor:
    """Return 1 / ln(1.1 + share of pixels) per class, scaled to mean 1 (ENet, Paszke et al. 2016, section 5.2).

    Args:
        counts: (K,) pixels per class.
    """
    weights = 1 / torch.log(1.1 + counts / counts.sum())
    return weights / weights.mean()


def dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return 1 - mean Dice over the classes present in the batch; unlabelled pixels do not count.

    Args:
        logits: (B, K, H, W). labels: (B, H, W), 255 = unlabelled.
    """
    valid = (labels != UNLABELLED)[:, None]
    posterior = logits.softmax(1) * valid
    target = F.one_hot(torch.where(labels == UNLABELLED, 0, labels), logits.shape[1]).movedim(-1, 1) * valid
    overlap = (posterior * target).sum((0, 2, 3))
    mass, area = posterior.sum((0, 2, 3)), target.sum((0, 2, 3))
    present = area > 0
    dice = (2 * overlap + 1) / (mass + area + 1)
    return 1 - (dice * present).sum() / present.sum().clamp(min=1)


def segmentation_loss(logits: Tensor, labels: Tensor, weights: Tensor, dice_weight: float) -> Tensor:
    """Return weighted cross entropy + dice_weight x Dice, both over labelled pixels."""
    cross = F.cross_entropy(logits, labels, weights, ignore_index=UNLABELLED)
    return cross + dice_weight * dice_loss(logits, labels)
