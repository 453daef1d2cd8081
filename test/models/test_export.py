"""Exported networks: written, held against the model, read again and run in its place."""

from __future__ import annotations

import functools
import json
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._inductor.exc
import yaml
from torch import Tensor, nn

from samseg_ros.config import ModelConfig, from_flat
from samseg_ros.errors import InputError, SamsegError
from samseg_ros.labels import LabelSet, load_labels
from samseg_ros.models import MODELS, LoadedModel, ModelSpec, build_network, load_model, mm_sam_adapter
from samseg_ros.models import export as export_module
from samseg_ros.models.artefact import ON_CPU, ON_GPU, ExportedNetwork, providers
from samseg_ros.models.export import Plan, export_model, sensor_sets
from samseg_ros.models.exported_program import load_program
from samseg_ros.models.windows import Windows
from samseg_ros.networks.convnext_stem import StemShape
from samseg_ros.pipeline import Pipeline, given_size
from samseg_ros.runtime import Runner
from samseg_ros.types import Frame

SIZE = (64, 96)
STEM = StemShape((32, 32, 32, 32), (1, 1, 1, 1), kernel=3, entry="overlap_tiered", layer_scale=None, drop_path=0.0)
TINY = replace(
    mm_sam_adapter.PRESETS["compact"],
    **{"vit_dim": 32, "vit_depth": 2, "vit_heads": 2, "global_blocks": (1,), "window": 3, "table": (4, 6)},
    **{"training_size": SIZE, "rgb_stem": STEM, "x_stem": STEM, "interactions": 1, "heads": 2},
    **{"first_width": 16, "head_width": 16},
)
"""The compact network in small: every part of it once or twice."""
SENSORS = ("rgb", "thermal", "lidar")
CPU = {"device": "cpu", "precision": "fp32"}


def plan(kind: str, **changes: Any) -> Plan:
    return replace(Plan(kind, SIZE, SIZE, "fp32", "cpu"), **changes)  # type: ignore[arg-type]


def loaded(
    network: nn.Module, name: str = "mm_sam_adapter", preset: str = "compact", labels: str = "world"
) -> LoadedModel:
    """A model as it comes from disk; batch norms have statistics, so that they do something."""
    torch.manual_seed(0)
    for key, buffer in network.named_buffers():
        if key.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    spec = ModelSpec(
        name=name,
        preset=preset,
        labels=labels,
        modalities=network.modalities,  # type: ignore[arg-type]
        input_pixels=SIZE[0] * SIZE[1],
        weights=f"{preset}.safetensors",
        licence="Apache-2.0",
    )
    return LoadedModel(network.eval(), load_labels(labels), spec)


def tiny() -> LoadedModel:
    torch.manual_seed(1)
    return loaded(mm_sam_adapter.build(TINY, SENSORS, len(load_labels("world"))))


class Mean(nn.Module):
    """Three scores: the camera's mean over 4 x 4 pixels, its negative, and that of thermal where it is there."""

    modalities = ("rgb", "thermal")

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def coarse_logits(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> Tensor:
        small = {name: nn.functional.avg_pool2d(x, 4).mean(1, keepdim=True) for name, x in inputs.items()}
        warm = small.get("thermal", torch.zeros_like(small["rgb"]))
        if present:
            warm = torch.where(present["thermal"].reshape(-1, 1, 1, 1), warm, 0.0)
        return self.gain * torch.cat([small["rgb"], -small["rgb"], warm], 1)


def images(seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: random.standard_normal((3, *SIZE)).astype(np.float32) for name in SENSORS}


ABC = "id,name,r,g,b\n0,a,1,2,3\n1,b,4,5,6\n2,c,7,8,9\n"


@pytest.fixture
def mean(tmp_path: Path) -> LoadedModel:
    (tmp_path / "abc.csv").write_text(ABC)
    return loaded(Mean(), labels=str(tmp_path / "abc.csv"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That network as torch.export writes it."""
    root = tmp_path_factory.mktemp("export")
    (root / "abc.csv").write_text(ABC)
    export_model(loaded(Mean(), labels=str(root / "abc.csv")), root / "torch", plan("torch"))
    return root / "torch"


@pytest.fixture(scope="module")
def tiny_runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """The tiny network, exported and loaded."""
    out = tmp_path_factory.mktemp("export") / "tiny"
    assert export_model(tiny(), out, plan("torch")).difference < 1e-5
    return Runner(opened(out).network, ModelConfig(**CPU))


def opened(folder: Path) -> LoadedModel:
    return load_model(ModelConfig(checkpoint=str(folder)))


# What comes out


def test_the_runner_gives_the_networks_scores_for_every_set_of_sensors(tiny_runner: Runner) -> None:
    exact, found = Runner(tiny().network, ModelConfig(**CPU)), tiny_runner
    assert found.modalities == SENSORS
    for names in (SENSORS, ("rgb",), ("rgb", "thermal"), ("rgb", "lidar")):
        inputs = {name: image for name, image in images().items() if name in names}
        expected = exact(inputs)
        assert expected.std() > 0.01
        np.testing.assert_allclose(found(inputs), expected, atol=1e-5)


def test_any_batch_runs_and_its_images_do_not_mix(tiny_runner: Runner) -> None:
    batch = {name: torch.randn(3, 3, *SIZE) for name in SENSORS}
    there = {"thermal": torch.tensor([True, False, True]), "lidar": torch.tensor([True, True, False])}
    together = tiny_runner._coarse_logits(batch, there)
    assert together.shape == (3, 12, 16, 24)
    for i in range(3):
        one = tiny_runner._coarse_logits(
            {name: x[i : i + 1] for name, x in batch.items()}, {name: x[i : i + 1] for name, x in there.items()}
        )
        torch.testing.assert_close(together[i], one[0], atol=1e-5, rtol=0)


def test_a_frame_is_segmented_as_with_the_weights(folder: Path, mean: LoadedModel) -> None:
    random = np.random.default_rng(0)
    frame = Frame(random.integers(0, 255, (*SIZE, 3), np.uint8), thermal=random.integers(0, 99, SIZE).astype(np.uint16))
    config = from_flat({"model.precision": "fp32", "model.device": "cpu"})
    exact, found = Pipeline(mean, config)(frame), Pipeline(opened(folder), config)(frame)
    assert found.sensors == exact.sensors == ("rgb", "thermal")
    np.testing.assert_allclose(found.logits, exact.logits, atol=1e-5)
    assert (found.labels != exact.labels).mean() < 1e-3


def test_a_frame_of_another_size_is_refused_and_never_squashed(folder: Path) -> None:
    segment = Pipeline(opened(folder), from_flat({"model.device": "cpu"}))
    assert segment.warm_up((480, 640)) > 0  # at its own size
    with pytest.raises(InputError) as error:
        segment(Frame(np.zeros((96, 80, 3), np.uint8)))  # scale 0.894: 85.9 x 71.6
    assert str(error.value) == (
        "camera image: expected a size of which the network is given 64x96, for which it was exported, got 96x80, "
        "which it would see at 96x64; export it for this camera, by the command that made it with --size 96x80"
    )


class Centred(Mean):
    """What a pixel scores depends on all that is seen with it."""

    def coarse_logits(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> Tensor:
        scores = super().coarse_logits(inputs, present)
        return scores - scores.mean((2, 3), keepdim=True)


@pytest.mark.parametrize("camera", [SIZE, (128, 96)])
def test_weights_that_see_windows_are_exported_as_one_window_for_every_camera(
    camera: tuple[int, int], mean: LoadedModel, tmp_path: Path
) -> None:
    windows = Windows(size=(64, 64), stride=(32, 32))
    model = replace(mean, network=Centred().eval(), spec=mean.spec.model_copy(update={"windows": windows}))
    assert given_size(model.spec, camera) == (64, 64)
    export_model(model, tmp_path / "out", plan("torch", input_size=given_size(model.spec, SIZE)))
    noise = np.random.default_rng(0).integers(0, 99, (*camera, 3), np.uint8)
    slope = np.add.outer(*(np.linspace(0, 75, side).astype(np.uint8) for side in camera))
    frame = Frame(noise + slope[:, :, None])  # no window as bright as the next
    config = from_flat({"model.precision": "fp32", "model.device": "cpu"})
    exact, found = Pipeline(model, config)(frame), Pipeline(opened(tmp_path / "out"), config)(frame)
    np.testing.assert_allclose(found.logits, exact.logits, atol=1e-5)
    whole = Pipeline(replace(model, spec=mean.spec), config)(frame)
    assert np.abs(whole.logits - exact.logits).max() > 0.01


def test_the_folder_says_what_it_is(folder: Path) -> None:
    artefact = opened(folder).spec.artefact
    assert artefact is not None and artefact.camera_size == SIZE
    assert (artefact.format, artefact.input_size, artefact.precision, artefact.device) == ("torch", SIZE, "fp32", "cpu")
    assert artefact.made_with == f"torch {torch.__version__}"
    facts = json.loads((folder / "export.json").read_text())
    assert 0 <= facts["difference"] < 1e-5 and facts["allowed"] == 1e-3
    assert sorted(path.name for path in folder.iterdir()) == ["abc.csv", "compact.pt2", "export.json", "model.yaml"]


def test_labels_of_the_users_own_go_along(mean: LoadedModel, tmp_path: Path) -> None:
    export_model(mean, tmp_path / "out", plan("torch"))
    (tmp_path / "abc.csv").unlink()
    labels: LabelSet = opened(tmp_path / "out").labels
    assert (labels.name, labels.names) == ("abc", ("a", "b", "c"))
    np.testing.assert_array_equal(labels.colors, [[1, 2, 3], [4, 5, 6], [7, 8, 9]])


def test_onnx_gives_the_numbers_computed_by_hand(mean: LoadedModel, tmp_path: Path) -> None:
    exported = export_model(mean, tmp_path / "out", plan("onnx"))
    assert exported.difference < 1e-5 and exported.files["compact.onnx"] > 0
    run = Runner(opened(tmp_path / "out").network, ModelConfig(**CPU))
    inputs = {"rgb": np.full((3, *SIZE), 2, np.float32), "thermal": np.full((3, *SIZE), 5, np.float32)}
    np.testing.assert_allclose(run(inputs), np.broadcast_to([[[2]], [[-2]], [[5]]], (3, 16, 24)), rtol=1e-6)
    np.testing.assert_allclose(run({"rgb": inputs["rgb"]})[2], 0)


def test_onnx_with_its_weights_in_a_file_of_their_own_is_checked_as_a_whole(
    mean: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = functools.partialmethod(torch.onnx.ONNXProgram.save, external_data=True)  # as above 1.5 GB
    monkeypatch.setattr(torch.onnx.ONNXProgram, "save", save)
    out = tmp_path / "out"
    artefact = export_model(mean, out, plan("onnx")).spec.artefact
    assert artefact is not None and list(artefact.data) == ["compact.onnx.data"]
    assert Runner(opened(out).network, ModelConfig(**CPU))({"rgb": np.ones((3, *SIZE), np.float32)}).shape == (
        3,
        16,
        24,
    )
    (out / "compact.onnx.data").write_bytes(b"other weights")
    with pytest.raises(SamsegError, match=r"compact\.onnx\.data: expected sha256"):
        opened(out)


def test_bf16_is_baked_in(mean: LoadedModel, tmp_path: Path) -> None:
    torch.manual_seed(0)
    mean.network.linear = nn.Conv2d(3, 3, 1)

    def low(inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> Tensor:
        return nn.functional.avg_pool2d(mean.network.linear(inputs["rgb"]), 4)

    mean.network.coarse_logits = low  # type: ignore[assignment]
    exported = export_model(mean, tmp_path / "out", plan("torch", precision="bf16"))
    assert exported.difference < 2e-2
    run = Runner(opened(tmp_path / "out").network, ModelConfig(device="cpu"))
    assert run({"rgb": np.ones((3, *SIZE), np.float32)}).dtype == np.float32
    with pytest.raises(SamsegError, match="expected auto or bf16, in which the network was exported, got fp32"):
        Runner(opened(tmp_path / "out").network, ModelConfig(device="cpu", precision="fp32"))


def test_a_network_that_freezes_a_part_of_itself_exports(mean: LoadedModel, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = mean.network
    network.linear = nn.Conv2d(3, 3, 1)

    def frozen(inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> Tensor:
        with torch.set_grad_enabled(False):
            features = network.linear(inputs["rgb"])
        return nn.functional.avg_pool2d(network.linear(features), 4)

    network.coarse_logits = frozen  # type: ignore[assignment]
    assert export_model(mean, tmp_path / "out", plan("torch")).difference < 1e-5


# What is refused


def test_an_artefact_that_differs_from_the_model_is_not_kept(
    mean: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = export_module._traced

    def wrong(network: nn.Module, chosen: Plan) -> Any:
        network.get_parameter("gain").data *= 1.01
        return traced(network, chosen)

    monkeypatch.setattr(export_module, "_traced", wrong)
    with pytest.raises(
        SamsegError, match=r"the torch artefact is wrong and was not kept: its logits differ by 1\.0e-02"
    ):
        export_model(mean, tmp_path / "out", plan("torch"))
    assert [path.name for path in tmp_path.iterdir()] == ["abc.csv"]


def test_nan_is_a_difference(mean: LoadedModel, tmp_path: Path) -> None:
    mean.network.get_parameter("gain").data *= torch.nan
    with pytest.raises(SamsegError, match="differ by nan"):
        export_model(mean, tmp_path / "out", plan("torch"))


def test_nothing_is_overwritten(mean: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(SamsegError, match="is there already"):
        export_model(mean, tmp_path, plan("torch"))


def test_an_artefact_is_not_exported_again(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SamsegError, match=r"compact\.pt2 is an exported network; expected weights"):
        export_model(opened(folder), tmp_path / "out", plan("torch"))


@pytest.mark.parametrize("change", [{"precision": "bf16"}, {"device": "cuda"}])
def test_onnx_is_written_in_float32_on_the_processor(mean: LoadedModel, tmp_path: Path, change: dict[str, str]) -> None:
    with pytest.raises(SamsegError, match="--format onnx: expected precision fp32 and device cpu"):
        export_model(mean, tmp_path / "out", plan("onnx", **change))


@pytest.mark.parametrize("library", ["onnxruntime", "onnxscript"])
def test_a_library_that_is_not_installed_is_named_with_its_extra(
    mean: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # importing it fails
    with pytest.raises(SamsegError, match=rf"{library}.*pip install '\.\[export\]'"):
        export_model(mean, tmp_path / "out", plan("onnx"))


def test_aoti_without_a_compiler_is_told(mean: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_(*_: Any, **__: Any) -> None:
        raise torch._inductor.exc.InvalidCxxCompiler

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", compile_)
    with pytest.raises(SamsegError, match="there is no compiler: apt install g"):
        export_model(mean, tmp_path / "out", plan("aoti"))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"compile": True}, "model.compile: expected false"),
        ({"precision": "bf16"}, "model.precision: expected auto or fp32, in which the network was exported, got bf16"),
        ({"device": "cuda"}, "model.device: expected auto or cpu, for which the network was exported, got 'cuda'"),
    ],
)
def test_settings_that_contradict_what_is_baked_in_are_refused(
    folder: Path, settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(SamsegError, match=told):
        Runner(opened(folder).network, ModelConfig(**settings))


def test_a_damaged_or_missing_file_is_refused_before_it_is_read(folder: Path, tmp_path: Path) -> None:
    for name in ("model.yaml", "compact.pt2", "abc.csv"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with (tmp_path / "compact.pt2").open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(SamsegError, match=r"compact\.pt2: expected sha256 [0-9a-f]{64}, got [0-9a-f]{64}"):
        opened(tmp_path)
    (tmp_path / "compact.pt2").unlink()
    with pytest.raises(SamsegError, match=r"no exported network at .*compact\.pt2"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("entries", "baked_in", "told"),
    [
        ({"modalities": ["rgb", "lidar"]}, {}, "exported with sensors rgb, thermal and 3 classes, got rgb, lidar"),
        ({"modalities": ["rgb"]}, {}, "exported with sensors rgb, thermal and 3 classes, got rgb and"),
        ({"labels": "cityscapes"}, {}, "got rgb, thermal and a label set of 19"),
        ({}, {"input_size": [96, 96]}, "is not what its model.yaml says"),
        ({"labels": "cityscapes"}, {"classes": 19}, r"logits \(1, 3, 16, 24\) instead of \(1, 19, 16, 24\)"),
        ({}, {"camera_size": [640, 640]}, "model.yaml contradicts itself: cameras of"),
        ({}, {"device": "any"}, "expected device any for onnx and cpu or cuda for the others"),
        ({"weights": "../torch/compact.pt2"}, {}, "weights: String should match pattern"),
    ],
)
def test_a_model_yaml_that_contradicts_its_graph_is_refused(
    folder: Path, tmp_path: Path, entries: dict[str, Any], baked_in: dict[str, Any], told: str
) -> None:
    for name in ("compact.pt2", "abc.csv"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    tree = yaml.safe_load((folder / "model.yaml").read_text())
    tree |= {**entries, "artefact": {**tree["artefact"], **baked_in}}
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(SamsegError, match=told):
        Pipeline(opened(tmp_path), from_flat({f"model.{name}": value for name, value in CPU.items()}))


# Nothing in a file is run


def edited(folder: Path, out: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The artefact with some of its records changed."""
    with zipfile.ZipFile(folder / "compact.pt2") as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    change(records)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    return out


def in_graph(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, bytes]], None]:
    def apply(records: dict[str, bytes]) -> None:
        name = next(name for name in records if name.endswith("models/model.json"))
        tree = json.loads(records[name])
        change(tree)
        records[name] = json.dumps(tree).encode()

    return apply


def add(name: str, content: bytes) -> Callable[[dict[str, bytes]], None]:
    def apply(records: dict[str, bytes]) -> None:
        records[f"{next(iter(records)).partition('/')[0]}/{name}"] = content

    return apply


def first_node(**entries: Any) -> Callable[[dict[str, bytes]], None]:
    return in_graph(lambda tree: tree["graph_module"]["graph"]["nodes"][0].update(entries))


def pickled(records: dict[str, bytes]) -> None:
    name = next(name for name in records if name.endswith("model_weights_config.json"))
    tree = json.loads(records[name])
    next(iter(tree["config"].values()))["use_pickle"] = True
    records[name] = json.dumps(tree).encode()


def test_an_untouched_copy_is_read(folder: Path, tmp_path: Path) -> None:
    assert load_program(edited(folder, tmp_path / "same.pt2", lambda records: None)).graph.nodes


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (first_node(target="torch.os.system"), "target 'torch.os.system'"),
        (first_node(target="torch.ops.aten.from_file.default"), "target 'torch.ops.aten.from_file.default'"),
        (first_node(metadata={"stack_trace": "x"}), "metadata"),
        (first_node(name="x=print()"), r"name 'x=print\(\)'"),
        (in_graph(lambda tree: tree.update(guards_code=["print()"])), "guards_code"),
        (in_graph(lambda tree: tree.update(more={"expr_str": "__import__('os').getpid()"})), "expr_str"),
        (in_graph(lambda tree: tree.update(more={"in_spec": '[1, {"type": "os.x", "context": null}]'})), "in_spec"),
        (add("data/sample_inputs/model.pt", b"pickle"), "pickled example inputs"),
        (add("data/constants/custom_obj_0", b"pickle"), "a record 'data/constants/custom_obj_0'"),
        (add("data/weights/model.pt", b"pickle"), "a record 'data/weights/model.pt'"),
        (pickled, "use_pickle True"),
    ],
)
def test_whatever_could_run_code_is_refused(
    folder: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], None], told: str
) -> None:
    with pytest.raises(InputError, match=rf"got {told}.*nothing of it was run"):
        load_program(edited(folder, tmp_path / "bad.pt2", change))


def test_a_shape_that_would_run_code_does_not(folder: Path, tmp_path: Path) -> None:
    sign = tmp_path / "sign"

    def poison(records: dict[str, bytes]) -> None:
        name = next(name for name in records if name.endswith("models/model.json"))
        text = records[name].decode()
        symbol = text.split('"expr_str": "')[1].partition('"')[0]
        records[name] = text.replace(symbol, f"__import__('pathlib').Path('{sign}').touch()").encode()

    with pytest.raises(InputError, match="nothing of it was run"):
        load_program(edited(folder, tmp_path / "bad.pt2", poison))
    assert not sign.exists()


def test_a_file_that_cannot_be_loaded_is_not_read_by_another_parser(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_weights(records: dict[str, bytes]) -> None:
        for name in [name for name in records if "data/weights/weight_" in name]:
            del records[name]

    path = edited(folder, tmp_path / "compact.pt2", without_weights)
    # torch.export.load would go on to zipfile and its pickles; one file can show each parser another archive.
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("read a second time"))
    with pytest.raises(SamsegError, match="cannot be loaded by PyTorch"):
        load_program(path)


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.pt2").write_bytes(b"nothing")
    with pytest.raises(SamsegError, match="cannot be read as an exported program"):
        load_program(tmp_path / "bad.pt2")


def test_no_path_or_module_of_this_machine_stands_in_the_file(folder: Path) -> None:
    with zipfile.ZipFile(folder / "compact.pt2") as archive:
        text = b"".join(archive.read(name) for name in archive.namelist() if name.endswith(".json"))
    assert b"samseg_ros" not in text and str(Path(__file__).parents[2]).encode() not in text


# Choices


def test_sensor_sets_are_all_none_and_each_alone() -> None:
    assert sensor_sets(SENSORS) == [SENSORS, ("rgb",), ("rgb", "thermal"), ("rgb", "lidar")]
    assert sensor_sets(("rgb", "lidar")) == [("rgb", "lidar"), ("rgb",)]
    assert sensor_sets(("rgb",)) == [("rgb",)]


def test_onnxruntime_takes_the_best_provider_that_the_device_allows() -> None:
    both = ["CUDAExecutionProvider", ON_CPU]
    assert providers("auto", [*ON_GPU, ON_CPU]) == [*ON_GPU, ON_CPU]
    assert providers("auto", both) == both
    assert providers("cuda", both) == ["CUDAExecutionProvider"]
    assert providers("cpu", both) == providers("auto", [ON_CPU]) == [ON_CPU]
    with pytest.raises(SamsegError, match="pip install onnxruntime-gpu"):
        providers("cuda", [ON_CPU])
    with pytest.raises(SamsegError, match="expected auto, cpu or cuda for an ONNX artefact, got 'mps'"):
        providers("mps", both)


def test_an_exported_network_has_to_be_started(folder: Path) -> None:
    network = opened(folder).network
    assert isinstance(network, ExportedNetwork)
    with pytest.raises(SamsegError, match=r"expected start\(\)"):
        network.coarse_logits({}, {})


# Every model and preset

PRESETS = [(name, preset) for name, entry in MODELS.items() for preset in entry.presets]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_every_preset_exports_with_torch(name: str, preset: str, tmp_path: Path) -> None:
    network = build_network(name, preset, MODELS[name].sensors, 12)
    exported = export_model(loaded(network, name, preset), tmp_path / "out", plan("torch"))
    assert exported.difference < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_compact_model_exports_to_onnx(name: str, tmp_path: Path) -> None:
    sensors = SENSORS if name == "mm_sam_adapter" else MODELS[name].sensors
    network = build_network(name, "compact", sensors, 12)
    export_model(loaded(network, name), tmp_path / "out", plan("onnx"))
    run = Runner(load_model(ModelConfig(name=name, checkpoint=str(tmp_path / "out"))).network, ModelConfig(**CPU))
    assert run({"rgb": np.zeros((3, *SIZE), np.float32)}).shape == (12, 16, 24)


@pytest.mark.slow
def test_aoti_compiles_the_network(tmp_path: Path) -> None:
    exported = export_model(tiny(), tmp_path / "out", plan("aoti"))
    assert exported.difference < 1e-4
    exact, found = Runner(tiny().network, ModelConfig(**CPU)), Runner(opened(tmp_path / "out").network, ModelConfig())
    inputs = {name: image for name, image in images().items() if name != "thermal"}
    np.testing.assert_allclose(found(inputs), exact(inputs), atol=1e-4)
