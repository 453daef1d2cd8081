"""SegFormer's all-MLP head.

Source: Xie et al., *SegFormer* (2021), as MM SAM-adapter uses it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class ConvNormRelu(nn.Module):
    """1x1 convolution without bias, batch norm, ReLU."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 1, bias=False)
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H, W)."""
        return F.relu(self.bn(self.conv(x)))


class SegformerHead(nn.Module):
    """Project each level, upsample, concatenate, fuse by 1x1, classify.

    The fusing 1x1 is applied to each level before it is upsampled: both are linear and the one acts on channels,
    the other on space, so the sum of the upsampled parts equals the product with the concatenation.

    Args:
        channels: channels of the four levels.
        width: common width.
        classes: number of classes K.
        dropout: share of channels dropped before the classifier.
    """

    def __init__(self, channels: Sequence[int], width: int, classes: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.convs = nn.ModuleList(ConvNormRelu(c, width) for c in channels)
        self.fusion_conv = ConvNormRelu(len(channels) * width, width)
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = nn.Conv2d(width, classes, 1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Map levels (B, C_i, H_i, W_i), finest first, to logits (B, K, H_1, W_1)."""
        size = levels[0].shape[2:]
        shares = self.fusion_conv.conv.weight.chunk(len(levels), 1)
        parts = [F.conv2d(conv(x), share) for conv, x, share in zip(self.convs, levels, shares, strict=True)]
        fused = parts[0]
        for part in parts[1:]:
            fused = fused + F.interpolate(part, size=size, mode="bilinear", align_corners=False)
        logits: Tensor = self.conv_seg(self.dropout(F.relu(self.fusion_conv.bn(fused))))
        return logits
