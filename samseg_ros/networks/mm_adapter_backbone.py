"""SAM encoder and multimodal adapter together: modalities in, a four-level feature pyramid out.

Source: *Multimodal SAM-adapter for Semantic Segmentation* (arXiv 2509.10408).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samseg_ros.errors import SamsegError
from samseg_ros.networks.adapter import Grids, Interaction
from samseg_ros.networks.convnext_stem import ConvNextStem
from samseg_ros.networks.modality_gate import ModalityGate
from samseg_ros.networks.road_fusion import RoadFusion
from samseg_ros.networks.sam_encoder import SamEncoder

RGB = "rgb"
STRIDE = 32
"""Inputs are padded to a multiple of this."""


class MultimodalPrior(nn.Module):
    """Stems, gate and Road-Fusion: the adapter's four levels before any interaction.

    Args:
        rgb_stem: stem of the camera image.
        x_stems: stem per X modality.
        gates: merges the X streams, one per level.
        fusions: Road-Fusion, one per level.
        channels: channels of every stem per level; Road-Fusion makes twice as many.
        widths: output channels per level.
    """

    def __init__(
        self,
        rgb_stem: ConvNextStem,
        x_stems: Mapping[str, ConvNextStem],
        gates: Sequence[ModalityGate],
        fusions: Sequence[RoadFusion],
        channels: Sequence[int],
        widths: Sequence[int],
    ) -> None:
        super().__init__()
        self.rgb_stem = rgb_stem
        self.x_stems = nn.ModuleDict(x_stems)
        self.gates = nn.ModuleList(gates)
        self.fusions = nn.ModuleList(fusions)
        self.projections = nn.ModuleList(nn.Conv2d(2 * c, w, 1) for c, w in zip(channels, widths, strict=True))

    def forward(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> list[Tensor]:
        """Return four maps (B, width_i, H/s, W/s), s = 4, 8, 16, 32."""
        rgb = self.rgb_stem(inputs[RGB])
        streams = {name: stem(inputs[name]) for name, stem in self.x_stems.items() if name in inputs}
        levels = []
        for i, (gate, fusion, projection) in enumerate(zip(self.gates, self.fusions, self.projections, strict=True)):
            x = gate({name: stream[i] for name, stream in streams.items()}, present, rgb[i])
            levels.append(projection(fusion(rgb[i], x)))
        return levels


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
        prior: stems and fusion.
        interactions: injector, extractor pairs; the encoder's blocks are dealt out evenly between them.
        widths: channels of the four levels; the last three equal the encoder's width.

    Raises:
        SamsegError: the blocks cannot be dealt out evenly.
    """

    def __init__(
        self,
        encoder: SamEncoder,
        prior: MultimodalPrior,
        interactions: Sequence[Interaction],
        widths: Sequence[int],
    ) -> None:
        super().__init__()
        if len(encoder.blocks) % len(interactions):
            raise SamsegError(
                f"expected as many SAM blocks for each of {len(interactions)} interactions, got {len(encoder.blocks)}"
            )
        self.encoder = encoder
        self.prior = prior
        self.interactions = nn.ModuleList(interactions)
        self.widths = tuple(widths)
        self.level_embed = nn.Parameter(torch.zeros(3, encoder.dim))
        self.up = DoublingUp(encoder.dim, widths[0])
        self.to_first = nn.Linear(encoder.dim, widths[0]) if widths[0] != encoder.dim else nn.Identity()
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
        per = len(self.encoder.blocks) // len(self.interactions)
        for i, interaction in enumerate(self.interactions):
            tokens, levels = interaction(tokens, levels, list(self.encoder.blocks)[i * per : (i + 1) * per], grids)
            stages.append(tokens)
        return self._pyramid(first, levels, sizes, stages)

    def _pyramid(
        self, first: Tensor, levels: Tensor, sizes: Sequence[tuple[int, int]], stages: Sequence[Tensor]
    ) -> list[Tensor]:
        parts = levels.split([h * w for h, w in sizes], 1)
        maps = [p.reshape(p.shape[0], h, w, -1).permute(0, 3, 1, 2) for p, (h, w) in zip(parts, sizes, strict=True)]
        maps = [first + self.up(maps[0]), *maps]
        out = []
        for i, (x, norm) in enumerate(zip(maps, self.norms, strict=True)):
            vit = stages[i * len(stages) // 4]
            vit = self.to_first(vit) if i == 0 else vit
            seen = F.interpolate(vit.permute(0, 3, 1, 2), size=x.shape[2:], mode="bilinear", align_corners=False)
            out.append(norm(x + seen))
        return out


def _tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, HW, C)."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)
