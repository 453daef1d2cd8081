"""What the adapter sees before any interaction: images in, its four levels out.

Source: *Multimodal SAM-adapter for Semantic Segmentation* (arXiv 2509.10408).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from samseg_ros.networks.convnext_stem import ConvNextStem
from samseg_ros.networks.modality_gate import ModalityGate
from samseg_ros.networks.plain_fusion import Addition, Concatenation
from samseg_ros.networks.road_fusion import RoadFusion

RGB = "rgb"
STRIDES = (4, 8, 16, 32)
"""Of the four levels."""
Fusion = RoadFusion | Addition | Concatenation


class MultimodalPrior(nn.Module):
    """Stems, gate and fusion: the adapter's four levels before any interaction.

    Args:
        rgb_stem: stem of the camera image.
        x_stems: stem per X modality.
        gates: merges the X streams, one per level.
        fusions: one per level, from two maps (B, C_i, H, W) to one (B, out_channels, H, W).
        widths: output channels per level.
    """

    def __init__(
        self,
        rgb_stem: ConvNextStem,
        x_stems: Mapping[str, ConvNextStem],
        gates: Sequence[ModalityGate],
        fusions: Sequence[Fusion],
        widths: Sequence[int],
    ) -> None:
        super().__init__()
        self.rgb_stem = rgb_stem
        self.x_stems = nn.ModuleDict(x_stems)
        self.gates = nn.ModuleList(gates)
        self.fusions = nn.ModuleList(fusions)
        self.projections = nn.ModuleList(
            nn.Conv2d(fusion.out_channels, width, 1) for fusion, width in zip(fusions, widths, strict=True)
        )

    def forward(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> list[Tensor]:
        """Return four maps (B, width_i, H/s, W/s), s = 4, 8, 16, 32."""
        rgb = self.rgb_stem(inputs[RGB])
        streams = _x_streams(self.x_stems, inputs, present, self.gates)
        levels = []
        for i, (gate, fusion, projection) in enumerate(zip(self.gates, self.fusions, self.projections, strict=True)):
            x = gate({name: stream[i] for name, stream in streams.items()}, present, rgb[i])
            levels.append(projection(fusion(rgb[i], x)))
        return levels


class AuxiliaryPrior(nn.Module):
    """Stems and gate of the X modalities alone: the paper's adapter on LiDAR without RGB (Table 9).

    Args:
        x_stems: stem per X modality, at least one.
        gates: merges the X streams, one per level.
        channels: channels of every stem per level.
        widths: output channels per level.
    """

    def __init__(
        self,
        x_stems: Mapping[str, ConvNextStem],
        gates: Sequence[ModalityGate],
        channels: Sequence[int],
        widths: Sequence[int],
    ) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.x_stems = nn.ModuleDict(x_stems)
        self.gates = nn.ModuleList(gates)
        self.projections = nn.ModuleList(nn.Conv2d(c, w, 1) for c, w in zip(channels, widths, strict=True))

    def forward(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> list[Tensor]:
        """Return four maps (B, width_i, H/s, W/s), s = 4, 8, 16, 32; of the RGB image only the size is used."""
        rgb = inputs[RGB]
        b, _, h, w = rgb.shape
        streams = _x_streams(self.x_stems, inputs, present, self.gates)
        levels = []
        for i, (gate, projection) in enumerate(zip(self.gates, self.projections, strict=True)):
            shape = (b, self.channels[i], h // STRIDES[i], w // STRIDES[i])
            merged = gate({name: stream[i] for name, stream in streams.items()}, present, rgb.new_zeros(shape))
            levels.append(projection(merged))
        return levels


def _x_streams(
    stems: nn.ModuleDict, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor], gates: nn.ModuleList
) -> dict[str, list[Tensor]]:
    """Return four levels per X modality that was handed in; where the gates are blind, of zeros for what is absent."""
    seen = dict(inputs)
    if any(gate.blind for gate in gates):
        seen |= {name: torch.zeros_like(inputs[RGB]) for name in stems if name not in inputs}
    for name in seen.keys() & present.keys():  # what an absent sensor's buffer holds may be NaN, which has no gradient
        seen[name] = torch.where(present[name].reshape(-1, 1, 1, 1), seen[name], 0)
    return {name: stem(seen[name]) for name, stem in stems.items() if name in seen}
