"""Checkpoints of others, and our own, into a folder that ``model.checkpoint`` can name.

Read only as `checkpoints.read_state` reads: no checkpoint runs code. Networks are built without memory and take over
the tensors that are mapped from the disk, so that the peak stays near the size of what is written.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from samseg_ros.config import ThermalConfig
from samseg_ros.errors import SamsegError
from samseg_ros.labels import load_labels, shipped
from samseg_ros.models import MODELS, SPEC_FILE, ModelSpec, build_network, read_spec, save_model
from samseg_ros.models.checkpoints import misfits, read_state
from samseg_ros.models.mm_sam_adapter_keys import our_state
from samseg_ros.models.sam_checkpoint import is_sam, sam_encoder_state
from samseg_ros.models.weights import Precision, sha256, stored, write_tensors
from samseg_ros.networks.road_fusion import adopt_grids

Kind = Literal["sam", "authors", "own"]
IMPORT_FILE = "import.json"
ADAPTER = "mm_sam_adapter"
AUTHORS = {"name": ADAPTER, "preset": "vit_l", "licence": "as the authors' release (non-commercial)"}
"""What holds for every published checkpoint of MM SAM-adapter."""
AUTHORS_THERMAL = ThermalConfig(normalization="fixed", fixed_low=0, fixed_high=255)
"""Their thermal input (FMB) is the picture's levels over 255."""
NEEDED = {
    "name": "model",
    "preset": "preset",
    "labels": "labels",
    "modalities": "modalities",
    "input_pixels": "input-size",
    "licence": "licence",
}
"""Entries of a model.yaml without a default, and the options of the command line that give them."""
LEARNT_HERE = ".gates."
"""Keys of ours that the authors' MM SAM-adapter has no counterpart of: what stands in for an absent X modality."""
AREA_NORM = "spm.smart_fusion.fuse_blocks.0.norm.weight"
"""The authors' norm with one entry for each cell of level 1/4, of the size that was trained at."""
EXACT = "gaussian_matrix"
"""SAM's table of random frequencies: half precision would shift every prompt."""


@dataclass(frozen=True, slots=True)
class Source:
    """A checkpoint that was read and recognised."""

    path: Path
    state: Mapping[str, Tensor]
    kind: Kind
    """sam: SAM's own; authors: the MM SAM-adapter release's names; own: our names."""

    @property
    def input_pixels(self) -> int:
        """Height times width that it was trained at, where the file tells; else 0."""
        norm = next((value for name, value in self.state.items() if name.endswith(AREA_NORM)), None)
        return 0 if norm is None else 16 * norm.numel()


def open_source(path: Path) -> Source:
    """Read a checkpoint and recognise by its keys whose it is.

    Raises:
        SamsegError: it cannot be read without running code, is damaged, or holds anything but named tensors.
    """
    state = read_state(path)
    if is_sam(state):
        return Source(path, state, "sam")
    return Source(path, state, "authors" if any("spm.smart_fusion." in name for name in state) else "own")


def complete_spec(source: Source, given: Mapping[str, Any]) -> ModelSpec:
    """Say what weights are for: as given, else as in a model.yaml beside the file, else as the file itself tells.

    Args:
        given: entries of a model.yaml; empty ones count as not given, None takes an entry away.

    Raises:
        SamsegError: an entry is missing or wrong.
    """
    beside = source.path.parent / SPEC_FILE
    own = source.kind == "own" and beside.is_file()
    known = absolute_labels(read_spec(beside), beside).model_dump(exclude={"sha256", "weights"}) if own else {}
    tree = {
        **(AUTHORS if source.kind == "authors" else {}),
        **known,
        **{k: v for k, v in given.items() if v or v is None},
    }
    if source.kind == "authors" and "thermal" in tree.get("modalities", ()):
        tree.setdefault("thermal", AUTHORS_THERMAL)
    if source.input_pixels:
        tree.setdefault("input_pixels", source.input_pixels)
    return checked_spec(str(source.path), tree)


def checked_spec(about: str, tree: Mapping[str, Any]) -> ModelSpec:
    """Return the spec of a tree of entries, ``weights`` and ``paper`` filled in; ``about`` begins the error.

    Raises:
        SamsegError: an entry is missing (with the option that gives it) or wrong.
    """
    if missing := [f"--{flag}" for field, flag in NEEDED.items() if field not in tree]:
        raise SamsegError(f"{about}: what it is for is not known; give {', '.join(missing)}")
    paper = MODELS[tree["name"]].paper if tree["name"] in MODELS else ""
    try:
        return ModelSpec.model_validate({"paper": paper, **tree, "weights": f"{tree['preset']}.safetensors"})
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:  # entries that do not go together
            raise SamsegError(f"{about}: {first['msg'].removeprefix('Value error, ')}") from None
        raise SamsegError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}, got {first['input']!r}") from None


def import_weights(source: Source, spec: ModelSpec, out: Path, precision: Precision = "fp16") -> ModelSpec:
    """Write weights (safetensors), model.yaml and import.json; return the spec with its digest.

    Args:
        source: the authors' MM SAM-adapter (two modalities, rgb and X) or weights under our own names.
        spec: what the weights are for. Labels that are a CSV are copied beside.
        out: must not hold a model yet.
        precision: of the file's weights; batch-norm statistics stay float32.

    Raises:
        SamsegError: keys or shapes that do not fit (named), labels of another number than the head's classes, a weight
            that is not finite, or a model at ``out``.
    """
    refuse_taken(out)
    state = fitted(source, spec)
    network = _empty_network(spec)
    adopt_grids(network, state)
    network.load_state_dict(state, assign=True)  # in place of tensors without memory: nothing is copied
    written = save_model(out, network, with_labels_beside(out, spec), precision)
    _record(source, precision, out / IMPORT_FILE)
    return written


def refuse_taken(out: Path) -> None:
    """Refuse a folder that has a model.

    Raises:
        SamsegError: it has one.
    """
    if (out / SPEC_FILE).exists():
        raise SamsegError(f"{out} holds a model already; choose another folder, or remove it")


def with_labels_beside(out: Path, spec: ModelSpec) -> ModelSpec:
    """Make the folder and copy labels that are a CSV into it; return the spec that names them there."""
    out.mkdir(parents=True, exist_ok=True)
    if not spec.labels.endswith(".csv"):
        return spec
    shutil.copyfile(spec.labels, out / Path(spec.labels).name)
    return spec.model_copy(update={"labels": Path(spec.labels).name})


def fitted(source: Source, spec: ModelSpec) -> dict[str, Tensor]:
    """Return the state under our names, which fits the network of ``spec`` exactly.

    In the authors' weights nothing stands for an absent X (the paper's network always has both): that vector is zero.
    Road-Fusion's norms keep the size that they were trained at (FMB's 800 x 800 beside the others' 1024 x 1024): at
    that size the network computes what theirs does, at any other they are resized.

    Raises:
        SamsegError: as `import_weights`.
    """
    if source.kind == "sam":
        raise SamsegError(f"{source.path} is SAM's own checkpoint, not weights of {spec.name}: import it as sam")
    network = _empty_network(spec)
    own = source.kind == "own"
    state = dict(source.state) if own else our_state(source.state, _x_modality(source, spec))
    adopt_grids(network, state)
    wanted = network.state_dict()
    if not own:
        state |= {k: torch.zeros(v.shape) for k, v in wanted.items() if LEARNT_HERE in k}
    _require_same_classes(source, spec, state, wanted)
    if faults := misfits(state, {name: value.shape for name, value in wanted.items()}):
        raise SamsegError(
            f"{source.path} does not fit {spec.name} ({spec.preset}{_said(spec.options)}) with "
            f"{', '.join(spec.modalities)}: {faults}; choose preset, options and modalities as in its training"
        )
    return state


def import_sam(source: Source, out: Path, precision: Precision = "fp16") -> Path:
    """Write a whole SAM under its own names as ``out/sam_<size>.safetensors``, which `sam_encoder_state` takes again.

    Raises:
        SamsegError: not one of SAM's three checkpoints, a weight that is not finite, or a file that is there already.
    """
    sam = sam_encoder_state(source.state)
    path = out / f"sam_{sam.size}.safetensors"
    if path.exists():
        raise SamsegError(f"{path} is there already; choose another folder, or remove it")
    exact = {name for name in source.state if precision == "fp32" or name.endswith(EXACT)}
    tensors = {name: stored(name, value, name in exact) for name, value in source.state.items()}
    facts = {"size": sam.size, "source": source.path.name, "source_sha256": sha256(source.path), "precision": precision}
    out.mkdir(parents=True, exist_ok=True)
    write_tensors(path, tensors, facts)
    return path


def absolute_labels(spec: ModelSpec, path: Path) -> ModelSpec:
    """Return the spec at ``path`` with labels that are a CSV named by a path that holds from anywhere."""
    labels = str(path.parent / spec.labels) if spec.labels.endswith(".csv") else spec.labels
    return spec.model_copy(update={"labels": labels})


def _empty_network(spec: ModelSpec) -> nn.Module:
    with torch.device("meta"):
        return build_network(spec.name, spec.preset, spec.modalities, len(load_labels(spec.labels)), spec.options)


def _x_modality(source: Source, spec: ModelSpec) -> str:
    if spec.name != ADAPTER or len(spec.modalities) != 2:
        raise SamsegError(
            f"{source.path} holds the authors' MM SAM-adapter: expected {ADAPTER} with rgb and one X modality, "
            f"got {spec.name} with {', '.join(spec.modalities)}"
        )
    return spec.modalities[1]


def _require_same_classes(
    source: Source, spec: ModelSpec, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> None:
    """Speak of labels, not of shapes, where the number of classes is all that differs."""
    classes = len(load_labels(spec.labels))
    differ = [(state[k].shape, v.shape) for k, v in wanted.items() if k in state and state[k].shape != v.shape]
    found = {got[0] for got, want in differ if got and want[:1] == (classes,) and got[1:] == want[1:]}
    if len(found) == 1 and len(differ) == sum(want[:1] == (classes,) for _, want in differ):
        number = found.pop()
        fitting = [name for name in shipped() if len(load_labels(name)) == number]
        raise SamsegError(
            f"{source.path}: its head has {number} classes, the label set {spec.labels} has {classes}; "
            f"choose labels of {number} classes: {', '.join((*fitting, 'a CSV of your own'))}"
        )


def _record(source: Source, precision: Precision, path: Path) -> None:
    facts = {"file": source.path.name, "sha256": sha256(source.path), "kind": source.kind, "precision": precision}
    path.write_text(json.dumps(facts, indent=2) + "\n")


def _said(options: Mapping[str, str]) -> str:
    return "".join(f", {name}={value}" for name, value in options.items())
