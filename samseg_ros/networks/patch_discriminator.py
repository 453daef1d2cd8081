"""A judge of small patches of a picture, against which a decoder learns to paint.

Source: Isola et al., *Image-to-Image Translation with Conditional Adversarial Networks* (2017), PatchGAN, as VQGAN and
so FusionSAM's LSTG (eq. 8) use it. Group norm in place of batch norm, so that a picture's scores do not depend on the
others of its batch.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

GROUPS = 8


class PatchDiscriminator(nn.Module):
    """4x4 convolutions, the first ones of stride 2; each output sees one patch (70x70 pixels at depth 3).

    Args:
        channels: channels of a picture.
        width: channels after the first convolution, a multiple of 8; they double with each halving, up to 8 times.
        depth: number of halvings.
    """

    def __init__(self, channels: int = 3, width: int = 64, depth: int = 3) -> None:
        super().__init__()
        widths = [width * min(2**i, 8) for i in range(depth + 1)]
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for i, (before, after) in enumerate(pairwise(widths), start=1):
            stride = 2 if i < depth else 1
            layers += [
                nn.Conv2d(before, after, 4, stride, 1, bias=False),
                nn.GroupNorm(GROUPS, after),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 1))
        self.apply(_init)

    def forward(self, image: Tensor) -> Tensor:
        """Map pictures (B, C, H, W), sides at least 24 at depth 3, to scores (B, 1, h, w); real ones above 0."""
        scores: Tensor = self.layers(image)
        return scores


def _init(module: nn.Module) -> None:
    """Isola et al., section 6.2: weights N(0, 0.02)."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0, 0.02)
