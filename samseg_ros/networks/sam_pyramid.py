"""SAM's encoder as a four-level feature pyramid, and the encoder alone as a backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from samseg_ros.errors import SamsegError
from samseg_ros.networks.adapter_prior import RGB, STRIDES
from samseg_ros.networks.sam_encoder import SamEncoder


def blocks_of_stages(encoder: SamEncoder, stages: int) -> list[list[nn.Module]]:
    """Deal the encoder's blocks out evenly.

    Raises:
        SamsegError: that does not come out even.
    """
    blocks = list(encoder.blocks)
    if len(blocks) % stages:
        raise SamsegError(f"expected as many SAM blocks for each of {stages} interactions, got {len(blocks)}")
    per = len(blocks) // stages
    return [blocks[i * per : (i + 1) * per] for i in range(stages)]


def first_projection(dim: int, width: int) -> nn.Linear | nn.Identity:
    """Return what brings SAM's tokens to the channels of level 1/4, which may be narrower than the encoder."""
    return nn.Linear(dim, width) if width != dim else nn.Identity()


def stage_maps(stages: Sequence[Tensor], sizes: Sequence[tuple[int, int]], to_first: nn.Module) -> list[Tensor]:
    """Resize SAM's tokens after each stage, (B, h, w, D), to one map (B, width_i, H_i, W_i) a level.

    With four stages each goes to one level, the first to 1/4; with fewer, neighbouring levels share one.

    Args:
        sizes: (H_i, W_i) of the levels.
        to_first: see `first_projection`.
    """
    maps = []
    for i, size in enumerate(sizes):
        tokens = stages[i * len(stages) // len(sizes)]
        tokens = to_first(tokens) if i == 0 else tokens
        maps.append(F.interpolate(tokens.permute(0, 3, 1, 2), size=size, mode="bilinear", align_corners=False))
    return maps


class SamPyramid(nn.Module):
    """SAM's encoder without an adapter: the baseline "SAM + SH" of arXiv 2509.10408, Table 9.

    The paper says only that a SegFormer head is appended to the encoder. [R]: what is left of the whole network without
    its adapter: the tokens after each run of blocks between interactions, resized to 1/4 .. 1/32, batch norm on each.

    Args:
        encoder: SAM's image encoder.
        stages: runs into which its blocks are dealt out.
        widths: channels of the four levels; the last three equal the encoder's width.

    Raises:
        SamsegError: the blocks cannot be dealt out evenly.
    """

    def __init__(self, encoder: SamEncoder, stages: int, widths: Sequence[int]) -> None:
        super().__init__()
        blocks_of_stages(encoder, stages)
        self.encoder = encoder
        self.stages = stages
        self.widths = tuple(widths)
        self.to_first = first_projection(encoder.dim, widths[0])
        self.norms = nn.ModuleList(nn.BatchNorm2d(w) for w in widths)

    def forward(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> list[Tensor]:
        """Map the RGB image (B, 3, H, W), H and W multiples of 32, to (B, width_i, H/s, W/s), s = 4, 8, 16, 32."""
        h, w = inputs[RGB].shape[2:]
        tokens = self.encoder.embed(inputs[RGB])
        stages = []
        for blocks in blocks_of_stages(self.encoder, self.stages):
            for block in blocks:
                tokens = block(tokens)
            stages.append(tokens)
        maps = stage_maps(stages, [(h // s, w // s) for s in STRIDES], self.to_first)
        return [norm(x) for norm, x in zip(self.norms, maps, strict=True)]
