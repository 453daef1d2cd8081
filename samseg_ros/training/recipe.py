"""What a training run is: one file of settings, unknown ones refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from samseg_ros.config import ThermalConfig
from samseg_ros.datasets.catalog import View
from samseg_ros.errors import SamsegError, nearest
from samseg_ros.models.windows import Windows, WindowSide
from samseg_ros.resources import config_dir
from samseg_ros.training.augmentation import AugmentationSettings
from samseg_ros.training.losses.latent import LatentSettings
from samseg_ros.training.losses.terms import LossSettings

Side = Annotated[int, Field(ge=64, le=16384, description="Pixels.")]
"""Networks take images from 64 x 64."""


Momentum = Annotated[float, Field(ge=0, lt=1)]
Epochs = Annotated[float, Field(ge=0, le=1e6)]


class DataSettings(BaseModel):
    """What is learnt from."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    dataset: str = Field("world", description="Dataset, one of `samseg datasets`.")
    limit: int | None = Field(
        None, gt=0, description="Only n training samples, spread evenly; the world's number of scenes."
    )
    validation_limit: int | None = Field(None, gt=0, description="The same for the validation split.")
    view: View = Field("all", description="thermal: the thermal image in the camera's place, and nothing else.")
    thermal: ThermalConfig = Field(
        ThermalConfig(), description="How thermal counts become 0..1, as the node's thermal.*; kept with the weights."
    )
    train_split: str = "train"
    val_split: str = "val"
    size: tuple[Side, Side] | None = Field(
        None, description="Height and width to which samples are brought once and kept on disk; none: read each time."
    )
    squash: bool = Field(
        False, description="Size may be of another aspect than the images; the weights then want every camera's so."
    )
    input_pixels: int = Field(
        0,
        ge=0,
        description="Area at which larger images are seen where the weights are used; 0: the validation images'.",
    )

    pad_to: tuple[WindowSide, WindowSide] | None = Field(
        None, description="Height and width that images are padded to where the weights are used (in training: crop)."
    )
    windows: Windows | None = Field(
        None,
        description="Windows (size, stride) in which images are seen where the weights are used, and in "
        "validation (of samples at data.size); training sees crops.",
    )

    @model_validator(mode="after")
    def _squashed_to_something(self) -> DataSettings:
        if self.squash and self.size is None:
            raise ValueError("squash wants a size to bring the images to")
        if sum((self.squash, self.pad_to is not None, self.windows is not None)) > 1:
            raise ValueError("expected one of squash, pad_to and windows")
        if 0 < self.input_pixels < 64 * 64:
            raise ValueError("input_pixels: expected at least 4096 (64 x 64), or 0")
        return self


class Phase(BaseModel):
    """A stretch of the run with one crop size. Either ``steps`` or ``epochs``."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    steps: int | None = Field(None, gt=0, description="Optimiser steps.")
    epochs: Epochs | None = Field(None, gt=0, description="Passes over the training samples.")
    batch: int = Field(8, gt=0, description="Samples of one optimiser step, over all processes and micro-batches.")
    crop: tuple[Side, Side] = Field(description="Height and width that the network sees, pixels.")
    resize: tuple[float, float] | None = Field(None, description="In place of augmentation.resize.")
    loss_stride: int = Field(1, gt=0, description="The loss looks at every n-th row and column.")

    @model_validator(mode="after")
    def _one_length(self) -> Phase:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        if self.resize is not None and not 0 < self.resize[0] <= self.resize[1]:
            raise ValueError(f"expected resize as (low, high) with 0 < low <= high, got {self.resize}")
        return self


class JointSettings(BaseModel):
    """FusionSAM's terms beside the segmentation loss."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    auxiliary: float = Field(0.4, ge=0, description="The segmentation loss of the head that makes the prompts.")
    reconstruction: float = Field(1.0, ge=0, description="Camera and thermal image rebuilt from their tokens (eq. 5).")
    beta_commit: float = Field(0.25, ge=0, description="Pull of the latents towards their codes (eq. 6).")
    fusion: float = Field(0.2, ge=0, description="The fused picture: intensity, gradient, SSIM (20, 20, 10).")
    freeze_latent: bool = Field(False, description="The tokens stay as the first stage left them (start_from).")


class OptimizerSettings(BaseModel):
    """How weights move."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Literal["adamw", "adam"] = Field("adamw", description="Adam adds the decay to the gradient.")
    learning_rate: float = Field(7e-4, gt=0, description="Peak of the schedule.")
    weight_decay: float = Field(0.02, ge=0)
    betas: tuple[Momentum, Momentum] = (0.9, 0.999)
    grouping: Literal["plain", "published"] = Field(
        "plain", description="plain: matrices decay, the rest not. published: the model's own rates and decays."
    )
    layer_decay: float = Field(1.0, gt=0, le=1, description="Factor of the rate per encoder layer, from the last down.")
    clip_norm: float = Field(1.0, ge=0, description="Largest gradient norm; 0: no clipping.")


class ScheduleSettings(BaseModel):
    """How the learning rate goes: the decay runs over the whole course, the warm-up multiplies it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    decay: Literal["constant", "cosine", "poly"] = "cosine"
    power: float = Field(0.9, gt=0, description="Of poly.")
    per: Literal["step", "epoch"] = Field("step", description="Whether the decay moves each step or each epoch.")
    final_rate: float = Field(0.0, ge=0, description="Where the decay ends.")
    warmup: Literal["linear", "exponential"] = "linear"
    warmup_steps: int = Field(0, ge=0)
    warmup_epochs: Epochs = Field(0.0, description="Added to warmup_steps.")
    warmup_from: float = Field(0.0, ge=0, le=1, description="Factor of the rate at the start.")

    @model_validator(mode="after")
    def _exponential_starts_above_zero(self) -> ScheduleSettings:
        if self.warmup == "exponential" and (self.warmup_steps or self.warmup_epochs) and self.warmup_from == 0:
            raise ValueError("an exponential warm-up needs warmup_from above 0")
        return self


class Recipe(BaseModel):
    """A whole run; the YAML files under config/training hold only what differs from these defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str = Field(description="Model, one of `samseg models`.")
    preset: str = Field(description="Preset of the model.")
    options: dict[str, str] = Field(default_factory=dict, description="Options of the model (`samseg models NAME`).")
    sensors: tuple[str, ...] = Field(("rgb",), description="Modalities the network may see, rgb first.")
    start_from: str = Field("", description="Weights to fine-tune: a model folder or file; what fits is taken.")
    sam_checkpoint: str = Field("", description="SAM's own checkpoint for the image encoder (sam_vit_*.pth).")
    resnet_checkpoint: str = Field("", description="ImageNet weights of ad_sam's ResNet (torchvision's names).")
    data: DataSettings = DataSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    loss: LossSettings = LossSettings()
    joint: JointSettings = Field(JointSettings(), description="Only for fusionsam.")
    stage: Literal["whole", "latent"] = Field(
        "whole", description="latent: fusionsam's tokens alone, without labels; start_from its weights for the rest."
    )
    latent: LatentSettings = Field(LatentSettings(), description="Only for stage latent.")
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    phases: tuple[Phase, ...] = Field(min_length=1, description="One after the other.")
    micro_batch: int = Field(
        0, ge=0, description="Samples that a process takes at once; gradients add up to the batch. 0: its whole share."
    )
    activation_checkpointing: bool = Field(
        False, description="Less memory, more time: SAM's blocks are computed again for their gradients, not kept."
    )
    ema_decay: float = Field(0.0, ge=0, lt=1, description="Of the averaged weights, the ones kept; 0: the last ones.")
    frozen_batch_norm: bool = Field(False, description="Batch norms keep their statistics.")
    cache_embeddings: bool = Field(
        False, description="Keep a frozen SAM encoder's embeddings on disk; images may only be mirrored."
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field("bf16", description="Of the forward pass.")
    seed: int = Field(0, ge=0, lt=2**31)
    threads: int = Field(
        0, ge=0, description="CPU threads of a process; 0: OMP_NUM_THREADS or all, shared out among torchrun's."
    )
    workers: int = Field(0, ge=0, description="Processes that read and augment; 0: none of their own.")
    checkpoint_every: int = Field(100, gt=0, description="Steps between checkpoints.")
    validate_every: int = Field(500, gt=0, description="Steps between validations.")

    @model_validator(mode="after")
    def _joint_is_fusionsams(self) -> Recipe:
        if self.model != "fusionsam" and self.joint != JointSettings():
            raise ValueError(f"joint is for fusionsam alone, this is {self.model}")
        return self

    @model_validator(mode="after")
    def _latent_is_a_stage_of_fusionsam(self) -> Recipe:
        if self.stage == "latent" and self.model != "fusionsam":
            raise ValueError(f"stage latent is for fusionsam alone, this is {self.model}")
        if self.stage != "latent" and self.latent != LatentSettings():
            raise ValueError("latent is for stage latent alone; set stage, or leave latent away")
        if self.joint.freeze_latent and (self.stage == "latent" or not self.start_from):
            raise ValueError("joint.freeze_latent keeps tokens that were trained: it wants stage whole and start_from")
        return self

    @model_validator(mode="after")
    def _rate_falls(self) -> Recipe:
        if self.schedule.decay != "constant" and self.schedule.final_rate > self.optimizer.learning_rate:
            raise ValueError(
                f"schedule.final_rate: expected at most optimizer.learning_rate ({self.optimizer.learning_rate:g}), "
                f"got {self.schedule.final_rate:g}; lower it, or raise the other"
            )
        return self

    @model_validator(mode="after")
    def _embeddings_come_again(self) -> Recipe:
        still = AugmentationSettings(flip=self.augmentation.flip)
        whole = all(p.crop == self.data.size and p.resize in (None, (1.0, 1.0)) for p in self.phases)
        whole = whole and self.data.windows is None
        if self.cache_embeddings and not (whole and self.augmentation == still):
            raise ValueError(
                "cache_embeddings wants whole images: crop as data.size, no windows, no augmentation but flip"
            )
        return self

    def steps_of(self, samples: int) -> tuple[int, ...]:
        """Return the optimiser steps of each phase for a number of training samples."""
        return tuple(p.steps or max(1, round((p.epochs or 0) * samples / p.batch)) for p in self.phases)


def load_recipe(name_or_path: str | Path, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe: a shipped one by name, or any YAML file.

    Args:
        changes: dotted setting to value, put over the file's own: ``{"optimizer.learning_rate": 1e-4}``. A setting of
            a phase has the phase's number: ``phases.0.steps``.

    Raises:
        SamsegError: the file cannot be read, or a setting is unknown or out of range.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = config_dir() / "training" / f"{name_or_path}.yaml"
    try:
        tree = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise SamsegError(f"no recipe {name_or_path}; {nearest(path.stem, shipped_recipes())}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SamsegError(f"recipe {path} cannot be read: {error}") from None
    for name, value in (changes or {}).items():
        _put(tree, name, value)
    return parse_recipe(tree, f"recipe {path}")


def parse_recipe(tree: Any, source: str) -> Recipe:
    """Check a tree of settings; ``source`` says in errors where they came from.

    Raises:
        SamsegError: a setting is unknown, missing or out of range.
    """
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "missing":
            raise SamsegError(f"{source}: {where}: {first['msg']}; add it") from None
        if first["type"] == "value_error" and isinstance(first["input"], dict):  # settings that do not go together
            raise SamsegError(f"{source}: {first['msg'].removeprefix('Value error, ')}") from None
        raise SamsegError(
            f"{source}: {where}: {first['msg']}, got {first['input']!r}; {_remedy(first['loc'])}"
        ) from None


def shipped_recipes() -> tuple[str, ...]:
    """Names of the recipes under config/training."""
    return tuple(sorted(p.stem for p in (config_dir() / "training").glob("*.yaml")))


def _put(tree: Any, name: str, value: Any) -> None:
    """Set ``a.b.c`` in nested dicts and lists; what is wrong with the name is found by the check of the whole."""
    *parents, last = name.split(".")
    for parent in parents:
        if isinstance(tree, list):
            tree = tree[int(parent)] if parent.isdigit() and int(parent) < len(tree) else None
        elif isinstance(tree, dict):
            tree = tree.setdefault(parent, {})
    if isinstance(tree, list) and last.isdigit() and int(last) < len(tree):
        tree[int(last)] = value
    elif isinstance(tree, dict):
        tree[last] = value
    else:
        raise SamsegError(f"{name}: there is no such setting to change in this recipe")


def _remedy(location: tuple[int | str, ...]) -> str:
    """Name the settings that stand where an unknown one was given."""
    fields: Any = Recipe.model_fields
    for part in location[:-1]:
        inner = fields[part].annotation if part in fields else None
        fields = getattr(inner, "model_fields", Phase.model_fields if part == "phases" else fields)
    last = str(location[-1]) if location else ""
    if last in Phase.model_fields and location[0] != "phases":
        return f"did you mean 'phases.0.{last}'?"
    return nearest(last, fields) if last not in fields else f"see the settings of {last}"
