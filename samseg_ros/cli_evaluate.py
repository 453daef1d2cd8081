"""The command that scores: evaluate. It hangs in the command line that cli.py builds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape

from samseg_ros.cli_evaluate_options import (
    BAGS,
    BASELINE,
    CHECKPOINT,
    CORRUPT,
    DATA,
    FIT,
    FRAMES,
    GUARD,
    LIMIT,
    MODEL,
    OUT,
    OUTPUTS,
    RAY,
    REMAP,
    REPORT,
    SENSORS,
    SET,
    SEVERITY,
    SPLIT,
    WORKERS,
    refuse_idle,
)
from samseg_ros.cli_evaluate_world import evaluate_world
from samseg_ros.cli_settings import at_home, config_of_weights, named
from samseg_ros.errors import SamsegError
from samseg_ros.progress import bar

if TYPE_CHECKING:
    from samseg_ros.config import Config
    from samseg_ros.datasets.labelled import LabelledDataset
    from samseg_ros.evaluation.crews import Crew
    from samseg_ros.evaluation.jobs import Job
    from samseg_ros.evaluation.plan import Entrant, Result, Stress
    from samseg_ros.evaluation.resumable import Outcome
    from samseg_ros.evaluation.sources import Source

out = Console()
err = Console(stderr=True)
SPLIT_DEFAULT, FRAMES_DEFAULT, SEVERITY_DEFAULT = "test", 360, "1,2,3,4,5"
NOTHING_TO_FIT_ON = "--fit-temperature: expected data of the model's own classes that has a split val (--data)"


@dataclass(frozen=True, slots=True)
class Asked:
    """A command line that makes sense."""

    entrants: Sequence[Entrant]
    sources: Sequence[Source]
    val: Sequence[Source]
    """On which temperatures are fitted first; none: they are not."""
    stress: Stress
    remap: str
    crew: Crew
    folder: Path


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(evaluate)


def evaluate(
    bags: BAGS = None,
    data: DATA = [],  # noqa: B006 typer copies it
    split: SPLIT = None,
    limit: LIMIT = None,
    checkpoint: CHECKPOINT = [],  # noqa: B006
    model: MODEL = [],  # noqa: B006
    outputs: OUTPUTS = [],  # noqa: B006
    settings: SET = [],  # noqa: B006
    sensors: SENSORS = "",
    corrupt: CORRUPT = "",
    severity: SEVERITY = None,
    remap: REMAP = "",
    workers: WORKERS = 0,
    ray: RAY = "",
    fit_temperature: FIT = False,
    report: REPORT = True,
    frames: FRAMES = None,
    baseline: BASELINE = None,
    guard: GUARD = None,
    folder: OUT = Path("out/evaluate"),
) -> None:
    """Score models: on recordings, on datasets, or, without either, on unseen scenes of the world.

    `samseg evaluate` alone makes the table of the model card, on the world. Everything else writes table.md,
    metrics.json and report.html, and per_class.csv, confusion.csv, result.jsonl (a line a frame) and config.yaml: into
    OUT where there is one result, else into OUT/MODEL/DATASET/SENSORS/CORRUPTION, of which only what tells the results
    apart is there. A run that was stopped goes on from its finished frames when it is started again with the same
    settings. What cannot be read is reported, the rest is scored; the exit code is then 1.
    """
    from samseg_ros.evaluation.own_files import held

    plain = not (bags or data or outputs or sensors or corrupt or workers or ray or limit or fit_temperature)
    is_table = plain and max(len(checkpoint), len(model)) < 2
    world, labelled = (split, frames, guard, baseline), (bags, data)
    refuse_idle(is_table, *world, *labelled, corrupt=corrupt, severity=severity, remap=remap, outputs=outputs)
    if is_table:
        with held(folder):
            config = config_of_weights(_only(checkpoint), _only(model), settings)
            evaluate_world(config, baseline, frames or FRAMES_DEFAULT, guard is not False, folder)
        return
    entrants = _entrants(checkpoint, model, outputs, settings, ray)
    scenes = limit if bags or data else limit or frames or FRAMES_DEFAULT
    sources = _sources(bags or [], data, split or SPLIT_DEFAULT, scenes, entrants)
    val = _sources([], data[:1], "val", limit or frames, entrants) if fit_temperature else []
    if val and (remap or (bags and not data)):
        raise SamsegError(NOTHING_TO_FIT_ON)
    stress = _stress(sensors, corrupt, SEVERITY_DEFAULT if severity is None else severity)
    with held(folder):
        _evaluate(Asked(entrants, sources, val, stress, remap, _crew(workers, ray), folder), report)


def _evaluate(asked: Asked, report: bool) -> None:
    from samseg_ros.evaluation.plan import jobs_of, results_of
    from samseg_ros.evaluation.resumable import forget

    opened, failed = _open(asked.entrants, asked.sources)
    jobs = jobs_of(asked.entrants, opened, asked.stress, asked.sources, asked.remap)
    if asked.val:  # last of all that can be wrong with the command line: it changes model.yaml
        _fit_temperature(asked)
    outcomes = _scored(jobs, opened, failed, asked)
    _write(results_of(asked.entrants, outcomes), asked.folder, report)
    forget(outcomes)


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
    from samseg_ros.datasets.catalog import dataset_entry
    from samseg_ros.evaluation.sources import RECORDING, Source

    labels = next((entrant.labels for entrant in entrants if not entrant.outputs), "")
    recordings = [Source(RECORDING, str(path.resolve()), limit=limit, labels=labels) for path in bags]
    parts = [one.partition(":") for one in data]
    if RECORDING in (name for name, _, _ in parts):
        dataset_entry(RECORDING)  # which there is not
    datasets = [Source(name, at_home(path), split, limit) for name, _, path in parts]
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
    found: dict[object, Entrant] = {}
    for path, model in zip(checkpoints or [""] * number, names, strict=True):
        config = config_of_weights(path, model, settings)
        require_settled(ray, config)
        found.setdefault(_meant(config), Entrant(named(config), settled(config)))
    own = config_of_weights("", "", settings) if outputs else Config()
    for path in outputs:
        if not Path(path).exists():
            raise SamsegError(f"--outputs: no recording at {path}")
        place = str(Path(path).resolve())
        found.setdefault(place, Entrant(f"outputs in {path}", own, place))
    return list(found.values())


def _meant(config: Config) -> object:
    """Return what is the same for weights that are named in two ways."""
    from samseg_ros.models import locate

    weights = tuple(path and path.resolve() for path in locate(config.model))
    return weights, config.model_copy(update={"model": config.model.model_copy(update={"checkpoint": ""})})


def _open(
    entrants: Sequence[Entrant], sources: Sequence[Source]
) -> tuple[dict[Source, LabelledDataset], dict[Source, str]]:
    """Open what can be opened, as each model reads it, and say what serves as what; see `resumable.open_all`."""
    from samseg_ros.evaluation.resumable import open_all
    from samseg_ros.evaluation.sources import read_by, used_of

    read = [read_by(source, entrant.config) for entrant in entrants for source in sources]
    with bar("opening", err) as advance:
        opened, failed = open_all(read, advance)
    if not opened:
        raise SamsegError("\n".join(dict.fromkeys(failed.values())))
    for line in dict.fromkeys(line for dataset in opened.values() for line in used_of(dataset)):
        err.print(line, style="dim", soft_wrap=True, markup=False, highlight=False)
    return opened, failed


def _scored(
    jobs: Sequence[Job], opened: dict[Source, LabelledDataset], failed: dict[Source, str], asked: Asked
) -> list[Outcome]:
    """Run the jobs.

    Raises:
        SamsegError: nothing could be scored.
    """
    from samseg_ros.evaluation.resumable import run_jobs

    try:
        with bar("scoring", err) as advance:
            outcomes = run_jobs(jobs, opened, failed, asked.folder, asked.crew, advance)
    except KeyboardInterrupt:
        err.print("stopped: the same command goes on from the frames that are finished")
        raise
    if all(outcome.measures is None for outcome in outcomes):
        raise SamsegError("\n".join(dict.fromkeys(outcome.refused for outcome in outcomes)))
    return outcomes


def _write(results: Sequence[Result], folder: Path, report: bool) -> None:
    """Write and print what was scored; what failed is told, and makes the exit code 1."""
    from samseg_ros.evaluation.evaluation_files import write_evaluation

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


def _write_report(results: Sequence[Result], folder: Path, notes: Sequence[str]) -> None:
    from samseg_ros.evaluation.evaluation_report import write_evaluation_report
    from samseg_ros.evaluation.frames_again import frames_again
    from samseg_ros.evaluation.own_files import replaced

    scored = [result.scored for result in results if result.scored is not None]
    err.print("drawing the report", style="dim")
    with replaced(folder, keep=True) as new:
        write_evaluation_report(new / "report.html", scored, frames_again(results), notes=notes)
    out.print(f"report: {folder / 'report.html'}", soft_wrap=True, highlight=False, markup=False)


def _fit_temperature(asked: Asked) -> None:
    """Fit the temperature of each model on the split val of the first dataset; store it with the weights."""
    from samseg_ros.evaluation.calibration import TEMPERATURES, fit_temperature
    from samseg_ros.evaluation.plan import Stress, jobs_of, results_of
    from samseg_ros.evaluation.resumable import forget
    from samseg_ros.models import locate
    from samseg_ros.models.temperature import store_temperature

    one_each = {locate(e.config.model)[0].resolve(): e for e in asked.entrants if not e.outputs}
    models = list(one_each.values())
    if not models:
        raise SamsegError("--fit-temperature: expected a model that is run, got recorded outputs; give --checkpoint")
    opened, failed = _open(models, asked.val)
    outcomes = _scored(jobs_of(models, opened, Stress(), asked.val, temperatures=TEMPERATURES), opened, failed, asked)
    results = results_of(models, outcomes)
    for name, text in (error for result in results for error in result.errors.items()):
        raise SamsegError(f"--fit-temperature: expected every frame of val, got {name}: {text}; nothing is stored")
    scored = [(result.entrant, result.scored) for result in results if result.scored is not None]
    fits = [fit_temperature(s.measures.nll.sum(0), int(s.measures.nll_pixels.sum())) for _, s in scored]
    for (entrant, on), fit in zip(scored, fits, strict=True):
        path = store_temperature(entrant.config.model, fit.temperature)
        out.print(
            f"{entrant.name}: temperature × {fit.temperature:.3f}, negative log likelihood {fit.nll_before:.4f} "
            f"→ {fit.nll:.4f} on {on.dataset}, stored in {path}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    forget(outcomes)


def _only(values: Sequence[str]) -> str:
    return values[0] if values else ""
