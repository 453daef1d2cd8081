"""What a training run is: one file of settings, unknown ones refused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from samseg_ros.errors import SamsegError
from samseg_ros.resources import config_dir


class Phase(BaseModel):
    """A stretch of the run with one crop size."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    steps: int = Field(gt=0, description="Optimiser steps.")
    batch: int = Field(8, gt=0, description="Frames a step.")
    size: tuple[int, int] = Field((288, 384), description="Height and width that the network sees, pixels.")
    window: tuple[float, float] = Field((1.0, 1.0), description="Range of the share of the frame that is cut out.")
    loss_stride: int = Field(1, gt=0, description="The loss looks at every n-th row and column.")


class Recipe(BaseModel):
    """A whole run; the YAML files under config/training hold only what differs from these defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str = Field("mm_sam_adapter", description="Model, one of `samseg models`.")
    preset: str = Field("compact", description="Preset of the model.")
    sensors: tuple[str, ...] = Field(("rgb", "thermal", "lidar"), description="Modalities the network may see.")
    frames: int = Field(4000, gt=0, description="Training scenes of the world.")
    cache_size: tuple[int, int] = Field((288, 384), description="Height and width at which prepared frames are kept.")
    phases: tuple[Phase, ...] = Field(description="One after the other.")
    learning_rate: float = Field(8e-4, gt=0, description="Peak of the schedule.")
    weight_decay: float = Field(0.02, ge=0, description="AdamW, on matrices only.")
    warmup_steps: int = Field(200, ge=0, description="Linear rise to the peak; a cosine falls to 1 % after it.")
    clip_norm: float = Field(1.0, gt=0, description="Largest gradient norm.")
    ema_decay: float = Field(0.998, ge=0, lt=1, description="Of the averaged weights, which are the ones kept.")
    sensor_dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.2, description="Probability that a sample loses an auxiliary sensor, each on its own."
    )
    dice_weight: float = Field(1.0, ge=0, description="Weight of the Dice loss beside the cross entropy.")
    precision: Literal["bf16", "fp32"] = Field("bf16", description="Of the forward pass.")
    threads: int = Field(0, ge=0, description="CPU threads; 0: all.")
    seed: int = 0
    checkpoint_every: int = Field(100, gt=0, description="Steps between checkpoints.")
    validate_every: int = Field(500, gt=0, description="Steps between validations.")

    @property
    def steps(self) -> int:
        """Steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    def phase_at(self, step: int) -> Phase:
        """Return the phase that step belongs to."""
        for phase in self.phases:
            if step < phase.steps:
                return phase
            step -= phase.steps
        return self.phases[-1]


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe.

    Raises:
        SamsegError: the file cannot be read, or a setting is unknown or out of range.
    """
    try:
        tree = yaml.safe_load(Path(path).read_text())
        return Recipe.model_validate(tree)
    except FileNotFoundError:
        shipped = ", ".join(sorted(p.stem for p in (config_dir() / "training").glob("*.yaml")))
        raise SamsegError(f"no recipe {path}; shipped ones: {shipped}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SamsegError(f"recipe {path} cannot be read: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        known = ", ".join(Recipe.model_fields)
        raise SamsegError(
            f"recipe {path}: {where}: {first['msg']}, got {first['input']!r}; settings: {known}"
        ) from None
