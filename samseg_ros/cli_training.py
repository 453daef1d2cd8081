"""Commands that train: train, ablate. They hang in the command line that cli.py builds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.console import Console

from samseg_ros.cli_settings import assigned
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
    from samseg_ros.config import model_settings
    from samseg_ros.training.recipe import load_recipe
    from samseg_ros.training.run import MODEL_FOLDER, run_recipe
    from samseg_ros.training.run_log import read_log, summary

    chosen = load_recipe(recipe, assigned(settings, "optimizer.learning_rate=1e-4"))
    if (folder / "checkpoint.pt").is_file():
        out.print(f"going on from the last checkpoint in {folder}", soft_wrap=True, highlight=False, markup=False)
    run_recipe(chosen, _places(folder, data, cache, workers), bar)
    if int(os.environ.get("RANK", 0)):
        return
    measured = summary(read_log(folder))
    if not measured:
        raise SamsegError(f"{folder / 'log.jsonl'} holds no validation; the weights are in {folder / MODEL_FOLDER}")
    out.print(
        f"{measured['score']}: {measured['start']:.1f} at the start, {measured['best']:.1f} at best "
        f"(step {measured['best_step']} of {measured['steps']}), {_duration(measured['seconds'])}"
    )
    out.print(
        f"curves: {folder / 'curves.html'}; TensorBoard: tensorboard --logdir {folder / 'tensorboard'}", markup=False
    )
    if measured["best_step"] == 0 and measured["steps"]:
        out.print("[yellow]nothing was learnt: no validation was better than the start's, so these are its weights[/]")
    if chosen.stage == "latent":
        out.print(
            f"look at {folder / 'reconstructions.png'}; then: {_next_stage(chosen.model, folder)}", soft_wrap=True
        )
        return
    settings_of = model_settings(chosen.model, chosen.preset, str(folder / MODEL_FOLDER))
    use = " ".join(f"--set {name}={value}" for name, value in settings_of.items())
    out.print(f"weights: {folder / MODEL_FOLDER}; use them with {use}", soft_wrap=True, markup=False)


def _next_stage(model: str, folder: Path) -> str:
    return f"samseg train --recipe {model}_world --set start_from={folder / 'model'}"


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

    table = run_ablation(
        load_ablation(name, assigned(settings, "optimizer.learning_rate=1e-4")),
        _places(folder, data, cache, workers),
        bar,
        out.print,
    )
    out.print(table, markup=False, highlight=False, soft_wrap=True)
    out.print(f"written: {folder / 'table.md'}, {folder / 'table.png'}", markup=False)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def _places(folder: Path, data: Path | None, cache: Path, workers: int) -> Places:
    from samseg_ros.training.run import Places

    return Places(folder, data, cache, workers or os.cpu_count() or 1)
