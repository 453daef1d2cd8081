"""Inference over sliding windows: how networks that were trained on crops see whole images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

CELL = 32
"""Sides of networks' inputs are multiples of this, in pixels."""
WindowSide = Annotated[int, Field(ge=64, le=16384, multiple_of=CELL)]
Stride = Annotated[int, Field(ge=CELL, le=16384, multiple_of=CELL)]


class Windows(BaseModel):
    """Size and stride of the windows; those of the last row and column end with the image."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    size: tuple[WindowSide, WindowSide] = Field(description="Height and width of a window, multiples of 32 pixels.")
    stride: tuple[Stride, Stride] = Field(description="Pixels from one to the next, down and across, multiples of 32.")

    @model_validator(mode="after")
    def _leaves_no_gap(self) -> Windows:
        if any(step > side for step, side in zip(self.stride, self.size, strict=True)):
            raise ValueError(f"expected a stride no larger than the window {self.size}, got {self.stride}")
        return self


def over_windows(
    run: Callable[[Mapping[str, Tensor]], Tensor], inputs: Mapping[str, Tensor], windows: Windows
) -> Tensor:
    """Return the scores of whole images: the mean over all windows that cover a cell (as published, for MUSES).

    Args:
        run: inputs of one window to its scores (B, K, h/s, w/s), s a divisor of `CELL`.
        inputs: modality to (B, C, H, W), H and W multiples of s. Where a window is larger, it is cut to the image.
        windows: size and stride.

    Returns:
        (B, K, H/s, W/s).
    """
    height, width = next(iter(inputs.values())).shape[-2:]
    total = count = torch.empty(0)
    for top, bottom in _spans(height, windows.size[0], windows.stride[0]):
        for left, right in _spans(width, windows.size[1], windows.stride[1]):
            scores = run({name: image[..., top:bottom, left:right] for name, image in inputs.items()}).float()
            s = (bottom - top) // scores.shape[-2]
            if not total.numel():
                total = scores.new_zeros((*scores.shape[:2], height // s, width // s))
                count = scores.new_zeros((height // s, width // s))
            total[..., top // s : bottom // s, left // s : right // s] += scores
            count[top // s : bottom // s, left // s : right // s] += 1
    return total / count


def _spans(side: int, window: int, stride: int) -> Iterator[tuple[int, int]]:
    """Yield (first, behind the last) pixel of each window along one side."""
    for start in range(0, max(side - window, 0) + stride, stride):
        end = min(start + window, side)
        yield max(end - window, 0), end
        if end == side:
            return
