"""AD-SAM's fusion: SAM's embedding and the coarsest ResNet features become one map.

Source: *AD-SAM: Fine-Tuning the Segment Anything Vision Foundation Model for Autonomous Driving Perception*, and for
what the paper leaves open (orders, norms) its authors' release.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 8
"""Of every group norm in fusion and decoder."""
REDUCTION = 16
"""Of the channel attention."""


class ChannelAttention(nn.Module):
    """x * sigmoid(MLP(mean over space) + MLP(maximum over space)), one MLP without biases."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // REDUCTION
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, channels, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        factor = torch.sigmoid(self.fc(x.mean((2, 3))) + self.fc(x.amax((2, 3))))
        return x * factor.to(x.dtype)[:, :, None, None]


class DeformableFusion(nn.Module):
    """Bring ResNet's features to SAM's channels and size, convolve both together, weigh the channels.

    Args:
        channels: of SAM's embedding, and of the result; a multiple of 16.
        resnet_channels: of ResNet's coarsest features.
        convolution: (channels, out) to a 3x3 convolution, see `samseg_ros.networks.deformable_conv.CONVOLUTIONS`.
    """

    def __init__(self, channels: int, resnet_channels: int, convolution: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.resnet_conv = nn.Conv2d(resnet_channels, channels, 1)
        self.fusion_conv = convolution(2 * channels, channels)
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.channel_attention = ChannelAttention(channels)

    def forward(self, sam: Tensor, res4: Tensor) -> Tensor:
        """Fuse (B, C, H/16, W/16) and (B, C4, H/32, W/32) to (B, C, H/16, W/16)."""
        # A 1x1 convolution and a bilinear resize commute; on the smaller map it is cheaper.
        resnet = F.interpolate(self.resnet_conv(res4), size=sam.shape[2:], mode="bilinear", align_corners=False)
        fused = self.norm(self.fusion_conv(torch.cat([sam, resnet.to(sam.dtype)], 1)))
        return F.gelu(self.channel_attention(fused))
