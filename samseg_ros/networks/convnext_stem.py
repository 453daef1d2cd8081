"""ConvNeXt (timm) as a four-level feature extractor with a channel norm per level.

Source: Liu et al., *A ConvNet for the 2020s* (2022); blocks from timm.
"""

from __future__ import annotations

from dataclasses import dataclass

from timm.layers import LayerNorm2d
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn

from samseg_ros.networks.sam_encoder import EPS


@dataclass(frozen=True, slots=True)
class StemShape:
    """What a stem looks like; the defaults are ConvNeXt-S."""

    channels: tuple[int, int, int, int] = (96, 192, 384, 768)
    depths: tuple[int, int, int, int] = (3, 3, 27, 3)
    kernel: int = 7
    """Side of the depthwise kernels."""
    entry: str = "patch"
    """timm's stem_type: patch (4x4 patches) or overlap_tiered, overlap_act (two 3x3 convolutions)."""
    layer_scale: float | None = 1e-6
    """Initial layer scale, None for none (from scratch)."""
    drop_path: float = 0.4


class ConvNextStem(nn.Module):
    """Image (B, 3, H, W) to features at 1/4, 1/8, 1/16, 1/32, each normed; the un-normed value feeds the next stage."""

    def __init__(self, shape: StemShape) -> None:
        super().__init__()
        net = ConvNeXt(
            num_classes=0,
            depths=shape.depths,
            dims=shape.channels,
            kernel_sizes=shape.kernel,
            stem_type=shape.entry,
            ls_init_value=shape.layer_scale,
            norm_eps=EPS,
            drop_path_rate=shape.drop_path,
        )
        self.stem = net.stem
        self.stages = net.stages
        self.norms = nn.ModuleList(LayerNorm2d(c, eps=EPS) for c in shape.channels)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return four maps (B, C_i, H/s, W/s), s = 4, 8, 16, 32."""
        x = self.stem(image)
        levels = []
        for stage, norm in zip(self.stages, self.norms, strict=True):
            x = stage(x)
            levels.append(norm(x))
        return levels
