"""Modulated deformable convolution.

Source: Zhu et al., *Deformable ConvNets v2* (2019), eq. 1. The conventions are torchvision's: offsets in pairs (y, x)
per tap, taps row-major, bilinear, zeros outside.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

TAPS = 9  # 3x3


class DeformableConv(nn.Module):
    """3x3 convolution whose taps move and fade: (B, C, H, W) to (B, out, H, W).

    Offsets and mask come from a 3x3 convolution each, which start at zero: no tap moves and the mask is
    sigmoid(0) = 0.5, half an ordinary convolution.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.offset_conv = nn.Conv2d(channels, 2 * TAPS, 3, padding=1)
        self.mask_conv = nn.Conv2d(channels, TAPS, 3, padding=1)
        self.conv = nn.Conv2d(channels, out, 3, padding=1)
        for layer in (self.offset_conv, self.mask_conv):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        return modulated_deform_conv2d(x, *self._movement(x), self.conv.weight, self.conv.bias)

    def forward_by_operator(self, x: Tensor) -> Tensor:
        """Convolve with torchvision's operator, wherever the weights are: what `samseg benchmark` compares with."""
        return modulated_deform_conv2d(x, *self._movement(x), self.conv.weight, self.conv.bias, portable=False)

    def _movement(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the offsets (B, 18, H, W) in pixels and the mask (B, 9, H, W) in 0..1, from one pass over x."""
        both = (self.offset_conv, self.mask_conv)
        weight, bias = torch.cat([c.weight for c in both]), torch.cat([c.bias for c in both])  # type: ignore[misc]
        offset, mask = F.conv2d(x, weight, bias, padding=1).split([2 * TAPS, TAPS], 1)
        return offset, mask.sigmoid()


CONVOLUTIONS: dict[str, Callable[[int, int], nn.Module]] = {
    "deformable": DeformableConv,
    "plain": lambda channels, out: nn.Conv2d(channels, out, 3, padding=1),
}
"""(channels, out) to a 3x3 convolution that keeps the size; plain is the ablation."""


def modulated_deform_conv2d(
    x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None, portable: bool | None = None
) -> Tensor:
    """Convolve with moved and weighted taps; stride 1, the size is kept.

    Args:
        x: (B, C, H, W).
        offset: (B, 18, H, W) in pixels, (y, x) per tap.
        mask: (B, 9, H, W).
        weight: (out, C, 3, 3).
        bias: (out,) or None.
        portable: plain torch instead of torchvision's operator. Default: wherever the operator is no gain, which is off
            CUDA (its CPU kernel is ten times slower), and where torchvision was built without it. An exported graph
            has a form of its own, as other runtimes know neither.

    Returns:
        (B, out, H, W).
    """
    if portable is None:
        if torch.compiler.is_exporting():
            return _sampled(x, offset, mask, weight, bias)
        portable = x.device.type != "cuda" or not _has_operator()
    if not portable:
        return deform_conv2d(x, offset, weight, bias, padding=1, mask=mask)  # type: ignore[no-any-return]
    b, _, h, w = x.shape
    # Channels are mixed before places are sampled: both are linear, and there are fewer channels after.
    padded = F.pad(x, (1, 1, 1, 1)).permute(0, 2, 3, 1)  # (B, H + 2, W + 2, C)
    table = F.linear(padded, weight.permute(2, 3, 0, 1).flatten(0, 2)).reshape(-1, weight.shape[0])
    rows, shares = _neighbours(offset, mask)
    out = F.embedding_bag(rows, table, mode="sum", per_sample_weights=shares.to(table.dtype))
    if bias is not None:
        out = out + bias.to(out.dtype)
    return out.reshape(b, h, w, -1).permute(0, 3, 1, 2)


def _sampled(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute the same by sampling a grid for each tap."""
    h, w = x.shape[2:]
    taps = F.conv2d(x, weight.permute(2, 3, 0, 1).flatten(0, 2)[:, :, None, None])  # (B, 9 * out, H, W)
    moved = offset.to(torch.promote_types(offset.dtype, torch.float32)).unflatten(1, (TAPS, 2))  # (B, 9, 2, H, W)
    rows, columns = torch.arange(h, device=x.device)[:, None], torch.arange(w, device=x.device)
    parts = []
    for k, tap in enumerate(taps.chunk(TAPS, 1)):
        y, at = moved[:, k, 0] + rows + (k // 3 - 1), moved[:, k, 1] + columns + (k % 3 - 1)
        grid = torch.stack([(2 * at + 1) / w - 1, (2 * y + 1) / h - 1], -1)  # grid_sample's -1..1
        parts.append(F.grid_sample(tap.to(grid.dtype), grid, align_corners=False) * mask[:, k : k + 1])
    out = torch.stack(parts).sum(0).to(x.dtype)
    return out if bias is None else out + bias.to(out.dtype)[:, None, None]


def _has_operator() -> bool:
    return hasattr(torch.ops.torchvision, "deform_conv2d")


def _neighbours(offset: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the 4 cells around each of a pixel's 9 places, and what each counts.

    Returns:
        (B * H * W, 36) int32 rows of a table (B * (H + 2) * (W + 2) * 9, out), which is padded by one cell of zeros on
        each side and holds a row per tap, and their weights, at least float32.
    """
    b, _, h, w = offset.shape
    tap = torch.arange(TAPS, device=offset.device, dtype=torch.int32)
    exact = torch.promote_types(offset.dtype, torch.float32)
    moved = offset.permute(0, 2, 3, 1).to(exact).unflatten(-1, (TAPS, 2))  # (B, H, W, 9, 2)
    # In padded cells, where tap 0 of pixel (0, 0) rests at (0, 0). Whatever is further out is zero all the same.
    y = (moved[..., 0] + (torch.arange(h, device=tap.device)[:, None, None] + tap // 3)).clamp(0, h + 1)
    x = (moved[..., 1] + (torch.arange(w, device=tap.device)[:, None] + tap % 3)).clamp(0, w + 1)
    # NaN becomes a valid row with a NaN weight.
    top, left = y.detach().floor().clamp(max=h).nan_to_num(), x.detach().floor().clamp(max=w).nan_to_num()
    image = torch.arange(b, device=tap.device, dtype=torch.int32)[:, None, None, None] * (h + 2)
    first = ((image + top.int()) * (w + 2) + left.int()) * TAPS + tap
    steps = torch.tensor([0, 1, w + 2, w + 3], device=tap.device, dtype=torch.int32) * TAPS
    cells, below, right = mask.permute(0, 2, 3, 1).to(exact), y - top, x - left
    lower = cells * below
    upper = cells - lower
    shares = torch.stack([upper - upper * right, upper * right, lower - lower * right, lower * right], -1)
    return (first[..., None] + steps).reshape(b * h * w, -1), shares.reshape(b * h * w, -1)
