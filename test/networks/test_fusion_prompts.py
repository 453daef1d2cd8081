"""FMP: attention against a slow reference, windows, equations 11 and 13 by the parts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from samseg_ros.errors import SamsegError
from samseg_ros.networks.fusion_prompts import (
    FULL_TOKENS,
    ConcatFusion,
    CrossBranch,
    CrossFusion,
    FusionMask,
    FusionPrompts,
    attend,
)


def _maps(h: int, w: int, channels: int = 6) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, h, w, channels, generator=generator) for _ in range(3)]


def _slow(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Each place alone, over the places of its window."""
    out = torch.zeros_like(v)
    for b, y, x in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:3])).tolist():
        rows = slice(y // window * window, y // window * window + window)
        columns = slice(x // window * window, x // window * window + window)
        keys, values = k[b, rows, columns].flatten(0, 1), v[b, rows, columns].flatten(0, 1)
        weights = torch.exp(keys @ q[b, y, x] / math.sqrt(q.shape[-1]))
        out[b, y, x] = (weights[:, None] * values).sum(0) / weights.sum()
    return out


def test_attention_over_a_small_map_is_over_all_of_it() -> None:
    maps = _maps(5, 6)
    torch.testing.assert_close(attend(*maps), _slow(*maps, window=6), atol=1e-5, rtol=1e-5)


def test_attention_over_a_large_map_is_within_windows() -> None:
    maps = _maps(4, 12)
    torch.testing.assert_close(attend(*maps, full_tokens=47, window=4), _slow(*maps, window=4), atol=1e-5, rtol=1e-5)


def test_a_single_window_is_full_attention() -> None:
    maps = _maps(8, 8)
    torch.testing.assert_close(attend(*maps, full_tokens=0, window=8), attend(*maps), atol=1e-5, rtol=1e-5)


def test_a_map_that_windows_do_not_fill_is_refused() -> None:
    with pytest.raises(SamsegError, match="expected a map in multiples of 8, got 8x12"):
        attend(*_maps(8, 12), full_tokens=95)


def test_a_branch_normalises_the_fed_forward_attention_and_adds_its_query() -> None:
    q, k, v = _maps(3, 4)
    branch = CrossBranch(6, 6, FULL_TOKENS)
    fed = branch.feed_forward(_slow(q, k, v, window=4))
    normed = (fed - fed.mean(-1, keepdim=True)) / (fed.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(branch(q, k, v), normed + q, atol=1e-4, rtol=1e-4)


def test_each_modality_asks_the_other() -> None:
    torch.manual_seed(0)
    fusion = CrossFusion(4, 6, FULL_TOKENS)
    first, second = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 4, 4)
    q1, k1, v1 = fusion.first.qkv(first).split(6, -1)
    q2, k2, v2 = fusion.second.qkv(second).split(6, -1)
    maps = torch.cat([fusion.first(q1, k2, v2), fusion.second(q2, k1, v1)], -1)
    expected = torch.nn.functional.conv2d(maps.permute(0, 3, 1, 2), fusion.merge.weight, fusion.merge.bias, padding=1)
    torch.testing.assert_close(fusion(first, second), expected.permute(0, 2, 3, 1))


def test_the_final_features_are_the_cross_domain_ones_asking_the_complementary_ones() -> None:
    torch.manual_seed(0)
    fusion = FusionPrompts(4, 6)
    first, second = torch.randn(2, 4, 3, 4), torch.randn(2, 4, 3, 4)
    z_c = fusion.cross_domain(first.permute(0, 2, 3, 1), second.permute(0, 2, 3, 1))
    z_0 = fusion.complementary(first.permute(0, 2, 3, 1), second.permute(0, 2, 3, 1))
    k_0, v_0 = fusion.key_value(z_0).split(6, -1)
    expected = fusion.norm(_slow(fusion.query(z_c), k_0, v_0, window=4)) + z_c
    torch.testing.assert_close(fusion(first, second), expected.permute(0, 3, 1, 2), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(z_c, z_0)  # weights of its own


@pytest.mark.parametrize(("full_tokens", "sees_far"), [(192, True), (0, False)])
def test_within_windows_a_place_sees_its_window_and_those_that_touch_it(full_tokens: int, sees_far: bool) -> None:
    torch.manual_seed(0)
    fusion = FusionPrompts(4, 6, full_tokens)
    first, second = torch.randn(1, 4, 24, 8, requires_grad=True), torch.randn(1, 4, 24, 8)
    fusion(first, second)[0, :, 0, 0].sum().backward()
    seen = first.grad[0].abs().sum((0, 2)) > 0
    assert seen[:16].all()  # rows of its window, and of the next one by the convolution at the seam
    assert bool(seen[16:].any()) is sees_far


def test_fusion_without_attention_sees_both_modalities_but_nothing_further_than_a_cell() -> None:
    torch.manual_seed(0)
    fusion = ConcatFusion(4, 6)
    first, second = torch.randn(1, 4, 8, 8, requires_grad=True), torch.randn(1, 4, 8, 8, requires_grad=True)
    fusion(first, second)[0, :, 4, 4].sum().backward()
    for tokens in (first, second):
        seen = tokens.grad[0].abs().sum(0) > 0
        assert seen[3:6, 3:6].all() and seen.sum() == 9


def test_a_place_of_the_fusion_mask_holds_its_four_by_four_pixels() -> None:
    mask = FusionMask(2)
    with torch.no_grad():
        for conv in (mask.widen, mask.smooth, mask.paint):
            conv.weight.zero_()
            conv.bias.zero_()
        mask.widen.weight[:, 0, 1, 1] = torch.tensor([0.2, 0.4, 0.6, 0.8])
        mask.paint.weight[:, 0, 1, 1] = 1
        mask.paint.bias.copy_(torch.linspace(-1, 1, 12))
    z_f = torch.zeros(1, 2, 3, 3)
    z_f[0, 0, 1, 2] = 5
    picture = mask(z_f)
    assert picture.shape == (1, 3, 12, 12)
    raw = picture.logit()
    # channel 1, pixel (3, 2) of the cell (1, 2): entry 3 of the first shuffle, 4 + 2 of the second; gelu(4) is 3.99987
    assert raw[0, 1, 4 + 3, 8 + 2].item() == pytest.approx(3.99987 - 1 + 2 * 6 / 11, abs=1e-4)
    assert raw[0, 1, 3, 2].item() == pytest.approx(-1 + 2 * 6 / 11, abs=1e-4)


def test_neighbouring_places_of_the_fusion_mask_see_each_other() -> None:
    torch.manual_seed(0)
    z_f = torch.randn(1, 4, 7, 7, requires_grad=True)
    FusionMask(4)(z_f)[0, :, 15].sum().backward()  # bottom row of the places (3, ...)
    seen = (z_f.grad[0].abs().sum(0) > 0).all(1)
    assert seen.tolist() == [False, True, True, True, True, True, False]
