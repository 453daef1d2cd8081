"""FMP: the tokens of two modalities become one map of fusion features z_f.

Source: FusionSAM (arXiv 2408.13980), eq. 10-13. Where the paper is silent: each pair of fused maps is merged by a 3x3
convolution of their concatenation; z_0 comes from a second cross-attention with weights of its own; the query of z_f
is made from z_c. Attention has one head, as the equations. Over `FULL_TOKENS` places it stays within windows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samseg_ros.errors import SamsegError

FULL_TOKENS = 4096
WINDOW = 8


def attend(q: Tensor, k: Tensor, v: Tensor, full_tokens: int = FULL_TOKENS, window: int = WINDOW) -> Tensor:
    """Return softmax(q k^T / sqrt(C)) v over the places of maps (B, h, w, C).

    Args:
        full_tokens: up to this many places h w each attends to all, above it to those of its window.
        window: side of a window; divides h and w where windows are used.

    Raises:
        SamsegError: windows do not fill the map.
    """
    h, w = q.shape[1:3]
    rows, columns = (h, w) if h * w <= full_tokens else (window, window)
    if h % rows or w % columns:
        raise SamsegError(f"attention within windows: expected a map in multiples of {window}, got {h}x{w}")
    q, k, v = (_cut(x, rows, columns) for x in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v).reshape(-1, h // rows, w // columns, rows, columns, q.shape[-1])
    return out.transpose(2, 3).reshape(-1, h, w, q.shape[-1])


def _cut(x: Tensor, rows: int, columns: int) -> Tensor:
    """(B, h, w, C) to (B windows, 1, places of a window, C)."""
    b, h, w, c = x.shape
    cells = x.reshape(b, h // rows, rows, w // columns, columns, c).transpose(2, 3)
    return cells.reshape(-1, 1, rows * columns, c)


class CrossBranch(nn.Module):
    """What one modality takes from the other: z' = LN(FFN(softmax(Q K_other^T / sqrt(d)) V_other)) + Q (eq. 11)."""

    def __init__(self, channels: int, dim: int, full_tokens: int) -> None:
        super().__init__()
        self._full_tokens = full_tokens
        self.qkv = nn.Linear(channels, 3 * dim)  # W_Q, W_K, W_V of eq. 10
        self.feed_forward = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.norm = nn.LayerNorm(dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Map the own query, the other's key and value (B, h, w, d) to (B, h, w, d)."""
        out: Tensor = self.norm(self.feed_forward(attend(q, k, v, self._full_tokens))) + q
        return out


class CrossFusion(nn.Module):
    """Cross-attention both ways, then conv3x3 of the concatenation.

    Args:
        channels: of a token.
        dim: of the fused map.
        full_tokens: as `attend`.
    """

    def __init__(self, channels: int, dim: int, full_tokens: int) -> None:
        super().__init__()
        self.first = CrossBranch(channels, dim, full_tokens)
        self.second = CrossBranch(channels, dim, full_tokens)
        self.merge = nn.Conv2d(2 * dim, dim, 3, padding=1)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Map tokens (B, h, w, channels) twice to (B, h, w, dim)."""
        q1, k1, v1 = self.first.qkv(first).chunk(3, -1)
        q2, k2, v2 = self.second.qkv(second).chunk(3, -1)
        both = torch.cat([self.first(q1, k2, v2), self.second(q2, k1, v1)], -1)
        merged: Tensor = self.merge(both.permute(0, 3, 1, 2))
        return merged.permute(0, 2, 3, 1)


class FusionPrompts(nn.Module):
    """Cross-domain fusion z_c, complementary fusion z_0, and z_f = LN(softmax(Q_f K_0^T / sqrt(d)) V_0) + z_c.

    Args:
        channels: of a token.
        dim: of z_f.
        full_tokens: as `attend`. A net that is trained on crops smaller and used on images larger than that would be
            asked for another attention than it learnt.
    """

    def __init__(self, channels: int, dim: int, full_tokens: int = FULL_TOKENS) -> None:
        super().__init__()
        self._full_tokens = full_tokens
        self.cross_domain = CrossFusion(channels, dim, full_tokens)
        self.complementary = CrossFusion(channels, dim, full_tokens)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Map tokens (B, channels, h, w) of two modalities to z_f (B, dim, h, w)."""
        first, second = first.permute(0, 2, 3, 1), second.permute(0, 2, 3, 1)
        z_c = self.cross_domain(first, second)
        z_0 = self.complementary(first, second)
        q, (k, v) = self.query(z_c), self.key_value(z_0).chunk(2, -1)
        z_f = self.norm(attend(q, k, v, self._full_tokens)) + z_c
        out: Tensor = z_f.permute(0, 3, 1, 2)
        return out


class ConcatFusion(nn.Module):
    """conv3x3 of the concatenated tokens: the ablation without FMP (table 2, row B)."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.merge = nn.Conv2d(2 * channels, dim, 3, padding=1)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Map tokens (B, channels, h, w) of two modalities to z_f (B, dim, h, w)."""
        z_f: Tensor = self.merge(torch.cat([first, second], 1))
        return z_f


class FusionMask(nn.Module):
    """The fused picture I_f of z_f: convolutions, upsampling by four, sigmoid.

    The upsampling is a pixel shuffle of two by two, twice: each place holds its 4 x 4 pixels, so that the picture can
    be as sharp as the inputs; an interpolated one could not. Between the two, neighbouring places see each other: one
    convolution alone left false colours and the grid of the places in the picture.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.widen = nn.Conv2d(dim, 2 * dim, 3, padding=1)
        self.smooth = nn.Conv2d(dim // 2, dim // 2, 3, padding=1)
        self.paint = nn.Conv2d(dim // 2, 3 * 2 * 2, 3, padding=1)

    def forward(self, z_f: Tensor) -> Tensor:
        """Map (B, dim, h, w), dim even, to a picture (B, 3, 4h, 4w) in 0..1."""
        x = F.gelu(F.pixel_shuffle(self.widen(z_f), 2))
        x = x + F.gelu(self.smooth(x))
        return F.pixel_shuffle(self.paint(x), 2).sigmoid()
