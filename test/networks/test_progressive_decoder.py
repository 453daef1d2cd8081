"""AD-SAM's decoder against its definition, step by step."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samseg_ros.networks.deformable_conv import CONVOLUTIONS
from samseg_ros.networks.progressive_decoder import ProgressiveDecoder, UpBlock


def _upsampled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def test_a_block_upsamples_both_inputs_before_norm_and_joins_its_own_features_first() -> None:
    torch.manual_seed(0)
    block = UpBlock(8, 32, 16, 2, CONVOLUTIONS["plain"])
    for norm in (block.skip_conv[1], block.conv[1], block.conv[4]):
        nn.init.normal_(norm.weight)
    x, skip = torch.randn(2, 8, 3, 4), torch.randn(2, 32, 3, 4)
    small = F.gelu(block.skip_conv[1](block.skip_conv[0](_upsampled(skip))))
    assert small.shape == (2, 8, 6, 8)
    torch.testing.assert_close(block(x, skip), block.conv(torch.cat([_upsampled(x), small], 1)), atol=1e-5, rtol=1e-5)


def test_the_three_blocks_take_the_skips_from_coarse_to_fine_and_end_at_a_quarter_of_the_image() -> None:
    torch.manual_seed(0)
    decoder = ProgressiveDecoder(16, (32, 64, 96), (24, 16, 8), 5, CONVOLUTIONS["deformable"])
    fused, skips = (
        torch.randn(1, 16, 4, 6),
        [torch.randn(1, 32, 16, 24), torch.randn(1, 64, 8, 12), torch.randn(1, 96, 4, 6)],
    )
    first = decoder.up1(fused, skips[2])
    second = decoder.up2(first, skips[1])
    third = decoder.up3(second, skips[0])
    assert [x.shape[1:] for x in (first, second, third)] == [(24, 8, 12), (16, 16, 24), (8, 16, 24)]
    assert torch.equal(decoder(fused, skips), decoder.classifier(third))
    assert decoder(fused, skips).shape == (1, 5, 16, 24)
