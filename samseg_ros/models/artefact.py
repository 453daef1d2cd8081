"""Exported networks: what `samseg export` wrote, checked and run in the place of a network with weights.

An artefact is a graph with its weights for one network size, any batch. Its inputs are (B, 3, h, w) float32 for each
modality, then (B,) bool for each auxiliary one, whether it is there; its output are logits (B, K, h/4, w/4) float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from torch import Tensor, nn

from samseg_ros.errors import SamsegError
from samseg_ros.models.exported_program import load_program
from samseg_ros.models.weights import sha256

if TYPE_CHECKING:
    import onnxruntime

Format = Literal["torch", "onnx", "aoti"]
Beside = Annotated[str, StringConstraints(pattern=r"^[^/\\]+$")]
"""Name of a file in the same folder."""
Session = Callable[[Sequence[Tensor]], Tensor]
"""Inputs in the order of the graph to logits."""
LOGITS = "logits"
"""The output's name in an ONNX graph."""
ON_GPU = ("TensorrtExecutionProvider", "CUDAExecutionProvider")
ON_CPU = "CPUExecutionProvider"


class Artefact(BaseModel):
    """What was baked into an exported network."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Format = Field(description="torch: torch.export; onnx: onnxruntime; aoti: AOTInductor, native code.")
    inputs: tuple[str, ...] = Field(description="Modalities in the order of the graph's inputs.")
    classes: int = Field(gt=0, description="Channels of the logits.")
    camera_size: tuple[int, int] = Field(description="Camera image (H, W) that it was exported for.")
    input_size: tuple[int, int] = Field(description="What the network then sees, (h, w).")
    precision: Literal["fp32", "bf16"] = Field(description="Arithmetic.")
    device: Literal["cpu", "cuda", "any"] = Field(description="Where it runs.")
    made_with: str = Field(description="Library and version that wrote it.")
    data: dict[Beside, str] = Field(default_factory=dict, description="Further files: name to sha256.")

    @model_validator(mode="after")
    def _onnx_alone_runs_anywhere(self) -> Artefact:
        if (self.format == "onnx") != (self.device == "any"):
            raise ValueError(f"expected device any for onnx and cpu or cuda for the others, got {self.device}")
        return self


def input_names(modalities: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a graph's inputs, in order."""
    return (*modalities, *(f"has_{name}" for name in modalities[1:]))


class ExportedNetwork(nn.Module):
    """Stands where a network with weights would; ``start`` loads it.

    Args:
        path: of the artefact.
        artefact: what was baked in.
        modalities: "rgb" first.
    """

    def __init__(self, path: Path, artefact: Artefact, modalities: Sequence[str]) -> None:
        super().__init__()
        self.path, self.artefact, self.modalities = path, artefact, tuple(modalities)
        self._session: Session | None = None

    def start(self, device: str, threads: int) -> torch.device:
        """Load the graph.

        Args:
            device: auto, cpu or cuda (``model.device``).
            threads: of onnxruntime; PyTorch has its own setting.

        Returns:
            Where the inputs have to lie.

        Raises:
            SamsegError: it was exported for another device, the device or library is not there, or it cannot be loaded.
        """
        self._session, where = _STARTS[self.artefact.format](self, device, threads)
        self._require_shapes(where)
        return where

    def _require_shapes(self, where: torch.device) -> None:
        """Run it once on nothing: what model.yaml says of a graph may be wrong."""
        h, w = self.artefact.input_size
        inputs = {name: torch.zeros(1, 3, h, w, device=where) for name in self.modalities}
        there = {name: torch.zeros(1, dtype=torch.bool, device=where) for name in self.modalities[1:]}
        expected = (1, self.artefact.classes, -(-h // 4), -(-w // 4))
        try:
            with torch.inference_mode():
                got = tuple(self.coarse_logits(inputs, there).shape)
        except Exception as error:  # every runtime raises its own
            raise self._contradiction(str(error).strip().partition("\n")[0] or type(error).__name__) from None
        if got != expected:
            raise self._contradiction(f"logits {got} instead of {expected}")

    def _contradiction(self, what: str) -> SamsegError:
        return SamsegError(f"{self.path} is not what its model.yaml says ({what}); export it again")

    def coarse_logits(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Run it.

        Args:
            inputs: (B, 3, h, w) of every modality, those that are missing with any finite content.
            present: (B,) bool of every auxiliary.

        Returns:
            Logits (B, K, h/4, w/4).

        Raises:
            SamsegError: it was not started.
        """
        if self._session is None:
            raise SamsegError(f"{self.path}: expected start() before the first run")
        images = [inputs[name].contiguous() for name in self.modalities]
        return self._session([*images, *(present[name] for name in self.modalities[1:])])


def open_artefact(
    path: Path, digest: str, artefact: Artefact, modalities: Sequence[str], classes: int
) -> ExportedNetwork:
    """Check the files of an artefact; nothing is loaded yet.

    Args:
        path: of the graph.
        digest: its sha256.
        artefact: what was baked in.
        modalities: as model.yaml says.
        classes: of the label set.

    Raises:
        SamsegError: a file is missing or has another digest than model.yaml says, or sensors or label set are not those
            that it was exported with.
    """
    if tuple(modalities) != artefact.inputs or classes != artefact.classes:
        raise SamsegError(
            f"{path}: exported with sensors {', '.join(artefact.inputs)} and {artefact.classes} classes, got "
            f"{', '.join(modalities)} and a label set of {classes}; export it again instead of editing model.yaml"
        )
    for file, expected in {path: digest, **{path.parent / n: d for n, d in artefact.data.items()}}.items():
        if not file.is_file():
            raise SamsegError(f"no exported network at {file}; export it again, or copy the whole folder")
        if (found := sha256(file)) != expected:
            raise SamsegError(f"{file}: expected sha256 {expected}, got {found}; the file is damaged, export it again")
    return ExportedNetwork(path, artefact, modalities)


def providers(device: str, present: Sequence[str]) -> list[str]:
    """Return onnxruntime's execution providers to use, the best first.

    Args:
        device: auto, cpu or cuda.
        present: those that this onnxruntime was built with.

    Raises:
        SamsegError: none for the device, or a device that is none of the three.
    """
    allowed = {"auto": (*ON_GPU, ON_CPU), "cpu": (ON_CPU,), "cuda": ON_GPU}.get(device)
    if allowed is None:
        raise SamsegError(f"model.device: expected auto, cpu or cuda for an ONNX artefact, got {device!r}")
    found = [name for name in allowed if name in present]
    if not found:
        raise SamsegError(
            f"model.device: expected one of {', '.join(allowed)} in onnxruntime for {device!r}, "
            f"got {', '.join(present)}; pip install onnxruntime-gpu, or use cpu"
        )
    return found


def import_onnxruntime() -> Any:
    """Return the module.

    Raises:
        SamsegError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise SamsegError(
            f"ONNX artefacts want onnxruntime ({error}); install the extra export: pip install '.[export]' in the clone"
        ) from None
    return onnxruntime


def _start_onnx(network: ExportedNetwork, device: str, threads: int) -> tuple[Session, torch.device]:
    runtime = import_onnxruntime()
    wanted = providers(device, runtime.get_available_providers())
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        session = runtime.InferenceSession(str(network.path), options, providers=wanted)
    except Exception as error:  # onnxruntime's own exceptions have no common base
        raise _unloadable(network, error) from None
    if device == "cuda" and session.get_providers()[0] not in ON_GPU:  # it falls back with no more than a log line
        raise SamsegError(
            f"model.device: expected cuda, but onnxruntime could not start {wanted[0]}; see its log above"
        )
    names = input_names(network.modalities)
    return lambda tensors: _run_onnx(session, names, tensors), torch.device("cpu")


def _run_onnx(session: onnxruntime.InferenceSession, names: Sequence[str], tensors: Sequence[Tensor]) -> Tensor:
    feeds = {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}
    return torch.from_numpy(session.run([LOGITS], feeds)[0])


def _start_torch(network: ExportedNetwork, device: str, threads: int) -> tuple[Session, torch.device]:
    where = _device(network.artefact, device)
    module = load_program(network.path).module()
    return lambda tensors: module(*tensors), where


def _start_aoti(network: ExportedNetwork, device: str, threads: int) -> tuple[Session, torch.device]:
    import torch._inductor as inductor  # slow to import

    where = _device(network.artefact, device)
    try:
        run = inductor.aoti_load_package(str(network.path))
    except Exception as error:  # the loader raises nearly anything
        raise _unloadable(network, error) from None
    return lambda tensors: run(*tensors), where


_STARTS: dict[str, Callable[[ExportedNetwork, str, int], tuple[Session, torch.device]]] = {
    "torch": _start_torch,
    "onnx": _start_onnx,
    "aoti": _start_aoti,
}


def _device(artefact: Artefact, wanted: str) -> torch.device:
    if wanted not in ("auto", artefact.device):
        raise SamsegError(
            f"model.device: expected auto or {artefact.device}, for which the network was exported, got {wanted!r}; "
            f"export it again with --device {wanted.partition(':')[0]}"
        )
    if artefact.device == "cuda" and not torch.cuda.is_available():
        raise SamsegError("the network was exported for cuda, and there is none; export it again with --device cpu")
    return torch.device(artefact.device)


def _unloadable(network: ExportedNetwork, error: Exception) -> SamsegError:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return SamsegError(
        f"{network.path} cannot be loaded ({reason}); it was made with {network.artefact.made_with}: "
        "export it again on this machine"
    )
