"""SAM's image encoder (ViTDet style), without the neck, at any size.

Source: Kirillov et al., *Segment Anything* (2023). Parameter names are those of the package ``segment-anything``, so
that its checkpoints load as they are. Off the training size the position table is resampled bicubically without
antialias and the relative positions linearly.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samseg_ros.networks.activation_checkpointing import Recomputable

EPS = 1e-6
LOGITS_AT_ONCE = 1 << 24
"""Attention logits of one sample that the CPU holds at a time: 64 MiB in float32."""


class PatchEmbed(nn.Module):
    """Image (B, 3, H, W) to patch tokens (B, H/p, W/p, D)."""

    def __init__(self, patch: int, dim: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv2d(3, dim, patch, stride=patch)

    def forward(self, image: Tensor) -> Tensor:
        """Cut and embed; H and W are multiples of p."""
        b, c, h, w = image.shape
        p = self.patch
        # The convolution as one matrix product: its backward is several times faster on a CPU.
        cells = image.reshape(b, c, h // p, p, w // p, p).permute(0, 2, 4, 1, 3, 5).flatten(3)
        return F.linear(cells, self.proj.weight.flatten(1), self.proj.bias)


class RelativeAttention(nn.Module):
    """Multi-head attention over a (h, w) grid with decomposed relative positions.

    The logit of query (i, j) for key (k, l) is s q·k + q·R_h[i, k] + q·R_w[j, l]. It is computed without a bias tensor
    as the product of q' = [s q, q·R_h[i], q·R_w[j]] and k' = [k, onehot(k), onehot(l)], which is the same number.
    """

    def __init__(self, dim: int, heads: int, table: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * table - 1, dim // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * table - 1, dim // heads))

    def forward(self, x: Tensor) -> Tensor:
        """Attend within each grid: (B, h, w, D) to (B, h, w, D)."""
        b, h, w, dim = x.shape
        q, k, v = self.qkv(x).reshape(b, h * w, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # (B, heads, hw, d) each
        q, k = self._with_positions(q, h, w), torch.cat([k, _cells(h, w, k)], -1)
        out: Tensor = self.proj(_attend(q, k, v).transpose(1, 2).reshape(b, h, w, dim))
        return out

    def _with_positions(self, q: Tensor, h: int, w: int) -> Tensor:
        """(B, heads, hw, d) to (B, heads, hw, d + h + w)."""
        grid = q.unflatten(2, (h, w))
        rows = torch.einsum("bnhwc,hkc->bnhwk", grid, _relative(self.rel_pos_h, h).to(q.dtype))
        columns = torch.einsum("bnhwc,wkc->bnhwk", grid, _relative(self.rel_pos_w, w).to(q.dtype))
        return torch.cat([q * q.shape[-1] ** -0.5, rows.flatten(2, 3), columns.flatten(2, 3)], -1)


def _cells(h: int, w: int, like: Tensor) -> Tensor:
    """One-hot row and column of every cell: (B, heads, hw, h + w)."""
    cells = torch.cat([torch.eye(h).repeat_interleave(w, 0), torch.eye(w).repeat(h, 1)], 1)
    return cells.to(like).expand(*like.shape[:2], -1, -1)


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    if q.device.type != "cpu":
        return fused_attention(q, k, v)
    # Several times faster there than the fused kernel, backward included. Rows are independent of each other.
    rows = max(1, LOGITS_AT_ONCE // (q.shape[1] * k.shape[2]))
    parts = [(part @ k.transpose(-1, -2)).softmax(-1).to(v.dtype) @ v for part in q.split(rows, 2)]
    return torch.cat(parts, 2)


def fused_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend by PyTorch's kernels for GPUs, which keep no logits: (B, heads, n, d'), the same, (B, heads, n, d) to v's.

    They take bfloat16 in widths of 8 n only; zero columns leave the products as they are.
    """
    if rest := -q.shape[-1] % 8:
        q, k = F.pad(q, (0, rest)), F.pad(k, (0, rest))
    return F.scaled_dot_product_attention(q, k, v, scale=1.0)


def _relative(table: Tensor, n: int) -> Tensor:
    """Rows of the table for every pair of n positions: (n, n, d), entry [i, k] belongs to the offset i - k."""
    if table.shape[0] != 2 * n - 1:
        table = F.interpolate(table.T[None].float(), size=2 * n - 1, mode="linear")[0].T
    position = torch.arange(n, device=table.device)
    return table[position[:, None] - position[None, :] + n - 1]


class Mlp(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden)
        self.lin2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., D)."""
        out: Tensor = self.lin2(F.gelu(self.lin1(x)))
        return out


class Block(Recomputable):
    """Pre-norm transformer block; ``window`` 0 attends over the whole grid."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float, window: int, table: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(dim, eps=EPS)
        self.attn = RelativeAttention(dim, heads, window or table)
        self.norm2 = nn.LayerNorm(dim, eps=EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def compute(self, x: Tensor) -> Tensor:
        """Map tokens (B, h, w, D) to (B, h, w, D)."""
        y = self.norm1(x)
        x = x + (windowed(self.attn, y, self.window) if self.window else self.attn(y))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


def windowed(attention: nn.Module, x: Tensor, window: int) -> Tensor:
    """Apply attention within windows of (B, h, w, D). Padding is zero, bottom and right, and is attended unmasked."""
    b, h, w, dim = x.shape
    rows, columns = -(-h // window), -(-w // window)
    x = F.pad(x, (0, 0, 0, columns * window - w, 0, rows * window - h))
    x = x.reshape(b, rows, window, columns, window, dim).transpose(2, 3).reshape(-1, window, window, dim)
    x = attention(x).reshape(b, rows, columns, window, window, dim).transpose(2, 3)
    return x.reshape(b, rows * window, columns * window, dim)[:, :h, :w]


class SamEncoder(nn.Module):
    """Patch embedding, position table and transformer blocks; whoever holds it decides when the blocks run.

    Args:
        dim: token width D.
        depth: number of blocks.
        heads: attention heads.
        global_blocks: blocks that attend over the whole grid; the others attend within windows.
        window: side of a window in tokens.
        table: rows and columns of the position table, in tokens.
        mlp_ratio: hidden width of the MLP over D.
        patch: side of a patch in pixels.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        global_blocks: Sequence[int],
        window: int = 14,
        table: tuple[int, int] = (64, 64),
        mlp_ratio: float = 4.0,
        patch: int = 16,
    ) -> None:
        super().__init__()
        self.dim, self.patch = dim, patch
        self.patch_embed = PatchEmbed(patch, dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, *table, dim))
        self.blocks = nn.ModuleList(
            Block(dim, heads, mlp_ratio, 0 if i in global_blocks else window, max(table)) for i in range(depth)
        )
        self.apply(_initialise)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def embed(self, image: Tensor) -> Tensor:
        """Map an image (B, 3, H, W), sides multiples of the patch, to tokens (B, H/p, W/p, D) with positions."""
        x: Tensor = self.patch_embed(image)
        return x + resize_positions(self.pos_embed, x.shape[1], x.shape[2]).to(x.dtype)

    def forward(self, image: Tensor) -> Tensor:
        """Run all blocks: (B, 3, H, W) to (B, H/p, W/p, D)."""
        tokens = self.embed(image)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


def resize_positions(positions: Tensor, h: int, w: int) -> Tensor:
    """Resample a position table (1, H, W, D) to (1, h, w, D): bicubic, no antialias."""
    if positions.shape[1:3] == (h, w):
        return positions
    resized = F.interpolate(positions.permute(0, 3, 1, 2).float(), size=(h, w), mode="bicubic", align_corners=False)
    return resized.permute(0, 2, 3, 1)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, RelativeAttention):
        nn.init.trunc_normal_(module.rel_pos_h, std=0.02)
        nn.init.trunc_normal_(module.rel_pos_w, std=0.02)
