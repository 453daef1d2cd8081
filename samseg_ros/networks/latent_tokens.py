"""LSTG: camera and thermal image as tokens, whichever of them is there.

Source: FusionSAM (arXiv 2408.13980), *Latent Space Token Generation*. Beyond the paper: the thermal image may be
missing, in some samples or in all. Its tokens are then a learned vector at every place, so that the network knows
"no thermal" from "cold everywhere", and nothing of what the missing sensor's tensor holds can matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from samseg_ros.networks.vector_quantizer import Quantized
from samseg_ros.networks.vqgan import PlainTokens, Vqgan


@dataclass(frozen=True, slots=True)
class TokenOutputs:
    """What LSTG makes of a batch."""

    images: Mapping[str, Tensor]
    """(B, 3, H, W) in 0..1 per modality handed in; zero in samples that lack it."""
    present: Mapping[str, Tensor]
    """(B,) bool per modality, "rgb" and "thermal"."""
    tokens: Mapping[str, Tensor]
    """(B, latent, H/4, W/4) per modality, "rgb" and "thermal"."""
    codes: Mapping[str, Quantized]
    """Per modality handed in; empty without a codebook."""


class LatentTokens(nn.Module):
    """Tokens of both modalities.

    Args:
        rgb: of the camera.
        thermal: of the thermal image.
        latent: channels of a token.
    """

    def __init__(self, rgb: Vqgan | PlainTokens, thermal: Vqgan | PlainTokens, latent: int) -> None:
        super().__init__()
        self.rgb = rgb
        self.thermal = thermal
        self.absent = nn.Parameter(torch.zeros(latent))
        nn.init.trunc_normal_(self.absent, std=0.02)

    def forward(self, rgb: Tensor, thermal: Tensor | None, there: Tensor | None = None) -> TokenOutputs:
        """Tokenise.

        Args:
            rgb: (B, 3, H, W) in 0..1, sides multiples of 4.
            thermal: the same, or None where no sample has one.
            there: (B,) bool: in which samples the thermal image is there (default: in all).
        """
        tokens, codes = self.rgb(rgb)
        found = {"rgb": codes}
        nothing = self.absent.to(tokens.dtype).reshape(1, -1, 1, 1).expand_as(tokens)
        everywhere = torch.ones(rgb.shape[0], dtype=torch.bool, device=rgb.device)
        if thermal is None:
            images, warm, there = {"rgb": rgb}, nothing, ~everywhere
        else:
            there = everywhere if there is None else there
            mask = there.reshape(-1, 1, 1, 1)
            thermal = torch.where(mask, thermal, 0)  # what an absent sensor's tensor holds may be NaN
            images = {"rgb": rgb, "thermal": thermal}
            seen, found["thermal"] = self.thermal(thermal, there)
            warm = torch.where(mask, seen, nothing)
        return TokenOutputs(
            images=images,
            present={"rgb": everywhere, "thermal": there},
            tokens={"rgb": tokens, "thermal": warm},
            codes={name: codes for name, codes in found.items() if codes is not None},
        )

    def reconstruct(self, outputs: TokenOutputs) -> dict[str, Tensor]:
        """Return the images (B, 3, H, W) that the codes stand for, per modality that has codes."""
        return {name: getattr(self, name).reconstruct(codes) for name, codes in outputs.codes.items()}
