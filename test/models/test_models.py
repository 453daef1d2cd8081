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
from samseg_ros.resources import config_dir, models_dir

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
    sensors = MODELS[name].sensors
    with torch.device("meta"):
        net = build_network(name, preset, sensors, 5).eval()
    assert net.modalities == sensors
    if sum(p.numel() for p in net.parameters()) > 50_000_000:  # shapes alone for what would fill the memory
        with torch.device("meta"), torch.no_grad():
            assert net({"rgb": torch.zeros(1, 3, 64, 64)}).shape == (1, 5, 64, 64)
        return
    net = build_network(name, preset, sensors, 5).eval()
    with torch.inference_mode():
        assert net({"rgb": torch.zeros(1, 3, 64, 64)}).isfinite().all()
        assert net({"rgb": torch.zeros(1, 3, 64, 64)}).shape == (1, 5, 64, 64)


@pytest.mark.parametrize(("name", "option"), [(n, o) for n, entry in MODELS.items() for o in entry.options])
def test_unknown_options_and_values_are_refused_with_what_there_is(name: str, option: str) -> None:
    entry = MODELS[name]
    with pytest.raises(SamsegError, match=rf"{name}: no option '{option}s'; did you mean '{option}'\?"):
        build_network(name, entry.presets[0], ("rgb",), 2, {option + "s": "on"})
    with pytest.raises(SamsegError, match=rf"option {option}: expected {entry.options[option][0]} \| .*, got 'maybe'"):
        build_network(name, entry.presets[0], ("rgb",), 2, {option: "maybe"})


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
    shipped = read_spec(models_dir() / "mm_sam_adapter" / "model.yaml")
    assert load_model(_config(elsewhere)).spec == shipped.model_copy(update={"temperature": 1.0})


def test_the_shipped_model_yaml_is_valid_and_names_a_shipped_label_set() -> None:
    shipped = sorted(models_dir().glob("*/model.yaml"))
    assert shipped
    for path in shipped:
        spec = read_spec(path)
        assert spec.name == path.parent.name and spec.preset in MODELS[spec.name].presets
        assert len(load_labels(spec.labels)) > 1


def test_a_model_without_shipped_weights_says_how_to_get_some() -> None:
    for name in set(MODELS) - {path.parent.name for path in models_dir().glob("*/model.yaml")}:
        with pytest.raises(
            SamsegError, match=rf"no weights of {name} \(compact\) are shipped, or installed in .*; .*samseg train"
        ):
            load_model(ModelConfig(name=name))


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
        ({"temperature": 0.0}, "temperature: Input should be greater than 0, got 0.0"),
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
    with pytest.raises(SamsegError, match=r"cannot take 'thermel' beside rgb; did you mean 'thermal'\?"):
        build_network("mm_sam_adapter", "compact", ("rgb", "thermel"), 12)


def test_every_model_has_a_parameter_file() -> None:
    assert {f.name.removesuffix(".param.yaml") for f in config_dir().glob("*.param.yaml")} == set(MODELS)
