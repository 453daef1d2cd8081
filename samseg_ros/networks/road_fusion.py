"""Road-Fusion: how one level of two modalities becomes one.

Source: the fusion of RoadFormer+ as MM SAM-adapter (arXiv 2509.10408) uses it. A *global* path (channel attention
within and across the modalities) and a *local* path (depthwise convolutions) are summed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.layers import LayerNorm2d
from torch import Tensor, nn

EPS = 1e-5


@dataclass(frozen=True, slots=True)
class FusionShape:
    """What differs between the published Road-Fusion (the defaults) and smaller ones."""

    qkv_groups: int = 32
    """Groups of the 1x1 and the 3x3 that make q, k, v; 0: a dense 1x1 and a depthwise 3x3 (much faster on a CPU)."""
    heads: int = 8
    scale: float = 0.0
    """Initial value of every residual scale (s of the local, gamma of the cross attention, s2 of the global part)."""
    mean_similarity: bool = False
    """Cross attention compares channels by their mean product over space, not the sum (independent of the size)."""


def _spatial_tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, HW, C); free of copies for channels_last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _mix_channels(tokens: Tensor, matrix: Tensor, like: Tensor) -> Tensor:
    """(B, HW, C) times a matrix per sample (B, C, C'), as maps of the size of ``like``."""
    b, _, h, w = like.shape
    mixed = tokens @ matrix.to(tokens.dtype)
    return mixed.reshape(b, h, w, -1).permute(0, 3, 1, 2)


class ChannelSelfAttention(nn.Module):
    """Attention between the channels of one modality; q and k have unit length over space, one learned scale a head.

    All of it that follows q, k, v acts on channels only, so lengths, head scales, projection and s2 are applied to the
    C x C matrix and the maps are passed over once.
    """

    def __init__(self, channels: int, shape: FusionShape) -> None:
        super().__init__()
        self.heads = shape.heads
        groups = (shape.qkv_groups, shape.qkv_groups) if shape.qkv_groups else (1, 3 * channels)
        self.scale = nn.Parameter(torch.ones(shape.heads, 1, 1))
        self.scale2 = nn.Parameter(torch.tensor(shape.scale))
        self.qkv1 = nn.Conv2d(channels, 3 * channels, 1, groups=groups[0], bias=False)
        self.qkv2 = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=groups[1], bias=False)
        self.proj = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to s2 * proj(attention(x)), (B, C, H, W)."""
        q, k, v = _spatial_tokens(self.qkv2(self.qkv1(x))).chunk(3, -1)  # (B, HW, C) each
        lengths = [t.float().square().sum(1).sqrt().clamp_min(1e-12) for t in (q, k)]  # (B, C)
        cosine = (q.transpose(1, 2) @ k).float() / (lengths[0][:, :, None] * lengths[1][:, None])
        blocks = self._own_head(x.shape[1], x.device)
        scale = self.scale.repeat_interleave(x.shape[1] // self.heads, 0)[:, 0]  # (C, 1)
        attention = torch.where(blocks, cosine * scale, -torch.inf).softmax(-1)  # (B, C, C)
        out = self.scale2 * (self.proj.weight.flatten(1) @ attention)
        return _mix_channels(v, out.transpose(1, 2), x)

    def _own_head(self, channels: int, device: torch.device) -> Tensor:
        head = torch.arange(self.heads, device=device).repeat_interleave(channels // self.heads)
        return head[:, None] == head[None]


class GlobalFeatures(nn.Module):
    """GFE: x + n + s2 * proj(A), with n = LN(x) and A the channel attention of n."""

    def __init__(self, channels: int, shape: FusionShape) -> None:
        super().__init__()
        self.norm1 = LayerNorm2d(channels, eps=EPS)
        self.attn = ChannelSelfAttention(channels, shape)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        n = self.norm1(x)
        out: Tensor = x + n + self.attn(n)
        return out


class LocalFeatures(nn.Module):
    """LFE: x + s * (1x1 to 2c, ReLU6, depthwise 3x3, ReLU6, 1x1)."""

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))
        self.expand = nn.Conv2d(channels, 2 * channels, 1, bias=False)
        self.depthwise = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels, bias=False)
        self.reduce = nn.Conv2d(2 * channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        inner = F.relu6(self.depthwise(F.relu6(self.expand(x))))
        return x + F.conv2d(inner, self.scale * self.reduce.weight)


class CrossChannelAttention(nn.Module):
    """Each modality's channels attend to the other's and take its values: gamma * out + x."""

    def __init__(self, shape: FusionShape) -> None:
        super().__init__()
        self.mean_similarity = shape.mean_similarity
        self.gamma_rgb = nn.Parameter(torch.tensor(shape.scale))
        self.gamma_x = nn.Parameter(torch.tensor(shape.scale))

    def forward(self, rgb: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map two (B, C, H, W) to two (B, C, H, W)."""
        a, b = _spatial_tokens(rgb), _spatial_tokens(x)  # (B, HW, C)
        similarity = (a.transpose(1, 2) @ b).float()  # (B, C of rgb, C of x)
        if self.mean_similarity:
            similarity = similarity / a.shape[1]
        from_x = _mix_channels(b, self.gamma_rgb * similarity.softmax(2).transpose(1, 2), x)
        from_rgb = _mix_channels(a, self.gamma_x * similarity.softmax(1), rgb)
        return rgb + from_x, x + from_rgb


class SpatialNorm(nn.Module):
    """LayerNorm of each channel map over H x W with an affine per position, resized bilinearly off its own size.

    That size is where the weights were trained (1024 x 1024 in most published ones, 800 x 800 for FMB), so it comes
    with them: see `adopt_grids`.
    """

    def __init__(self, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.weight = nn.Parameter(torch.ones(grid[0] * grid[1]))
        self.bias = nn.Parameter(torch.zeros(grid[0] * grid[1]))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        mean = x.mean((2, 3), keepdim=True, dtype=torch.float32)
        variance = (x - mean.to(x.dtype)).square().mean((2, 3), keepdim=True, dtype=torch.float32)
        scale = torch.rsqrt(variance + EPS)
        normed = torch.addcmul((-mean * scale).to(x.dtype), x, scale.to(x.dtype))
        size = (x.shape[2], x.shape[3])
        weight, bias = (self._resized(p, size).to(x.dtype) for p in (self.weight, self.bias))
        return torch.addcmul(bias, normed, weight)

    def adopt(self, cells: int) -> None:
        """Take a grid of another number of cells, of the same aspect, and forget the affine; else stay as it is."""
        h, w = self.grid
        rows = round(h * (cells / (h * w)) ** 0.5)
        columns = round(rows * w / h)
        if rows * columns != cells or rows * w != columns * h or cells == h * w:
            return
        self.grid = (rows, columns)
        self.weight, self.bias = (nn.Parameter(p.new_empty(cells)) for p in (self.weight, self.bias))

    def _resized(self, parameter: Tensor, size: tuple[int, int]) -> Tensor:
        affine = parameter.reshape(1, 1, *self.grid)
        return affine if size == self.grid else F.interpolate(affine, size=size, mode="bilinear", align_corners=False)


class GatedLocal(nn.Module):
    """Local path: 1x1 to twice the width, 3x3 over pairs of channels, GELU(first half) * second half, 1x1 back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project_in = nn.Conv2d(channels, 2 * channels, 1, bias=False)
        self.dwconv = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=channels, bias=False)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        """Map (B, C, H, W) to scale * local path, (B, C, H, W)."""
        first, second = self._pairs(x).chunk(2, 1)
        return F.conv2d(F.gelu(first) * second, scale * self.project_out.weight)

    def _pairs(self, x: Tensor) -> Tensor:
        """Compute ``dwconv(project_in(x))``: two depthwise convolutions are much faster on a CPU than groups of two."""
        taps = self.dwconv.weight.unflatten(0, (-1, 2))  # (C, 2, 2, 3, 3): output j of a pair reads inputs i of it
        own = torch.stack([taps[:, 0, 0], taps[:, 1, 1]], 1).flatten(0, 1)[:, None]
        other = torch.stack([taps[:, 0, 1], taps[:, 1, 0]], 1).flatten(0, 1)[:, None]
        # Swapping the channels of each pair is free when done to the weights that make them.
        swapped = self.project_in.weight.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
        n = own.shape[0]
        direct = F.conv2d(self.project_in(x), own, padding=1, groups=n)
        return direct + F.conv2d(F.conv2d(x, swapped), other, padding=1, groups=n)


class ChannelRecalibration(nn.Module):
    """FFRM: x + x * sigmoid(ReLU(GN(1x1(mean over space))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1, bias=False)
        self.gn = nn.GroupNorm(32, channels, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Return the factor (B, C, 1, 1) for x (B, C, H, W)."""
        return 1 + torch.sigmoid(F.relu(self.gn(self.conv(x.mean((2, 3), keepdim=True)))))


class CoordinateAttention(nn.Module):
    """x + x * a_h * a_w, the two from the row and column means (Hou et al., 2021)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(8, channels // 32)
        self.conv1 = nn.Conv2d(channels, hidden, 1)
        self.bn1 = nn.BatchNorm2d(hidden, eps=EPS)
        self.conv_h = nn.Conv2d(hidden, channels, 1)
        self.conv_w = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        h, w = x.shape[2:]
        strips = torch.cat([x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)], 2)  # (B, C, H + W, 1)
        rows, columns = F.hardswish(self.bn1(self.conv1(strips))).split([h, w], 2)
        a_h = self.conv_h(rows).sigmoid().to(x.dtype)
        a_w = self.conv_w(columns.transpose(2, 3)).sigmoid().to(x.dtype)
        return torch.addcmul(x, x * a_h, a_w)


class RoadFusion(nn.Module):
    """One level: RGB (B, C, H, W) and X (B, C, H, W) to (B, 2C, H, W); ``out_channels`` = 2C.

    Args:
        channels: C, a multiple of 16.
        grid: (h, w) of this level at the training size, the size of the spatial norm's affine.
        shape: the variant.
        stride: 2 computes the fusion on halved maps and adds it, upsampled, to the concatenation (cheap at 1/4).
    """

    def __init__(self, channels: int, grid: tuple[int, int], shape: FusionShape, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.out_channels = 2 * channels
        self.global_rgb = GlobalFeatures(channels, shape)
        self.global_x = GlobalFeatures(channels, shape)
        self.local_rgb = LocalFeatures(channels, shape.scale)
        self.local_x = LocalFeatures(channels, shape.scale)
        self.cross = CrossChannelAttention(shape)
        self.norm = SpatialNorm((grid[0] // stride, grid[1] // stride))
        self.recalibrate = ChannelRecalibration(2 * channels)
        self.local_path = GatedLocal(2 * channels)
        self.scale_global = nn.Parameter(torch.tensor(1.0))
        self.scale_local = nn.Parameter(torch.tensor(1.0))
        self.coordinate = CoordinateAttention(2 * channels)

    def forward(self, rgb: Tensor, x: Tensor) -> Tensor:
        """Fuse the two maps of one level."""
        if self.stride == 1:
            return self._fuse(rgb, x)
        fused = self._fuse(F.avg_pool2d(rgb, self.stride), F.avg_pool2d(x, self.stride))
        both = torch.cat([rgb, x], 1)
        return both + F.interpolate(fused, size=both.shape[2:], mode="bilinear", align_corners=False)

    def _fuse(self, rgb: Tensor, x: Tensor) -> Tensor:
        broad = self.norm(torch.cat(self.cross(self.global_rgb(rgb), self.global_x(x)), 1))
        fine = self.local_path(torch.cat([self.local_rgb(rgb), self.local_x(x)], 1), self.scale_local)
        factor = self.scale_global * self.recalibrate(broad)
        out: Tensor = self.coordinate(torch.addcmul(fine, broad, factor.to(broad.dtype)))
        return out


def adopt_grids(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give the norms over space the grids of weights that are about to be loaded.

    A norm has a weight for each cell, in one row: their number tells the size that was trained at, as training sizes
    have the preset's aspect (square in all published sizes). Where it cannot, the norm stays, and its misfit is found
    as any other's. Has to come before an optimizer takes the parameters.

    Args:
        network: with fresh weights.
        state: weights by name; without any of these norms nothing happens.
    """
    for name, module in network.named_modules():
        weight = state.get(f"{name}.weight")
        if isinstance(module, SpatialNorm) and weight is not None:
            module.adopt(weight.numel())
