"""The state of a run on disk: written whole or not at all, resumed exactly."""

from __future__ import annotations

import math
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim.swa_utils import AveragedModel

from samseg_ros.errors import SamsegError
from samseg_ros.training.recipe import Recipe, load_recipe

CHECKPOINT_FILE, BEST_FILE, RECIPE_FILE = "checkpoint.pt", "best.pt", "recipe.yaml"
FREE_SETTINGS = {"threads", "workers", "checkpoint_every", "validate_every", "micro_batch", "activation_checkpointing"}
"""Settings of a recipe that may change when a run is resumed: they do not say what is learnt. FusionSAM's
``micro_batch`` does: every micro-batch moves its codebook."""


@dataclass
class State:
    """All that a run is, between two steps."""

    network: nn.Module
    average: AveragedModel | None
    optimizer: torch.optim.Optimizer
    step: int = 0
    """Steps done."""
    running_loss: float = 0.0
    best_score: float = -math.inf
    seconds: float = 0.0
    """Time spent, over all resumes."""
    data: str = ""
    """Digest of the training samples."""

    @property
    def kept(self) -> nn.Module:
        """The network whose weights are the result: the averaged one where there is one."""
        return self.network if self.average is None else self.average.module


def save_state(path: Path, state: State, fabric: Fabric) -> None:
    """Write a checkpoint."""
    tree = {
        "network": state.network.state_dict(),
        "average": state.average.state_dict() if state.average else {},
        "optimizer": state.optimizer.state_dict(),
        "precision": fabric.strategy.precision.state_dict(),  # fp16's loss scale
        "numbers": _numbers(state),
        "data": state.data,
    }
    write_whole(path, tree)


def load_state(path: Path, state: State, fabric: Fabric) -> None:
    """Put a checkpoint's state in place.

    Raises:
        SamsegError: the file is damaged, or of another network.
    """
    try:
        tree = torch.load(path, map_location=fabric.device, weights_only=True)
        began_with = tree["data"]
        state.network.load_state_dict(tree["network"])
        if state.average is not None:
            state.average.load_state_dict(tree["average"])
        state.optimizer.load_state_dict(tree["optimizer"])
        fabric.strategy.precision.load_state_dict(tree["precision"])
        for name, value in tree["numbers"].items():
            setattr(state, name, value)
    except Exception as error:  # torch raises nearly anything on a torn file
        raise SamsegError(f"{path} cannot be resumed from ({_fault(error)}); remove it to begin anew") from None
    if began_with != state.data:
        raise SamsegError(f"{path} is of a run on other samples; give the same --data, or choose another --out")


def save_best(path: Path, state: State) -> None:
    """Write the weights that validated best so far."""
    write_whole(path, {"network": state.kept.state_dict(), "numbers": _numbers(state)})


def load_best(path: Path, network: nn.Module) -> None:
    """Fill a network with the weights that validated best.

    Raises:
        SamsegError: the file is not there or damaged.
    """
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["network"])
    except Exception as error:  # as in load_state
        raise SamsegError(f"{path} cannot be read ({_fault(error)}); train again") from None


def require_same_recipe(recipe: Recipe, folder: Path) -> None:
    """Refuse to go on with another recipe than the one a run began with.

    Raises:
        SamsegError: a setting that says what is learnt differs (named).
    """
    path = folder / RECIPE_FILE
    if path.exists() and (folder / CHECKPOINT_FILE).exists():  # else nothing of it was learnt
        free = FREE_SETTINGS - ({"micro_batch"} if recipe.model == "fusionsam" else set())
        began = load_recipe(path).model_dump(exclude=free)
        changed = [name for name, value in recipe.model_dump(exclude=free).items() if value != began[name]]
        if changed:
            raise SamsegError(
                f"{folder} holds a run of another recipe (different: {', '.join(changed)}); choose another --out, "
                f"or remove {folder}"
            )


def write_whole(path: Path, tree: Any) -> None:
    """Write beside and rename, so that a kill or a full disk leaves the last whole file.

    Raises:
        SamsegError: it cannot be written.
    """
    part = path.with_suffix(".part")
    try:
        torch.save(tree, part)
        part.replace(path)
    except (OSError, RuntimeError) as error:  # RuntimeError: torch's, of a full disk
        part.unlink(missing_ok=True)
        kept = "the one before is whole" if path.exists() else "there is none yet"
        free = shutil.disk_usage(path.parent).free / 1e9
        raise SamsegError(
            f"{path} cannot be written ({_fault(error)}), {kept}; {free:.1f} GB are free: make room and run again"
        ) from None


def _fault(error: Exception) -> str:
    """Say what is wrong with a file, without torch's advice to its own callers."""
    if isinstance(error, KeyError):
        return f"{error.args[0]!r} is not in it"
    if isinstance(error, (pickle.UnpicklingError, EOFError)):
        return "it holds something else than tensors and numbers"
    return str(error).partition("\n")[0].partition(". ")[0]


def _numbers(state: State) -> dict[str, float]:
    return {name: getattr(state, name) for name in ("step", "running_loss", "best_score", "seconds")}
