"""A set of variants of one recipe, trained and scored alike: the papers' ablations as a table and a plot."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from samseg_ros.config import from_flat
from samseg_ros.datasets.catalog import open_dataset
from samseg_ros.datasets.labelled import LabelledDataset
from samseg_ros.errors import SamsegError, nearest
from samseg_ros.evaluation.dataset_table import ALL, DatasetScores, score_dataset
from samseg_ros.evaluation.metrics import bootstrap_miou, miou
from samseg_ros.evaluation.world_table import sensor_sets
from samseg_ros.labels import load_labels
from samseg_ros.models import ModelSpec, build_network, load_model, read_spec
from samseg_ros.pipeline import Pipeline
from samseg_ros.resources import config_dir
from samseg_ros.training.checkpoint import FREE_SETTINGS
from samseg_ros.training.recipe import Recipe, load_recipe
from samseg_ros.training.run import MODEL_FOLDER, Bar, Places, alone_in, open_splits, require_sam, run_recipe
from samseg_ros.training.run_log import read_log, summary

SCORES_FILE = "scores.json"


class Ablation(BaseModel):
    """A set of variants; YAML files under config/ablations."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    about: str = Field(description="What is compared, one sentence.")
    recipe: str = Field(description="The recipe that all variants share.")
    changes: dict[str, Any] = Field(default_factory=dict, description="Dotted settings that hold for all variants.")
    variants: dict[str, dict[str, Any]] = Field(
        min_length=1, description="Name to the dotted settings that this variant changes; the first is the reference."
    )
    test_split: str = "test"
    test_limit: int | None = Field(
        None, gt=0, description="Only n test samples, spread evenly; the world's number of scenes."
    )
    group_by: Literal["condition", "difficulty", "sensors"] = Field(
        "condition", description="Columns of the table; sensors: which of them the network is given."
    )

    @field_validator("variants")
    @classmethod
    def _names_are_folders(cls, variants: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name in variants:
            if not re.fullmatch(r"\w[\w.+-]*", name):
                raise ValueError(f"expected names of letters, digits and _ . + - (they name folders), got {name!r}")
        return variants


@dataclass(frozen=True)
class Variant:
    """One row: a recipe of its own."""

    name: str
    recipe: Recipe


def load_ablation(name_or_path: str, changes: Mapping[str, Any] | None = None) -> tuple[Ablation, list[Variant]]:
    """Read a set and check the recipe of every variant before anything runs.

    Args:
        changes: put over the recipe of all variants.

    Raises:
        SamsegError: no such set, or a setting is unknown or out of range.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = config_dir() / "ablations" / f"{name_or_path}.yaml"
    if not path.is_file():
        shipped = [p.stem for p in (config_dir() / "ablations").glob("*.yaml")]
        raise SamsegError(f"no ablation {name_or_path}; {nearest(path.stem, shipped)}")
    try:
        ablation = Ablation.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SamsegError(f"{path}: cannot be read ({error})") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        known = ", ".join(Ablation.model_fields)
        raise SamsegError(f"{path}: {where}: {first['msg']}, got {first['input']!r}; entries are: {known}") from None
    rows = []
    for name, own in ablation.variants.items():
        try:
            rows.append(Variant(name, load_recipe(ablation.recipe, {**ablation.changes, **own, **(changes or {})})))
        except SamsegError as error:
            raise SamsegError(f"{path}: variant {name}: {error}") from None
    return ablation, rows


def run_ablation(chosen: tuple[Ablation, list[Variant]], places: Places, bar: Bar, say: Callable[[str], None]) -> str:
    """Train and score every variant that is not finished; return the table.

    ``places.out`` gets a folder a variant, table.md, table.json and table.png.

    Raises:
        SamsegError: another process is at it, or a variant cannot be trained or scored; what can be known of that
            without training is known before any of them is.
    """
    with alone_in(places.out):
        _require_ready(chosen, places)
        return _run_variants(chosen, places, bar, say)


def _require_ready(chosen: tuple[Ablation, list[Variant]], places: Places) -> None:
    """Look at the data, the network and what is finished of every variant."""
    ablation, variants = chosen
    for variant in variants:
        recipe, done = variant.recipe, places.out / variant.name / SCORES_FILE
        if done.is_file():
            _scores(done, _asked(ablation, variant))
            continue
        try:
            _require_trainable(ablation, recipe, places)
        except SamsegError as error:
            raise SamsegError(f"variant {variant.name}: {error}") from None


def _require_trainable(ablation: Ablation, recipe: Recipe, places: Places) -> None:
    data, _ = open_splits(recipe, places.data)
    test = _open_test(ablation, recipe, places)
    if ablation.group_by == "difficulty" and not any(sample.difficulty for sample in test.samples):
        raise SamsegError(f"group_by: {recipe.data.dataset} does not say how difficult its samples are; use condition")
    with torch.device("meta"):
        classes = len(load_labels(data.labels))
        network = build_network(recipe.model, recipe.preset, recipe.sensors, classes, recipe.options)
        require_sam(network, recipe)


def _open_test(ablation: Ablation, recipe: Recipe, places: Places) -> LabelledDataset:
    known = recipe.data
    return open_dataset(known.dataset, places.data, ablation.test_split, ablation.test_limit, known.view, known.thermal)


def _run_variants(chosen: tuple[Ablation, list[Variant]], places: Places, bar: Bar, say: Callable[[str], None]) -> str:
    ablation, variants = chosen
    results = {}
    for number, variant in enumerate(variants, start=1):
        folder = places.out / variant.name
        done = folder / SCORES_FILE
        if not done.is_file():
            say(f"{number} of {len(variants)}: {variant.name}")
            run_recipe(variant.recipe, replace(places, out=folder), bar)
            scores = {**_score(ablation, variant, places, folder, bar), "asked": _asked(ablation, variant)}
            done.write_text(json.dumps(scores, indent=2))
        results[variant.name] = _scores(done, _asked(ablation, variant))
    table = markdown(ablation, results)
    places.out.mkdir(parents=True, exist_ok=True)
    (places.out / "table.md").write_text(table)
    (places.out / "table.json").write_text(json.dumps(results, indent=2))
    _plot(ablation, results, places.out / "table.png")
    return table


def _asked(ablation: Ablation, variant: Variant) -> dict[str, Any]:
    """Return what a variant's scores depend on."""
    tree = variant.recipe.model_dump(mode="json", exclude=FREE_SETTINGS)
    return {"recipe": tree, "test": [ablation.test_split, ablation.test_limit, ablation.group_by]}


def _scores(path: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Read the scores of a finished variant.

    Raises:
        SamsegError: the file is damaged, or of other settings.
    """
    try:
        scores: dict[str, Any] = json.loads(path.read_text())
        found = scores["asked"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SamsegError(f"{path} is damaged ({error!r}); remove {path.parent}, it is done again") from None
    if found != asked:
        raise SamsegError(
            f"{path.parent} was trained or scored with other settings; choose another --out, or remove it"
        )
    return scores


def _score(ablation: Ablation, variant: Variant, places: Places, folder: Path, bar: Bar) -> dict[str, Any]:
    """Score the weights of a variant through the pipeline, as the node would run them."""
    spec: ModelSpec = read_spec(folder / MODEL_FOLDER / "model.yaml")
    settings = {"model.name": spec.name, "model.config": spec.preset, "model.checkpoint": str(folder / MODEL_FOLDER)}
    config = from_flat(settings, source="ablation")
    loaded = load_model(config.model)
    parameters = sum(p.numel() for p in loaded.network.parameters())
    pipeline = Pipeline(loaded, config)
    dataset = _open_test(ablation, variant.recipe, places)
    columns = _columns(ablation.group_by, pipeline, dataset, variant, bar)
    run = summary(read_log(folder))
    return {
        "parameters": parameters,
        "minutes": run["seconds"] / 60,
        "val_miou": run["best"],
        "miou": columns,
    }


def _columns(
    group_by: str, pipeline: Pipeline, dataset: LabelledDataset, variant: Variant, bar: Bar
) -> dict[str, list[float]]:
    """Return mIoU and its interval by column: a part of the samples, or all of them seen by some of the sensors."""
    sensors = variant.recipe.sensors
    sets = sensor_sets(sensors) if group_by == "sensors" else {ALL: sensors}
    scores = {}
    for name, kept in sets.items():
        with bar(f"scoring {variant.name}, {'+'.join(kept)}") as advance:
            scores[name] = score_dataset(pipeline, dataset, kept, advance)
    if group_by == "sensors":
        return {name: _interval(part, "condition", ALL) for name, part in scores.items()}
    return {name: _interval(scores[ALL], group_by, name) for name in scores[ALL].groups(group_by)}


def _interval(scores: DatasetScores, group_by: str, group: str) -> list[float]:
    """Return mIoU, and the ends of its 95 % bootstrap interval over frames, in %."""
    counts = scores.part(group_by, group)
    span = bootstrap_miou(counts)
    return [100 * float(miou(counts.sum(0))), 100 * span.low, 100 * span.high]


def markdown(ablation: Ablation, results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table: a row a variant, mIoU [95 % interval] per group and over all."""
    columns = list(next(iter(results.values()))["miou"])
    head = ["variant", "parameters", *columns]
    lines = [ablation.about, "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, row in results.items():
        cells = [f"{m:.1f} [{low:.1f}, {high:.1f}]" for m, low, high in (row["miou"][c] for c in columns)]
        lines.append(f"| {name} | {row['parameters'] / 1e6:.2f}M | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _plot(ablation: Ablation, results: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw the table: one bar a variant and group, with its interval."""
    from matplotlib.figure import Figure

    columns = list(next(iter(results.values()))["miou"])
    figure = Figure(figsize=(9, 1.5 + 0.15 * len(results) * len(columns)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(columns)
    for i, column in enumerate(columns):
        values = [row["miou"][column] for row in results.values()]
        middle = [v[0] for v in values]
        reach = [[v[0] - v[1] for v in values], [v[2] - v[0] for v in values]]
        places = [y + i * height for y in range(len(values))]
        axes.barh(places, middle, height, xerr=reach, label=column, error_kw={"lw": 1})
    axes.set_yticks([y + 0.4 - height / 2 for y in range(len(results))], list(results))
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlabel("mIoU %, with 95 % interval over frames")
    figure.suptitle(ablation.about, fontsize=9, wrap=True)
    figure.legend(loc="outside right upper")
    figure.savefig(path, dpi=110)
