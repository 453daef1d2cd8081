"""The VQGAN of one modality: encoder at stride 4, codebook, decoder.

Source: Esser et al., *Taming Transformers* (2021), as FusionSAM (arXiv 2408.13980), eq. 2-4, uses it. The paper gives
stride, latent channels and codebook; widths and depths are ours. The discriminator belongs to the losses.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from samseg_ros.networks.vector_quantizer import Quantized, VectorQuantizer

GROUPS = 8
"""Of every group norm."""


@dataclass(frozen=True, slots=True)
class TokenShape:
    """What the tokens of a modality are made with; the defaults are the published sizes where the paper gives one."""

    latent: int = 256
    """Channels d_c of a token."""
    codes: int = 2048
    widths: tuple[int, int] = (128, 256)
    """Channels at 1/2 and 1/4; multiples of `GROUPS`."""
    blocks: tuple[int, int] = (2, 2)
    """Residual blocks at 1/2 and 1/4, in encoder and decoder each."""


class ResidualBlock(nn.Module):
    """x + two of (group norm, SiLU, 3x3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        y = self.conv1(F.silu(self.norm1(x)))
        out: Tensor = x + self.conv2(F.silu(self.norm2(y)))
        return out


def _blocks(channels: int, count: int) -> Iterable[nn.Module]:
    return (ResidualBlock(channels) for _ in range(count))


def encoder(shape: TokenShape) -> nn.Sequential:
    """Build E: image (B, 3, H, W), sides multiples of 4, to latents (B, latent, H/4, W/4)."""
    half, quarter = shape.widths
    return nn.Sequential(
        nn.Conv2d(3, half, 3, stride=2, padding=1),
        *_blocks(half, shape.blocks[0]),
        nn.Conv2d(half, quarter, 3, stride=2, padding=1),
        *_blocks(quarter, shape.blocks[1]),
        nn.GroupNorm(GROUPS, quarter),
        nn.SiLU(),
        nn.Conv2d(quarter, shape.latent, 1),
    )


def decoder(shape: TokenShape) -> nn.Sequential:
    """Build G: codes (B, latent, h, w) to an image (B, 3, 4h, 4w)."""
    half, quarter = shape.widths
    return nn.Sequential(
        nn.Conv2d(shape.latent, quarter, 3, padding=1),
        *_blocks(quarter, shape.blocks[1]),
        nn.Upsample(scale_factor=2.0),
        nn.Conv2d(quarter, half, 3, padding=1),
        *_blocks(half, shape.blocks[0]),
        nn.GroupNorm(GROUPS, half),
        nn.SiLU(),
        nn.Conv2d(half, 3 * 4, 3, padding=1),
        nn.PixelShuffle(2),
    )


class Vqgan(nn.Module):
    """Image to tokens and back.

    Args:
        shape: the sizes.
        quantized: whether the tokens handed on are the codes (the paper) or the latents before them (the authors'
            release). Reconstruction goes through the codes either way.
    """

    def __init__(self, shape: TokenShape, quantized: bool = True) -> None:
        super().__init__()
        self.hands_on_codes = quantized
        self.encoder = encoder(shape)
        self.quantizer = VectorQuantizer(shape.codes, shape.latent)
        self.decoder = decoder(shape)

    def forward(self, image: Tensor, there: Tensor | None = None) -> tuple[Tensor, Quantized]:
        """Map an image (B, 3, H, W) in 0..1 to tokens (B, latent, H/4, W/4) and the codes.

        Args:
            there: (B,) bool: samples that may move the codebook (default: all).
        """
        latents = self.encoder(image)
        codes: Quantized = self.quantizer(latents, there)
        return (codes.values if self.hands_on_codes else latents), codes

    def reconstruct(self, codes: Quantized) -> Tensor:
        """Return the image (B, 3, H, W) that codes stand for."""
        image: Tensor = self.decoder(codes.values)
        return image


class PlainTokens(nn.Module):
    """Tokens by two strided convolutions, nothing quantised: the ablation without LSTG (table 2, row A)."""

    def __init__(self, shape: TokenShape) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, shape.widths[0], 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(shape.widths[0], shape.latent, 3, stride=2, padding=1),
        )

    def forward(self, image: Tensor, there: Tensor | None = None) -> tuple[Tensor, None]:
        """Map an image (B, 3, H, W) to tokens (B, latent, H/4, W/4); there are no codes."""
        return self.encoder(image), None
