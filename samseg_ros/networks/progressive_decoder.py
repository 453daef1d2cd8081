"""AD-SAM's progressive decoder: the fused map is refined step by step with ResNet's finer features.

Source: *AD-SAM: Fine-Tuning the Segment Anything Vision Foundation Model for Autonomous Driving Perception*, and for
what the paper leaves open its authors' release. The paper's "deformable attention" is a modulated deformable
convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samseg_ros.networks.deformable_fusion import GROUPS

Convolution = Callable[[int, int], nn.Module]
SKIP_SHARE = 4
"""Skips are brought to this fraction of their channels."""


class UpBlock(nn.Module):
    """Upsample, join the skip, convolve twice.

    Args:
        channels: of the decoder's features.
        skip_channels: of ResNet's; a multiple of 32.
        out: channels of the result; a multiple of 8.
        scale: by which the features are upsampled.
        convolution: (channels, out) to a 3x3 convolution.
    """

    def __init__(self, channels: int, skip_channels: int, out: int, scale: int, convolution: Convolution) -> None:
        super().__init__()
        self.scale = scale
        share = skip_channels // SKIP_SHARE
        self.skip_conv = nn.Sequential(nn.Conv2d(skip_channels, share, 1), nn.GroupNorm(GROUPS, share), nn.GELU())
        self.conv = nn.Sequential(
            convolution(channels + share, out),
            nn.GroupNorm(GROUPS, out),
            nn.GELU(),
            convolution(out, out),
            nn.GroupNorm(GROUPS, out),
            nn.GELU(),
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map (B, C, h, w) and a skip of any size to (B, out, scale * h, scale * w)."""
        size = (self.scale * x.shape[2], self.scale * x.shape[3])
        project, norm, activation = self.skip_conv
        # A 1x1 convolution and a bilinear resize commute; on the smaller map it is cheaper.
        skip = activation(norm(_resized(project(skip), size)))
        out: Tensor = self.conv(torch.cat([_resized(x, size), skip], 1))
        return out


class ProgressiveDecoder(nn.Module):
    """Fused features at 1/16 and ResNet's at 1/4, 1/8, 1/16 to logits at 1/4.

    Args:
        channels: of the fused features.
        skip_channels: of ResNet's features at 1/4, 1/8, 1/16.
        widths: channels after the three blocks.
        classes: number of classes K.
        convolution: (channels, out) to a 3x3 convolution.
    """

    def __init__(
        self,
        channels: int,
        skip_channels: Sequence[int],
        widths: tuple[int, int, int],
        classes: int,
        convolution: Convolution,
    ) -> None:
        super().__init__()
        first, second, third = skip_channels
        self.up1 = UpBlock(channels, third, widths[0], 2, convolution)
        self.up2 = UpBlock(widths[0], second, widths[1], 2, convolution)
        self.up3 = UpBlock(widths[1], first, widths[2], 1, convolution)
        self.classifier = nn.Sequential(
            nn.Conv2d(widths[2], widths[2], 3, padding=1),
            nn.GroupNorm(GROUPS, widths[2]),
            nn.GELU(),
            nn.Conv2d(widths[2], classes, 1),
        )

    def forward(self, fused: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Map (B, C, H/16, W/16) and the skips at 1/4, 1/8, 1/16 to logits (B, K, H/4, W/4)."""
        x = self.up1(fused, skips[2])  # 1/8
        x = self.up2(x, skips[1])  # 1/4
        logits: Tensor = self.classifier(self.up3(x, skips[0]))
        return logits


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    if x.shape[2:] == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
