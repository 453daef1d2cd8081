"""The neck of SAM's image encoder.

Source: Kirillov et al., *Segment Anything* (2023). Parameter names are those of the package ``segment-anything``.
"""

from __future__ import annotations

from timm.layers import LayerNorm2d
from torch import nn

from samseg_ros.networks.sam_encoder import EPS


class SamNeck(nn.Sequential):
    """1x1 and 3x3 convolution, each followed by a channel norm: (B, dim, h, w) to (B, out, h, w)."""

    def __init__(self, dim: int, out: int = 256) -> None:
        super().__init__(
            nn.Conv2d(dim, out, 1, bias=False),
            LayerNorm2d(out, eps=EPS),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            LayerNorm2d(out, eps=EPS),
        )
