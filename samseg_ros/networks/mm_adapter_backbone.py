"""SAM encoder and multimodal adapter together: modalities in, a four-level feature pyramid out.

Source: *Multimodal SAM-adapter for Semantic Segmentation* (arXiv 2509.10408).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from samseg_ros.networks.adapter import Grids, Interaction
from samseg_ros.networks.adapter_prior import RGB, AuxiliaryPrior, MultimodalPrior
from samseg_ros.networks.sam_encoder import SamEncoder
from samseg_ros.networks.sam_pyramid import blocks_of_stages, first_projection, stage_maps

STRIDE = 32
"""Inputs are padded to a multiple of this."""


class DoublingUp(nn.Module):
    """Transposed convolution 2x2, stride 2, as one matrix product and a shuffle (exact, and fast on a CPU)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        like = nn.ConvTranspose2d(channels, out, 2, stride=2)
        self.weight = like.weight  # (channels, out, 2, 2)
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, 2H, 2W)."""
        b, _, h, w = x.shape
        cells = x.permute(0, 2, 3, 1) @ self.weight.permute(0, 2, 3, 1).flatten(1)  # (B, H, W, 2 * 2 * out)
        image = cells.reshape(b, h, w, 2, 2, -1).transpose(2, 3).reshape(b, 2 * h, 2 * w, -1)
        return (image + self.bias.to(image.dtype)).permute(0, 3, 1, 2)


class MmAdapterBackbone(nn.Module):
    """The true parts of MM SAM-adapter in the order of its picture.

    Args:
        encoder: SAM's image encoder.
        prior: stems and fusion, or the stems of X alone.
        interactions: injector, extractor pairs; the encoder's blocks are dealt out evenly between them.
        widths: channels of the four levels; the last three equal the encoder's width.

    Raises:
        SamsegError: the blocks cannot be dealt out evenly.
    """

    def __init__(
        self,
        encoder: SamEncoder,
        prior: MultimodalPrior | AuxiliaryPrior,
        interactions: Sequence[Interaction],
        widths: Sequence[int],
    ) -> None:
        super().__init__()
        blocks_of_stages(encoder, len(interactions))
        self.encoder = encoder
        self.prior = prior
        self.interactions = nn.ModuleList(interactions)
        self.widths = tuple(widths)
        self.level_embed = nn.Parameter(torch.zeros(3, encoder.dim))
        self.up = DoublingUp(encoder.dim, widths[0])
        self.to_first = first_projection(encoder.dim, widths[0])
        self.norms = nn.ModuleList(nn.BatchNorm2d(w) for w in widths)
        nn.init.trunc_normal_(self.level_embed, std=0.02)

    def forward(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> list[Tensor]:
        """Map images (B, 3, H, W), H and W multiples of 32, to (B, width_i, H/s, W/s), s = 4, 8, 16, 32."""
        first, *rest = self.prior(inputs, present)
        sizes = [(x.shape[2], x.shape[3]) for x in rest]
        levels = torch.cat([_tokens(x) + e.to(x.dtype) for x, e in zip(rest, self.level_embed, strict=True)], 1)
        tokens = self.encoder.embed(inputs[RGB])
        grids = Grids.of((tokens.shape[1], tokens.shape[2]), sizes, tokens.device)
        stages = []
        runs = blocks_of_stages(self.encoder, len(self.interactions))
        for interaction, blocks in zip(self.interactions, runs, strict=True):
            tokens, levels = interaction(tokens, levels, blocks, grids)
            stages.append(tokens)
        return self._pyramid(first, levels, sizes, stages)

    def _pyramid(
        self, first: Tensor, levels: Tensor, sizes: Sequence[tuple[int, int]], stages: Sequence[Tensor]
    ) -> list[Tensor]:
        parts = levels.split([h * w for h, w in sizes], 1)
        maps = [p.reshape(p.shape[0], h, w, -1).permute(0, 3, 1, 2) for p, (h, w) in zip(parts, sizes, strict=True)]
        maps = [first + self.up(maps[0]), *maps]
        seen = stage_maps(stages, [(x.shape[2], x.shape[3]) for x in maps], self.to_first)
        return [norm(x + vit) for norm, x, vit in zip(self.norms, maps, seen, strict=True)]


def _tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, HW, C)."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)
