"""The command that scores: evaluate. It hangs in the command line that cli.py builds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.console import Console
from rich.markup import escape

from samseg_ros.cli_evaluate_world import evaluate_world
from samseg_ros.cli_settings import config_of_weights, named
from samseg_ros.errors import SamsegError
from samseg_ros.progress import bar

if TYPE_CHECKING:
    from samseg_ros.evaluation.crews import Crew
    from samseg_ros.evaluation.plan import Entrant, Result, Stress
    from samseg_ros.evaluation.sources import Source

out = Console()
err = Console(stderr=True)
BAGS = Annotated[
    Optional[list[Path]],  # noqa: UP045 typer reads it at run time
    typer.Argument(
        help="Recordings with labels (rosbag2 folder, .mcap, .db3): ids on a topic, or in BAG_labels/STAMP.png. "
        "Several are scored each by itself and all together."
    ),
]
DATA = Annotated[
    list[str], typer.Option("--data", "-d", help="Dataset, NAME:FOLDER, one of `samseg datasets`; repeatable.")
]
LIMIT = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(help="Frames of each at most, evenly spread.", min=1),
]
CHECKPOINT = Annotated[
    list[str], typer.Option(help="Weights or model folder; default: the shipped ones. Repeated: a comparison.")
]
MODEL = Annotated[
    list[str],
    typer.Option("--model", "-m", help="Model, one of `samseg models`; default: what --checkpoint is of. Repeatable."),
]
OUTPUTS = Annotated[
    list[str], typer.Option(help="Recording of what a live node published, scored beside or instead; repeatable.")
]
SET = Annotated[list[str], typer.Option("--set", "-s", help="One setting, as model.device=cuda; repeatable.")]
SENSORS = Annotated[str, typer.Option(help="Sets that the model is given in turn, as rgb+thermal,rgb; all: every one.")]
CORRUPT = Annotated[
    str, typer.Option(help="Sensor failures, as thermal.blackout,lidar.rotation; all: every one that fits.")
]
SEVERITY = Annotated[str, typer.Option(help="Of the failures, 1 to 5.")]
REMAP = Annotated[
    str, typer.Option(help="For data of other classes: table of which counts as which (CSV from,to, or a name).")
]
WORKERS = Annotated[
    int, typer.Option(help="Processes; the numbers are the same. 0: this one; with --ray: all there is room for.")
]
RAY = Annotated[str, typer.Option(help="Address of a Ray cluster; local: one on this machine alone.")]
FIT = Annotated[
    bool, typer.Option("--fit-temperature", help="First make confidence honest on split val; kept in model.yaml.")
]
REPORT = Annotated[bool, typer.Option("--report/--no-report", help="Write report.html.")]
FRAMES = Annotated[int, typer.Option(help="World: unseen test scenes; the six conditions take turns.", min=6)]
BASELINE = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        help="World: model folder of a net trained with fewer sensors (repeatable); default: the shipped RGB-only one."
    ),
]
GUARD = Annotated[bool, typer.Option("--guard/--no-guard", help="World: score a random forest on single pixels too.")]

NOTHING_TO_FIT_ON = "--fit-temperature: expected data of the model's own classes that has a split val (--data)"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(evaluate)


def evaluate(
    bags: BAGS = None,
    data: DATA = [],  # noqa: B006 typer copies it
    split: Annotated[str, typer.Option(help="Of the datasets.")] = "test",
    limit: LIMIT = None,
    checkpoint: CHECKPOINT = [],  # noqa: B006
    model: MODEL = [],  # noqa: B006
    outputs: OUTPUTS = [],  # noqa: B006
    settings: SET = [],  # noqa: B006
    sensors: SENSORS = "",
    corrupt: CORRUPT = "",
    severity: SEVERITY = "1,2,3,4,5",
    remap: REMAP = "",
    workers: WORKERS = 0,
    ray: RAY = "",
    fit_temperature: FIT = False,
    report: REPORT = True,
    frames: FRAMES = 360,
    baseline: BASELINE = None,
    guard: GUARD = True,
    folder: Annotated[Path, typer.Option("--out", "-o", help="Folder of the results.")] = Path("out/evaluate"),
) -> None:
    """Score models: on recordings, on datasets, or, without either, on unseen scenes of the world.

    `samseg evaluate` alone makes the table of the model card: mIoU per condition and set of sensors on the world.
    Everything else writes table.md, metrics.json and report.html, and per_class.csv, confusion.csv, result.jsonl (a
    line a frame) and config.yaml: into OUT where there is one result, else into
    OUT/MODEL/DATASET/SENSORS/CORRUPTION, of which only what tells the results apart is there. A run that was stopped
    goes on from its finished frames (OUT/chunks) when it is started again with the same settings. What cannot be read
    is reported, the rest is scored; the exit code is then 1.
    """
    scenes = None if bags or data else limit or frames
    plain = not (bags or data or outputs or sensors or corrupt or workers or ray or limit or fit_temperature)
    if plain and len(checkpoint) < 2 and len(model) < 2:
        if remap:
            raise SamsegError("--remap is for --data: the world is scored by its own classes")
        evaluate_world(config_of_weights(_only(checkpoint), _only(model), settings), baseline, frames, guard, folder)
        return
    if outputs and not (bags or data):
        raise SamsegError("--outputs: expected the recording with labels that the node saw, got none; name it too")
    if baseline:
        raise SamsegError("--baseline is for the table of the world; compare models with several --checkpoint")
    entrants = _entrants(checkpoint, model, outputs, settings, ray)
    if fit_temperature:
        if remap or (bags and not data):
            raise SamsegError(NOTHING_TO_FIT_ON)
        _fit_temperature(entrants, data, limit, _crew(workers, ray), folder)
    sources = _sources(bags or [], data, split, scenes or limit, entrants)
    results = _score(entrants, sources, _stress(sensors, corrupt, severity), remap, _crew(workers, ray), folder)
    _write(results, folder, report)


def _crew(workers: int, ray: str) -> Crew:
    from samseg_ros.evaluation.crews import alone, in_processes
    from samseg_ros.evaluation.ray_crew import on_ray

    if workers < 0:
        raise SamsegError(f"--workers: expected 0 or more processes, got {workers}")
    if ray:
        return on_ray(ray, workers)
    return in_processes(workers) if workers else alone


def _stress(sensors: str, corrupt: str, severity: str) -> Stress:
    from samseg_ros.evaluation.plan import Stress

    if corrupt and not severity.strip():
        raise SamsegError("--severity: expected numbers of 1 to 5, as 1,3,5, got nothing")
    try:
        severities = tuple(int(one) for one in _listed("--severity", severity))
    except ValueError:
        raise SamsegError(f"--severity: expected numbers of 1 to 5, as 1,3,5, got {severity!r}") from None
    return Stress(_listed("--sensors", sensors), _listed("--corrupt", corrupt), severities)


def _listed(option: str, text: str) -> list[str]:
    found = [name for part in text.split(",") if (name := part.strip())]
    if text and not found:
        raise SamsegError(f"{option}: expected names with commas between them, got {text!r}")
    return found


def _sources(
    bags: Sequence[Path], data: Sequence[str], split: str, limit: int | None, entrants: Sequence[Entrant]
) -> list[Source]:
    from samseg_ros.evaluation.sources import RECORDING, Source

    labels = next((entrant.labels for entrant in entrants if not entrant.outputs), "")
    recordings = [Source(RECORDING, str(path.resolve()), limit=limit, labels=labels) for path in bags]
    parts = [one.partition(":") for one in data]
    datasets = [Source(name, path, split, limit) for name, _, path in parts]
    found = list(dict.fromkeys([*recordings, *datasets]))
    return found or [Source("world", "", split, limit)]


def _entrants(
    checkpoints: Sequence[str], models: Sequence[str], outputs: Sequence[str], settings: Sequence[str], ray: str
) -> list[Entrant]:
    """Pair weights with models: one model goes with all weights, otherwise as many as there are."""
    from samseg_ros.config import Config
    from samseg_ros.evaluation.jobs import settled
    from samseg_ros.evaluation.plan import Entrant
    from samseg_ros.evaluation.ray_crew import require_settled

    number = max(len(checkpoints), len(models)) or int(not outputs)
    if len(models) not in (0, 1, number) or len(checkpoints) not in (0, number):
        raise SamsegError(
            f"expected a --model for each --checkpoint, or one for all, got {len(models)} and {len(checkpoints)}"
        )
    names = models if len(models) == number else [*models, ""][:1] * number
    found = []
    for path, model in zip(checkpoints or [""] * number, names, strict=True):
        config = config_of_weights(path, model, settings)
        require_settled(ray, config)
        found.append(Entrant(named(config), settled(config)))
    own = config_of_weights("", "", settings) if outputs else Config()
    for path in dict.fromkeys(outputs):
        if not Path(path).exists():
            raise SamsegError(f"--outputs: no recording at {path}")
        found.append(Entrant(f"outputs in {path}", own, str(Path(path).resolve())))
    return list(dict.fromkeys(found))


def _score(
    entrants: Sequence[Entrant],
    sources: Sequence[Source],
    stress: Stress,
    remap: str,
    crew: Crew,
    folder: Path,
    temperatures: Sequence[float] = (),
) -> list[Result]:
    from samseg_ros.evaluation.plan import jobs_of, results_of
    from samseg_ros.evaluation.resumable import open_all, run_jobs
    from samseg_ros.evaluation.sources import read_by, used_of

    read = [read_by(source, entrant.config) for entrant in entrants for source in sources]
    with bar("opening", err) as advance:
        opened, failed = open_all(read, advance)
    if not opened:
        raise SamsegError("\n".join(dict.fromkeys(failed.values())))
    for line in dict.fromkeys(line for dataset in opened.values() for line in used_of(dataset)):
        err.print(line, style="dim", soft_wrap=True, markup=False, highlight=False)
    jobs = jobs_of(entrants, opened, stress, sources, remap, temperatures)
    try:
        with bar("scoring", err) as advance:
            outcomes = run_jobs(jobs, opened, failed, folder, crew, advance)
    except KeyboardInterrupt:
        err.print(
            f"stopped: the same command goes on from the finished frames in {folder / 'chunks'}",
            soft_wrap=True,
            markup=False,
        )
        raise
    results = results_of(entrants, outcomes)
    if all(result.scored is None for result in results):
        raise SamsegError("\n".join(dict.fromkeys(text for r in results for text in r.errors.values())))
    return results


def _write(results: Sequence[Result], folder: Path, report: bool) -> None:
    """Write and print what was scored; what failed is told, and makes the exit code 1."""
    from samseg_ros.evaluation.evaluation_files import write_evaluation
    from samseg_ros.evaluation.resumable import forget

    out.print(write_evaluation(folder, results), markup=False, highlight=False, soft_wrap=True)
    out.print(
        f"written: {folder / 'table.md'}, {folder / 'metrics.json'}", soft_wrap=True, highlight=False, markup=False
    )
    failures = dict.fromkeys(f"{name}: {text}" for result in results for name, text in result.errors.items())
    if report:
        _write_report(results, folder, list(failures))
    for failure in failures:
        err.print(f"[red]failed:[/] {escape(failure)}", soft_wrap=True, highlight=False)
    if failures:
        raise typer.Exit(1)
    forget(folder)


def _write_report(results: Sequence[Result], folder: Path, notes: Sequence[str]) -> None:
    from samseg_ros.evaluation.evaluation_report import write_evaluation_report
    from samseg_ros.evaluation.frames_again import frames_again

    scored = [result.scored for result in results if result.scored is not None]
    err.print("drawing the report", style="dim")
    write_evaluation_report(folder / "report.html", scored, frames_again(results), notes=notes)
    out.print(f"report: {folder / 'report.html'}", soft_wrap=True, highlight=False, markup=False)


def _fit_temperature(
    entrants: Sequence[Entrant], data: Sequence[str], limit: int | None, crew: Crew, folder: Path
) -> None:
    """Fit the temperature of each model on the split val of the first dataset; store it with the weights."""
    from samseg_ros.evaluation.calibration import TEMPERATURES, fit_temperature
    from samseg_ros.evaluation.plan import Stress
    from samseg_ros.models.temperature import store_temperature

    models = [entrant for entrant in entrants if not entrant.outputs]
    if not models:
        raise SamsegError("--fit-temperature: expected a model that is run, got recorded outputs; give --checkpoint")
    sources = _sources([], data[:1], "val", limit, models)
    for result in _score(models, sources, Stress(), "", crew, folder, TEMPERATURES):
        if result.scored is None:
            raise SamsegError(next(iter(result.errors.values())))
        measures = result.scored.measures
        fit = fit_temperature(measures.nll.sum(0), int(measures.nll_pixels.sum()))
        path = store_temperature(result.entrant.config.model, fit.temperature)
        out.print(
            f"{result.entrant.name}: temperature × {fit.temperature:.3f}, negative log likelihood {fit.nll_before:.4f} "
            f"→ {fit.nll:.4f} on {result.scored.dataset}, stored in {path}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def _only(values: Sequence[str]) -> str:
    return values[0] if values else ""
