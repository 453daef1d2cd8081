"""Sliding windows against the definition, cell by cell."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from samseg_ros.models.windows import Windows, over_windows


def corners(inputs: Mapping[str, Tensor]) -> Tensor:
    """Scores that differ from window to window: the pixel of each 4 x 4 cell, plus the window's first pixel."""
    image = inputs["rgb"]
    return image[:, :1, ::4, ::4] + image[:, :1, :1, :1]


@pytest.mark.parametrize(
    ("height", "width", "tops", "lefts"),
    [
        (128, 160, (0, 32, 64), (0, 32, 64, 96)),
        (64, 96, (0,), (0, 32)),
        (96, 64, (0, 32), (0,)),
    ],
)
def test_each_cell_is_the_mean_over_the_windows_that_cover_it(
    height: int, width: int, tops: tuple[int, ...], lefts: tuple[int, ...]
) -> None:
    image = torch.arange(2.0 * 3 * height * width).view(2, 3, height, width)
    found = over_windows(corners, {"rgb": image}, Windows(size=(64, 64), stride=(32, 32)))
    assert found.shape == (2, 1, height // 4, width // 4)
    for y in range(0, height, 4):
        for x in range(0, width, 4):
            covering = [(t, left) for t in tops for left in lefts if t <= y < t + 64 and left <= x < left + 64]
            first = torch.stack([image[:, 0, t, left] for t, left in covering]).mean(0)
            torch.testing.assert_close(found[:, 0, y // 4, x // 4], image[:, 0, y, x] + first)


def test_the_windows_of_muses_end_with_the_image() -> None:
    seen: list[tuple[float, float, tuple[int, ...]]] = []

    def run(inputs: Mapping[str, Tensor]) -> Tensor:
        image = inputs["rgb"]
        seen.append((float(image[0, 0, 0, 0]), float(image[0, 1, 0, 0]), tuple(image.shape[2:])))
        return image[:, :1, ::4, ::4]

    rows, columns = torch.meshgrid(torch.arange(1056.0), torch.arange(1920.0), indexing="ij")
    image = torch.stack([rows, columns, rows])[None]
    over_windows(run, {"rgb": image}, Windows(size=(1024, 1024), stride=(640, 640)))
    assert seen == [(top, left, (1024, 1024)) for top in (0, 32) for left in (0, 640, 896)]


def test_a_window_larger_than_the_image_is_the_image() -> None:
    image = torch.rand(1, 3, 64, 96)
    found = over_windows(corners, {"rgb": image}, Windows(size=(1024, 1024), stride=(640, 640)))
    torch.testing.assert_close(found, corners({"rgb": image}))


@pytest.mark.parametrize(
    ("size", "stride", "message"),
    [
        ((64, 64), (96, 32), "stride no larger than the window"),
        ((72, 64), (32, 32), "multiple of 32"),
        ((64, 64), (32, 20), "multiple of 32"),
    ],
)
def test_windows_that_would_leave_gaps_or_cut_cells_are_refused(
    size: tuple[int, int], stride: tuple[int, int], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        Windows(size=size, stride=stride)
