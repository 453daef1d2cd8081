"""Where reduced precision is not wanted."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Return a context in which autocast leaves operations alone; tensors without memory (meta) know no autocast."""
    return nullcontext() if x.device.type == "meta" else torch.autocast(x.device.type, enabled=False)


def cast_weights(network: nn.Module, dtype: torch.dtype) -> None:
    """Store the weights that autocast would cast in every pass in that type already: same results, less work."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            module.to(dtype)
