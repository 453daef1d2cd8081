"""The models: one row each, and how a network with its labels and weights comes from a model.yaml."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import nn

from samseg_ros.config import ModelConfig, ThermalConfig
from samseg_ros.errors import SamsegError, nearest
from samseg_ros.labels import LabelSet, load_labels
from samseg_ros.models import ad_sam, fusionsam, mm_sam_adapter
from samseg_ros.models.artefact import Artefact, Beside, open_artefact
from samseg_ros.models.weights import Precision, load_weights, save_weights
from samseg_ros.models.windows import Windows, WindowSide
from samseg_ros.resources import installed_models_dir, models_dir

SPEC_FILE = "model.yaml"
Side = Annotated[int, Field(ge=64, le=16384)]


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One row of the table of models."""

    about: str
    presets: tuple[str, ...]
    build: Callable[[str, Sequence[str], int, Mapping[str, str]], nn.Module]
    """(preset, modalities, classes, options) to a network with fresh weights; every option is there."""
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What may be chosen beside the preset (the papers' ablations): name to values, the default first."""
    paper: str = ""
    """Where the method is from."""
    sensors: tuple[str, ...] = ("rgb", "lidar")
    """What its sizes are told for, where nobody says."""
    auxiliaries: tuple[str, ...] = ()
    """Modalities that it can take beside rgb."""
    to_get: str = ""
    """How weights that are not shipped are made by one command."""

    def __str__(self) -> str:
        return f"{self.about} Presets: {', '.join(self.presets)}."


MODELS: dict[str, ModelEntry] = {
    "mm_sam_adapter": ModelEntry(
        "SAM encoder with a multimodal adapter (camera and any of thermal, LiDAR, depth, event; each may be missing).",
        tuple(mm_sam_adapter.PRESETS),
        lambda preset, modalities, classes, options: mm_sam_adapter.build(
            mm_sam_adapter.PRESETS[preset], modalities, classes, options
        ),
        options=mm_sam_adapter.OPTIONS,
        paper="https://arxiv.org/abs/2509.10408",
        auxiliaries=("thermal", "lidar", "depth", "event"),
    ),
    "fusionsam": ModelEntry(
        "Camera and thermal image fused into one picture that SAM segments (the thermal image may be missing).",
        tuple(fusionsam.PRESETS),
        lambda preset, modalities, classes, options: fusionsam.build(
            fusionsam.PRESETS[preset], modalities, classes, options
        ),
        options=fusionsam.OPTIONS,
        paper="https://arxiv.org/abs/2408.13980",
        sensors=("rgb", "thermal"),
        auxiliaries=("thermal",),
    ),
    "ad_sam": ModelEntry(
        "SAM encoder beside a ResNet, joined by deformable convolutions (camera alone).",
        tuple(ad_sam.PRESETS),
        lambda preset, modalities, classes, options: ad_sam.build(ad_sam.PRESETS[preset], modalities, classes, options),
        options=ad_sam.OPTIONS,
        paper="https://arxiv.org/abs/2510.27047",
        sensors=("rgb",),
        to_get="`make camvid DATA=FOLDER` trains the compact ones on CamVid and installs them; or ",
    ),
}


class ModelSpec(BaseModel):
    """What weights are for: the content of a model.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="Row of MODELS.")
    preset: str = Field(description="Preset of that model.")
    options: dict[str, str] = Field(default_factory=dict, description="What differs from the model's defaults.")
    labels: str = Field(description="Label set: a shipped name or a CSV.")
    modalities: tuple[str, ...] = Field(min_length=1, description="rgb first, then the auxiliaries.")
    input_pixels: int = Field(ge=64 * 64, description="Height times width at which it sees larger images.")
    squash_to: tuple[Side, Side] | None = Field(
        None, description="Height and width that every image is brought to, its aspect lost; none: the aspect is kept."
    )
    pad_to: tuple[WindowSide, WindowSide] | None = Field(
        None,
        description="Height and width that every image is filled up to with black below and on the right; larger ones "
        "are reduced to fit, whatever input_pixels says.",
    )
    windows: Windows | None = Field(
        None,
        description="The image is seen in windows, whose scores are averaged where they overlap; none: as a whole.",
    )
    thermal: ThermalConfig | None = Field(
        None, description="How thermal counts become 0..1 for them; none: as the defaults of the settings say."
    )
    stage: Literal["whole", "latent"] = Field(
        "whole", description="What was trained; latent: fusionsam's tokens alone, a start for the rest."
    )
    temperature: float = Field(
        1.0,
        gt=0,
        allow_inf_nan=False,
        description="What the scores are divided by, so that the confidence is the share of pixels that are right.",
    )
    weights: Beside = Field(description="File beside this one.")
    sha256: str = Field("", description="Digest of the file; empty: not checked (weights only).")
    licence: str = Field(description="Licence of the weights.")
    paper: str = Field("", description="Where the method is from.")
    data: str = Field("", description="What the weights were trained on.")
    artefact: Artefact | None = Field(None, description="What `samseg export` baked in; none: the file holds weights.")

    @model_validator(mode="after")
    def _sees_in_one_way(self) -> ModelSpec:
        ways = [name for name in ("squash_to", "pad_to", "windows") if getattr(self, name) is not None]
        if len(ways) > 1:
            raise ValueError(f"expected one of squash_to, pad_to and windows, got {' and '.join(ways)}")
        return self


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A network with weights, and what its outputs mean."""

    network: nn.Module
    """``network.modalities``; ``network(inputs, present)`` and ``network.coarse_logits(inputs, present)``.

    Of an exported network (`ExportedNetwork`) the latter alone, every modality handed in.
    """
    labels: LabelSet
    spec: ModelSpec


def build_network(
    name: str, preset: str, modalities: Sequence[str], classes: int, options: Mapping[str, str] | None = None
) -> nn.Module:
    """Build a network with fresh weights.

    Args:
        options: what differs from the model's defaults, see `ModelEntry.options`.

    Raises:
        SamsegError: no such model, preset, modality or option (with the nearest name), or modalities that do not start
            with rgb.
    """
    entry = model_entry(name)
    if preset not in entry.presets:
        raise SamsegError(f"{name}: no preset {preset!r}; {nearest(preset, entry.presets)}")
    if tuple(modalities[:1]) != ("rgb",) or len(set(modalities)) != len(modalities):
        raise SamsegError(f"{name}: expected modalities that start with rgb, each once, got {list(modalities)}")
    for modality in modalities[1:]:
        if modality not in entry.auxiliaries:
            known = nearest(modality, entry.auxiliaries) if entry.auxiliaries else "it sees the camera alone"
            raise SamsegError(f"{name}: cannot take {modality!r} beside rgb; {known}")
    return entry.build(preset, modalities, classes, _all_options(name, entry, options or {}))


def model_entry(name: str) -> ModelEntry:
    """Return a row of the table.

    Raises:
        SamsegError: no such model (with the nearest name).
    """
    if name not in MODELS:
        raise SamsegError(f"no model {name!r}; {nearest(name, MODELS)}")
    return MODELS[name]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers of parameters."""

    total: int
    trained: int
    """Those that learn."""
    parts: Mapping[str, int]
    """Part of the network to its parameters."""


def sizes(
    name: str, preset: str, modalities: Sequence[str], classes: int, options: Mapping[str, str] | None = None
) -> Sizes:
    """Count a network's parameters without making them. Raises as `build_network`."""
    with torch.device("meta"):
        network = build_network(name, preset, modalities, classes, options)
    parameters = list(network.parameters())
    return Sizes(
        sum(p.numel() for p in parameters),
        sum(p.numel() for p in parameters if p.requires_grad),
        {part: sum(p.numel() for p in child.parameters()) for part, child in network.named_children()},
    )


def _all_options(name: str, entry: ModelEntry, chosen: Mapping[str, str]) -> dict[str, str]:
    """Return every option of a model with the value chosen, or its default."""
    for option, value in chosen.items():
        if option not in entry.options:
            known = f"; {nearest(option, entry.options)}" if entry.options else ": it has none"
            raise SamsegError(f"{name}: no option {option!r}{known}")
        if value not in entry.options[option]:
            raise SamsegError(f"{name}: option {option}: expected {' | '.join(entry.options[option])}, got {value!r}")
    return {option: chosen.get(option, values[0]) for option, values in entry.options.items()}


def load_model(config: ModelConfig) -> LoadedModel:
    """Load the model that the settings name: the shipped one, one that is installed, or what the user points at.

    Without ``config.checkpoint`` it is the shipped one; where none of that preset is shipped, the installed one.
    ``config.checkpoint`` may be a folder with a model.yaml, or a weights file. Beside a file that a model.yaml in the
    same folder names, that one is read; any other file has to fit the shipped model.yaml of the model.

    Raises:
        SamsegError: no such model or preset, no weights for it, a model.yaml that is wrong, or weights that do not fit.
    """
    spec_path, weights = locate(config)
    spec = read_spec(spec_path)
    if (spec.name, spec.preset) != (config.name, config.config):
        raise SamsegError(
            f"{spec_path}: expected weights of {config.name} ({config.config}), got {spec.name} ({spec.preset}); "
            f"set model.name and model.config to match"
        )
    if spec.stage != "whole":
        raise SamsegError(
            f"{spec_path}: these are the weights of a first training stage ({spec.stage}), whose masks mean nothing; "
            f"train on: samseg train --recipe {spec.name}_world --set start_from={spec_path.parent}"
        )
    labels = load_labels(_beside(spec_path, spec.labels))
    if spec.artefact:
        path = spec_path.parent / spec.weights
        return LoadedModel(open_artefact(path, spec.sha256, spec.artefact, spec.modalities, len(labels)), labels, spec)
    network = build_network(spec.name, spec.preset, spec.modalities, len(labels), spec.options)
    if weights is None:
        load_weights(spec_path.parent / spec.weights, network, spec.sha256)
    else:
        load_weights(weights, network)
        spec = spec.model_copy(update={"temperature": 1.0})  # it was fitted to other weights
    return LoadedModel(network.eval(), labels, spec)


def save_model(folder: Path, network: nn.Module, spec: ModelSpec, precision: Precision = "fp16") -> ModelSpec:
    """Write weights and model.yaml into a folder that ``model.checkpoint`` can name; return the spec with its digest.

    Raises:
        SamsegError: a weight is not finite or too large for float16.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = spec.model_copy(update={"sha256": save_weights(folder / spec.weights, network, precision)})
    write_spec(folder, written)
    return written


def installed_folder(name: str, preset: str) -> Path:
    """Return where weights of a model and preset are looked for that come without a checkpoint and are not shipped."""
    return installed_models_dir() / name / preset


def write_spec(folder: Path, spec: ModelSpec) -> None:
    """Write a model.yaml."""
    tree = spec.model_dump(mode="json", exclude_none=True)
    (folder / SPEC_FILE).write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=110))


def read_spec(path: Path) -> ModelSpec:
    """Read a model.yaml.

    Raises:
        SamsegError: it cannot be read, or an entry is unknown, missing or out of range.
    """
    if not path.is_file():
        raise SamsegError(f"{path.parent}: expected a folder of weights, got one without {SPEC_FILE}; check the path")
    try:
        return ModelSpec.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SamsegError(f"{path}: cannot be read as a model.yaml ({error})") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "content"
        raise SamsegError(
            f"{path}: {where}: {first['msg']}, got {first['input']!r}; entries are: {', '.join(ModelSpec.model_fields)}"
        ) from None


def locate(config: ModelConfig) -> tuple[Path, Path | None]:
    """Return the model.yaml that the settings mean, and the weights where they are not the ones that it names.

    Raises:
        SamsegError: no such model, or no weights of that preset.
    """
    model_entry(config.name)
    shipped = models_dir() / config.name / SPEC_FILE
    if not config.checkpoint:
        own = installed_folder(config.name, config.config) / SPEC_FILE
        if shipped.is_file() and (read_spec(shipped).preset == config.config or not own.is_file()):
            return shipped, None
        if not own.is_file():
            raise SamsegError(
                f"no weights of {config.name} ({config.config}) are shipped, or installed in {own.parent}; "
                f"{MODELS[config.name].to_get}train some (samseg train, docs/training.md) or import them "
                "(samseg weights import), and install them (samseg weights install FOLDER) or name their folder in "
                "model.checkpoint"
            )
        return own, None
    checkpoint = Path(config.checkpoint).expanduser()
    if checkpoint.is_dir():
        return checkpoint / SPEC_FILE, None
    own = checkpoint.parent / SPEC_FILE
    if own.is_file() and read_spec(own).weights == checkpoint.name:
        return own, None
    return shipped, checkpoint


def _beside(spec_path: Path, labels: str) -> str:
    """Return a label set that a model.yaml names by a relative CSV path as a path that holds from anywhere."""
    return str(spec_path.parent / labels) if labels.endswith(".csv") else labels
