"""The loss of a training run: a weighted sum of rows of one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from torch import Tensor, nn

from samseg_ros.errors import InputError, nearest
from samseg_ros.training.losses.segmentation import (
    cross_entropy,
    dice,
    dice_batch,
    focal,
    lovasz,
    ohem,
    surface,
    weight_sum,
)


class Divisors(NamedTuple):
    """What the sums of a batch are divided by, each (): what ``SegmentationLoss.mass`` counts, in its order."""

    images: Tensor
    pixels: Tensor
    weight: Tensor


Term = Callable[[Tensor, Tensor, "LossSettings", Tensor | None, Divisors], Tensor]
"""(logits, labels, settings, class weights, divisors) to a ()."""

LOSSES: Mapping[str, Term] = {
    "cross_entropy": lambda x, y, s, weights, by: cross_entropy(x, y, weights, by.weight),
    "ohem": lambda x, y, s, weights, by: ohem(x, y, s.ohem_threshold, s.ohem_min_kept) * len(y) / by.images,
    "focal": lambda x, y, s, weights, by: focal(x, y, s.focal_alpha, s.focal_gamma, by.pixels),
    "dice": lambda x, y, s, weights, by: dice(x, y, by.images),
    "dice_batch": lambda x, y, s, weights, by: dice_batch(x, y) * len(y) / by.images,
    "lovasz": lambda x, y, s, weights, by: lovasz(x, y, by.images),
    "surface": lambda x, y, s, weights, by: surface(x, y, by.images),
}

HYBRID = {"focal": 0.4, "dice": 0.3, "lovasz": 0.2, "surface": 0.1}
"""AD-SAM's terms."""


class LossSettings(BaseModel):
    """What a network is trained to lower."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    terms: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        {"cross_entropy": 1.0},
        min_length=1,
        description=f"Weight of each term; terms: {', '.join(LOSSES)}.",
    )
    class_weights: Literal["none", "enet"] = Field(
        "none", description="Weights of the classes in cross_entropy. enet: 1 / ln(1.1 + share of the training pixels)."
    )
    ohem_threshold: float = Field(
        0.7, ge=0, le=1, description="ohem: probability of the true class from which a pixel counts as learnt."
    )
    ohem_min_kept: int = Field(100_000, ge=0, description="ohem: pixels of a batch that are kept in any case.")
    focal_alpha: float = Field(0.25, gt=0, le=1, description="focal: factor of every class.")
    focal_gamma: float = Field(2.0, ge=0, description="focal: the larger, the less sure pixels weigh.")

    @field_validator("terms")
    @classmethod
    def _known_terms(cls, terms: dict[str, float]) -> dict[str, float]:
        for name in terms:
            if name not in LOSSES:
                raise ValueError(f"unknown loss {name!r}; {nearest(name, LOSSES)}")
        return terms

    @field_validator("class_weights")
    @classmethod
    def _weights_have_a_term(cls, value: str, info: ValidationInfo) -> str:
        if value != "none" and "cross_entropy" not in info.data.get("terms", ("cross_entropy",)):
            raise ValueError("class weights act on cross_entropy alone; add it to terms, or leave them out")
        return value


class SegmentationLoss(nn.Module):
    """The weighted sum of a run's terms.

    Several processes or micro-batches equal one big batch as follows. All of them count their labels with ``mass``;
    the counts are summed over micro-batches and processes and divided by the number of processes; each part's loss is
    computed with this ``normalizer`` and is *not* divided again; gradients are summed over micro-batches and averaged
    over processes, as DistributedDataParallel does. cross_entropy, focal, dice, lovasz and surface then equal the whole
    batch's to rounding. ohem and dice_batch do not, because they are no sums over pixels or images: with them the
    parts' losses are averaged, each part weighing as many images as it has.

    Args:
        settings: the terms.
        class_weights: (K,) for cross_entropy; just where ``settings.class_weights`` is not none.

    Raises:
        InputError: class weights are missing, or not wanted.
    """

    def __init__(self, settings: LossSettings, class_weights: Tensor | None = None) -> None:
        super().__init__()
        if (settings.class_weights == "none") != (class_weights is None):
            raise InputError(
                "class weights of the loss",
                expected=f"those of class_weights: {settings.class_weights}",
                got="none" if class_weights is None else f"{len(class_weights)}",
                remedy="hand in class_weights(pixels per class), just where the settings ask for them",
            )
        self.settings = settings
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", class_weights, persistent=False)

    def mass(self, labels: Tensor) -> Tensor:
        """Return (3,) float64: the number of images, of labelled pixels, and the sum of their class weights.

        Args:
            labels: (B, H, W).
        """
        counts = (labels.new_tensor(len(labels)), weight_sum(labels), weight_sum(labels, self.class_weights))
        return torch.stack([count.double() for count in counts])

    def forward(
        self, logits: Tensor, labels: Tensor, normalizer: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss () and its terms, each () without its weight and without a gradient.

        Args:
            logits: (B, K, H, W), any float; computed in float32, also under autocast.
            labels: (B, H, W) int64, 255 = unlabelled.
            normalizer: (3,) what the sums are divided by, made of ``mass`` as said at the class; None: this batch's.

        Raises:
            InputError: shapes or types do not fit.
        """
        _check(logits, labels, normalizer)
        counts = self.mass(labels) if normalizer is None else normalizer
        by = Divisors(*counts.to(logits.device, torch.promote_types(logits.dtype, torch.float32)))
        parts = {}
        with torch.autocast(logits.device.type, enabled=False):
            for name in self.settings.terms:
                parts[name] = LOSSES[name](logits, labels, self.settings, self.class_weights, by)
        total = torch.stack([weight * parts[name] for name, weight in self.settings.terms.items()]).sum()
        return total, {name: part.detach() for name, part in parts.items()}


def _check(logits: Tensor, labels: Tensor, normalizer: Tensor | None) -> None:
    if logits.ndim != 4 or labels.dtype != torch.int64 or labels.shape != (len(logits), *logits.shape[2:]):
        raise InputError(
            "loss",
            expected="logits (B, K, H, W) and int64 labels (B, H, W)",
            got=f"{tuple(logits.shape)} and {labels.dtype} {tuple(labels.shape)}",
            remedy="resize the logits to the labels",
        )
    if normalizer is not None and normalizer.shape != (3,):
        raise InputError(
            "normalizer of the loss",
            expected="the three counts of SegmentationLoss.mass",
            got=f"shape {tuple(normalizer.shape)}",
            remedy="sum mass(labels) over the parts of the batch",
        )
