"""Which parameters learn at what rate, and which decay."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from samseg_ros.errors import SamsegError, nearest


@dataclass(frozen=True, slots=True)
class Rule:
    """How a model's published training treats its parameters."""

    treat: Callable[[str, nn.Parameter, int, float], tuple[float, bool]]
    """(name, parameter, blocks of the encoder, layer decay) to (factor of the rate, whether it decays)."""
    layered: bool = False
    """Whether the layer decay has a meaning."""


def _plain(name: str, parameter: nn.Parameter, depth: int, layer_decay: float) -> tuple[float, bool]:
    """One rate; biases, norms and scales do not decay."""
    return 1.0, parameter.ndim > 1


def _mm_sam_adapter(name: str, parameter: nn.Parameter, depth: int, layer_decay: float) -> tuple[float, bool]:
    """Treat as the authors' layer-decay constructor does; the gates, which theirs lacks, as Road-Fusion."""
    if name.startswith(("backbone.prior.rgb_stem.", "backbone.prior.x_stems.")):
        return layer_decay ** (depth + 1), True  # biases and norms of the ConvNeXts too
    if name.startswith(("backbone.prior.fusions.", "backbone.prior.gates.")):
        return 1.0, False
    matrix = parameter.ndim > 1  # tables of positions among them
    if block := _BLOCK.match(name):
        return layer_decay ** (depth - int(block[1])), matrix
    if name.startswith("backbone.encoder."):
        return layer_decay ** (depth + 1), matrix
    return 1.0, matrix


def _ad_sam(name: str, parameter: nn.Parameter, depth: int, layer_decay: float) -> tuple[float, bool]:
    """ResNet-50 at a tenth of the rate (2e-5 of 2e-4); everything decays."""
    return 0.1 if "resnet" in name.split(".") else 1.0, True


def _fusionsam(name: str, parameter: nn.Parameter, depth: int, layer_decay: float) -> tuple[float, bool]:
    """One rate, and everything decays, as torch's Adam does with a single group."""
    return 1.0, True


RULES: dict[str, Rule] = {
    "mm_sam_adapter": Rule(_mm_sam_adapter, layered=True),
    "ad_sam": Rule(_ad_sam),
    "fusionsam": Rule(_fusionsam),
}
"""Model to its published rule."""

_BLOCK = re.compile(r"backbone\.encoder\.blocks\.(\d+)\.")


def parameter_groups(
    network: nn.Module, model: str, learning_rate: float, weight_decay: float, layer_decay: float, grouping: str
) -> list[dict[str, Any]]:
    """Group the parameters that learn by rate and decay, as optimisers of torch take them.

    Args:
        model: row of `RULES`, for ``grouping`` published.
        learning_rate: of what has the factor 1.
        weight_decay: of what decays.
        layer_decay: factor of the rate per block of the encoder, from the last one down to the embeddings.
        grouping: plain (matrices decay, the rest does not, one rate) or published (the model's own rule).

    Returns:
        Groups with "params", "lr", "weight_decay", and "lr_scale": the factor, for a schedule to multiply.

    Raises:
        SamsegError: no published rule for the model, or a layer decay that nothing would heed.
    """
    rule = _rule(model, grouping)
    if layer_decay != 1 and not rule.layered:
        raise SamsegError(
            f"optimizer.layer_decay {layer_decay}: {model} with grouping {grouping} has one rate for all layers; "
            "set it to 1, or grouping to published for mm_sam_adapter"
        )
    named = dict(network.named_parameters())
    depth = 1 + max((int(block[1]) for block in map(_BLOCK.match, named) if block), default=-1)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in named.items():
        if parameter.requires_grad:
            groups.setdefault(rule.treat(name, parameter, depth, layer_decay), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": learning_rate * scale,
            "lr_scale": scale,
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (scale, decays), parameters in groups.items()
    ]


def _rule(model: str, grouping: str) -> Rule:
    if grouping == "plain":
        return Rule(_plain)
    if grouping != "published":
        raise SamsegError(f"optimizer.grouping: expected plain | published, got {grouping!r}")
    if model not in RULES:
        raise SamsegError(
            f"no published learning rates for {model!r}; {nearest(model, RULES)}, or set grouping to plain"
        )
    return RULES[model]
