"""The paper's ablations as options of one network: what each changes, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import timm
import torch
from torch import Tensor, nn

from samseg_ros.errors import SamsegError
from samseg_ros.models.mm_sam_adapter import OPTIONS, PRESETS, MmSamAdapter, build

SENSORS = ("rgb", "thermal", "lidar")
STEM = replace(PRESETS["compact"].rgb_stem, depths=(1, 1, 1, 1))
SHALLOW = replace(PRESETS["compact"], vit_depth=2, global_blocks=(1,), rgb_stem=STEM, x_stem=STEM)


def _network(sensors: tuple[str, ...] = SENSORS, **options: str) -> MmSamAdapter:
    torch.manual_seed(0)
    return build(SHALLOW, sensors, 5, options).eval()


def _inputs(sensors: tuple[str, ...] = SENSORS, batch: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(batch, 3, 64, 96, generator=generator) for name in sensors}


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_the_first_value_of_every_option_is_the_network_without_options() -> None:
    plain, chosen = _network(), _network(**{name: values[0] for name, values in OPTIONS.items()})
    assert all(
        torch.equal(a, b) for a, b in zip(plain.state_dict().values(), chosen.state_dict().values(), strict=True)
    )
    assert list(plain.state_dict()) == list(chosen.state_dict())
    with torch.inference_mode():
        assert torch.equal(plain(_inputs()), chosen(_inputs()))


def test_addition_alone_gives_the_same_when_both_streams_change_places() -> None:
    a, b, _ = _inputs().values()
    same = {}
    for fusion in OPTIONS["fusion"]:
        prior = _network(("rgb", "thermal"), fusion=fusion).backbone.prior
        prior.x_stems["thermal"].load_state_dict(prior.rgb_stem.state_dict())
        with torch.inference_mode():
            same[fusion] = _equal(prior({"rgb": a, "thermal": b}, {}), prior({"rgb": b, "thermal": a}, {}))
    assert same == {"road_fusion": False, "add": True, "concat": False}


def test_concatenation_puts_rgb_first_and_leaves_the_weighing_to_the_projection() -> None:
    prior = _network(("rgb", "thermal"), fusion="concat").backbone.prior
    rgb, other, thermal = _inputs().values()
    with torch.inference_mode():
        for projection in prior.projections:
            projection.weight[:, projection.in_channels // 2 :] = 0  # what X goes through
        before = prior({"rgb": rgb, "thermal": thermal}, {})
        assert _equal(before, prior({"rgb": rgb, "thermal": other}, {}))
        assert not _equal(before, prior({"rgb": other, "thermal": thermal}, {}))


def test_simple_fusions_save_road_fusion_and_addition_half_the_projections_too() -> None:
    whole, concat, add = (_network(fusion=fusion) for fusion in ("road_fusion", "concat", "add"))
    assert _size(whole) - _size(concat) == _size(whole.backbone.prior.fusions)
    # Channels of a stem times channels of the level, summed over the levels.
    assert _size(concat) - _size(add) == 32 * 64 + 64 * 128 + 128 * 128 + 144 * 128


def test_the_adapter_on_x_alone_never_sees_rgb_but_the_network_does() -> None:
    network = _network(adapter="x_only")
    inputs = _inputs()
    other = {**inputs, "rgb": inputs["rgb"].flip(3)}
    with torch.inference_mode():
        assert _equal(network.backbone.prior(inputs, {}), network.backbone.prior(other, {}))
        logits = network(inputs)
        for name in SENSORS:
            assert (network({**inputs, name: inputs[name].flip(3)}) - logits).abs().max() > 1e-3, name
    assert not [name for name, _ in network.named_parameters() if "rgb_stem" in name or "fusions" in name]


def test_blind_merging_takes_a_missing_sensor_for_one_that_sees_zeros() -> None:
    inputs, zeros = _inputs(), torch.zeros(1, 3, 64, 96)
    for merging, same in (("blind", True), ("gate", False), ("mean", False)):
        network = _network(merging=merging)
        with torch.inference_mode():
            without = network({"rgb": inputs["rgb"], "lidar": inputs["lidar"]})
            assert torch.equal(without, network({**inputs, "thermal": zeros})) is same, merging


def test_nan_in_the_buffer_of_an_absent_sensor_reaches_neither_logits_nor_gradients() -> None:
    network, inputs = _network(), _inputs()
    inputs["lidar"] = torch.full_like(inputs["lidar"], torch.nan)
    network(inputs, {"lidar": torch.tensor([False])}).square().mean().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_merging_is_refused_where_there_is_nothing_to_merge() -> None:
    with pytest.raises(SamsegError, match="merging mean: expected two or more X modalities"):
        _network(("rgb", "lidar"), merging="mean")


@pytest.mark.parametrize(
    "options",
    [{"fusion": "add"}, {"fusion": "concat"}, {"adapter": "x_only"}, {"merging": "mean"}, {"merging": "blind"}],
)
@pytest.mark.parametrize("left_out", [("thermal",), ("thermal", "lidar")])
def test_a_sensor_flagged_absent_gives_exactly_the_logits_of_leaving_it_out(
    options: dict[str, str], left_out: tuple[str, ...]
) -> None:
    network, inputs = _network(**options), _inputs()
    kept = {name: x for name, x in inputs.items() if name not in left_out}
    broken = {name: torch.full_like(x, torch.nan) if name in left_out else x for name, x in inputs.items()}
    with torch.inference_mode():
        flagged = network(broken, {name: torch.tensor([False]) for name in left_out})
        assert torch.equal(flagged, network(kept))


def test_without_the_adapter_only_sam_the_level_norms_and_the_head_are_left() -> None:
    network = _network(("rgb",), adapter="none")
    parts = {".".join(name.split(".")[:2]) for name in network.state_dict() if name.startswith("backbone")}
    assert parts == {"backbone.encoder", "backbone.to_first", "backbone.norms"}


def test_without_the_adapter_the_levels_are_sams_tokens_after_each_run_of_blocks_resized() -> None:
    backbone = _network(("rgb",), adapter="none").backbone
    image = _inputs()["rgb"]
    with torch.inference_mode():
        levels = backbone({"rgb": image}, {})
        first = backbone.encoder.blocks[0](backbone.encoder.embed(image)).permute(0, 3, 1, 2)
        last = backbone.encoder(image).permute(0, 3, 1, 2)
    # Two runs of one block: the first serves 1/4 and 1/8, the second 1/16 (SAM's own grid) and 1/32. Fresh batch norms
    # divide by sqrt(1 + 1e-5). Halving bilinearly is the mean of 2 x 2.
    torch.testing.assert_close(levels[2], last / (1 + 1e-5) ** 0.5)
    torch.testing.assert_close(levels[3], nn.functional.avg_pool2d(last, 2) / (1 + 1e-5) ** 0.5)
    # The corner of the doubled map is the corner itself; the pixel beside it has a quarter of its neighbour.
    torch.testing.assert_close(levels[1][..., 0, 0], first[..., 0, 0] / (1 + 1e-5) ** 0.5)
    beside = (0.75 * first[..., 0, 0] + 0.25 * first[..., 0, 1]) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(levels[1][..., 0, 1], beside)
    assert [tuple(x.shape[1:]) for x in levels] == [(64, 16, 24), (128, 8, 12), (128, 4, 6), (128, 2, 3)]


@pytest.mark.parametrize(("branches", "convnext"), [("asymmetric", "convnext_small"), ("symmetric", "convnext_base")])
def test_symmetric_branches_replace_both_convnext_s_by_convnext_b(branches: str, convnext: str) -> None:
    with torch.device("meta"):
        backbone = build(PRESETS["vit_l"], ("rgb", "lidar"), 25, {"branches": branches}).backbone
        reference = timm.create_model(convnext, pretrained=False, num_classes=0)
    # timm norms the last level only.
    norms = sum(_size(norm) for norm in backbone.prior.rgb_stem.norms[:3])
    assert _size(backbone.prior.rgb_stem) == _size(backbone.prior.x_stems["lidar"]) == _size(reference) + norms


def test_symmetric_branches_bring_the_auxiliary_branch_near_sams_size() -> None:
    shares = {}
    for branches in OPTIONS["branches"]:
        with torch.device("meta"):
            backbone = build(PRESETS["vit_l"], ("rgb", "lidar"), 25, {"branches": branches}).backbone
        shares[branches] = _size(backbone) / _size(backbone.encoder) - 1
    assert shares["asymmetric"] < 0.5 < 0.75 < shares["symmetric"] < 1


def test_symmetric_branches_segment_with_three_sensors() -> None:
    with torch.inference_mode():
        assert _network(branches="symmetric")(_inputs()).shape == (1, 5, 64, 96)


@pytest.mark.parametrize("options", [{}, {"adapter": "x_only"}, {"fusion": "add"}, {"fusion": "concat"}])
def test_a_frozen_encoder_gets_no_gradient_and_all_else_does(options: dict[str, str]) -> None:
    network = _network(**options, encoder="frozen").train()
    for parameter in network.parameters():
        if not parameter.any():  # what starts at zero stops the gradient of what stands before it
            nn.init.normal_(parameter, std=0.02)
    flags = {name: torch.tensor([True, False]) for name in ("thermal", "lidar")}
    network(_inputs(batch=2), flags).square().mean().backward()
    still = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    assert still == {name for name, _ in network.named_parameters() if name.startswith("backbone.encoder.")}


@pytest.mark.parametrize(
    ("sensors", "options", "told"),
    [
        (
            SENSORS,
            {"adapter": "none"},
            "adapter none sees the camera alone: expected modalities [rgb], got ['rgb', 'th",
        ),
        (("rgb",), {"adapter": "x_only"}, "adapter x_only: expected an X modality beside rgb"),
        (SENSORS, {"adapter": "x_only", "fusion": "add"}, "adapter x_only has no fusion: leave option fusion away"),
        (("rgb",), {"adapter": "none", "branches": "symmetric"}, "adapter none has no branches"),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    sensors: tuple[str, ...], options: dict[str, str], told: str
) -> None:
    with pytest.raises(SamsegError) as error:
        _network(sensors, **options)
    assert told in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sensors", "options"),
    [(SENSORS, {"adapter": "x_only"}), (SENSORS, {"fusion": "add"}), (("rgb",), {"adapter": "none"})],
)
def test_the_exported_graph_of_an_ablation_computes_the_same(sensors: tuple[str, ...], options: dict[str, str]) -> None:
    network, inputs = _network(sensors, **options), _inputs(sensors)
    with torch.inference_mode():
        expected = network(inputs)
    graph = torch.export.export(network, (inputs,)).module()
    torch.testing.assert_close(graph(inputs), expected, atol=1e-5, rtol=1e-5)
