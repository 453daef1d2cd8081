"""What a VQGAN of FusionSAM's latent space (LSTG) is trained with, one modality at a time (eq. 5-9).

The paper sums squared norms over an image; here each term is a mean, so that its weight does not depend on the image's
size. All are computed in float32. Over processes or micro-batches of equal size every term is additive (a mean of
equal parts), but for ``adaptive_weight``, which each part measures for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from samseg_ros.training.losses.precision import full_precision


class LatentSettings(BaseModel):
    """Weights of eq. 9. The paper writes beta twice, for two things: here they are beta_commit and beta_adv."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    alpha: float = Field(1.0, ge=0, description="Weight of the perceptual loss.")
    beta_adv: float = Field(0.8, ge=0, description="Weight of the adversarial loss, times its adaptive weight.")
    gamma: float = Field(1.0, ge=0, description="Weight of the commitment loss.")
    beta_commit: float = Field(0.25, ge=0, description="Pull of the latents towards their codes (eq. 6).")
    judge_width: int = Field(64, ge=8, multiple_of=8, description="Channels of the discriminator's first layer.")
    features: str = Field(
        "", description="torchvision's vgg16 weights for the perceptual loss; empty: our own encoder."
    )
    adversarial_start: int = Field(10_000, ge=0, description="Step from which the adversarial loss counts.")


def reconstruction(image: Tensor, rebuilt: Tensor) -> Tensor:
    """Return the mean squared difference (eq. 5).

    Args:
        image, rebuilt: (B, C, H, W), same scale.
    """
    return F.mse_loss(full_precision(rebuilt), full_precision(image))


def commitment(latent: Tensor, codes: Tensor, beta_commit: float) -> Tensor:
    """Return |sg[z] - q|^2 + beta_commit |sg[q] - z|^2, means over all elements (eq. 6).

    The first term moves the codebook, the second the encoder. A codebook kept by moving average has no gradient; the
    first term is then a mere number.

    Args:
        latent: (B, D, h, w) z, the encoder's output.
        codes: (B, D, h, w) q, the nearest codes *before* the straight-through step, whose gradient would go to z.
        beta_commit: weight of the second term.
    """
    z, q = full_precision(latent), full_precision(codes)
    return F.mse_loss(q, z.detach()) + beta_commit * F.mse_loss(z, q.detach())


def perceptual(image: Tensor, rebuilt: Tensor, features: Callable[[Tensor], Sequence[Tensor]]) -> Tensor:
    """Return the distance of two images in the features of a network (eq. 7), as LPIPS measures it.

    Features are brought to unit length at each position; their squared distances are averaged over positions and
    images, and summed over layers. Source: Zhang et al., *The Unreasonable Effectiveness of Deep Features* (2018),
    eq. 1, with all channel weights 1.

    Args:
        image, rebuilt: (B, C, H, W), as the network wants them.
        features: the network, (B, C, H, W) to layers (B, C_l, H_l, W_l). Its weights get gradients unless they are
            frozen.
    """
    with torch.no_grad():
        wanted = features(image)
    layers = [
        (F.normalize(full_precision(got)) - F.normalize(full_precision(target))).square().sum(1).mean()
        for got, target in zip(features(rebuilt), wanted, strict=True)
    ]
    return torch.stack(layers).sum()


def generator_hinge(fake: Tensor) -> Tensor:
    """Return -mean(D(rebuilt)): what the VQGAN lowers of the adversarial game.

    Eq. 8 has the logarithmic form; the hinge form (Lim and Ye, *Geometric GAN*, 2017) is the one that VQGAN trains
    with.

    Args:
        fake: any shape, the discriminator's scores of rebuilt images.
    """
    return -full_precision(fake).mean()


def discriminator_hinge(real: Tensor, fake: Tensor) -> Tensor:
    """Return (mean(max(0, 1 - D(image))) + mean(max(0, 1 + D(rebuilt)))) / 2: what the discriminator lowers.

    Args:
        real, fake: any shape, the discriminator's scores of images and of detached rebuilt images.
    """
    return (F.relu(1 - full_precision(real)).mean() + F.relu(1 + full_precision(fake)).mean()) / 2


def adaptive_weight(reconstructed: Tensor, adversarial: Tensor, last_layer: Tensor) -> Tensor:
    """Return how much stronger the reconstruction pulls at the decoder's last layer than the adversary, 0 to 10^4.

    Source: Esser et al., *Taming Transformers* (2021), eq. 7. Backward passes through both graphs, which are kept.

    Args:
        reconstructed: () reconstruction + alpha x perceptual.
        adversarial: () the generator's adversarial loss.
        last_layer: weight of the decoder's last layer.
    """
    pulls = [
        torch.autograd.grad(loss, last_layer, retain_graph=True)[0].float().norm()
        for loss in (reconstructed, adversarial)
    ]
    weight: Tensor = (pulls[0] / (pulls[1] + 1e-6)).clamp(max=1e4)
    return weight


def adversarial_weight(step: int, settings: LatentSettings) -> float:
    """Return beta_adv from ``adversarial_start`` on, 0 before: a decoder must paint before it is judged."""
    return settings.beta_adv if step >= settings.adversarial_start else 0.0
