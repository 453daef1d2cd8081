"""SAM's encoder against the package that defines it."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from samseg_ros.networks.sam_encoder import SamEncoder, resize_positions

segment_anything = pytest.importorskip("segment_anything", reason="segment-anything is not installed")


def _reference(side: int) -> nn.Module:
    torch.manual_seed(0)
    encoder: nn.Module = segment_anything.modeling.ImageEncoderViT(
        img_size=side,
        patch_size=16,
        embed_dim=24,
        depth=3,
        num_heads=2,
        mlp_ratio=4,
        out_chans=8,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        global_attn_indexes=(1,),
        window_size=3,
    )
    for name, parameter in encoder.named_parameters():
        if "pos" in name:  # they start at zero there
            nn.init.normal_(parameter, std=0.5)
    encoder.neck = nn.Identity()
    return encoder.eval()


def test_the_encoder_computes_what_segment_anything_computes_and_loads_its_keys() -> None:
    # 7 x 7 tokens do not fill windows of 3: the padding is seen too.
    theirs = _reference(112)
    ours = SamEncoder(24, 3, 2, global_blocks=(1,), window=3, table=(7, 7)).eval()
    ours.load_state_dict(theirs.state_dict())
    image = torch.randn(2, 3, 112, 112)
    with torch.inference_mode():
        expected = theirs(image)  # (B, D, h, w) comes out of their neck's permutation
        torch.testing.assert_close(ours(image), expected.permute(0, 2, 3, 1), atol=1e-5, rtol=1e-5)


def test_the_encoder_runs_off_its_training_size_with_rectangular_grids() -> None:
    encoder = SamEncoder(24, 3, 2, global_blocks=(1,), window=3, table=(7, 7)).eval()
    with torch.inference_mode():
        assert encoder(torch.randn(1, 3, 64, 160)).shape == (1, 4, 10, 24)


def test_halving_a_position_table_does_not_blur_it_first() -> None:
    # Half-way between two columns the bicubic weights of the four around it are (-3, 19, 19, -3) / 32.
    table = torch.tensor([[0.0, 0.0, 1.0, 0.0]]).repeat(4, 1)[None, :, :, None]
    resized = resize_positions(table, 4, 2)[0, 0, :, 0]
    torch.testing.assert_close(resized, torch.tensor([-3 / 32, 19 / 32]))
