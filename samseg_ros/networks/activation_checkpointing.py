"""Activation checkpointing: costly parts keep what goes in and compute the inside again in the backward pass.

Source: Chen et al., *Training Deep Nets with Sublinear Memory Cost* (2016); PyTorch's non-reentrant checkpoint, which
restores the random numbers, so that dropped paths are dropped again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from timm.models.convnext import ConvNeXtStage
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from samseg_ros.errors import SamsegError


class Recomputable(nn.Module):
    """A part whose ``forward`` is ``compute``, run again for the gradients where ``recompute`` is set.

    Never one with batch norms: a second pass would move their statistics.
    """

    compute: Callable[..., Tensor]
    recompute = False

    def forward(self, *inputs: Any) -> Tensor:
        """Return ``compute(*inputs)``."""
        if self.recompute and torch.is_grad_enabled():
            again: Tensor = checkpoint(self.compute, *inputs, use_reentrant=False)
            return again
        return self.compute(*inputs)


def checkpoint_activations(network: nn.Module) -> None:
    """Make a network with a SAM encoder train in less memory and more time; gradients stay what they are.

    SAM's blocks, the injectors and extractors beside them and the blocks of ConvNeXt stems are recomputed one by one.

    Raises:
        SamsegError: there is no SAM encoder in it, or a frozen one that keeps nothing.
    """
    name = type(network).__name__
    if getattr(network, "frozen", False):
        raise SamsegError(
            f"activation_checkpointing: {name}'s SAM encoder is frozen and keeps nothing for gradients; set it to false"
        )
    modules = list(network.modules())
    if not any(isinstance(module, Recomputable) for module in modules):
        raise SamsegError(
            f"activation_checkpointing: expected a network with a SAM encoder, got {name}; set it to false"
        )
    for module in modules:
        if isinstance(module, Recomputable):
            module.recompute = True
        elif isinstance(module, ConvNeXtStage):
            module.grad_checkpointing = True
