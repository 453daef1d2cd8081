"""SAM's checkpoints against the package that defines them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from samseg_ros.errors import SamsegError
from samseg_ros.models import build_network
from samseg_ros.models.checkpoints import read_state
from samseg_ros.models.mm_sam_adapter import PRESETS
from samseg_ros.models.sam_checkpoint import SIZES, build_encoder, load_sam_decoder, load_sam_encoder, sam_encoder_state
from samseg_ros.networks.class_token_decoder import ClassTokenDecoder
from samseg_ros.networks.sam_neck import SamNeck
from samseg_ros.networks.sam_prompts import Prompts, SamPrompts

segment_anything = pytest.importorskip("segment_anything", reason="segment-anything is not installed")


@pytest.fixture(scope="module")
def sam() -> nn.Module:
    """ViT-B with random weights; position tables start at zero there."""
    torch.manual_seed(0)
    network: nn.Module = segment_anything.sam_model_registry["vit_b"]().eval()
    for name, parameter in network.image_encoder.named_parameters():
        if "pos" in name:
            nn.init.normal_(parameter, std=0.3)
    return network


@pytest.fixture(scope="module")
def state(sam: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Tensor]]:
    """As from a file, mapped."""
    path: Path = tmp_path_factory.mktemp("sam") / "sam_vit_b.pth"
    torch.save(sam.state_dict(), path)
    yield read_state(path)
    path.unlink()


def _meta(size: str) -> dict[str, Tensor]:
    with torch.device("meta"):
        return dict(segment_anything.sam_model_registry[size]().state_dict())


@pytest.mark.parametrize("size", SIZES)
def test_every_key_is_accounted_for_once(size: str) -> None:
    state = _meta(size)
    found = sam_encoder_state(state)
    assert found.size == size
    put_together = {f"image_encoder.{k}" for k in found.encoder} | {f"image_encoder.neck.{k}" for k in found.neck}
    assert put_together | found.rest.keys() == state.keys()
    assert len(found.encoder) + len(found.neck) + len(found.rest) == len(state)
    assert len(found.neck) == 6 and {k.partition(".")[0] for k in found.rest} == {"prompt_encoder", "mask_decoder"}


@pytest.mark.parametrize(("size", "millions"), [("vit_b", 88.88), ("vit_l", 307.43), ("vit_h", 636.11)])
def test_our_encoder_takes_all_keys_and_has_the_parameters_of_the_paper(size: str, millions: float) -> None:
    with torch.device("meta"):
        encoder = build_encoder(size)
    encoder.load_state_dict(sam_encoder_state(_meta(size)).encoder, assign=True)
    assert sum(p.numel() for p in encoder.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)


def test_all_blocks_compute_on_a_small_grid_what_segment_anything_computes(
    sam: nn.Module, state: dict[str, Tensor]
) -> None:
    ours = build_encoder("vit_b").eval()
    ours.load_state_dict(sam_encoder_state(state).encoder)
    image, tokens = torch.randn(1, 3, 64, 48), torch.randn(1, 9, 11, 768)  # 9 x 11: windows of 14 are padded
    with torch.inference_mode():
        torch.testing.assert_close(ours.patch_embed(image), sam.image_encoder.patch_embed(image), atol=1e-5, rtol=0)
        expected = got = tokens
        for theirs, our in zip(sam.image_encoder.blocks, ours.blocks, strict=True):
            expected, got = theirs(expected), our(got)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_features_at_1024_pixels_are_those_of_segment_anything(sam: nn.Module, state: dict[str, Tensor]) -> None:
    ours = build_encoder("vit_b").eval()
    found = sam_encoder_state(state)
    ours.load_state_dict(found.encoder)
    image = torch.randn(1, 3, 1024, 1024)
    with torch.inference_mode():
        expected = sam.image_encoder(image)
        neck = sam.image_encoder.neck
        neck.load_state_dict(found.neck)
        torch.testing.assert_close(neck(ours(image).permute(0, 3, 1, 2)), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_a_file_like_sam_vit_l_0b3195_gives_the_features_of_segment_anything_at_1024_pixels(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sam = segment_anything.sam_model_registry["vit_l"]().eval()
    for name, parameter in sam.image_encoder.named_parameters():
        if "pos" in name:
            nn.init.normal_(parameter, std=0.3)
    path = tmp_path / "sam_vit_l_0b3195.pth"
    torch.save(sam.state_dict(), path)
    found = sam_encoder_state(read_state(path))
    assert found.size == "vit_l"
    ours = build_encoder("vit_l").eval()
    ours.load_state_dict(found.encoder)
    image = torch.randn(1, 3, 1024, 1024)
    with torch.inference_mode():
        features = ours(image)
        del ours
        sam.image_encoder.neck = nn.Identity()
        expected = sam.image_encoder(image).permute(0, 2, 3, 1)
    path.unlink()  # more than a gigabyte
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=1e-4)


def test_the_encoder_of_an_adapter_network_is_filled(state: dict[str, Tensor]) -> None:
    with torch.device("meta"):
        network = build_network("mm_sam_adapter", "vit_b", ("rgb", "lidar"), 3)
    backbone = network.get_submodule("backbone")
    backbone.encoder = build_encoder("vit_b")  # the only part with memory
    load_sam_encoder(network, sam_encoder_state(state))
    stored = backbone.encoder.state_dict()
    assert all(torch.equal(stored[k], state[f"image_encoder.{k}"]) for k in stored) and len(stored) == 171


def test_the_presets_named_like_a_sam_have_its_shape() -> None:
    for name in SIZES.keys() & PRESETS.keys():
        preset, size = PRESETS[name], SIZES[name]
        assert (preset.vit_dim, preset.vit_depth, preset.vit_heads) == (size.dim, size.depth, size.heads)
        assert (preset.global_blocks, preset.window, preset.table) == (size.global_blocks, 14, (64, 64))


@pytest.mark.parametrize(("name", "sensors"), [("ad_sam", ("rgb",)), ("fusionsam", ("rgb", "thermal"))])
def test_encoder_and_neck_of_the_other_models_are_filled(
    name: str, sensors: tuple[str, ...], state: dict[str, Tensor]
) -> None:
    with torch.device("meta"):
        network = build_network(name, "vit_b", sensors, 3)
    network.image_encoder, network.neck = build_encoder("vit_b"), SamNeck(768)  # only what is filled has memory
    if name == "fusionsam":
        network.prompts, network.decoder = SamPrompts(256), ClassTokenDecoder(3)
    load_sam_encoder(network, sam_encoder_state(state))
    for part in ("image_encoder", "neck"):
        for key, value in getattr(network, part).state_dict().items():
            theirs = f"image_encoder.{'neck.' if part == 'neck' else ''}{key}"
            assert torch.equal(value, state[theirs]), theirs


def test_prompt_encoder_and_decoder_compute_what_segment_anythings_do(sam: nn.Module, state: dict[str, Tensor]) -> None:
    prompts, decoder = SamPrompts(256).eval(), ClassTokenDecoder(3)
    load_sam_decoder(prompts, decoder, {k: v for k, v in state.items() if not k.startswith("image_encoder.")})
    generator = torch.Generator().manual_seed(0)
    points = torch.tensor([[[8.0, 20.0], [40.0, 12.0]]])
    box, mask = torch.tensor([[4.0, 4.0, 50.0, 60.0]]), torch.randn(1, 1, 256, 256, generator=generator)
    with torch.no_grad():
        sparse, dense = prompts(Prompts(points, box, mask))
        wanted = sam.prompt_encoder((points, torch.ones(1, 2)), box, mask)  # it adds no padding point beside a box
        torch.testing.assert_close((sparse, dense), wanted, rtol=0, atol=1e-6)
        image = torch.randn(1, 256, 64, 64, generator=generator)
        positions = prompts.dense_positions(64, 64)
        torch.testing.assert_close(positions, sam.prompt_encoder.get_dense_pe(), rtol=0, atol=1e-6)
        ours = decoder.transformer(image + dense, positions, sparse)
        theirs = sam.mask_decoder.transformer(image + dense, positions, sparse)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
        small = torch.randn(1, 256, 4, 4, generator=generator)
        torch.testing.assert_close(decoder.output_upscaling(small), sam.mask_decoder.output_upscaling(small))


def test_a_decoder_of_another_width_is_refused(state: dict[str, Tensor]) -> None:
    with pytest.raises(SamsegError, match="SAM's prompt_encoder does not fit the network's"):
        load_sam_decoder(SamPrompts(128), ClassTokenDecoder(3, 128), state)


def test_a_network_of_another_size_is_told_both() -> None:
    network = build_network("mm_sam_adapter", "compact", ("rgb",), 3)
    with pytest.raises(SamsegError, match=r"SAM vit_b does not fit the network's encoder of width 128 and depth 8: "):
        load_sam_encoder(network, sam_encoder_state(_meta("vit_b")))


def test_a_network_without_a_sam_encoder_is_refused() -> None:
    with pytest.raises(SamsegError, match="Linear has no SAM encoder"):
        load_sam_encoder(nn.Linear(1, 1), sam_encoder_state(_meta("vit_b")))


def test_missing_unknown_and_misshapen_keys_are_named() -> None:
    state = _meta("vit_l")
    del state["mask_decoder.iou_token.weight"]
    state["image_encoder.extra"] = torch.zeros(1)
    state["image_encoder.neck.1.bias"] = torch.zeros(7)
    with pytest.raises(SamsegError) as error:
        sam_encoder_state(state)
    assert str(error.value) == (
        "expected the keys of SAM vit_l, got 1 missing (mask_decoder.iou_token.weight); 1 unknown "
        "(image_encoder.extra); 1 of another shape (image_encoder.neck.1.bias (7,) for (256,)); "
        "is it another SAM's checkpoint?"
    )


def test_other_checkpoints_are_no_sam() -> None:
    with pytest.raises(SamsegError, match=r"with image_encoder\.pos_embed\), got the keys conv1\.weight"):
        sam_encoder_state({"conv1.weight": torch.zeros(1)})
    with pytest.raises(SamsegError, match=r"vit_b \(768, 12\), .*got \(160, 0\)"):
        sam_encoder_state({"image_encoder.pos_embed": torch.zeros(1, 64, 64, 160)})
