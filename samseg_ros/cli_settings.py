"""Settings on the command line: the options that several commands have, and what they come to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from samseg_ros.errors import SamsegError

if TYPE_CHECKING:
    from samseg_ros.config import Config

MODEL = Annotated[str, typer.Option("--model", "-m", help="Model, one of `samseg models`; default: the settings' own.")]
PARAMS = Annotated[
    Optional[Path],  # noqa: UP045 typer reads it at run time
    typer.Option("--params", "-p", help="Parameter file, the same that the node takes.", exists=True, dir_okay=False),
]
SET = Annotated[list[str], typer.Option("--set", "-s", help="One setting, as publish.min_confidence=0.4; repeatable.")]


def at_home(value: Any) -> Any:
    """Return a path (or several, or none) with ~ read; a shell does not behind an equals sign, as in --out=~/x."""
    if isinstance(value, list | tuple):
        return [at_home(one) for one in value]
    if isinstance(value, Path):
        return Path(os.path.expanduser(value))  # as it is where nobody has that name
    return os.path.expanduser(value) if isinstance(value, str) else value


def assigned(assignments: Sequence[str], example: str = "publish.min_confidence=0.4") -> dict[str, Any]:
    """Read ``--set NAME=VALUE``; values are YAML, an empty one is the empty text.

    Raises:
        SamsegError: no assignment, or a value that is no YAML.
    """
    import yaml

    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise SamsegError(f"--set {assignment}: expected NAME=VALUE, such as {example}")
        try:
            values[name.strip()] = yaml.safe_load(value) if value else ""
        except yaml.YAMLError as error:
            raise SamsegError(f"--set {assignment}: the value is no YAML ({error})") from None
    return values


def chosen_config(model: str, params: Path | None, assignments: Sequence[str] = ()) -> Config:
    """Read the settings: the file named, else the model's own under config/, with ``--model`` and ``--set`` on top.

    Raises:
        SamsegError: an assignment that is none, or what `samseg_ros.config.load` refuses.
    """
    from samseg_ros.config import from_flat, load
    from samseg_ros.resources import config_dir

    overrides = {"model.name": model} if model else {}
    overrides |= assigned(assignments)
    own = config_dir() / f"{model}.param.yaml"
    if params is None and model and own.is_file():
        params = own
    return load(params, overrides) if params else from_flat(overrides, source="command line")


def config_of_weights(checkpoint: str, model: str = "", assignments: Sequence[str] = ()) -> Config:
    """Read settings; the model.yaml in the folder of weights says itself which model and preset they are of.

    Raises:
        SamsegError: no such weights, an assignment that is none, or a setting that does not exist.
    """
    from samseg_ros.config import from_flat
    from samseg_ros.models import SPEC_FILE, read_spec

    path = Path(checkpoint).expanduser()
    if checkpoint and not path.exists():
        raise SamsegError(f"no weights at {checkpoint}; expected a .safetensors file or a folder with model.yaml")
    settings: dict[str, Any] = {"model.name": model} if model else {}
    beside = (path if path.is_dir() else path.parent) / SPEC_FILE
    if checkpoint and beside.is_file():
        spec = read_spec(beside)
        settings = {"model.name": model or spec.name, "model.config": spec.preset}
    settings["model.checkpoint"] = str(Path(checkpoint)) if checkpoint else ""  # one spelling: a/ is a
    return from_flat(settings | assigned(assignments, "model.device=cuda"), source="command line")


def named(config: Config) -> str:
    """Say which weights these settings name."""
    return f"{config.model.name} ({config.model.config}), {config.model.checkpoint or 'shipped or installed weights'}"
