"""Networks as artefacts: graph and weights in a folder that ``model.checkpoint`` can name, as that of the weights.

Every artefact is read back and held against the network before it is kept.
"""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from samseg_ros.errors import SamsegError
from samseg_ros.models import LoadedModel, ModelSpec, write_spec
from samseg_ros.models.artefact import LOGITS, Artefact, ExportedNetwork, Format, import_onnxruntime, input_names
from samseg_ros.models.exported_program import save_program
from samseg_ros.models.weights import sha256
from samseg_ros.networks.precision import cast_weights

TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2}
"""Largest difference from the network in the same arithmetic, as a share of its largest logit."""
OPSET = 20
"""Of ONNX: the first whose GridSample the exporter writes."""
EXPORT_FILE = "export.json"
SEED = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to export."""

    format: Format
    camera_size: tuple[int, int]
    """(H, W) of the camera's images."""
    input_size: tuple[int, int]
    """(h, w) that the network sees of them."""
    precision: Literal["fp32", "bf16"]
    device: Literal["cpu", "cuda"]
    """Where torch and aoti artefacts will run; an ONNX graph runs anywhere."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    spec: ModelSpec
    difference: float
    """Largest difference from the network, as a share of its largest logit."""
    files: Mapping[str, int]
    """Name to bytes."""


def export_model(
    loaded: LoadedModel, out: Path, plan: Plan, report: Callable[[str], None] = lambda _: None
) -> Exported:
    """Write a network as an artefact: graph, model.yaml, export.json and labels of the user's own.

    Args:
        loaded: with weights; the network is taken over (moved, its weights cast).
        out: must not exist; appears whole, or not at all.
        plan: what to export.
        report: is told each stage as it begins.

    Raises:
        SamsegError: a plan that cannot be, a folder that exists, an artefact instead of weights, a library or compiler
            that is missing, or an artefact whose logits differ from the network's.
    """
    _refuse(loaded, out, plan)
    report("running the model")
    network = loaded.network.to(plan.device).eval().requires_grad_(False)
    if plan.precision == "bf16":
        cast_weights(network, torch.bfloat16)
    cases = list(_cases(network, plan))
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f"{out.name}.", suffix=".part", dir=out.parent))
    part.chmod(out.parent.stat().st_mode & 0o777)  # mkdtemp's folders are for their owner alone
    try:
        spec = _write(loaded, part, plan, report)
        report("comparing the artefact with the model")
        difference = largest_difference(_started(part, spec), cases, plan.device)
        if not difference <= TOLERANCE[plan.precision]:  # NaN too
            raise SamsegError(
                f"the {plan.format} artefact is wrong and was not kept: its logits differ by {difference:.1e} of the "
                f"largest logit, expected at most {TOLERANCE[plan.precision]:.0e}; try another --format"
            )
        _record(part / EXPORT_FILE, plan, difference)
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Exported(spec, difference, {path.name: path.stat().st_size for path in sorted(out.iterdir())})


@dataclass(frozen=True, slots=True)
class _Case:
    """One image with some of its sensors, and what the network makes of it."""

    inputs: Mapping[str, Tensor]
    """(3, h, w) per modality that is there."""
    logits: Tensor
    """(K, h/4, w/4)."""


def sensor_sets(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """Return all sensors, the camera alone, and the camera with each one of the others."""
    rgb, *others = modalities
    sets = [tuple(modalities), (rgb,), *((rgb, name) for name in others)]
    return list(dict.fromkeys(sets))


def _cases(network: nn.Module, plan: Plan) -> Iterator[_Case]:
    """Yield a random image for every set of sensors; the network is not even handed the sensors that are missing."""
    random = torch.Generator().manual_seed(SEED)
    for names in sensor_sets(network.modalities):  # type: ignore[arg-type]
        inputs = {name: torch.randn(3, *plan.input_size, generator=random).to(plan.device) for name in names}
        with torch.inference_mode(), _arithmetic(plan):
            logits = network.coarse_logits({name: image[None] for name, image in inputs.items()})  # type: ignore[operator]
        yield _Case(inputs, logits[0].float())


def largest_difference(network: ExportedNetwork, cases: Sequence[_Case], device: str) -> float:
    """Return the largest difference from the network's logits, as a share of its largest: one by one and in pairs.

    A pair is a batch of two different sets of sensors.
    """
    batches = [[case] for case in cases] + [[a, b] for a, b in zip(cases, [*cases[1:], cases[0]], strict=True)]
    differences = []
    for batch in batches:
        with torch.inference_mode():
            found = network.coarse_logits(*_stacked(network.modalities, batch, device))
        expected = torch.stack([case.logits for case in batch])
        differences.append((found.to(expected.device) - expected).abs().max())
    scale = torch.stack([case.logits.abs().max() for case in cases]).max()
    return float(torch.stack(differences).max() / scale)  # max keeps NaN


def _stacked(
    modalities: Sequence[str], batch: Sequence[_Case], device: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return inputs and presence of every modality; what is missing is zero."""
    blank = torch.zeros_like(batch[0].inputs["rgb"])
    inputs = {name: torch.stack([case.inputs.get(name, blank) for case in batch]).to(device) for name in modalities}
    there = {name: torch.tensor([name in case.inputs for case in batch], device=device) for name in modalities[1:]}
    return inputs, there


def _write(loaded: LoadedModel, folder: Path, plan: Plan, report: Callable[[str], None]) -> ModelSpec:
    """Write graph, labels and model.yaml."""
    report("tracing")
    program = _traced(loaded.network, plan)
    report(f"writing {plan.format}")
    path = folder / f"{loaded.spec.preset}.{_SUFFIXES[plan.format]}"
    _WRITERS[plan.format](program, path, input_names(loaded.spec.modalities))
    others = [p for p in folder.iterdir() if p != path]
    artefact = Artefact(
        format=plan.format,
        inputs=tuple(loaded.spec.modalities),
        classes=len(loaded.labels),
        camera_size=plan.camera_size,
        input_size=plan.input_size,
        precision=plan.precision,
        device="any" if plan.format == "onnx" else plan.device,
        made_with=f"torch {torch.__version__}",
        data={p.name: sha256(p) for p in others},
    )
    labels = _labels(loaded, folder)
    changes = {"weights": path.name, "sha256": sha256(path), "labels": labels, "artefact": artefact}
    spec = loaded.spec.model_copy(update=changes)
    write_spec(folder, spec)
    return spec


def _arithmetic(plan: Plan) -> AbstractContextManager[object]:
    return torch.autocast(plan.device, torch.bfloat16) if plan.precision == "bf16" else nullcontext()


class _Graph(nn.Module):
    """The network with its inputs in a row, as `samseg_ros.models.artefact` says."""

    def __init__(self, network: nn.Module, plan: Plan) -> None:
        super().__init__()
        self.network, self.plan = network, plan

    def forward(self, *tensors: Tensor) -> Tensor:
        names: tuple[str, ...] = self.network.modalities  # type: ignore[assignment]
        images, there = tensors[: len(names)], tensors[len(names) :]
        with _arithmetic(self.plan):
            logits: Tensor = self.network.coarse_logits(  # type: ignore[operator]
                dict(zip(names, images, strict=True)), dict(zip(names[1:], there, strict=True))
            )
        return logits.float()


def _traced(network: nn.Module, plan: Plan) -> ExportedProgram:
    """Return the graph of a network for any batch."""
    names: tuple[str, ...] = network.modalities  # type: ignore[assignment]
    images = [torch.zeros(2, 3, *plan.input_size, device=plan.device) for _ in names]
    example = (*images, *(torch.ones(2, dtype=torch.bool, device=plan.device) for _ in names[1:]))
    batch = Dim("batch", min=1)
    shapes = (tuple({0: batch} for _ in example),)
    with torch.no_grad():  # a network that switches gradients off in parts would get graphs within the graph
        return torch.export.export(_Graph(network, plan).eval(), example, dynamic_shapes=shapes, strict=False)


def _write_onnx(program: ExportedProgram, path: Path, names: Sequence[str]) -> None:
    written = torch.onnx.export(
        program, (), dynamo=True, opset_version=OPSET, input_names=names, output_names=[LOGITS], verbose=False
    )
    if written is None:
        raise SamsegError("torch.onnx.export gave no program; use a newer torch, or --format torch")
    written.save(path)


def _write_aoti(program: ExportedProgram, path: Path, names: Sequence[str]) -> None:
    import torch._inductor as inductor  # slow to import
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        inductor.aoti_compile_and_package(program, package_path=str(path))
    except InvalidCxxCompiler as error:
        raise SamsegError(
            "--format aoti compiles C++, and there is no compiler: apt install g++, or set CXX"
        ) from error


_WRITERS: dict[str, Callable[[ExportedProgram, Path, Sequence[str]], None]] = {
    "torch": lambda program, path, names: save_program(program, path),
    "onnx": _write_onnx,
    "aoti": _write_aoti,
}
_SUFFIXES = {"torch": "pt2", "onnx": "onnx", "aoti": "pt2"}


def _refuse(loaded: LoadedModel, out: Path, plan: Plan) -> None:
    if loaded.spec.artefact:
        raise SamsegError(f"{loaded.spec.weights} is an exported network; expected weights, export those")
    if out.exists():
        raise SamsegError(f"{out} is there already; choose another --out, or remove it")
    if plan.format != "onnx":
        return
    if (plan.precision, plan.device) != ("fp32", "cpu"):
        raise SamsegError(
            "--format onnx: expected precision fp32 and device cpu, with which the graph is checked; it runs on a GPU "
            "all the same, and TensorRT chooses its own precision"
        )
    import_onnxruntime()
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise SamsegError(
            f"--format onnx wants onnxscript ({error}); install the extra export: pip install '.[export]' in the clone"
        ) from None


def _labels(loaded: LoadedModel, folder: Path) -> str:
    """Return what model.yaml calls the labels; a CSV of the user's own is written beside."""
    if not loaded.spec.labels.endswith(".csv"):
        return loaded.spec.labels
    labels = loaded.labels
    path = folder / f"{labels.name}.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "name", "r", "g", "b"])
        writer.writerows([i, name, *map(int, labels.colors[i])] for i, name in enumerate(labels.names))
    return path.name


def _started(folder: Path, spec: ModelSpec) -> ExportedNetwork:
    """Load what was just written, on the device that it was written for."""
    artefact: Any = spec.artefact
    network = ExportedNetwork(folder / spec.weights, artefact, spec.modalities)
    network.start("cpu" if artefact.device == "any" else artefact.device, torch.get_num_threads())
    return network


def _record(path: Path, plan: Plan, difference: float) -> None:
    facts = {"difference": difference, "allowed": TOLERANCE[plan.precision], "torch": torch.__version__}
    path.write_text(json.dumps(facts, indent=2) + "\n")
