"""Vector quantisation: every latent becomes the nearest entry of a learned codebook.

Source: van den Oord et al., *Neural Discrete Representation Learning* (2017), with the codebook learnt by moving
averages (its appendix A.1); FusionSAM (arXiv 2408.13980), eq. 3 and 6. The first term of eq. 6 moves the codes
towards their latents; the moving averages do that here, so only the second term, the commitment, is a loss.

By hand and not from a library: samples whose sensor is missing must not move the codebook, and the graph must export.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from samseg_ros.networks.precision import without_autocast

CHUNK = 2048
"""Latents compared with the codebook at a time: bounds the table of distances (on a CPU twice as fast as in one go)."""
DEAD_SHARE = 0.02
"""A code used less than this share of the mean use, on the moving average, is dead."""


@dataclass(frozen=True, slots=True)
class Quantized:
    """Latents as codes."""

    values: Tensor
    """(B, C, h, w) codes; their gradient goes straight through to the latents."""
    indices: Tensor
    """(B, h, w) int64: which code."""
    commitment: Tensor
    """Scalar: mean of (sg[code] - latent)^2 over channels and places (eq. 6 without beta)."""
    perplexity: Tensor
    """Scalar: exp of the entropy of code use in this batch; between 1 and the number of codes."""


class VectorQuantizer(nn.Module):
    """A codebook of N codes with C channels.

    In training mode, and only while the latents require a gradient (so not behind a frozen encoder), each call moves
    the used codes towards the mean of their latents. Dead codes are replaced by latents drawn from the batch; as no
    code has been used before the first batch, that batch initialises the codebook. Under torch.distributed all ranks
    make the same step, from the sums over all of them; every rank has to call it equally often.

    Args:
        codes: number of codes N.
        channels: length C of a code.
        decay: of the moving averages.
    """

    codebook: Tensor
    uses: Tensor

    def __init__(self, codes: int = 2048, channels: int = 256, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("codebook", torch.randn(codes, channels))
        self.register_buffer("uses", torch.zeros(codes))  # moving average of uses in a batch

    def forward(self, latents: Tensor, there: Tensor | None = None) -> Quantized:
        """Quantise (B, C, h, w); samples that ``there`` (B,) bool excludes count for no statistic."""
        b, c, h, w = latents.shape
        with without_autocast(latents):  # rounded distances choose wrong codes
            flat = latents.permute(0, 2, 3, 1).reshape(-1, c).float()
            indices = nearest_codes(flat.detach(), self.codebook)
            codes = self.codebook[indices]
            weight = torch.ones(b, device=flat.device) if there is None else there.float()
            weight = weight.repeat_interleave(h * w)
            uses = torch.zeros_like(self.uses).index_add(0, indices, weight)
            commitment = ((codes - flat).square().mean(1) * weight).sum() / weight.sum().clamp_min(1)
            if self.training and latents.requires_grad:
                self._learn(flat.detach(), indices, weight, uses)
            values = flat + (codes - flat).detach()
        image = values.reshape(b, h, w, c).permute(0, 3, 1, 2).to(latents.dtype)
        return Quantized(image, indices.reshape(b, h, w), commitment, perplexity(uses))

    @torch.no_grad()
    def _learn(self, flat: Tensor, indices: Tensor, weight: Tensor, uses: Tensor) -> None:
        sums = torch.zeros_like(self.codebook).index_add(0, indices, flat * weight[:, None])
        seen = flat[weight > 0]
        drawn = seen[torch.randint(len(seen), self.uses.shape, device=seen.device)] if len(seen) else self.codebook
        if dist.is_available() and dist.is_initialized():
            drawn = drawn.clone()
            dist.all_reduce(uses)
            dist.all_reduce(sums)
            dist.broadcast(drawn, src=0)
        self.uses.lerp_(uses, 1 - self.decay)
        # The quotient of the moving averages of sums and uses, written as a step, so that the sums need no buffer.
        step = (1 - self.decay) * (sums - uses[:, None] * self.codebook)
        self.codebook += step / self.uses.clamp_min(torch.finfo(torch.float32).tiny)[:, None]
        mean = self.uses.mean()
        dead = self.uses < DEAD_SHARE * mean
        self.codebook.copy_(torch.where(dead[:, None], drawn, self.codebook))
        self.uses.copy_(torch.where(dead, mean, self.uses))  # a fresh code is given time


def nearest_codes(latents: Tensor, codebook: Tensor) -> Tensor:
    """Return for each latent (n, C) the index (n,) of the code (N, C) at the smallest Euclidean distance."""
    lengths = codebook.square().sum(1)  # |z|^2 is the same for all codes
    # The number of chunks follows the batch, which an exported graph leaves open: there it is done in one go.
    chunks = (latents,) if torch.compiler.is_exporting() else latents.split(CHUNK)
    parts = [torch.addmm(lengths, part, codebook.T, alpha=-2).argmin(1) for part in chunks]
    return torch.cat(parts)


def perplexity(uses: Tensor) -> Tensor:
    """Return exp(entropy) of how often each of (N,) codes was used; 1 where nothing was."""
    entropy: Tensor = torch.special.entr(uses / uses.sum().clamp_min(1)).sum()
    return entropy.exp()
