"""SAM's encoder against the package that defines it."""

from __future__ import annotations

from functools import partial

import pytest
import timm
import torch
from torch import Tensor, nn

from samseg_ros.networks import sam_encoder
from samseg_ros.networks.sam_encoder import RelativeAttention, SamEncoder, resize_positions

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


def test_attention_in_portions_of_rows_is_the_same_number(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    attention, x = RelativeAttention(24, 2, 7), torch.randn(2, 5, 7, 24)
    for table in (attention.rel_pos_h, attention.rel_pos_w):
        nn.init.normal_(table)
    with torch.inference_mode():
        whole = attention(x)
        monkeypatch.setattr(sam_encoder, "LOGITS_AT_ONCE", 2 * 35 * 4)  # 35 queries, 4 at a time: the last 3 are left
        torch.testing.assert_close(attention(x), whole, atol=1e-6, rtol=0)


def test_attention_of_any_width_takes_the_fused_kernels_way_too(monkeypatch: pytest.MonkeyPatch) -> None:
    # d + h + w = 12 + 5 + 8 = 25 is filled up to 32 there.
    torch.manual_seed(0)
    q, k, v = torch.randn(1, 2, 40, 25), torch.randn(1, 2, 40, 25), torch.randn(1, 2, 40, 12)
    seen = []
    fused = torch.nn.functional.scaled_dot_product_attention

    def spy(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        seen.append((q.shape[-1], k.shape[-1], v.shape[-1]))
        return fused(q, k, v, scale=scale)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    torch.testing.assert_close(sam_encoder.fused_attention(q, k, v), (q @ k.mT).softmax(-1) @ v, atol=1e-5, rtol=0)
    assert seen == [(32, 32, 12)]


def _random_tables(network: nn.Module) -> nn.Module:
    for name, parameter in network.named_parameters():
        if "pos" in name:  # they start at zero, or nearly
            nn.init.normal_(parameter, std=0.1)
    return network.eval()


def test_a_shallow_vit_b_at_1024_pixels_has_the_features_of_segment_anything() -> None:
    torch.manual_seed(0)
    theirs = _random_tables(
        segment_anything.modeling.ImageEncoderViT(
            depth=2,
            embed_dim=768,
            num_heads=12,
            qkv_bias=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=14,
            global_attn_indexes=(1,),
        )
    )
    theirs.neck = nn.Identity()
    ours = SamEncoder(768, 2, 12, global_blocks=(1,)).eval()
    ours.load_state_dict(theirs.state_dict())
    image = torch.randn(1, 3, 1024, 1024)
    with torch.inference_mode():
        expected = theirs(image).permute(0, 2, 3, 1)
        torch.testing.assert_close(ours(image), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [(512, 512), (384, 640)])
def test_off_1024_pixels_the_features_are_those_of_timm(size: tuple[int, int]) -> None:
    # timm resamples the position table with antialias, we do not (the published weights were trained so). It is handed
    # our resampled table, so that all the rest is compared: relative positions, windows and their padding, blocks.
    torch.manual_seed(0)
    theirs = _random_tables(timm.create_model("samvit_base_patch16", num_classes=0, img_size=1024))
    theirs.neck = nn.Identity()
    ours = SamEncoder(768, 12, 12, global_blocks=(2, 5, 8, 11)).eval()
    state = {k.replace("mlp.fc", "mlp.lin"): v for k, v in theirs.state_dict().items()}
    ours.load_state_dict(state)
    theirs.pos_embed = nn.Parameter(resize_positions(theirs.pos_embed.detach(), size[0] // 16, size[1] // 16))
    image = torch.randn(1, 3, *size)
    with torch.inference_mode():
        expected = theirs.forward_features(image).permute(0, 2, 3, 1)
        torch.testing.assert_close(ours(image), expected, atol=2e-4, rtol=1e-4)
