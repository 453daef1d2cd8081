"""Prompts that the network gives itself: ten points, a box and a mask, from coarse class scores.

Source: FusionSAM (arXiv 2408.13980) feeds SAM ten points, a box and a mask; where they come from is ours. A coarse
head on z_f scores the classes; prompted is where the scored class is *rare in this image*: r = 1 - sum_k p_k s_k, with
p the posterior at a place and s its mean over the image. That needs no class to be named "background" and no ground
truth, and it points at people and signs rather than at road and sky.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from segment_anything.modeling import PromptEncoder
from torch import Tensor, nn

from samseg_ros.networks.precision import without_autocast

STRIDE = 4
"""Pixels a coarse cell is wide; SAM's mask prompt has the same stride (256 x 256 at 1024 pixels)."""
POINTS = 10
GRID = 8
"""The image is cut into this many fields squared, each with at most one point: they do not all lie on one object."""
SOFTENING = 1e-2
"""Added to the deviation of r: a map without structure becomes a weak mask, not amplified noise."""
BOX_FROM = 0.5
"""The box surrounds what is rarer than the mean by this many deviations."""
DROP = 0.2
"""Share of samples, for each kind of prompt on its own, that go without it in training."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prompts per image, in pixels of the image that SAM sees."""

    points: Tensor
    """(B, 10, 2) x, y; all of them foreground."""
    box: Tensor
    """(B, 4) x, y of the upper left and lower right pixel."""
    mask: Tensor
    """(B, 1, h, w) logits at 1/4."""


class CoarseHead(nn.Sequential):
    """z_f (B, dim, h, w) to class scores (B, K, h, w)."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__(nn.Conv2d(dim, dim, 3, padding=1), nn.SiLU(), nn.Conv2d(dim, classes, 1))


def propose_prompts(scores: Tensor) -> Prompts:
    """Return the prompts for coarse class scores (B, K, h, w) at 1/4, which belong to the image and no padding.

    Points and box are choices and have no gradient; the mask has one.
    """
    mask = _rarity_logits(scores)
    fixed = mask.detach()
    return Prompts(_peaks(fixed), _box(fixed > BOX_FROM), mask[:, None])


def _rarity_logits(scores: Tensor) -> Tensor:
    """(B, K, h, w) to r with mean 0 and (softened) deviation 1 over each image, (B, h, w)."""
    posterior = scores.float().softmax(1)
    rarity = 1 - (posterior * posterior.mean((2, 3), keepdim=True)).sum(1)
    centred = rarity - rarity.mean((1, 2), keepdim=True)
    return centred / (centred.square().mean((1, 2), keepdim=True) + SOFTENING**2).sqrt()


def _peaks(score: Tensor) -> Tensor:
    """Return the places of (B, h, w) where the greatest fields have their maxima, in pixels: (B, 10, 2)."""
    best, cell = F.adaptive_max_pool2d(score[:, None], GRID, return_indices=True)
    cell = cell.flatten(1).gather(1, best.flatten(1).topk(POINTS).indices)
    column, row = cell % score.shape[2], cell // score.shape[2]
    return torch.stack([column, row], -1) * STRIDE + (STRIDE - 1) / 2


def _box(inside: Tensor) -> Tensor:
    """Return the smallest box (B, 4) in pixels around the cells of (B, h, w), or the whole image without any."""
    x0, x1 = _extent(inside.any(1))
    y0, y1 = _extent(inside.any(2))
    return torch.stack([x0 * STRIDE, y0 * STRIDE, (x1 + 1) * STRIDE - 1, (y1 + 1) * STRIDE - 1], -1).float()


def _extent(line: Tensor) -> tuple[Tensor, Tensor]:
    """Return first and last True of (B, n), or 0 and n - 1."""
    line = line | ~line.any(1, keepdim=True)
    n = line.shape[1]
    return line.int().argmax(1), n - 1 - line.flip(1).int().argmax(1)


class SamPrompts(nn.Module):
    """SAM's prompt encoder at any image size, a set of prompts an image.

    Its own forward measures positions by the size it was built for, and indexes by content, which does not export;
    its parts are used, so that its weights load as they are.

    Args:
        dim: of an embedding.
        mask_channels: hidden channels for the mask.
    """

    def __init__(self, dim: int = 256, mask_channels: int = 16) -> None:
        super().__init__()
        self.encoder = PromptEncoder(dim, (64, 64), (1024, 1024), mask_channels)  # the sizes are not used
        self.encoder.point_embeddings[0].requires_grad_(False)  # of background points, which are never proposed

    def forward(self, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Return sparse (B, 10 + 2, dim) and dense (B, dim, h/4, w/4) embeddings.

        In training each kind of prompt is left out of a share of the samples, as SAM encodes its absence.
        """
        h, w = prompts.mask.shape[2:]
        has_points, has_box, has_mask = (self._kept(prompts.points) for _ in range(3))
        foreground, *corners = (embedding.weight for embedding in self.encoder.point_embeddings[1:])
        points = self._positions(prompts.points, h, w) + foreground
        box = self._positions(prompts.box.reshape(-1, 2, 2), h, w) + torch.cat(corners)
        nothing = self.encoder.not_a_point_embed.weight
        sparse = torch.cat([torch.where(has_points, points, nothing), torch.where(has_box, box, nothing)], 1)
        dense = self.encoder.mask_downscaling(prompts.mask)
        no_mask = self.encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).to(dense.dtype)
        return sparse, torch.where(has_mask[..., None], dense, no_mask)

    def dense_positions(self, h: int, w: int) -> Tensor:
        """Return SAM's encoding of the places of an image embedding: (1, dim, h, w)."""
        positions: Tensor = self.encoder.pe_layer((h, w))
        return positions[None]

    def _positions(self, pixels: Tensor, h: int, w: int) -> Tensor:
        """Encode positions (B, n, 2) in an image of (h, w) cells: (B, n, dim)."""
        with without_autocast(pixels):  # they become angles
            encoded: Tensor = self.encoder.pe_layer.forward_with_coords(pixels + 0.5, (STRIDE * h, STRIDE * w))
        return encoded

    def _kept(self, like: Tensor) -> Tensor:
        """Return (B, 1, 1) bool: the samples that keep a kind of prompt."""
        chance = torch.rand(like.shape[0], 1, 1, device=like.device)
        return chance >= DROP if self.training else torch.ones_like(chance, dtype=torch.bool)
