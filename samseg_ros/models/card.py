"""Model cards: what lies beside trained or imported weights, put into words and tables."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from samseg_ros.config import ThermalConfig
from samseg_ros.errors import SamsegError
from samseg_ros.labels import load_labels
from samseg_ros.models import SPEC_FILE, ModelSpec, read_spec

CARD_FILE = "card.md"
MODEL_FOLDER = "model"
"""Where training puts the weights within its run's folder."""
SCORES = {"val_miou": "validation mIoU %", "val_psnr": "validation PSNR dB"}
"""What a run may be judged by, as its log and a reader call it."""
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a weights file tells by its header."""

    parameters: int
    megabytes: float
    precision: str
    """Number type of most weights: F16, F32, BF16."""


def file_facts(path: Path) -> FileFacts:
    """Read the header of a safetensors file; batch-norm statistics are no parameters.

    Raises:
        SamsegError: no such file, or no safetensors file.
    """
    counts: dict[str, int] = {}
    try:
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 it is no mapping
                if not name.endswith(BUFFERS):
                    part = file.get_slice(name)
                    counts[part.get_dtype()] = counts.get(part.get_dtype(), 0) + math.prod(part.get_shape())
    except (OSError, SafetensorError) as error:
        raise SamsegError(f"{path}: cannot be read as a safetensors file ({error})") from None
    precision = max(counts, key=lambda kind: counts[kind], default="")
    return FileFacts(sum(counts.values()), path.stat().st_size / 1e6, precision)


def model_folder(folder: Path) -> Path:
    """Return where model.yaml lies: the folder itself, or ``model`` in the folder of a run.

    Raises:
        SamsegError: in neither.
    """
    for candidate in (folder, folder / MODEL_FOLDER):
        if (candidate / SPEC_FILE).is_file():
            return candidate
    raise SamsegError(f"{folder}: expected a folder with {SPEC_FILE}, or of a run with {MODEL_FOLDER}/{SPEC_FILE}")


def make_card(folder: Path) -> str:
    """Return a card in Markdown for a folder of weights.

    Beside model.yaml it tells what it finds there or in the run's folder above: recipe.yaml, log.jsonl, source.json,
    metrics.json, import.json.

    Raises:
        SamsegError: no model.yaml, or one of the files is damaged.
    """
    folder = model_folder(folder)
    spec = read_spec(folder / SPEC_FILE)
    sections = [
        f"# {spec.name}, {spec.preset}: {spec.data or 'weights'}",
        _table(_facts(folder, spec)),
        _measured(_beside(folder, "metrics.json")),
        _training(_beside(folder, "log.jsonl"), _beside(folder, "source.json")),
        _recipe(_beside(folder, "recipe.yaml")),
        _use(spec),
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def _facts(folder: Path, spec: ModelSpec) -> dict[str, str]:
    weights = file_facts(folder / spec.weights)
    labels = load_labels(str(folder / spec.labels) if spec.labels.endswith(".csv") else spec.labels)
    options = "".join(f", {name} `{value}`" for name, value in spec.options.items())
    facts = {
        "model": f"`{spec.name}`, preset `{spec.preset}`{options} ({weights.parameters / 1e6:.1f}M parameters)",
        "file": f"`{spec.weights}`, {weights.precision} safetensors, {weights.megabytes:.1f} MB",
        "sha256": f"`{spec.sha256}`" if spec.sha256 else "not recorded",
        "method": spec.paper,
        "labels": f"`{spec.labels}` ({len(labels)} classes: {', '.join(labels.names)})",
        "modalities": ", ".join(spec.modalities),
        "input": f"{_input(spec)}, whatever the camera's size; masks come out at camera size",
        "thermal": _thermal(spec.thermal),
        "data": spec.data,
        "imported": _imported(_beside(folder, "import.json")),
        "licence": spec.licence,
    }
    return {name: value for name, value in facts.items() if value}


def _input(spec: ModelSpec) -> str:
    if spec.squash_to:
        return "squashed to {}×{} pixels".format(*spec.squash_to)
    if spec.pad_to:
        return "padded to {}×{} pixels".format(*spec.pad_to)
    if spec.windows:
        (h, w), (down, across) = spec.windows.size, spec.windows.stride
        return f"windows of {h}×{w} every {down}×{across} pixels of about {spec.input_pixels:,}"
    return f"about {spec.input_pixels:,} pixels"


def _thermal(scaling: ThermalConfig | None) -> str:
    if scaling is None:
        return ""
    low, high = {
        "percentile": (f"percentile {scaling.percentile_low:g}", f"percentile {scaling.percentile_high:g}"),
        "fixed": (f"{scaling.fixed_low:g}", f"{scaling.fixed_high:g}"),
        "minmax": ("each image's smallest count", "its largest"),
    }[scaling.normalization]
    return f"{low} becomes 0, {high} becomes 1, unless thermal.* is set to something else than the defaults"


def _imported(path: Path | None) -> str:
    facts = _json(path)
    return f"from `{facts.get('file')}`, sha256 `{facts.get('sha256')}`" if facts else ""


def _measured(path: Path | None) -> str:
    """Numbers as lines; tables of numbers (row to column to number) as tables."""
    parts = [_metric(name, value) for name, value in _in_percent(_json(path)).items()]
    return "\n\n".join(["## Measured", *filter(None, parts)]) if any(parts) else ""


def _in_percent(measured: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what an evaluation on a dataset measured (shares and much detail) as a reader wants it; others as is."""
    if "miou_interval" not in measured:
        return measured
    scores = [name for name in ("miou", "miou_absent_zero", "accuracy", "boundary_f", "ece") if name in measured]

    def part(numbers: Mapping[str, Any]) -> dict[str, Any]:
        return {"frames": numbers["frames"], **{f"{name} %": _percent(numbers[name]) for name in scores}}

    shown = {name: measured[name] for name in ("model", "dataset")} | part(measured)
    shown["IoU %"] = {name: _percent(value) for name, value in measured["iou"].items()}
    if measured["conditions"]:
        shown["condition"] = {name: part(numbers) for name, numbers in measured["conditions"].items()}
    return shown


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _metric(name: str, value: Any) -> str:
    if isinstance(value, Mapping) and value and all(isinstance(row, Mapping) for row in value.values()):
        columns = list(dict.fromkeys(column for row in value.values() for column in row))
        lines = [f"| {name} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        lines += [f"| {row} | {' | '.join(_number(cells.get(c)) for c in columns)} |" for row, cells in value.items()]
        return "\n".join(lines)
    if isinstance(value, Mapping):
        return _metric(name, {"": value})
    return f"{name}: {_number(value)}" if isinstance(value, (int, float, str)) else ""


def _number(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, float) else "–" if value is None else str(value)


def _training(log: Path | None, source: Path | None) -> str:
    rows = list(_rows(log)) if log else []
    losses = [row for row in rows if "loss" in row]
    score = next((name for name in SCORES if any(name in row for row in rows)), "")
    scores = [row for row in rows if score in row]
    lines = []
    if losses:
        lines.append(f"{int(rows[-1]['step'])} steps; loss {losses[0]['loss']:.3f} → {losses[-1]['loss']:.3f}")
    if scores:
        best = max(scores, key=lambda row: row[score])
        lines.append(
            f"{SCORES[score]}: {scores[0][score]:.1f} at step {int(scores[0]['step'])}, best "
            f"{best[score]:.1f} at step {int(best['step'])}, last {scores[-1][score]:.1f}"
        )
    if rows and "seconds" in rows[-1]:
        lines.append(f"{rows[-1]['seconds'] / 60:.0f} minutes")
    if made := _json(source):
        lines.append(", ".join(f"{name} {value}" for name, value in made.items()))
    return "\n".join(["## Training", *(f"- {line}" for line in lines)]) if lines else ""


def _recipe(path: Path | None) -> str:
    return f"## Recipe\n```yaml\n{path.read_text().strip()}\n```" if path else ""


def _use(spec: ModelSpec) -> str:
    settings = {"model.name": spec.name, "model.config": spec.preset, "model.checkpoint": "FOLDER"}
    flags = " ".join(f"--set {name}={value}" for name, value in settings.items())
    if spec.stage != "whole":
        command = "samseg train --recipe RECIPE --set start_from=FOLDER"
        return f"## Train on\nFOLDER is where this card lies.\n```\n{command}\n```"
    return f"## Use it\nFOLDER is where this card lies.\n```\nsamseg replay BAG {flags}\n```"


def _rows(path: Path) -> Iterator[dict[str, float]]:
    """Yield the rows of a log; the last may be cut off by a kill."""
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            if number < len(lines):
                raise SamsegError(f"{path}:{number}: expected a JSON object, got {line[:60]!r}") from None


def _beside(folder: Path, name: str) -> Path | None:
    """Find a file in the folder, or in the run's folder above ``model``."""
    places = (folder, folder.parent) if folder.resolve().name == MODEL_FOLDER else (folder,)
    return next((place / name for place in places if (place / name).is_file()), None)


def _json(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        tree = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SamsegError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(tree, dict):
        raise SamsegError(f"{path}: expected a JSON object, got {type(tree).__name__}")
    return tree


def _table(rows: Mapping[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])
