"""What FusionSAM's fused picture is trained with: as bright, as sharp and as structured as the best of its sources.

The paper names a fusion loss f_f without defining it. The terms and weights are those of Ma et al., *SwinFusion*
(2022), up to what the functions state. Each is a mean over images, so equal parts of a batch are additive.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from kornia.filters import sobel
from kornia.metrics import ssim
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from samseg_ros.errors import InputError
from samseg_ros.training.losses.precision import full_precision

WINDOW = 11  # taps of SSIM's Gaussian, sigma 1.5 (Wang et al., 2004)


class FusionSettings(BaseModel):
    """Weights of the fusion loss."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    intensity: float = Field(20.0, ge=0, description="Weight of the intensity term.")
    gradient: float = Field(20.0, ge=0, description="Weight of the gradient term.")
    structure: float = Field(10.0, ge=0, description="Weight of 1 - SSIM.")


def fusion_loss(fused: Tensor, sources: Sequence[Tensor], settings: FusionSettings) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the weighted sum () of the three terms, and each () without its weight and without a gradient.

    Computed in float32, also under autocast.

    Args:
        fused: (B, 3, H, W) in [0, 1], H and W at least 6.
        sources: (B, 3, H, W) or (B, 1, H, W) each, in [0, 1]: the camera's and the thermal picture.
        settings: the weights.

    Raises:
        InputError: a source has another size.
    """
    _check(fused, sources)
    with torch.autocast(fused.device.type, enabled=False):
        picture = full_precision(fused)
        originals = [full_precision(source).expand_as(picture) for source in sources]
        parts = {
            "intensity": intensity(picture, originals),
            "gradient": gradient(picture, originals),
            "structure": structure(picture, originals),
        }
    weights = settings.model_dump()
    total = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
    return total, {name: part.detach() for name, part in parts.items()}


def intensity(fused: Tensor, sources: Sequence[Tensor]) -> Tensor:
    """Return the mean of |fused - brightest source|, per pixel and channel.

    Args:
        fused, sources: (B, C, H, W).
    """
    return (fused - torch.stack(list(sources)).amax(0)).abs().mean()


def gradient(fused: Tensor, sources: Sequence[Tensor]) -> Tensor:
    """Return the mean of |slope of fused - steepest slope of a source|, per pixel and channel.

    The slope is sqrt(dx^2 + dy^2 + 1e-6) of the Sobel derivatives per pixel (kernel over 8), borders replicated.

    Args:
        fused, sources: (B, C, H, W).
    """
    steepest = torch.stack([_slope(source) for source in sources]).amax(0)
    return (_slope(fused) - steepest).abs().mean()


def structure(fused: Tensor, sources: Sequence[Tensor]) -> Tensor:
    """Return 1 - SSIM of fused and a source, the mean over pixels, channels and sources.

    SSIM as in Wang et al. (2004): Gaussian window of 11 pixels and sigma 1.5, values in [0, 1], borders reflected.

    Args:
        fused, sources: (B, C, H, W).
    """
    return torch.stack([1 - ssim(fused, source, WINDOW).mean() for source in sources]).mean()


def _slope(image: Tensor) -> Tensor:
    return sobel(image, normalized=True, eps=1e-6)


def _check(fused: Tensor, sources: Sequence[Tensor]) -> None:
    batch, channels, *size = fused.shape
    allowed = [(batch, 1, *size), (batch, channels, *size)]
    wrong = [tuple(source.shape) for source in sources if source.shape not in allowed]
    if wrong or not sources:
        raise InputError(
            "sources of the fused picture",
            expected=f"at least one, of shape {allowed[0]} or {allowed[1]}",
            got=f"{wrong[0]}" if wrong else "none",
            remedy="resize them to the fused picture",
        )
