"""The compact MM SAM-adapter as a whole: sizes, missing sensors, gradients, export."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from samseg_ros.errors import InputError, SamsegError
from samseg_ros.models.mm_sam_adapter import PRESETS, MmSamAdapter, build

SENSORS = ("rgb", "thermal", "lidar")
CLASSES = 12


@pytest.fixture(scope="module")
def net() -> MmSamAdapter:
    torch.manual_seed(0)
    return build(PRESETS["compact"], SENSORS, CLASSES).eval()


def _inputs(batch: int = 2, height: int = 64, width: int = 96) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(batch, 3, height, width, generator=generator) for name in SENSORS}


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 97), (90, 127), (96, 160)])
def test_logits_have_input_size_and_coarse_logits_a_quarter_of_it_rounded_up(
    net: MmSamAdapter, height: int, width: int
) -> None:
    inputs = _inputs(1, height, width)
    with torch.inference_mode():
        assert net(inputs).shape == (1, CLASSES, height, width)
        assert net.coarse_logits(inputs).shape == (1, CLASSES, -(-height // 4), -(-width // 4))


def test_full_logits_are_the_coarse_ones_upsampled(net: MmSamAdapter) -> None:
    inputs = _inputs()
    with torch.inference_mode():
        coarse = net.coarse_logits(inputs)
        # Bilinear by four: the pixel 1 right and down of a cell's corner lies 3/8 of a cell left of and above its
        # centre, so it takes 5/8 of the cell itself and 3/8 of the one before, along each axis.
        got = net(inputs)[0, 0, 9, 13]
    a, b = coarse[0, 0, 1:3, 2], coarse[0, 0, 1:3, 3]
    across = 3 / 8 * 1 / 3 * a + (1 - 3 / 8 * 1 / 3) * b
    torch.testing.assert_close(got, 1 / 8 * across[0] + 7 / 8 * across[1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("left_out", [("thermal",), ("lidar",), ("thermal", "lidar")])
def test_a_sensor_flagged_absent_gives_exactly_the_logits_of_leaving_it_out(
    net: MmSamAdapter, left_out: tuple[str, ...]
) -> None:
    inputs = _inputs()
    flags = {name: torch.tensor([False, True]) for name in left_out}
    kept = {name: x for name, x in inputs.items() if name not in left_out}
    inputs = {
        name: torch.where(torch.tensor([name in left_out, False])[:, None, None, None], torch.nan, x)
        for name, x in inputs.items()
    }
    with torch.inference_mode():
        flagged = net(inputs, flags)
        assert torch.equal(flagged[0], net(kept)[0])
        assert torch.equal(flagged[1], net(_inputs())[1])


def test_every_sensor_changes_the_logits(net: MmSamAdapter) -> None:
    inputs = _inputs()
    with torch.inference_mode():
        whole = net(inputs)
        for name in SENSORS:
            changed = net({**inputs, name: inputs[name].flip(3)})
            assert (changed - whole).abs().max() > 1e-3, name


def test_every_parameter_gets_a_finite_gradient() -> None:
    torch.manual_seed(0)
    net = build(PRESETS["compact"], SENSORS, CLASSES).train()
    for parameter in net.parameters():
        if not parameter.any():  # what starts at zero stops the gradient of what stands before it
            torch.nn.init.normal_(parameter, std=0.02)
    flags = {"thermal": torch.tensor([True, False]), "lidar": torch.tensor([True, False])}
    net(_inputs(), flags).square().mean().backward()
    silent = [k for k, p in net.named_parameters() if p.grad is None or not p.grad.any() or not p.grad.isfinite().all()]
    assert silent == []


def test_the_compact_preset_stays_below_its_parameter_budget(net: MmSamAdapter) -> None:
    assert 5_000_000 < sum(p.numel() for p in net.parameters()) <= 5_800_000


def test_the_published_preset_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        net = build(PRESETS["vit_l"], ("rgb", "lidar"), 25)

    def millions(*modules: torch.nn.Module) -> float:
        return sum(p.numel() for module in modules for p in module.parameters()) / 1e6

    backbone, prior = net.backbone, net.backbone.prior
    assert round(millions(backbone), 2) == 455.89 and round(millions(net.decode_head), 1) == 3.2
    parts = {
        "vit": millions(backbone.encoder),
        "convnexts": millions(prior.rgb_stem, prior.x_stems),
        "fusion": millions(prior.fusions),
        "interactions": millions(backbone.interactions),
        "up": millions(backbone.up),
        "1x1s": millions(prior.projections),
    }
    assert {name: round(value, 1) for name, value in parts.items()} == {
        "vit": 307.4,
        "convnexts": 98.9,
        "fusion": 25.1,
        "interactions": 17.3,
        "up": 4.2,
        "1x1s": 3.0,
    }
    # All that the authors' checkpoint holds; the vectors that stand for an absent X, one a stem channel, are ours.
    ours = 96 + 192 + 384 + 768
    assert sum(p.numel() for p in net.parameters()) - ours == 459_052_621


@pytest.mark.parametrize(("preset", "expected"), [("vit_b", 88.88), ("vit_l", 307.43), ("vit_h", 636.11)])
def test_the_big_presets_have_sams_encoders(preset: str, expected: float) -> None:
    with torch.device("meta"):
        encoder = build(PRESETS[preset], ("rgb",), 2, {"adapter": "none"}).backbone.encoder
    assert round(sum(p.numel() for p in encoder.parameters()) / 1e6, 2) == expected
    depth = {"vit_b": 12, "vit_l": 24, "vit_h": 32}[preset]
    # Every quarter of SAM's blocks ends with one that attends over the whole grid.
    assert [i for i, block in enumerate(encoder.blocks) if not block.window] == [
        depth * q // 4 - 1 for q in (1, 2, 3, 4)
    ]


def test_bfloat16_changes_logits_by_rounding_only(net: MmSamAdapter) -> None:
    inputs = _inputs()
    with torch.inference_mode():
        exact = net(inputs)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = net(inputs)
    assert (rounded.float() - exact).abs().mean() < 0.05 * exact.std()


def test_the_network_without_auxiliaries_is_plain_rgb_segmentation() -> None:
    net = build(PRESETS["compact"], ("rgb",), CLASSES).eval()
    with torch.inference_mode():
        assert net({"rgb": torch.randn(1, 3, 64, 64)}).shape == (1, CLASSES, 64, 64)


@pytest.mark.slow
def test_the_exported_graph_computes_the_same() -> None:
    stem = replace(PRESETS["compact"].rgb_stem, depths=(1, 1, 1, 1))
    shallow = replace(PRESETS["compact"], vit_depth=2, global_blocks=(1,), rgb_stem=stem, x_stem=stem)
    net = build(shallow, SENSORS, CLASSES).eval()
    inputs = _inputs(1)
    present = {"thermal": torch.tensor([True]), "lidar": torch.tensor([False])}
    with torch.inference_mode():
        expected = net(inputs, present)
    graph = torch.export.export(net, (inputs, present)).module()
    torch.testing.assert_close(graph(inputs, present), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "present", "told"),
    [
        ({"thermal": (1, 3, 64, 64)}, (), "got {'thermal': (1, 3, 64, 64)}"),
        ({"rgb": (1, 3, 64, 64), "radar": (1, 3, 64, 64)}, (), "any of ('thermal', 'lidar')"),
        ({"rgb": (1, 3, 64, 64), "lidar": (1, 3, 64, 96)}, (), "'lidar': (1, 3, 64, 96)"),
        ({"rgb": (1, 3, 63, 64)}, (), "H, W >= 64"),
        ({"rgb": (1, 4, 64, 64)}, (), "(B, 3, H, W)"),
        ({"rgb": (1, 3, 64, 64)}, ("radar",), "present: ['radar']"),
    ],
)
def test_input_that_does_not_fit_is_refused_with_its_shapes(
    net: MmSamAdapter, inputs: dict[str, tuple[int, ...]], present: tuple[str, ...], told: str
) -> None:
    flags = {name: torch.tensor([True]) for name in present}
    with pytest.raises(InputError) as error:
        net({name: torch.zeros(shape) for name, shape in inputs.items()}, flags)
    assert told in str(error.value)


def test_blocks_that_cannot_be_dealt_out_evenly_are_refused() -> None:
    with pytest.raises(SamsegError, match="expected as many SAM blocks for each of 2 interactions, got 7"):
        build(replace(PRESETS["compact"], vit_depth=7), SENSORS, CLASSES)
