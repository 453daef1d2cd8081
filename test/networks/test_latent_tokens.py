"""LSTG: strides, reconstruction, the two kinds of tokens, a missing thermal image."""

from __future__ import annotations

import pytest
import torch

from samseg_ros.networks.latent_tokens import LatentTokens
from samseg_ros.networks.vqgan import PlainTokens, TokenShape, Vqgan

SHAPE = TokenShape(latent=6, codes=32, widths=(8, 16), blocks=(1, 1))


def _tokens() -> LatentTokens:
    torch.manual_seed(0)
    return LatentTokens(Vqgan(SHAPE), Vqgan(SHAPE), SHAPE.latent).eval()


def test_tokens_are_a_quarter_of_the_image_and_reconstruct_to_its_size() -> None:
    tokens = _tokens()
    outputs = tokens(torch.rand(2, 3, 32, 48), torch.rand(2, 3, 32, 48))
    assert {name: x.shape for name, x in outputs.tokens.items()} == dict.fromkeys(("rgb", "thermal"), (2, 6, 8, 12))
    images = tokens.reconstruct(outputs)
    assert {name: x.shape for name, x in images.items()} == dict.fromkeys(("rgb", "thermal"), (2, 3, 32, 48))


def test_what_is_handed_on_is_the_codes_or_the_latents_before_them() -> None:
    codes, latents = Vqgan(SHAPE).eval(), Vqgan(SHAPE, quantized=False).eval()
    latents.load_state_dict(codes.state_dict())
    image = torch.rand(1, 3, 16, 16)
    handed, quantized = codes(image)
    places = handed.permute(0, 2, 3, 1).reshape(-1, 6)
    torch.testing.assert_close(places, codes.quantizer.codebook[quantized.indices.flatten()])
    torch.testing.assert_close(latents(image)[0], codes.encoder(image))


def test_a_missing_thermal_image_is_a_learned_vector_at_every_place() -> None:
    tokens = _tokens()
    rgb = torch.rand(2, 3, 16, 16)
    thermal = torch.stack([torch.full((3, 16, 16), torch.nan), torch.rand(3, 16, 16)])
    flagged = tokens(rgb, thermal, torch.tensor([False, True]))
    left_out = tokens(rgb, None)
    for map_ in (flagged.tokens["thermal"][0], *left_out.tokens["thermal"]):
        assert torch.equal(map_, tokens.absent.detach().reshape(6, 1, 1).expand(6, 4, 4))
    torch.testing.assert_close(flagged.tokens["thermal"][1], tokens(rgb, thermal).tokens["thermal"][1])
    assert flagged.present["thermal"].tolist() == [False, True] and left_out.present["thermal"].tolist() == [False] * 2
    assert set(left_out.codes) == set(left_out.images) == {"rgb"}
    assert flagged.codes["thermal"].commitment.isfinite()


def test_a_missing_thermal_image_moves_no_code() -> None:
    tokens = _tokens().train()
    before = tokens.thermal.quantizer.codebook.clone()
    tokens(torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16), torch.tensor([False]))
    assert torch.equal(tokens.thermal.quantizer.codebook, before)
    tokens(torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16))
    assert not torch.equal(tokens.thermal.quantizer.codebook, before)


def test_plain_tokens_have_no_codes() -> None:
    tokens = LatentTokens(PlainTokens(SHAPE), PlainTokens(SHAPE), SHAPE.latent)
    outputs = tokens(torch.rand(1, 3, 16, 24), torch.rand(1, 3, 16, 24))
    assert outputs.tokens["rgb"].shape == (1, 6, 4, 6)
    assert outputs.codes == {} and tokens.reconstruct(outputs) == {}


@pytest.mark.slow
def test_a_vqgan_learns_to_reconstruct_what_it_sees() -> None:
    torch.manual_seed(0)
    vqgan = Vqgan(SHAPE).train()
    optimizer = torch.optim.Adam(vqgan.parameters(), 3e-3)
    rows = torch.arange(32.0)
    images = torch.stack([(0.5 + 0.5 * torch.sin(rows / n)).expand(3, 32, 32) for n in range(2, 10)])
    for _ in range(300):
        codes = vqgan(images)[1]
        loss = (vqgan.reconstruct(codes) - images).square().mean() + 0.25 * codes.commitment
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    vqgan.eval()
    codes = vqgan(images)[1]
    psnr = -10 * (vqgan.reconstruct(codes) - images).square().mean().log10()
    assert psnr > 25 and codes.perplexity > 8
