"""Multi-scale deformable attention in plain torch.

Source: Zhu et al., *Deformable DETR* (2021), eq. 3; with the value ratio of ViT-Adapter (Chen et al., 2023).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Size = tuple[int, int]


class DeformableAttention(nn.Module):
    """Each query reads a few learned places of every level around its own position.

    Args:
        dim: width of queries and features.
        levels: feature levels that are read.
        heads: attention heads.
        points: places per head and level.
        value_ratio: width of the values over dim.
    """

    def __init__(self, dim: int, levels: int, heads: int, points: int, value_ratio: float) -> None:
        super().__init__()
        self.levels, self.heads, self.points = levels, heads, points
        width = int(dim * value_ratio)
        self.sampling_offsets = nn.Linear(dim, heads * levels * points * 2)
        self.attention_weights = nn.Linear(dim, heads * levels * points)
        self.value_proj = nn.Linear(dim, width)
        self.output_proj = nn.Linear(width, dim)
        self._initialise()

    def _initialise(self) -> None:
        angle = torch.arange(self.heads) * (2 * math.pi / self.heads)
        ring = torch.stack([angle.cos(), angle.sin()], -1)
        ring = ring / ring.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.points + 1).reshape(1, 1, -1, 1)
        offsets = ring.reshape(-1, 1, 1, 2) * steps.expand(-1, self.levels, -1, -1)
        nn.init.zeros_(self.sampling_offsets.weight)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, query: Tensor, reference: Tensor, features: Tensor, sizes: Sequence[Size]) -> Tensor:
        """Attend.

        Args:
            query: (B, Nq, D).
            reference: (Nq, 2) positions (x, y) in 0..1.
            features: (B, sum of h*w, D), the levels one after the other, row-major.
            sizes: (h, w) of each level.

        Returns:
            (B, Nq, D).
        """
        b, n, _ = query.shape
        shape = (b, n, self.heads, self.levels, self.points)
        value = self.value_proj(features).reshape(b, features.shape[1], self.heads, -1)
        offsets = self.sampling_offsets(query).float().reshape(*shape, 2)
        weights = self.attention_weights(query).reshape(b, n, self.heads, -1).softmax(-1).reshape(shape)
        # grid_sample's -1..1 for a position x in 0..1 is 2x - 1; an offset of one pixel is 2 / size.
        pixels = offsets.new_tensor([(w, h) for h, w in sizes]).reshape(self.levels, 1, 2)
        grid = (2 * reference - 1).reshape(1, n, 1, 1, 1, 2) + offsets * (2 / pixels)
        out: Tensor = self.output_proj(_sample(value, grid, weights, sizes))
        return out


def _sample(value: Tensor, grid: Tensor, weights: Tensor, sizes: Sequence[Size]) -> Tensor:
    """Weighted bilinear samples, zero outside: (B, N, heads, d), (B, Nq, heads, L, P, 2) to (B, Nq, heads * d)."""
    b, _, heads, d = value.shape
    n = grid.shape[1]
    places = grid.permute(3, 0, 2, 4, 1, 5).flatten(1, 2)  # (L, B*heads, P, Nq, 2)
    shares = weights.permute(3, 0, 2, 4, 1).flatten(1, 2)[:, :, None].to(value.dtype)  # (L, B*heads, 1, P, Nq)
    parts = []
    for i, (level, (h, w)) in enumerate(zip(value.split([h * w for h, w in sizes], 1), sizes, strict=True)):
        image = level.permute(0, 2, 3, 1).reshape(b * heads, d, h, w).float()
        sampled = F.grid_sample(image, places[i], align_corners=False).to(value.dtype)  # (B*heads, d, P, Nq)
        parts.append((sampled * shares[i]).sum(2))
    total = parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)
    return total.reshape(b, heads * d, n).transpose(1, 2)


def pixel_centres(sizes: Sequence[Size], device: torch.device) -> Tensor:
    """Centres of all cells of all levels as (sum of h*w, 2) positions (x, y) in 0..1."""
    return torch.cat([_centres(h, w, device) for h, w in sizes])


def _centres(h: int, w: int, device: torch.device) -> Tensor:
    y = (torch.arange(h, device=device) + 0.5) / h
    x = (torch.arange(w, device=device) + 0.5) / w
    return torch.stack([x.repeat(h), y.repeat_interleave(w)], -1)
