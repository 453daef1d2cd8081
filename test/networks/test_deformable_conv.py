"""Deformable convolution against torchvision's operator, a loop over single taps, and an ordinary convolution."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from samseg_ros.networks.deformable_conv import CONVOLUTIONS, DeformableConv, modulated_deform_conv2d


def _case(spread: float, dtype: torch.dtype = torch.float32, size: tuple[int, int] = (5, 7)) -> list[Tensor]:
    """x, offset, mask, weight, bias of 2 images, 3 channels in, 4 out; offsets of ``spread`` pixels."""
    generator = torch.Generator().manual_seed(3)
    shapes = [(2, 3, *size), (2, 18, *size), (2, 9, *size), (4, 3, 3, 3), (4,)]
    x, offset, mask, weight, bias = (torch.randn(s, generator=generator, dtype=dtype) for s in shapes)
    return [x, spread * offset, mask.sigmoid(), weight, bias]


@pytest.mark.parametrize("spread", [0.0, 0.4, 3.0, 100.0])
def test_plain_torch_agrees_with_torchvisions_operator(spread: float) -> None:
    case = _case(spread)
    torch.testing.assert_close(
        modulated_deform_conv2d(*case, portable=True),
        modulated_deform_conv2d(*case, portable=False),
        atol=1e-5,
        rtol=0,
    )


def test_the_gradients_of_plain_torch_agree_with_torchvisions_operator() -> None:
    gradients = []
    for portable in (True, False):
        case = [t.requires_grad_() for t in _case(1.5)]
        modulated_deform_conv2d(*case, portable=portable).square().sum().backward()
        gradients.append([t.grad for t in case])
    for own, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(own, theirs, atol=1e-4, rtol=1e-4)


def test_gradients_agree_with_finite_differences() -> None:
    case = [t.requires_grad_() for t in _case(0.7, torch.float64, (2, 3))]
    assert torch.autograd.gradcheck(lambda *args: modulated_deform_conv2d(*args, portable=True), case)


def _value(image: Tensor, y: float, x: float) -> Tensor:
    """Bilinear value of (C, H, W) at a place; zero outside."""
    total = torch.zeros(image.shape[0])
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
                total += image[:, row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def test_each_output_is_the_sum_over_moved_and_weighted_taps() -> None:
    x, offset, mask, weight, bias = _case(1.0)
    expected = torch.zeros(2, 4, 5, 7)
    for b, i, j in torch.cartesian_prod(torch.arange(2), torch.arange(5), torch.arange(7)).tolist():
        for tap in range(9):
            dy, dx = offset[b, 2 * tap, i, j].item(), offset[b, 2 * tap + 1, i, j].item()
            value = _value(x[b], i + tap // 3 - 1 + dy, j + tap % 3 - 1 + dx)
            expected[b, :, i, j] += mask[b, tap, i, j] * (weight[:, :, tap // 3, tap % 3] @ value)
    got = modulated_deform_conv2d(x, offset, mask, weight, bias)
    torch.testing.assert_close(got, expected + bias[:, None, None], atol=1e-5, rtol=1e-5)


def test_fresh_weights_are_half_an_ordinary_convolution() -> None:
    module, x = DeformableConv(3, 4), torch.randn(2, 3, 6, 8)
    half = 0.5 * F.conv2d(x, module.conv.weight, padding=1) + module.conv.bias[:, None, None]
    torch.testing.assert_close(module(x), half, atol=1e-6, rtol=1e-5)


def test_offsets_and_mask_come_each_from_a_convolution_of_the_input() -> None:
    torch.manual_seed(0)
    module, x = DeformableConv(3, 4), torch.randn(2, 3, 6, 8)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    offset, mask = module.offset_conv(x), module.mask_conv(x).sigmoid()
    expected = modulated_deform_conv2d(x, offset, mask, module.conv.weight, module.conv.bias, portable=False)
    torch.testing.assert_close(module(x), expected, atol=1e-5, rtol=1e-5)


def test_an_offset_that_is_not_a_number_gives_nan_there_and_nowhere_else() -> None:
    x, offset, mask, weight, bias = _case(1.0)
    offset[1, 0, 2, 3] = torch.nan
    nan = modulated_deform_conv2d(x, offset, mask, weight, bias).isnan()
    assert nan[1, :, 2, 3].all() and nan.sum() == 4


def test_bfloat16_changes_values_by_rounding_only() -> None:
    torch.manual_seed(0)
    module, x = DeformableConv(16, 16), torch.randn(2, 16, 12, 16)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    exact = module(x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = module(x)
    rounded.float().sum().backward()
    assert (rounded.float() - exact).abs().mean() < 0.02 * exact.std()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.slow
def test_the_exported_graph_needs_torch_alone_and_computes_the_same() -> None:
    torch.manual_seed(0)
    module, x = DeformableConv(3, 4).eval(), torch.randn(1, 3, 6, 8)
    torch.nn.init.normal_(module.offset_conv.weight)
    exported = torch.export.export(module, (x,))
    assert not [n for n in exported.graph.nodes if "torchvision" in str(n.target)]
    torch.testing.assert_close(exported.module()(x), module(x), atol=1e-5, rtol=1e-5)


def test_plain_is_an_ordinary_convolution_of_the_same_shape() -> None:
    x = torch.randn(1, 3, 6, 8)
    plain = CONVOLUTIONS["plain"](3, 4)
    assert {k: v.shape for k, v in plain.state_dict().items()} == {"weight": (4, 3, 3, 3), "bias": (4,)}
    assert plain(x).shape == CONVOLUTIONS["deformable"](3, 4)(x).shape == (1, 4, 6, 8)
