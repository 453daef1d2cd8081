"""The two simple stand-ins for Road-Fusion.

Source: *Multimodal SAM-adapter for Semantic Segmentation* (arXiv 2509.10408), Table 11.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Addition(nn.Module):
    """One level: RGB + X, both (B, C, H, W); ``out_channels`` = C."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_channels = channels

    def forward(self, rgb: Tensor, x: Tensor) -> Tensor:
        """Fuse the two maps of one level."""
        return rgb + x


class Concatenation(nn.Module):
    """One level: RGB then X along the channels, both (B, C, H, W); ``out_channels`` = 2C."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_channels = 2 * channels

    def forward(self, rgb: Tensor, x: Tensor) -> Tensor:
        """Fuse the two maps of one level."""
        return torch.cat([rgb, x], 1)
