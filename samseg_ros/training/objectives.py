"""What a step lowers: one row of `OBJECTIVES` for each model that learns more than its segmentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from samseg_ros.training.batches import Batch
from samseg_ros.training.losses.fusion import FusionSettings, fusion_loss
from samseg_ros.training.losses.latent import reconstruction
from samseg_ros.training.losses.terms import SegmentationLoss
from samseg_ros.training.recipe import Recipe

Objective = Callable[[Any, Batch, Tensor, SegmentationLoss, Tensor, Recipe], tuple[Tensor, dict[str, Tensor]]]
"""(module, batch, labels (B, h, w), criterion, its normalizer, recipe) to (loss, parts for the log).

The module is the network as the processes share it: only methods in `SHARED_METHODS` may be called on it.
"""
SHARED_METHODS = ("coarse_logits", "forward_details")


def segmentation(
    module: Any, batch: Batch, labels: Tensor, criterion: SegmentationLoss, counts: Tensor, recipe: Recipe
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the recipe's loss of the logits at the labels' size."""
    coarse = module.coarse_logits(batch.inputs, batch.present, **batch.extras)
    loss, parts = criterion(_at(labels, coarse), labels, counts)
    return loss, parts


def fusionsam(
    module: Any, batch: Batch, labels: Tensor, criterion: SegmentationLoss, counts: Tensor, recipe: Recipe
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return FusionSAM's joint objective: segmentation, the prompts' own head, tokens (eq. 5, 6) and the fused picture.

    The picture is compared with camera and thermal image in the samples that have both. The terms beside the
    segmentation are means over a micro-batch, weighed by its share of the step's images.
    """
    weights = recipe.joint
    done = module.forward_details(batch.inputs, batch.present)
    loss, parts = criterion(_at(labels, done.logits), labels, counts)
    auxiliary, _ = criterion(_at(labels, done.auxiliary_logits), labels, counts)
    share = len(labels) / counts[0].to(loss.device, loss.dtype)
    parts["auxiliary"] = auxiliary.detach()
    loss = loss + weights.auxiliary * auxiliary
    for name, rebuilt in done.reconstructions.items():
        there = done.present[name]
        compared = reconstruction(done.images[name][there], rebuilt[there]) if there.any() else _nothing(rebuilt)
        parts[f"rebuilt_{name}"] = share * compared
        parts[f"commitment_{name}"] = share * done.commitment[name]
        loss = loss + weights.reconstruction * parts[f"rebuilt_{name}"]
        loss = loss + weights.beta_commit * parts[f"commitment_{name}"]
    both = torch.stack(list(done.present.values())).all(0)
    sources = [image[both] for image in done.images.values()]
    seen_by_both = "thermal" in done.images and bool(both.any())
    fused = fusion_loss(done.fused[both], sources, FusionSettings())[0] if seen_by_both else _nothing(done.fused)
    parts["fused"] = share * fused
    loss = loss + weights.fusion * parts["fused"]
    return loss, {name: part.detach() for name, part in parts.items()}


def _nothing(output: Tensor) -> Tensor:
    """Return 0 that hangs on an output.

    What a process hands out and does not learn from, DistributedDataParallel takes for used: it waits for its gradient
    and the other processes wait for this one.
    """
    return 0 * output.float().mean()


OBJECTIVES: Mapping[str, Objective] = {"fusionsam": fusionsam}
"""Model to its objective; a model that is not named learns `segmentation`."""


def _at(labels: Tensor, coarse: Tensor) -> Tensor:
    """Return logits (B, K, h, w) at the labels' size."""
    return F.interpolate(coarse.float(), labels.shape[1:], mode="bilinear", align_corners=False)
