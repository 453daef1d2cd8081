"""Checkpoints of others become folders that the settings can name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from samseg_ros.config import ModelConfig, ThermalConfig
from samseg_ros.errors import SamsegError
from samseg_ros.models import MODELS, ModelSpec, build_network, load_model, read_spec, save_model
from samseg_ros.models.import_weights import (
    Source,
    complete_spec,
    fitted,
    import_sam,
    import_weights,
    open_source,
)
from samseg_ros.models.mm_sam_adapter import PRESETS, build
from samseg_ros.models.sam_checkpoint import sam_encoder_state
from samseg_ros.models.weights import sha256
from samseg_ros.networks.convnext_stem import StemShape
from samseg_ros.networks.segformer_head import SegformerHead

SMALL_STEM = StemShape(channels=(32, 64, 96, 128), depths=(1, 1, 1, 1))
# The preset's norms belong to 1024 x 1024, those of the golden weights to 256 x 256.
SMALL = replace(
    PRESETS["vit_l"],
    vit_dim=64,
    vit_depth=4,
    vit_heads=4,
    global_blocks=(1, 3),
    rgb_stem=SMALL_STEM,
    x_stem=SMALL_STEM,
    heads=4,
)
OURS = ModelSpec(
    name="mm_sam_adapter",
    preset="compact",
    labels="world",
    modalities=("rgb", "thermal"),
    input_pixels=288 * 384,
    weights="compact.safetensors",
    licence="Apache-2.0",
    data="nothing",
)
DELIVER: dict[str, Any] = {
    "name": "mm_sam_adapter",
    "labels": "deliver",
    "modalities": ("rgb", "lidar"),
    "licence": "non-commercial",
}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return build_network("mm_sam_adapter", "compact", OURS.modalities, 12).eval()


@pytest.fixture
def golden(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Numbers of the authors' release at a small size, which becomes a preset."""
    entry = MODELS["mm_sam_adapter"]
    monkeypatch.setitem(PRESETS, "small", SMALL)
    monkeypatch.setitem(MODELS, "mm_sam_adapter", replace(entry, presets=(*entry.presets, "small")))
    return load_file(shared_data / "golden" / "mm_sam_adapter_small.safetensors")


@pytest.fixture
def authors(golden: dict[str, Tensor], tmp_path: Path) -> Path:
    """A file as the authors' training writes it: numpy in its remarks, "module." before its keys."""
    torch.manual_seed(0)
    head = SegformerHead(SMALL.widths, 512, 25, 0.1).state_dict()
    state = {k.removeprefix("weights."): v.float() for k, v in golden.items() if k.startswith("weights.")}
    state |= {f"decode_head.{k}": v for k, v in head.items()}
    path = tmp_path / "deliver_lidar.pth"
    meta = {"epoch": 100, "best_score": np.float64(0.57), "PALETTE": np.zeros((25, 3), np.uint8)}
    torch.save({"meta": meta, "state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    return path


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_the_authors_checkpoint_computes_their_numbers_from_our_folder(
    golden: dict[str, Tensor], authors: Path, tmp_path: Path, precision: Any
) -> None:
    source = open_source(authors)
    assert source.kind == "authors" and source.input_pixels == 256 * 256
    spec = import_weights(source, complete_spec(source, DELIVER | {"preset": "small"}), tmp_path / "out", precision)
    assert spec == read_spec(tmp_path / "out" / "model.yaml")
    loaded = load_model(ModelConfig(config="small", checkpoint=str(tmp_path / "out")))
    assert loaded.labels.name == "deliver" and loaded.spec.input_pixels == 256 * 256
    inputs = {"rgb": golden["input.rgb"].float(), "lidar": golden["input.x"].float()}
    with torch.inference_mode():
        levels = loaded.network.get_submodule("backbone")(inputs, {})
    for i, level in enumerate(levels):  # their weights are exact in float16
        torch.testing.assert_close(level, golden[f"output.f{i + 1}"], atol=2e-4, rtol=0)
    half = (tmp_path / "out" / "small.safetensors").stat().st_size < 0.6 * authors.stat().st_size
    assert half is (precision == "fp16")


def test_the_folder_says_which_file_it_was_made_from(authors: Path, tmp_path: Path) -> None:
    source = open_source(authors)
    import_weights(source, complete_spec(source, DELIVER | {"preset": "small"}), tmp_path / "out")
    record = json.loads((tmp_path / "out" / "import.json").read_text())
    assert record == {
        "file": "deliver_lidar.pth",
        "sha256": sha256(authors),
        "kind": "authors",
        "precision": "fp16",
    }


def _full_names(shared_data: Path) -> Source:
    lines = (shared_data / "golden" / "mm_sam_adapter_keys.txt").read_text().splitlines()
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
    shapes = {name: () if shape == "scalar" else tuple(map(int, shape.split("x"))) for name, shape in rows}
    return Source(Path("full.pth"), {k: torch.empty(s, device="meta") for k, s in shapes.items()}, "authors")


def test_the_published_sizes_fit_the_preset_that_is_taken_for_them(shared_data: Path) -> None:
    source = _full_names(shared_data)
    spec = complete_spec(source, {"labels": "deliver", "modalities": ("rgb", "event")})
    assert (spec.preset, spec.input_pixels, spec.weights) == ("vit_l", 1024 * 1024, "vit_l.safetensors")
    assert spec.paper == "https://arxiv.org/abs/2509.10408" and "non-commercial" in spec.licence
    state = fitted(source, spec)
    gates = [name for name in state if ".gates." in name]
    assert len(state) == 1450 + len(gates) and len(gates) == 4
    assert all(not state[name].any() for name in gates)


def _trained_at_800(source: Source) -> Source:
    norms = {k: v.new_empty(v.numel() * 625 // 1024) for k, v in source.state.items() if "fuse_blocks" in k and v.ndim}
    assert len(norms) == 8
    return replace(source, state={**source.state, **norms})


def test_weights_trained_at_800_pixels_keep_their_norms(shared_data: Path) -> None:
    source = _trained_at_800(_full_names(shared_data))
    spec = complete_spec(source, {"labels": "deliver", "modalities": ("rgb", "thermal")})
    assert spec.input_pixels == 800 * 800
    state = fitted(source, spec)
    sizes = [state[f"backbone.prior.fusions.{i}.norm.weight"].shape for i in range(4)]
    assert sizes == [(200 * 200,), (100 * 100,), (50 * 50,), (25 * 25,)]


def test_norms_of_no_square_training_size_are_refused_by_name(shared_data: Path) -> None:
    source = _full_names(shared_data)
    name = next(k for k in source.state if k.endswith("fuse_blocks.0.norm.weight"))
    odd = replace(source, state={**source.state, name: torch.empty(200 * 201, device="meta")})
    spec = complete_spec(odd, {"labels": "deliver", "modalities": ("rgb", "thermal"), "input_pixels": 800 * 800})
    with pytest.raises(SamsegError, match=r"1 of another shape \(backbone\.prior\.fusions\.0\.norm\.weight \(40200,\)"):
        fitted(odd, spec)


def test_weights_of_another_training_size_compute_from_our_folder_what_they_did(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entry = MODELS["mm_sam_adapter"]
    at_96 = replace(SMALL, training_size=(96, 96))
    monkeypatch.setitem(PRESETS, "small", SMALL)
    monkeypatch.setitem(MODELS, "mm_sam_adapter", replace(entry, presets=(*entry.presets, "small")))
    torch.manual_seed(0)
    trained = build(at_96, ("rgb", "thermal"), 14).eval()
    with torch.no_grad():
        for name, value in trained.named_parameters():
            if "fusions" in name:  # norms and their scales start at ones and zeros
                value.add_(torch.rand_like(value))
    torch.save(trained.state_dict(), tmp_path / "fmb.pt")
    source = open_source(tmp_path / "fmb.pt")
    given = {"name": "mm_sam_adapter", "preset": "small", "labels": "fmb", "modalities": ("rgb", "thermal")}
    spec = complete_spec(source, given | {"input_pixels": 96 * 96, "licence": "mine"})
    import_weights(source, spec, tmp_path / "out", "fp32")
    loaded = load_model(ModelConfig(config="small", checkpoint=str(tmp_path / "out"))).network
    inputs = {"rgb": torch.randn(1, 3, 96, 96), "thermal": torch.randn(1, 3, 96, 96)}
    with torch.inference_mode():
        assert torch.equal(loaded(inputs), trained(inputs))


def test_labels_of_another_number_than_the_heads_classes_are_told_with_those_that_fit(shared_data: Path) -> None:
    source = _full_names(shared_data)
    spec = complete_spec(source, {"labels": "cityscapes", "modalities": ("rgb", "lidar")})
    with pytest.raises(SamsegError) as error:
        fitted(source, spec)
    assert str(error.value) == (
        "full.pth: its head has 25 classes, the label set cityscapes has 19; "
        "choose labels of 25 classes: deliver, a CSV of your own"
    )


def test_the_authors_weights_need_exactly_one_x_modality(shared_data: Path) -> None:
    source = _full_names(shared_data)
    spec = complete_spec(source, {"labels": "deliver", "modalities": ("rgb", "lidar", "event")})
    with pytest.raises(SamsegError, match="with rgb and one X modality, got mm_sam_adapter with rgb, lidar, event"):
        fitted(source, spec)


def test_our_own_checkpoint_keeps_its_labels_beside_it(network: nn.Module, tmp_path: Path) -> None:
    rows = [f"{i},class{i},{i},0,0" for i in range(12)]
    (tmp_path / "mine.csv").write_text("\n".join(["id,name,r,g,b", *rows]))
    torch.save({"network": network.state_dict(), "numbers": {"step": 3}}, tmp_path / "best.pt")
    source = open_source(tmp_path / "best.pt")
    given = OURS.model_dump() | {"labels": str(tmp_path / "mine.csv")}
    import_weights(source, complete_spec(source, given), tmp_path / "out", "fp32")
    (tmp_path / "mine.csv").unlink()
    loaded = load_model(ModelConfig(checkpoint=str(tmp_path / "out")))
    assert loaded.labels.names[11] == "class11"
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in loaded.network.state_dict().items())


def test_a_model_yaml_beside_our_own_file_says_what_it_is_for(network: nn.Module, tmp_path: Path) -> None:
    ours = OURS.model_copy(update={"thermal": ThermalConfig(normalization="minmax")})
    save_model(tmp_path, network, ours)
    spec = complete_spec(open_source(tmp_path / "compact.safetensors"), {"data": "mine", "licence": ""})
    assert spec == ours.model_copy(update={"data": "mine"})


def test_the_authors_thermal_input_is_the_level_over_255_unless_it_is_said_otherwise() -> None:
    given = {"labels": "fmb", "modalities": ("rgb", "thermal"), "input_pixels": 800 * 800}
    theirs = Source(Path("fmb.pth"), {}, "authors")
    eight_bit = ThermalConfig(normalization="fixed", fixed_low=0, fixed_high=255)
    assert complete_spec(theirs, given).thermal == eight_bit
    assert complete_spec(theirs, DELIVER | {"input_pixels": 1024 * 1024}).thermal is None
    kelvin = {"normalization": "fixed", "fixed_low": 250, "fixed_high": 350}
    assert complete_spec(theirs, given | {"thermal": kelvin}).thermal == ThermalConfig(**kelvin)
    ours = given | {"name": "mm_sam_adapter", "preset": "vit_l", "licence": "mine"}
    assert complete_spec(Source(Path("mine.pth"), {}, "own"), ours).thermal is None


def test_what_is_not_known_of_a_file_is_asked_for(network: nn.Module, tmp_path: Path) -> None:
    save_file(network.state_dict(), tmp_path / "a.safetensors")
    source = open_source(tmp_path / "a.safetensors")
    with pytest.raises(SamsegError, match="give --labels, --modalities, --input-size, --licence"):
        complete_spec(source, {"name": "mm_sam_adapter", "preset": "compact"})
    with pytest.raises(SamsegError, match="input_pixels: Input should be greater than or equal to 4096, got 9"):
        complete_spec(source, OURS.model_dump() | {"input_pixels": 9})


def test_keys_that_do_not_fit_are_named(network: nn.Module, tmp_path: Path) -> None:
    state = dict(network.state_dict())
    del state["backbone.level_embed"]
    state["extra"] = torch.zeros(1)
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(SamsegError) as error:
        import_weights(open_source(tmp_path / "a.safetensors"), OURS, tmp_path / "out")
    assert (
        "does not fit mm_sam_adapter (compact) with rgb, thermal: 1 missing (backbone.level_embed); 1 unknown"
        in str(error.value)
    )
    assert not (tmp_path / "out").exists()


def test_a_folder_with_a_model_is_not_overwritten(network: nn.Module, tmp_path: Path) -> None:
    save_model(tmp_path, network, OURS)
    with pytest.raises(SamsegError, match="holds a model already"):
        import_weights(open_source(tmp_path / "compact.safetensors"), OURS, tmp_path)


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_a_sam_is_written_whole_and_read_again(tmp_path: Path, precision: Any) -> None:
    segment_anything = pytest.importorskip("segment_anything", reason="segment-anything is not installed")
    with torch.device("meta"):
        shapes = segment_anything.sam_model_registry["vit_b"]().state_dict()
    # Every tensor is a view of a few numbers, so that the file is small and the test quick.
    state = {k: torch.full((1,), 1 / 3).expand(v.shape) for k, v in shapes.items()}
    torch.save(state, tmp_path / "sam_vit_b_01ec64.pth")
    source = open_source(tmp_path / "sam_vit_b_01ec64.pth")
    path = import_sam(source, tmp_path / "out", precision)
    assert path == tmp_path / "out" / "sam_vit_b.safetensors"
    with safe_open(path, "pt") as file:
        assert file.metadata()["source"] == "sam_vit_b_01ec64.pth" and file.metadata()["size"] == "vit_b"
    again = open_source(path)
    assert again.kind == "sam" and sam_encoder_state(again.state).size == "vit_b"
    frequencies = again.state["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"]
    assert frequencies.dtype == torch.float32 and frequencies[0, 0] == torch.tensor(1 / 3)
    kind = torch.float16 if precision == "fp16" else torch.float32
    assert again.state["image_encoder.pos_embed"].dtype == kind
    with pytest.raises(SamsegError, match="is there already"):
        import_sam(source, tmp_path / "out")
    with pytest.raises(SamsegError, match="import it as sam"):
        fitted(source, OURS)
    path.unlink()  # hundreds of megabytes


def test_weights_beyond_half_precision_are_refused_by_name(tmp_path: Path) -> None:
    segment_anything = pytest.importorskip("segment_anything", reason="segment-anything is not installed")
    with torch.device("meta"):
        shapes = segment_anything.sam_model_registry["vit_b"]().state_dict()
    state = {k: torch.full((1,), 1e6).expand(v.shape) for k, v in shapes.items()}
    torch.save(state, tmp_path / "sam.pth")
    with pytest.raises(SamsegError, match=r"image_encoder\.pos_embed: expected finite weights within float16"):
        import_sam(open_source(tmp_path / "sam.pth"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
