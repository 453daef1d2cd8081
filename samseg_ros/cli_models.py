"""Commands about models: evaluate, benchmark, settings. They hang in the command line that cli.py builds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from samseg_ros.errors import SamsegError
from samseg_ros.progress import bar

if TYPE_CHECKING:
    from samseg_ros.pipeline import Pipeline

out = Console()
OPTIONAL_FILE = Optional[Path]  # noqa: UP045 typer reads it at run time
OPTIONAL_LIST = Optional[list[str]]  # noqa: UP045


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (evaluate, benchmark, settings):
        app.command()(command)


def evaluate(
    frames: Annotated[int, typer.Option(help="Unseen test scenes, an equal number of each condition.", min=6)] = 360,
    checkpoint: Annotated[str, typer.Option(help="Weights or model folder; default: the shipped ones.")] = "",
    baseline: Annotated[
        OPTIONAL_LIST,
        typer.Option(
            help="Model folder of a net trained with fewer sensors (repeatable); default: the shipped RGB-only one."
        ),
    ] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="With --data: model, one of `samseg models`.")] = "",
    data: Annotated[
        OPTIONAL_LIST,
        typer.Option(
            "--data",
            "-d",
            help="Score on a dataset instead: NAME:FOLDER, one of `samseg datasets`. Repeated: also what is retained "
            "of the first one's mIoU on each of the others.",
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="With --data: split.")] = "test",
    folder: Annotated[Path, typer.Option("--out", "-o", help="Folder of table.md and metrics.json.")] = Path(
        "out/evaluate"
    ),
    guard: Annotated[
        bool, typer.Option("--guard/--no-guard", help="Score a random forest on single pixels too.")
    ] = True,
) -> None:
    """Score on unseen scenes of the world: mIoU per condition and set of sensors, the table of the model card.

    With --data: IoU per class and mIoU of one model on a dataset.
    """
    if data:
        _evaluate_datasets(data, split, model, checkpoint, folder)
        return
    from samseg_ros.datasets.world import WorldDataset
    from samseg_ros.evaluation.world_table import Variant, baseline_names, comparisons, score_world, sensor_sets

    fused = _pipeline(checkpoint)
    others = [_pipeline(path) for path in baseline or [_shipped_baseline()]]
    sensors = [other.modalities for other in others]
    rows = {name: Variant(fused, kept) for name, kept in sensor_sets(fused.modalities).items()}
    for name, other in zip(baseline_names(sensors, fused.modalities), others, strict=True):
        rows[name] = Variant(other, other.modalities)
    with bar("scoring") as advance:
        table = score_world(rows, WorldDataset("test", frames), advance)
    text = f"{table.markdown(comparisons(sensors, fused.modalities))}\n\n{table.per_class_markdown()}\n"
    measured: dict[str, Any] = {"frames": frames, "miou": table.summary()}
    if guard:
        from samseg_ros.evaluation.color_guard import LIMIT_MIOU, forest_miou

        with bar("colour-by-number guard") as advance:
            forest = forest_miou(progress=advance)
        measured["forest_miou"] = forest
        verdict = "holds" if forest <= LIMIT_MIOU else "is broken"
        text += f"\nA random forest on single pixels: {forest:.1f} mIoU; the guard (≤ {LIMIT_MIOU:.0f}) {verdict}.\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(text)
    (folder / "metrics.json").write_text(json.dumps(measured, indent=2))
    out.print(text, markup=False, highlight=False, soft_wrap=True)
    out.print(f"written: {folder / 'table.md'}")


def _evaluate_datasets(data: list[str], split: str, model: str, checkpoint: str, folder: Path) -> None:
    """Score one model on a split of each dataset and write table.md and metrics.json."""
    from samseg_ros.datasets.catalog import open_dataset
    from samseg_ros.evaluation.dataset_table import retention, score_dataset

    pipeline = _pipeline(checkpoint, model)
    parts = [(name, Path(path) if path else None) for name, _, path in (one.partition(":") for one in data)]
    opened = [(name, open_dataset(name, path, split)) for name, path in parts]  # what is missing is told before scoring
    texts, measured = [], []
    for name, dataset in opened:
        with bar(f"scoring {name}") as advance:
            scores = score_dataset(pipeline, dataset, (), advance)
        frames = len(scores.samples)
        texts.append(f"{checkpoint or model} on {name}, split {split}, {frames} frames\n\n{scores.markdown()}")
        measured.append({"dataset": name, "split": split, **scores.summary()})
    kept = retention([(row["dataset"], row["miou"]) for row in measured])
    text = "\n".join([*texts, *kept])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(text)
    (folder / "metrics.json").write_text(json.dumps(measured if len(measured) > 1 else measured[0], indent=2))
    out.print(text, markup=False, highlight=False, soft_wrap=True)
    out.print(f"written: {folder / 'table.md'}, {folder / 'metrics.json'}")


def benchmark(
    rows: Annotated[str, typer.Option(help="Comma-separated rows; default: all.")] = "",
    repeats: Annotated[int, typer.Option(help="Interleaved repeats; medians are shown.", min=1)] = 15,
    file: Annotated[OPTIONAL_FILE, typer.Option("--out", "-o", help="JSON file of the numbers.")] = None,
) -> None:
    """Measure speed as ratios in one run: ours, a peer that does the same, and the limit."""
    from samseg_ros.evaluation.benchmark import run
    from samseg_ros.ros.benchmark import NODE_ROW, node_timing

    names = tuple(filter(None, (name.strip() for name in rows.split(","))))
    library = tuple(name for name in names if name != NODE_ROW)
    timings = []
    with bar("measuring") as advance:
        if library or not names:
            timings += run(library, repeats, lambda done, total: advance(done, total + 1))
    if NODE_ROW in names or not names:
        timings.append(node_timing(report=lambda text: out.print(text, style="dim")))
    table = Table("row", "ours", "peer", "limit", "peer / ours", "ours / limit", "aim")
    for t in timings:
        times = (f"{ms:.2f} ms" for ms in (t.ours_ms, t.peer_ms, t.limit_ms))
        table.add_row(t.name, *times, f"{t.over_peer:.1f}", f"{t.over_limit:.1f}", t.row.aim)
    out.print(table)
    for t in timings:
        about = f"[bold]{t.name}[/]: {escape(t.row.about)}. Peer: {escape(t.row.peer)}. Limit: {escape(t.row.limit)}."
        out.print(about, highlight=False, soft_wrap=True)
    if file:
        numbers = {t.name: {"ours_ms": t.ours_ms, "peer_ms": t.peer_ms, "limit_ms": t.limit_ms} for t in timings}
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(numbers, indent=2))


def settings() -> None:
    """Print every setting with default and range, as the Markdown table of docs/parameters.md."""
    from samseg_ros.schema import markdown

    sys.stdout.write(markdown())


def _pipeline(checkpoint: str, model: str = "") -> Pipeline:
    """Load weights; a folder with a model.yaml says itself which model and preset it is of."""
    from samseg_ros.config import from_flat
    from samseg_ros.models import SPEC_FILE, read_spec
    from samseg_ros.pipeline import Pipeline

    settings = {"model.name": model} if model else {}
    if (Path(checkpoint) / SPEC_FILE).is_file() and checkpoint:
        spec = read_spec(Path(checkpoint) / SPEC_FILE)
        settings = {"model.name": model or spec.name, "model.config": spec.preset}
    return Pipeline.from_config(from_flat({**settings, "model.checkpoint": checkpoint}, source="command line"))


def _shipped_baseline() -> str:
    from samseg_ros.resources import models_dir

    folder = models_dir() / "mm_sam_adapter" / "rgb"
    if not folder.is_dir():
        raise SamsegError(
            f"no baseline weights under {folder}; train them (recipe mm_sam_adapter_world_rgb) and give --baseline"
        )
    return str(folder)
