"""The table of a model card: what `samseg evaluate` alone makes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from samseg_ros.cli_settings import config_of_weights, named
from samseg_ros.errors import SamsegError
from samseg_ros.progress import bar

if TYPE_CHECKING:
    from samseg_ros.config import Config

out = Console()


def evaluate_world(config: Config, baseline: Sequence[str] | None, frames: int, guard: bool, folder: Path) -> None:
    """Score a net, given fewer and fewer of its sensors, and its baselines on the same scenes."""
    from samseg_ros.datasets.world import WorldDataset
    from samseg_ros.evaluation.world_table import Variant, baseline_names, comparisons, score_world, sensor_sets
    from samseg_ros.pipeline import Pipeline

    fused, baselines = Pipeline.from_config(config), list(baseline or [_shipped_baseline()])
    others = [Pipeline.from_config(config_of_weights(path)) for path in baselines]
    sensors = [other.modalities for other in others]
    rows = {name: Variant(fused, kept) for name, kept in sensor_sets(fused.modalities).items()}
    for name, other in zip(baseline_names(sensors, fused.modalities), others, strict=True):
        rows[name] = Variant(other, other.modalities)
    with bar("scoring") as advance:
        table = score_world(rows, WorldDataset("test", frames), advance)
    measured: dict[str, Any] = {"frames": frames, "model": named(config), "baselines": baselines}
    measured["miou"] = table.summary()
    text = f"{named(config)} against {', '.join(baselines)}, {frames} unseen scenes\n\n"
    text += f"{table.markdown(comparisons(sensors, fused.modalities))}\n\n{table.per_class_markdown()}\n"
    if guard:
        measured["forest_miou"], said = _guard()
        text += f"\n{said}\n"
    _write_table(folder, text, measured)


def _guard() -> tuple[float, str]:
    """Score a random forest on single pixels; return its mIoU and a sentence about it."""
    from samseg_ros.evaluation.color_guard import LIMIT_MIOU, forest_miou

    with bar("colour-by-number guard") as advance:
        forest = forest_miou(progress=advance)
    verdict = "holds" if forest <= LIMIT_MIOU else "is broken"
    return forest, f"A random forest on single pixels: {forest:.1f} mIoU; the guard (≤ {LIMIT_MIOU:.0f}) {verdict}."


def _write_table(folder: Path, text: str, measured: Any) -> None:
    from samseg_ros.evaluation.own_files import replaced

    with replaced(folder) as new:
        (new / "table.md").write_text(text)
        (new / "metrics.json").write_text(json.dumps(measured, indent=2))
    out.print(text, markup=False, highlight=False, soft_wrap=True)
    out.print(f"written: {folder / 'table.md'}, {folder / 'metrics.json'}", soft_wrap=True, markup=False)


def _shipped_baseline() -> str:
    from samseg_ros.resources import models_dir

    folder = models_dir() / "mm_sam_adapter" / "rgb"
    if not folder.is_dir():
        raise SamsegError(
            f"no baseline weights under {folder}; train them (recipe mm_sam_adapter_world_rgb) and give --baseline"
        )
    return str(folder)
