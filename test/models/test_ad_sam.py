"""AD-SAM as a whole: sizes, what is frozen, cached embeddings, the ablation, export."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from segment_anything import sam_model_registry
from torch import Tensor, nn

from samseg_ros.errors import InputError, SamsegError
from samseg_ros.models.ad_sam import OPTIONS, PRESETS, AdSam, build

CLASSES = 5
DEFAULTS = {name: values[0] for name, values in OPTIONS.items()}
SHALLOW = replace(
    PRESETS["compact"],
    vit_depth=2,
    global_blocks=(1,),
    resnet=replace(PRESETS["compact"].resnet, layers=(1, 1, 1, 1)),
)


def _network(frozen: bool = False, **options: str) -> AdSam:
    torch.manual_seed(0)
    return build(replace(SHALLOW, frozen=frozen), ("rgb",), CLASSES, {**DEFAULTS, **options}).eval()


def _image(batch: int = 2, height: int = 64, width: int = 96) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def net() -> AdSam:
    return _network()


@pytest.fixture(scope="module")
def frozen() -> AdSam:
    return _network(frozen=True)


def _meta(preset: str) -> AdSam:
    with torch.device("meta"):
        return build(PRESETS[preset], ("rgb",), 19, DEFAULTS)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 97), (90, 127), (96, 160)])
def test_logits_have_input_size_and_coarse_logits_a_quarter_of_it_rounded_up(
    net: AdSam, height: int, width: int
) -> None:
    inputs = {"rgb": _image(1, height, width)}
    with torch.inference_mode():
        assert net(inputs).shape == (1, CLASSES, height, width)
        assert net.coarse_logits(inputs).shape == (1, CLASSES, -(-height // 4), -(-width // 4))


def test_full_logits_are_the_coarse_ones_upsampled(net: AdSam) -> None:
    inputs = {"rgb": _image()}
    with torch.inference_mode():
        coarse, full = net.coarse_logits(inputs), net(inputs)
    # Bilinear by four: pixel 4i + 2 lies 1/8 of a cell right of the centre of cell i.
    torch.testing.assert_close(full[:, :, 0, 6], 7 / 8 * coarse[:, :, 0, 1] + 1 / 8 * coarse[:, :, 0, 2])


def test_an_image_is_padded_with_its_own_border(net: AdSam) -> None:
    image = _image(1, 70, 90)
    rows, columns = torch.arange(96).clamp(max=69), torch.arange(96).clamp(max=89)
    with torch.inference_mode():
        whole = net.coarse_logits({"rgb": image[:, :, rows][..., columns]})
        torch.testing.assert_close(net.coarse_logits({"rgb": image}), whole[..., :18, :23])


def test_a_sample_does_not_depend_on_the_others_of_its_batch(net: AdSam) -> None:
    image = _image()
    with torch.inference_mode():
        torch.testing.assert_close(net({"rgb": image})[1:], net({"rgb": image[1:]}), atol=1e-4, rtol=1e-4)


def test_vit_h_has_the_published_number_of_parameters() -> None:
    net = _meta("vit_h")
    learning = sum(p.numel() for p in net.parameters() if p.requires_grad)
    assert round(learning / 1e6, 2) == 26.94
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 2) == 663.97


@pytest.mark.parametrize("preset", ["vit_b", "vit_l", "vit_h"])
def test_encoder_and_neck_have_the_keys_and_shapes_of_sams(preset: str) -> None:
    net = _meta(preset)
    ours = {**net.image_encoder.state_dict(), **{f"neck.{k}": v for k, v in net.neck.state_dict().items()}}
    with torch.device("meta"):
        theirs = sam_model_registry[preset]().image_encoder
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.state_dict().items()}


def test_every_parameter_of_compact_gets_a_finite_gradient() -> None:
    net = _network().train()
    for parameter in net.parameters():
        if not parameter.any():  # what starts at zero stops the gradient of what stands before it
            nn.init.normal_(parameter, std=0.02)
    net({"rgb": _image()}).square().mean().backward()
    silent = [k for k, p in net.named_parameters() if p.grad is None or not p.grad.any() or not p.grad.isfinite().all()]
    assert silent == []


def test_a_frozen_sam_gets_no_gradients_and_its_rival_does() -> None:
    net = _network(frozen=True).train()
    net({"rgb": _image()}).square().mean().backward()
    silent = {k.split(".")[0] for k, p in net.named_parameters() if p.grad is None}
    assert silent == {"image_encoder", "neck"}
    assert net.resnet.conv1[0].weight.grad.any()


@pytest.mark.parametrize("frozen", [True, False])
def test_the_statistics_of_resnets_batch_norms_stay_in_training_where_it_is_frozen(frozen: bool) -> None:
    net = _network(frozen=frozen).train()
    assert net.training and net.image_encoder.training is not frozen
    before = net.resnet.bn1.running_mean.clone()
    net({"rgb": _image()})
    assert torch.equal(net.resnet.bn1.running_mean, before) is frozen


def test_a_known_embedding_gives_the_logits_of_the_image_without_running_the_encoder(frozen: AdSam) -> None:
    image = _image(2, 70, 90)
    calls: list[nn.Module] = []
    handle = frozen.image_encoder.register_forward_hook(lambda module, args, out: calls.append(module))
    embedding = frozen.sam_embedding(image)
    expected, coarse = frozen({"rgb": image}), frozen.coarse_logits({"rgb": image})
    assert embedding.shape == (2, 128, 6, 6) and not embedding.requires_grad and len(calls) == 3
    assert torch.equal(frozen({"rgb": image}, embedding=embedding), expected)
    assert torch.equal(frozen.coarse_logits({"rgb": image}, embedding=embedding), coarse)
    assert len(calls) == 3
    handle.remove()


def test_an_embedding_of_another_image_size_or_for_a_learning_encoder_is_refused(net: AdSam, frozen: AdSam) -> None:
    image = _image(2, 70, 90)
    with pytest.raises(InputError, match=r"expected \(2, 128, 6, 6\) for an image of 2 x 96 x 96 \(padded\)"):
        frozen({"rgb": image}, embedding=torch.zeros(2, 128, 6, 8))
    with pytest.raises(SamsegError, match="the encoder of this preset learns"):
        net({"rgb": image}, embedding=torch.zeros(2, 128, 6, 6))


def test_plain_convolutions_take_the_place_of_all_deformable_ones_and_keep_the_rest() -> None:
    deformable, plain = _network().state_dict(), _network(convolution="plain").state_dict()
    moved = {k.rsplit(".", 2)[0] for k in deformable if "offset_conv" in k}
    assert len(moved) == 7  # one in the fusion, two in each of three blocks
    same = {k.replace(".conv.weight", ".weight").replace(".conv.bias", ".bias") for k in deformable}
    same -= {k for k in same if "offset_conv" in k or "mask_conv" in k}
    assert {k.replace(".conv.weight", ".weight").replace(".conv.bias", ".bias") for k in plain} == same
    with torch.inference_mode():
        assert _network(convolution="plain")({"rgb": _image()}).shape == (2, CLASSES, 64, 96)


def test_bfloat16_changes_logits_by_rounding_only(net: AdSam) -> None:
    inputs = {"rgb": _image()}
    with torch.inference_mode():
        exact = net(inputs)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = net(inputs)
    assert (rounded.float() - exact).abs().mean() < 0.05 * exact.std()


def test_compact_stays_below_its_parameter_budget() -> None:
    assert 4_500_000 < sum(p.numel() for p in _meta("compact").parameters()) < 5_200_000


@pytest.mark.slow
def test_the_exported_graph_computes_the_same(net: AdSam) -> None:
    inputs = {"rgb": _image(1)}
    with torch.inference_mode():
        expected = net(inputs)
    graph = torch.export.export(net, (inputs,)).module()
    torch.testing.assert_close(graph(inputs), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("modalities", [("rgb", "thermal"), ("rgb", "lidar")])
def test_other_sensors_are_refused_when_it_is_built(modalities: tuple[str, ...]) -> None:
    with pytest.raises(
        SamsegError, match=rf"camera alone: expected modalities \[rgb\], got \['rgb', '{modalities[1]}'"
    ):
        build(SHALLOW, modalities, CLASSES, DEFAULTS)


@pytest.mark.parametrize(
    ("inputs", "present", "told"),
    [
        ({}, (), "got {}"),
        ({"rgb": (1, 3, 64, 64), "lidar": (1, 3, 64, 64)}, (), "'lidar': (1, 3, 64, 64)"),
        ({"rgb": (1, 3, 63, 64)}, (), "H, W >= 64"),
        ({"rgb": (1, 4, 64, 64)}, (), "(B, 3, H, W)"),
        ({"rgb": (1, 3, 64, 64)}, ("thermal",), "present: ['thermal']"),
    ],
)
def test_input_that_does_not_fit_is_refused_with_its_shapes(
    net: AdSam, inputs: dict[str, tuple[int, ...]], present: tuple[str, ...], told: str
) -> None:
    with pytest.raises(InputError) as error:
        net({k: torch.zeros(shape) for k, shape in inputs.items()}, {name: torch.tensor([True]) for name in present})
    assert told in str(error.value)
