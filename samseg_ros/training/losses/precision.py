"""Numbers that a loss is computed in."""

from __future__ import annotations

import torch
from torch import Tensor


def full_precision(x: Tensor) -> Tensor:
    """Return float32 for half precision; float32 and float64 stay."""
    return x if x.dtype == torch.float64 else x.float()
