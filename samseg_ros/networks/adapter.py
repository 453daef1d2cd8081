"""The adapter beside the SAM encoder: injectors, extractors and the interactions that pair them.

Source: *Multimodal SAM-adapter for Semantic Segmentation* (arXiv 2509.10408), after ViT-Adapter (Chen et al., 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from samseg_ros.networks.activation_checkpointing import Recomputable
from samseg_ros.networks.deformable_attention import DeformableAttention, Size, pixel_centres
from samseg_ros.networks.sam_encoder import EPS


@dataclass(frozen=True, slots=True)
class Grids:
    """Where the tokens of both streams lie."""

    vit: tuple[Size, ...]
    """(h, w) of the SAM tokens, the only level."""
    adapter: tuple[Size, ...]
    """(h, w) of the adapter's levels 1/8, 1/16, 1/32."""
    vit_centres: Tensor
    """(h*w, 2) positions (x, y) in 0..1."""
    adapter_centres: Tensor
    """(sum of h*w, 2)."""

    @classmethod
    def of(cls, vit: Size, adapter: Sequence[Size], device: torch.device) -> Grids:
        """Lay out the grids of one input size."""
        return cls((vit,), tuple(adapter), pixel_centres((vit,), device), pixel_centres(adapter, device))


class Injector(Recomputable):
    """SAM's tokens query the adapter's levels: x + gamma * attention(LN(x), LN(c))."""

    def __init__(self, dim: int, heads: int, points: int, value_ratio: float, scale: float) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(dim, eps=EPS)
        self.feat_norm = nn.LayerNorm(dim, eps=EPS)
        self.attn = DeformableAttention(dim, 3, heads, points, value_ratio)
        self.gamma = nn.Parameter(torch.full((dim,), scale))

    def compute(self, tokens: Tensor, levels: Tensor, grids: Grids) -> Tensor:
        """Map SAM tokens (B, h, w, D) and adapter tokens (B, N, D) to SAM tokens (B, h, w, D)."""
        query = self.query_norm(tokens).flatten(1, 2)
        out = self.attn(query, grids.vit_centres, self.feat_norm(levels), grids.adapter)
        injected: Tensor = tokens + (self.gamma.to(out.dtype) * out).reshape(tokens.shape)
        return injected


class DepthwiseConv(nn.Module):
    """One depthwise 3x3 kernel that is shared by the levels, each convolved apart with zero padding."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor, sizes: Sequence[Size]) -> Tensor:
        """Map (B, N, D), the levels of ``sizes`` one after the other, to (B, N, D)."""
        b, _, dim = x.shape
        parts = x.split([h * w for h, w in sizes], 1)
        images = [p.reshape(b, h, w, dim).permute(0, 3, 1, 2) for p, (h, w) in zip(parts, sizes, strict=True)]
        return torch.cat([self.dwconv(image).permute(0, 2, 3, 1).flatten(1, 2) for image in images], 1)


class ConvFeedForward(nn.Module):
    """Linear, depthwise 3x3, GELU, linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv = DepthwiseConv(hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor, sizes: Sequence[Size]) -> Tensor:
        """Map (B, N, D) to (B, N, D)."""
        out: Tensor = self.fc2(F.gelu(self.dwconv(self.fc1(x), sizes)))
        return out


class Extractor(Recomputable):
    """The adapter queries SAM's tokens: c + attention(LN(c), LN(x)), then c + FFN(LN(c))."""

    def __init__(
        self, dim: int, heads: int, points: int, value_ratio: float, ffn_ratio: float, drop_path: float
    ) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(dim, eps=EPS)
        self.feat_norm = nn.LayerNorm(dim, eps=EPS)
        self.attn = DeformableAttention(dim, 1, heads, points, value_ratio)
        self.ffn = ConvFeedForward(dim, int(dim * ffn_ratio))
        self.ffn_norm = nn.LayerNorm(dim, eps=EPS)
        self.drop_path = DropPath(drop_path)

    def compute(self, levels: Tensor, tokens: Tensor, grids: Grids) -> Tensor:
        """Map adapter tokens (B, N, D) and SAM tokens (B, h, w, D) to adapter tokens (B, N, D)."""
        source = self.feat_norm(tokens).flatten(1, 2)
        seen: Tensor = levels + self.attn(self.query_norm(levels), grids.adapter_centres, source, grids.vit)
        refined: Tensor = seen + self.drop_path(self.ffn(self.ffn_norm(seen), grids.adapter))
        return refined


class Interaction(nn.Module):
    """Injector, a run of SAM's blocks, extractor (and, after the last one, extra extractors)."""

    def __init__(self, injector: Injector, extractor: Extractor, extra: Sequence[Extractor] = ()) -> None:
        super().__init__()
        self.injector = injector
        self.extractor = extractor
        self.extra_extractors = nn.ModuleList(extra)

    def forward(
        self, tokens: Tensor, levels: Tensor, blocks: Sequence[nn.Module], grids: Grids
    ) -> tuple[Tensor, Tensor]:
        """Return the new SAM tokens (B, h, w, D) and adapter tokens (B, N, D)."""
        tokens = self.injector(tokens, levels, grids)
        for block in blocks:
            tokens = block(tokens)
        levels = self.extractor(levels, tokens, grids)
        for extractor in self.extra_extractors:
            levels = extractor(levels, tokens, grids)
        return tokens, levels
