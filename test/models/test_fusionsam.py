"""The compact FusionSAM as a whole: sizes, options, a missing thermal image, gradients, no label anywhere."""

from __future__ import annotations

import inspect
from dataclasses import replace

import pytest
import torch
from segment_anything.modeling import ImageEncoderViT
from torch import Tensor

from samseg_ros.errors import InputError, SamsegError
from samseg_ros.models import build_network
from samseg_ros.models.fusionsam import MODALITIES, OPTIONS, PRESETS, FusionSam, build
from samseg_ros.networks import sam_prompts
from samseg_ros.networks.vqgan import TokenShape

CLASSES = 5
DEFAULTS = {name: values[0] for name, values in OPTIONS.items()}
SMALL = replace(
    PRESETS["compact"],
    vit_depth=2,
    global_blocks=(1,),
    tokens=TokenShape(latent=8, codes=64, widths=(8, 16), blocks=(1, 1)),
)


def _network(**options: str) -> FusionSam:
    torch.manual_seed(0)
    return build(SMALL, MODALITIES, CLASSES, DEFAULTS | options)


@pytest.fixture(scope="module")
def net() -> FusionSam:
    return _network().eval()


def _inputs(batch: int = 2, height: int = 64, width: int = 96) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    rgb = torch.randn(batch, 3, height, width, generator=generator)
    return {"rgb": rgb, "thermal": torch.rand(batch, 1, height, width, generator=generator).repeat(1, 3, 1, 1)}


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 97), (90, 127), (288, 384)])
def test_every_output_has_its_size_at_any_input_size(net: FusionSam, height: int, width: int) -> None:
    inputs = _inputs(1, height, width)
    quarter = (-(-height // 4), -(-width // 4))
    with torch.inference_mode():
        assert net(inputs).shape == (1, CLASSES, height, width)
        coarse, fused = net.coarse_logits_and_fused(inputs)
        details = net.forward_details(inputs)
    assert coarse.shape == details.auxiliary_logits.shape == (1, CLASSES, *quarter)
    assert details.z_f.shape == (1, SMALL.fusion_dim, *quarter)
    for image in (fused, details.fused, *details.reconstructions.values(), *details.images.values()):
        assert image.shape == (1, 3, height, width)
    assert fused.min() >= 0 and fused.max() <= 1
    assert torch.equal(details.logits, coarse) and torch.equal(details.fused, fused)


def test_full_logits_are_the_coarse_ones_upsampled(net: FusionSam) -> None:
    inputs = _inputs()
    with torch.inference_mode():
        coarse, full = net.coarse_logits(inputs), net(inputs)
    expected = torch.nn.functional.interpolate(coarse, scale_factor=4, mode="bilinear")
    torch.testing.assert_close(full, expected)


@pytest.mark.parametrize("fmp", OPTIONS["fmp"])
@pytest.mark.parametrize(("lstg", "latents"), [("vqgan", "quantized"), ("vqgan", "continuous"), ("conv", "quantized")])
def test_every_ablation_trains_all_that_it_has(
    lstg: str, latents: str, fmp: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sam_prompts, "DROP", 0.5)  # each kind of prompt is kept somewhere and left out somewhere
    net = _network(lstg=lstg, latents=latents, fmp=fmp).train()
    torch.manual_seed(1)
    details = net.forward_details(_inputs(8), {"thermal": torch.tensor([True] * 6 + [False] * 2)})
    assert set(details.reconstructions) == (set(MODALITIES) if lstg == "vqgan" else set())
    maps = (details.logits, details.auxiliary_logits, details.fused, *details.reconstructions.values())
    loss = torch.stack([x.square().mean() for x in maps] + list(details.commitment.values())).sum()
    loss.backward()
    trained = {k: p.grad for k, p in net.named_parameters() if p.requires_grad}
    assert [k for k, g in trained.items() if g is None or not g.any() or not g.isfinite().all()] == []


def test_there_is_no_way_in_for_a_label(net: FusionSam) -> None:
    for method in (net.forward, net.coarse_logits, net.coarse_logits_and_fused, net.forward_details, net.tokenise):
        assert list(inspect.signature(method).parameters) == ["inputs", "present"]
    with pytest.raises(InputError):
        net({**_inputs(), "labels": torch.zeros(2, 3, 64, 96)})


def test_a_thermal_image_flagged_absent_gives_exactly_the_logits_of_leaving_it_out(net: FusionSam) -> None:
    inputs = _inputs()
    without = {"rgb": inputs["rgb"]}
    broken = inputs["thermal"].clone()
    broken[0] = torch.nan
    with torch.inference_mode():
        flagged = net({**inputs, "thermal": broken}, {"thermal": torch.tensor([False, True])})
        torch.testing.assert_close(flagged[0], net(without)[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(flagged[1], net(inputs)[1], atol=1e-5, rtol=1e-5)
        cold = net({**inputs, "thermal": torch.zeros_like(broken)})
    assert (cold[0] - flagged[0]).abs().max() > 1e-3


def test_both_images_change_logits_and_picture(net: FusionSam) -> None:
    inputs = _inputs()
    with torch.inference_mode():
        logits, fused = net.coarse_logits_and_fused(inputs)
        for name in MODALITIES:
            other_logits, other_fused = net.coarse_logits_and_fused({**inputs, name: inputs[name].flip(3)})
            assert (other_logits - logits).abs().max() > 1e-3, name
            assert (other_fused - fused).abs().max() > 1e-3, name


def test_a_batch_gives_what_its_images_give_one_by_one(net: FusionSam) -> None:
    inputs = _inputs(3)
    with torch.inference_mode():
        together = net(inputs)
        alone = torch.cat([net({name: x[i : i + 1] for name, x in inputs.items()}) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_images_to_compare_with_lie_between_0_and_1(net: FusionSam) -> None:
    # A mid-grey camera image: 0.5 in every channel before ImageNet's mean and deviation are taken.
    grey = (0.5 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    inputs = {"rgb": grey.reshape(1, 3, 1, 1).expand(1, 3, 64, 64), "thermal": torch.full((1, 3, 64, 64), 0.25)}
    images = net.tokenise(inputs).images
    torch.testing.assert_close(images["rgb"], torch.full((1, 3, 64, 64), 0.5))
    torch.testing.assert_close(images["thermal"], inputs["thermal"])


def test_published_presets_keep_sams_encoder_and_the_gradient_still_reaches_the_fusion() -> None:
    net = build(replace(SMALL, frozen_encoder=True), MODALITIES, CLASSES, DEFAULTS).train()
    frozen = {k.split(".")[0] for k, p in net.named_parameters() if not p.requires_grad}
    assert frozen == {"image_encoder", "neck", "prompts"}  # of the prompts: that of background points alone
    net.coarse_logits(_inputs()).square().mean().backward()
    assert net.fusion_mask.paint.weight.grad is not None and net.fusion_mask.paint.weight.grad.any()
    assert net.image_encoder.pos_embed.grad is None
    assert [name for name, preset in PRESETS.items() if not preset.frozen_encoder] == ["compact"]


@pytest.mark.parametrize(
    ("preset", "encoder", "total"), [("vit_h", 637.03, 662.34), ("vit_l", 308.28, 333.59), ("vit_b", 89.67, 114.99)]
)
def test_published_presets_have_sams_encoder_and_25_million_parameters_beside_it(
    preset: str, encoder: float, total: float
) -> None:
    with torch.device("meta"):
        net = build_network("fusionsam", preset, MODALITIES, 9)
    frozen = sum(p.numel() for p in net.parameters() if not p.requires_grad)
    assert round(frozen / 1e6, 2) == encoder
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 2) == total


def test_encoder_and_neck_load_the_keys_of_segment_anything() -> None:
    torch.manual_seed(0)
    shape = {"img_size": 64, "embed_dim": 128, "depth": 2, "num_heads": 4, "out_chans": 128, "window_size": 6}
    theirs = ImageEncoderViT(**shape, qkv_bias=True, use_rel_pos=True, global_attn_indexes=(1,)).eval()
    for block in theirs.blocks:
        block.norm1.eps = block.norm2.eps = 1e-6
    net = build(replace(SMALL, table=(4, 4)), MODALITIES, CLASSES, DEFAULTS).eval()
    state = theirs.state_dict()
    net.neck.load_state_dict({k.removeprefix("neck."): v for k, v in state.items() if k.startswith("neck.")})
    net.image_encoder.load_state_dict({k: v for k, v in state.items() if not k.startswith("neck.")})
    image = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        ours = net.neck(net.image_encoder(image).permute(0, 3, 1, 2))
        torch.testing.assert_close(ours, theirs(image), atol=1e-4, rtol=1e-4)


def test_the_compact_preset_stays_below_its_parameter_budget() -> None:
    net = build_network("fusionsam", "compact", MODALITIES, 12)
    assert 3_000_000 < sum(p.numel() for p in net.parameters()) <= 8_000_000


def test_bfloat16_changes_logits_by_rounding_only(net: FusionSam) -> None:
    # Of continuous latents: a rounded latent may well be nearest to another code.
    inputs, smooth = _inputs(), _network(latents="continuous").eval()
    with torch.inference_mode():
        exact = smooth(inputs)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = smooth(inputs)
            assert net(inputs).isfinite().all()
    assert (rounded.float() - exact).abs().mean() < 0.1 * exact.std()


@pytest.mark.slow
def test_the_exported_graph_computes_the_same(net: FusionSam) -> None:
    inputs, present = _inputs(1), {"thermal": torch.tensor([True])}
    with torch.inference_mode():
        expected = net(inputs, present)
    graph = torch.export.export(net, (inputs, present)).module()
    torch.testing.assert_close(graph(inputs, present), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("inputs", "present", "told"),
    [
        ({"thermal": (1, 3, 64, 64)}, (), "got {'thermal': (1, 3, 64, 64)}"),
        ({"rgb": (1, 3, 64, 64), "lidar": (1, 3, 64, 64)}, (), "'lidar': (1, 3, 64, 64)"),
        ({"rgb": (1, 3, 64, 64), "thermal": (1, 3, 64, 96)}, (), "'thermal': (1, 3, 64, 96)"),
        ({"rgb": (1, 3, 63, 64)}, (), "H, W >= 64"),
        ({"rgb": (1, 3, 64, 64)}, ("rgb",), "present: ['rgb']"),
    ],
)
def test_input_that_does_not_fit_is_refused_with_its_shapes(
    net: FusionSam, inputs: dict[str, tuple[int, ...]], present: tuple[str, ...], told: str
) -> None:
    flags = {name: torch.tensor([True]) for name in present}
    with pytest.raises(InputError) as error:
        net({name: torch.zeros(shape) for name, shape in inputs.items()}, flags)
    assert told in str(error.value)


def test_other_modalities_and_options_without_a_meaning_are_refused() -> None:
    with pytest.raises(SamsegError, match="fusionsam: cannot take 'lidar' beside rgb; use one of: thermal"):
        build_network("fusionsam", "compact", ("rgb", "lidar"), CLASSES)
    with pytest.raises(SamsegError, match="lstg: conv has no codebook"):
        build_network("fusionsam", "compact", MODALITIES, CLASSES, {"lstg": "conv", "latents": "continuous"})


def test_the_baseline_of_the_camera_alone_is_as_large_and_computes_what_a_missing_thermal_image_gives() -> None:
    torch.manual_seed(0)
    both = build_network("fusionsam", "compact", MODALITIES, 3).eval()
    alone = build_network("fusionsam", "compact", ("rgb",), 3).eval()
    alone.load_state_dict(both.state_dict())
    assert alone.modalities == ("rgb",)
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(alone.coarse_logits({"rgb": image}), both.coarse_logits({"rgb": image}))
