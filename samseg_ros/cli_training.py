"""Commands that train: train, ablate. They hang in the command line that cli.py builds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.console import Console

from samseg_ros.errors import SamsegError
from samseg_ros.progress import bar
from samseg_ros.resources import config_dir

if TYPE_CHECKING:
    from samseg_ros.training.run import Places

out = Console()


def _shipped(folder: str) -> str:
    return ", ".join(sorted(path.stem for path in (config_dir() / folder).glob("*.yaml")))


DATA = Annotated[
    Optional[Path],  # noqa: UP045 typer reads it at run time
    typer.Option("--data", "-d", help="Folder of the dataset, as downloaded; the world needs none."),
]
CACHE = Annotated[Path, typer.Option(help="Folder of prepared samples, shared by all runs.")]
WORKERS = Annotated[int, typer.Option(help="Processes that prepare samples; 0: one a core.", min=0)]
SET = Annotated[
    list[str],
    typer.Option("--set", "-s", help="One setting of the recipe, as optimizer.learning_rate=1e-4; repeatable."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (train, ablate):
        app.command()(command)


def train(
    recipe: Annotated[
        str, typer.Option("--recipe", "-r", help=f"A YAML file, or a shipped recipe: {_shipped('training')}.")
    ] = "mm_sam_adapter_world",
    data: DATA = None,
    folder: Annotated[Path, typer.Option("--out", "-o", help="Folder of checkpoints, log and weights.")] = Path(
        "runs/train"
    ),
    cache: CACHE = Path("runs/cache"),
    workers: WORKERS = 0,
    settings: SET = [],  # noqa: B006 typer copies it
) -> None:
    """Train a model; a run that was killed goes on where its last checkpoint stands.

    Many GPUs: torchrun --nproc-per-node N -m samseg_ros.cli train ...
    """
    from samseg_ros.training.recipe import load_recipe
    from samseg_ros.training.run import MODEL_FOLDER, run_recipe
    from samseg_ros.training.run_log import read_log, summary

    chosen = load_recipe(recipe, _changes(settings))
    if (folder / "checkpoint.pt").is_file():
        out.print(f"going on from the last checkpoint in {folder}", soft_wrap=True, highlight=False)
    run_recipe(chosen, _places(folder, data, cache, workers), bar)
    if int(os.environ.get("RANK", 0)):
        return
    measured = summary(read_log(folder))
    if not measured:
        raise SamsegError(f"{folder / 'log.jsonl'} holds no validation; the weights are in {folder / MODEL_FOLDER}")
    out.print(
        f"validation mIoU {measured['start_miou']:.1f} % at the start, {measured['best_miou']:.1f} % at best "
        f"(step {measured['best_step']} of {measured['steps']}), {_duration(measured['seconds'])}"
    )
    out.print(f"curves: {folder / 'curves.html'}; TensorBoard: tensorboard --logdir {folder / 'tensorboard'}")
    out.print(f"weights: {folder / MODEL_FOLDER}; use them with --set model.checkpoint={folder / MODEL_FOLDER}")


def ablate(
    name: Annotated[str, typer.Argument(help=f"A YAML file, or a shipped set: {_shipped('ablations')}.")],
    data: DATA = None,
    folder: Annotated[Path, typer.Option("--out", "-o", help="Folder of all runs, the table and the plots.")] = Path(
        "runs/ablation"
    ),
    cache: CACHE = Path("runs/cache"),
    workers: WORKERS = 0,
    settings: SET = [],  # noqa: B006 typer copies it
) -> None:
    """Train and score every variant of a set with the same recipe; a table and plots come out.

    A variant that is finished is not trained again; a killed set goes on.
    """
    from samseg_ros.training.ablation import load_ablation, run_ablation

    table = run_ablation(load_ablation(name, _changes(settings)), _places(folder, data, cache, workers), bar, out.print)
    out.print(table, markup=False, highlight=False, soft_wrap=True)
    out.print(f"written: {folder / 'table.md'}, {folder / 'table.png'}")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def _places(folder: Path, data: Path | None, cache: Path, workers: int) -> Places:
    from samseg_ros.training.run import Places

    return Places(folder, data, cache, workers or os.cpu_count() or 1)


def _changes(settings: list[str]) -> dict[str, Any]:
    """Read ``--set NAME=VALUE``; values are YAML."""
    import yaml

    changes: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise SamsegError(f"--set {setting}: expected NAME=VALUE, such as optimizer.learning_rate=1e-4")
        try:
            changes[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise SamsegError(f"--set {setting}: the value is no YAML ({error})") from None
    return changes
