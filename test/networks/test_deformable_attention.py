"""Deformable attention against a loop over single points."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from samseg_ros.networks.deformable_attention import DeformableAttention, pixel_centres

SIZES = ((3, 5), (2, 4))


def _bilinear(image: Tensor, x: float, y: float) -> Tensor:
    """Value of (h, w, d) at a place in pixels whose cell centres are whole numbers; zero outside."""
    h, w, d = image.shape
    total = torch.zeros(d)
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < h and 0 <= column < w:
                total += image[row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def _slow(module: DeformableAttention, query: Tensor, reference: Tensor, features: Tensor) -> Tensor:
    heads, points, levels = module.heads, module.points, len(SIZES)
    offsets = module.sampling_offsets(query).reshape(-1, heads, levels, points, 2)
    weights = module.attention_weights(query).reshape(-1, heads, levels * points).softmax(-1)
    value = module.value_proj(features)
    images = [v.reshape(h, w, heads, -1) for v, (h, w) in zip(value.split([15, 8]), SIZES, strict=True)]
    out = torch.zeros(len(query), heads, value.shape[-1] // heads)
    for q in range(len(query)):
        for head in range(heads):
            for level, (h, w) in enumerate(SIZES):
                for point in range(points):
                    dx, dy = offsets[q, head, level, point].tolist()
                    x, y = reference[q, 0].item() * w - 0.5 + dx, reference[q, 1].item() * h - 0.5 + dy
                    share = weights[q, head, level * points + point]
                    out[q, head] += share * _bilinear(images[level][:, :, head], x, y)
    result: Tensor = module.output_proj(out.flatten(1))
    return result


def test_deformable_attention_equals_a_loop_over_its_sampling_points() -> None:
    torch.manual_seed(0)
    module = DeformableAttention(dim=16, levels=2, heads=2, points=3, value_ratio=0.5)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)  # far offsets too, some of them outside
    query, features, reference = torch.randn(2, 6, 16), torch.randn(2, 23, 16), torch.rand(6, 2)
    with torch.inference_mode():
        got = module(query, reference, features, SIZES)
        expected = torch.stack([_slow(module, query[i], reference, features[i]) for i in (0, 1)])
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_cell_centres_are_row_major_positions_x_y_of_all_levels() -> None:
    got = pixel_centres(((1, 2), (2, 1)), torch.device("cpu"))
    assert got.tolist() == [[0.25, 0.5], [0.75, 0.5], [0.5, 0.25], [0.5, 0.75]]


def test_fresh_weights_sample_on_rings_around_the_reference() -> None:
    module = DeformableAttention(dim=8, levels=1, heads=4, points=2, value_ratio=1.0)
    ring = module.sampling_offsets.bias.reshape(4, 2, 2)
    expected = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    torch.testing.assert_close(ring[:, 0], expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(ring[:, 1], 2 * expected, atol=1e-6, rtol=0)
