"""More than two modalities: the X streams are merged before Road-Fusion, seeing which of them are there.

Our answer to the paper's open question on more than two modalities (docs/adr/0001-more-than-two-modalities.md): a
per-pixel softmax over the streams that are present. With exactly one stream present its weight is 1, so the
two-modality network is a special case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

MERGING = ("gate", "mean", "blind")
"""How streams become one: weighed per pixel by learned logits, their plain mean, or (``blind``, for comparison) the
mean over all sensors where a missing one is an image of zeros, as if it had looked and seen nothing."""


class ModalityGate(nn.Module):
    """Merge the X streams of one level.

    Args:
        names: X modalities.
        channels: channels of each stream at this level.
        merging: one of `MERGING`.
    """

    def __init__(self, names: Sequence[str], channels: int, merging: str = "gate") -> None:
        super().__init__()
        self.blind = merging == "blind"
        learned = names if len(names) > 1 and merging == "gate" else ()
        self.logits = nn.ModuleDict({name: _equal_start(channels) for name in learned})
        self.absent = nn.Parameter(torch.zeros(channels))
        nn.init.trunc_normal_(self.absent, std=0.02)

    def forward(self, streams: Mapping[str, Tensor], present: Mapping[str, Tensor], like: Tensor) -> Tensor:
        """Merge.

        Args:
            streams: (B, C, h, w) per modality that was handed in; may be empty.
            present: (B,) bool for some of them; a modality without an entry is there for all samples.
            like: (B, C, h, w) tensor that gives shape and type where no stream was handed in.

        Returns:
            (B, C, h, w); the learned absent vector in samples without any stream.
        """
        if self.blind:
            return self._merge(streams, {})
        nothing = self.absent.to(like.dtype).reshape(1, -1, 1, 1)
        if not streams:
            # In full and channels_last, as a stream would be: another layout would round differently further on.
            return nothing.expand_as(like).contiguous(memory_format=torch.channels_last)
        masks = {name: present[name].reshape(-1, 1, 1, 1) for name in streams if name in present}
        # Zero, not a weight of zero: what an absent sensor's tensor holds may be NaN.
        clean = {name: torch.where(masks[name], x, 0) if name in masks else x for name, x in streams.items()}
        merged = self._merge(clean, masks)
        if len(masks) < len(streams):
            return merged
        return torch.where(torch.stack(list(masks.values())).any(0), merged, nothing)

    def _merge(self, streams: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Tensor:
        if len(streams) == 1:
            return next(iter(streams.values()))
        logits = []
        for name, x in streams.items():
            logit = self.logits[name](x).float() if self.logits else x.new_zeros(len(x), 1, 1, 1, dtype=torch.float32)
            # The most negative finite number: exp gives exactly 0 beside a present stream, and no NaN without one.
            logits.append(torch.where(masks[name], logit, torch.finfo(torch.float32).min) if name in masks else logit)
        weights = torch.stack(logits).softmax(0)
        parts = [x * weight.to(x.dtype) for x, weight in zip(streams.values(), weights.unbind(0), strict=True)]
        return torch.stack(parts).sum(0) if len(parts) > 2 else parts[0] + parts[1]


def _equal_start(channels: int) -> nn.Conv2d:
    layer = nn.Conv2d(channels, 1, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # it has one
    return layer
