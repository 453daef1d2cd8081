"""What a step lowers and what a run is judged by: one row of `TASKS` for each way of learning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from samseg_ros.training.batches import Batch
from samseg_ros.training.latent_stage import latent_score
from samseg_ros.training.losses.fusion import FusionSettings, fusion_loss
from samseg_ros.training.losses.latent import adversarial_weight, reconstruction
from samseg_ros.training.losses.terms import SegmentationLoss
from samseg_ros.training.recipe import Recipe
from samseg_ros.training.validation import segmentation_score

Objective = Callable[[Any, Batch, Tensor, SegmentationLoss, Tensor, Recipe, int], tuple[Tensor, dict[str, Tensor]]]
"""(module, batch, labels (B, h, w), criterion, its normalizer, recipe, step) to (loss, parts for the log).

The module is the network as the processes share it: only methods in `SHARED_METHODS` may be called on it.
"""
SHARED_METHODS = ("coarse_logits", "forward_details")


def segmentation(
    module: Any, batch: Batch, labels: Tensor, criterion: SegmentationLoss, counts: Tensor, recipe: Recipe, step: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the recipe's loss of the logits at the labels' size."""
    coarse = module.coarse_logits(batch.inputs, batch.present, **batch.extras)
    loss, parts = criterion(_at(labels, coarse), labels, counts)
    return loss, parts


def fusionsam(
    module: Any, batch: Batch, labels: Tensor, criterion: SegmentationLoss, counts: Tensor, recipe: Recipe, step: int
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


def latent(
    module: Any, batch: Batch, labels: Tensor, criterion: SegmentationLoss, counts: Tensor, recipe: Recipe, step: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of FusionSAM's first stage (`samseg_ros.training.latent_stage`); labels count for nothing.

    The terms are means over a micro-batch, weighed by its share of the step's images.
    """
    loss, parts = module(batch.inputs, batch.present, adversarial_weight(step, recipe.latent), recipe.latent)
    share = len(labels) / counts[0].to(loss.device, loss.dtype)
    return share * loss, {name: share * part for name, part in parts.items()}


def _nothing(output: Tensor) -> Tensor:
    """Return 0 that hangs on an output.

    What a process hands out and does not learn from, DistributedDataParallel takes for used: it waits for its gradient
    and the other processes wait for this one.
    """
    return 0 * output.float().mean()


@dataclass(frozen=True)
class Task:
    """A way of learning."""

    objective: Objective
    score: Callable[..., dict[str, float]]
    """(network, data, sensors, fabric, embeddings, windows) to a row of the log, what counts first: more is better."""


TASKS: Mapping[str, Task] = {
    "segmentation": Task(segmentation, segmentation_score),
    "fusionsam": Task(fusionsam, segmentation_score),
    "latent": Task(latent, latent_score),
}


def task_of(recipe: Recipe) -> Task:
    """Return the row of `TASKS` that a recipe learns by."""
    if recipe.stage != "whole":
        return TASKS[recipe.stage]
    return TASKS.get(recipe.model, TASKS["segmentation"])


def _at(labels: Tensor, coarse: Tensor) -> Tensor:
    """Return logits (B, K, h, w) at the labels' size."""
    return F.interpolate(coarse.float(), labels.shape[1:], mode="bilinear", align_corners=False)
