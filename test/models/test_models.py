"""The table of models, model.yaml, and weights on disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from samseg_ros.config import ModelConfig
from samseg_ros.errors import SamsegError
from samseg_ros.labels import load_labels
from samseg_ros.models import MODELS, ModelSpec, build_network, load_model, read_spec, save_model
from samseg_ros.models.weights import load_weights
from samseg_ros.resources import models_dir

SPEC = ModelSpec(
    name="mm_sam_adapter",
    preset="compact",
    labels="world",
    modalities=("rgb", "thermal", "lidar"),
    input_pixels=288 * 384,
    weights="own.safetensors",
    licence="Apache-2.0",
)


def _config(checkpoint: Path | str) -> ModelConfig:
    return ModelConfig(checkpoint=str(checkpoint))


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    net = build_network("mm_sam_adapter", "compact", SPEC.modalities, 12)
    for name, buffer in net.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return net.eval()


@pytest.fixture
def folder(tmp_path: Path, network: torch.nn.Module) -> Path:
    save_model(tmp_path, network, SPEC)
    return tmp_path


@pytest.mark.parametrize(("name", "preset"), [(n, p) for n, entry in MODELS.items() for p in entry.presets])
def test_every_preset_in_the_table_segments_an_image(name: str, preset: str) -> None:
    net = build_network(name, preset, ("rgb", "thermal"), 5).eval()
    assert net.modalities == ("rgb", "thermal")
    with torch.inference_mode():
        assert net({"rgb": torch.zeros(1, 3, 64, 64)}).shape == (1, 5, 64, 64)


def test_weights_come_back_from_disk_in_half_precision(folder: Path, network: torch.nn.Module) -> None:
    loaded = load_model(_config(folder))
    assert len(loaded.labels) == 12 and loaded.spec.modalities == SPEC.modalities
    stored = loaded.network.state_dict()
    for name, value in network.state_dict().items():
        half = value.half().float() if name in dict(network.named_parameters()) else value
        assert torch.equal(stored[name], half), name
    assert not loaded.network.training


def test_compact_weights_stay_below_twelve_megabytes(folder: Path) -> None:
    assert (folder / "own.safetensors").stat().st_size < 12_000_000


def test_the_spec_on_disk_holds_the_digest_of_the_weights(folder: Path) -> None:
    digest = hashlib.sha256((folder / "own.safetensors").read_bytes()).hexdigest()
    assert read_spec(folder / "model.yaml") == SPEC.model_copy(update={"sha256": digest})


def test_a_weights_file_is_read_with_the_model_yaml_beside_it_or_else_with_the_shipped_one(folder: Path) -> None:
    assert load_model(_config(folder / "own.safetensors")).spec.weights == "own.safetensors"
    elsewhere = (folder / "own.safetensors").rename(folder / "other.safetensors")
    assert load_model(_config(elsewhere)).spec == read_spec(models_dir() / "mm_sam_adapter" / "model.yaml")


def test_the_shipped_model_yaml_is_valid_and_names_a_shipped_label_set() -> None:
    for name, entry in MODELS.items():
        spec = read_spec(models_dir() / name / "model.yaml")
        assert spec.name == name and spec.preset in entry.presets
        assert len(load_labels(spec.labels)) > 1


def test_a_label_set_may_lie_beside_the_model_yaml(folder: Path, network: torch.nn.Module) -> None:
    rows = [f"{i},class{i},{i},0,0" for i in range(12)]
    (folder / "mine.csv").write_text("\n".join(["id,name,r,g,b", *rows]))
    save_model(folder, network, SPEC.model_copy(update={"labels": "mine.csv"}))
    assert load_model(_config(folder)).labels.names[11] == "class11"


def test_damaged_weights_are_told_from_their_digest(folder: Path) -> None:
    data = bytearray((folder / "own.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "own.safetensors").write_bytes(data)
    with pytest.raises(SamsegError, match=r"own\.safetensors: expected sha256 [0-9a-f]{64}, got [0-9a-f]{64}"):
        load_model(_config(folder))


def test_weights_that_do_not_fit_are_refused_with_their_keys(folder: Path, network: torch.nn.Module) -> None:
    path = folder / "own.safetensors"
    tensors = load_file(path)
    tensors["extra.weight"] = torch.zeros(1)
    del tensors["backbone.level_embed"]
    tensors["decode_head.conv_seg.bias"] = torch.zeros(25)
    save_file(tensors, path)
    with pytest.raises(SamsegError) as error:
        load_weights(path, network)
    assert str(error.value) == (
        f"{path}: the weights do not fit the model: 1 missing (backbone.level_embed); 1 not in this model "
        "(extra.weight); 1 of another shape (decode_head.conv_seg.bias (25,) for (12,)); "
        "check model.config and the labels"
    )


def test_a_diverged_network_is_not_saved(tmp_path: Path, network: torch.nn.Module) -> None:
    bias = network.get_parameter("decode_head.conv_seg.bias")
    keep, bias.data = bias.data, torch.full((12,), 1e6)  # beyond float16
    with pytest.raises(
        SamsegError, match=r"decode_head\.conv_seg\.bias: expected finite weights within float16, got 1e\+06"
    ):
        save_model(tmp_path, network, SPEC)
    bias.data = keep
    assert not (tmp_path / "model.yaml").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"presett": "compact"}, "presett: Extra inputs are not permitted"),
        ({"input_pixels": 10}, "input_pixels: Input should be greater than or equal to 4096, got 10"),
        ({"name": "ad_sam"}, "expected weights of mm_sam_adapter (compact), got ad_sam (compact)"),
        ({"modalities": ["thermal", "rgb"]}, "expected modalities that start with rgb, each once"),
        ({"labels": "wrold"}, "did you mean 'world'?"),
        ({"weights": "gone.safetensors"}, "no weights at"),
    ],
)
def test_a_wrong_model_yaml_is_refused(folder: Path, change: dict[str, object], told: str) -> None:
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **change}))
    with pytest.raises(SamsegError) as error:
        load_model(_config(folder))
    assert told in str(error.value)


def test_a_file_that_holds_no_tensors_is_refused(folder: Path, network: torch.nn.Module) -> None:
    (folder / "own.safetensors").write_bytes(b"not weights")
    with pytest.raises(SamsegError, match="expected a safetensors file"):
        load_weights(folder / "own.safetensors", network)


def test_unknown_models_and_presets_are_answered_with_the_nearest_name() -> None:
    with pytest.raises(SamsegError, match=r"no model 'mm_sam_adaptor'; did you mean 'mm_sam_adapter'\?"):
        load_model(ModelConfig(name="mm_sam_adaptor"))
    with pytest.raises(SamsegError, match=r"no preset 'kompact'; did you mean 'compact'\?"):
        build_network("mm_sam_adapter", "kompact", ("rgb",), 12)
