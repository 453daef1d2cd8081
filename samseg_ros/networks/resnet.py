"""ResNet (timm) as a four-level feature extractor.

Source: He et al., *Deep Residual Learning for Image Recognition* (2016). Parameter names are timm's and torchvision's,
so that their checkpoints (without ``fc``) fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import timm
from torch import nn


@dataclass(frozen=True, slots=True)
class ResNetShape:
    """What the network looks like; the defaults are ResNet-50."""

    blocks: str = "resnet50"
    """timm's network that it is a variant of: resnet50 (bottlenecks) or resnet18 (two 3x3 convolutions)."""
    layers: tuple[int, int, int, int] = (3, 4, 6, 3)
    """Blocks at 1/4, 1/8, 1/16, 1/32."""
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    """Inner channels of the blocks there."""
    stem: str = ""
    """timm's stem_type: empty (one 7x7 convolution) or deep_tiered (three 3x3)."""
    stem_width: int = 64

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Channels of the four maps."""
        expansion = 4 if self.blocks == "resnet50" else 1
        first, second, third, fourth = self.widths
        return expansion * first, expansion * second, expansion * third, expansion * fourth


def resnet(shape: ResNetShape) -> nn.Module:
    """Build the network with fresh weights: (B, 3, H, W) to maps at 1/4, 1/8, 1/16, 1/32."""
    network: nn.Module = timm.create_model(
        shape.blocks,
        pretrained=False,
        features_only=True,
        out_indices=(1, 2, 3, 4),
        layers=shape.layers,
        channels=shape.widths,
        stem_type=shape.stem,
        stem_width=shape.stem_width,
    )
    return network
