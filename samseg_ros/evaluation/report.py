"""One standalone page about a run: numbers, tables, plots and pictures inside, nothing loaded from anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from samseg_ros.evaluation.fusion_metrics import named
from samseg_ros.evaluation.metrics import Counts
from samseg_ros.evaluation.page import classes, heat, jpeg, percent, render, round_step, tile
from samseg_ros.evaluation.results import FrameRow
from samseg_ros.labels import LabelSet

MAX_PICTURES, MAX_BROAD = 12, 6
"""Small pictures stand two in a row, broad ones alone."""
PICTURE_WIDTH = 1400
"""Pixels; wider pictures are made smaller inside the page."""
JPEG_QUALITY = 84
PLOT = {"width": 560, "height": 230, "left": 44, "right": 484, "top": 16, "bottom": 24}
"""Of the latency plot, SVG units."""


def write_report(
    path: Path,
    name: str,
    measured: Mapping[str, Any],
    rows: Sequence[FrameRow],
    labels: LabelSet,
    pictures: Sequence[tuple[str, Path]] = (),
    counts: Counts | None = None,
    config: str = "",
) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        name: its heading.
        measured: what metrics.json holds.
        rows: one a frame.
        labels: names and colours of the classes.
        pictures: caption and file; some, evenly spread, are put into the page.
        counts: (K, K + 1) confusion of the whole run, None without labels.
        config: the settings as YAML text.
    """
    scored = measured.get("labels")
    broad = bool(pictures) and _width(pictures[0][1]) > PICTURE_WIDTH
    values = dict(
        name=name,
        m=measured,
        notes=_notes(measured),
        tiles=_tiles(measured),
        classes=classes(labels),
        broad=broad,
        pictures=[
            {"caption": caption, "data": _embedded(file)}
            for caption, file in _spread(pictures, MAX_BROAD if broad else MAX_PICTURES)
        ],
        conditions=_conditions(scored) if scored else [],
        iou=_iou(scored, labels) if scored else [],
        heat=heat(counts, labels, bool(counts[:, len(labels) :].any())) if counts is not None else None,
        fusion=named(measured.get("fusion", {})),
        latency=_latency(rows, measured["latency_ms"]),
        stages=", ".join(f"{stage} {ms:.1f} ms" for stage, ms in measured["stages_ms"].items()),
        facts=_facts(measured),
        config=config,
    )
    path.write_text(render("report.html.j2", values), encoding="utf-8")


def _notes(measured: Mapping[str, Any]) -> list[str]:
    frames = measured["frames"]["received"]
    errors = [f"{number} of {frames} frames without a mask: {error}" for error, number in measured["errors"].items()]
    troubles = [f"{number} of {frames} frames without {what}" for what, number in measured["troubles"].items()]
    return [*measured["notes"], *errors, *troubles]


def _tiles(measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    frames, latency, scored = measured["frames"], measured["latency_ms"], measured.get("labels")
    tiles = []
    if scored and scored["miou"] is not None:
        tiles.append(tile("mIoU", f"{100 * scored['miou']:.1f}", "%"))
        tiles.append(tile("pixel accuracy", f"{100 * scored['accuracy']:.1f}", "%"))
    tiles.append(tile("masks of frames", f"{frames['published']}", f"/ {frames['received']}"))
    tiles.append(tile("frames dropped", str(frames["dropped"]), warn=frames["dropped"] > 0))
    for level in ("p50", "p95"):
        if latency[level] is not None:
            tiles.append(tile(f"latency {level}", *_duration(latency[level])))
    if measured["fps"]:
        tiles.append(tile("masks per second", f"{measured['fps']:.1f}"))
    return tiles


def _duration(ms: float) -> tuple[str, str]:
    return (f"{ms:.0f}", "ms") if ms < 10_000 else (f"{ms / 1000:.1f}", "s")


def _conditions(scored: Mapping[str, Any]) -> list[dict[str, Any]]:
    entries = [(name, s, False) for name, s in scored["conditions"].items()] + [("all", scored, True)]
    return [
        {
            "name": name,
            "total": total,
            "miou": percent(s["miou"]),
            "zero": percent(s["miou_absent_zero"]),
            "accuracy": percent(s["accuracy"]),
            "low": percent(s["miou_interval"][0]),
            "high": percent(s["miou_interval"][1]),
            "frames": s["frames"],
        }
        for name, s, total in entries
        if s["miou"] is not None
    ]


def _iou(scored: Mapping[str, Any], labels: LabelSet) -> list[dict[str, Any]]:
    return [{**c, "value": percent(v)} for c, v in zip(classes(labels), scored["iou"].values(), strict=True)]


def _latency(rows: Sequence[FrameRow], spread: Mapping[str, Any]) -> dict[str, Any] | None:
    """Lay out a line over the frames, with the levels p50 and p95."""
    values = [row.latency_ms for row in rows if row.published and row.latency_ms is not None]
    if not values:
        return None
    left, top = PLOT["left"], PLOT["top"]
    width, height = PLOT["right"] - left, PLOT["height"] - top - PLOT["bottom"]
    step = round_step(max(values) / 4)
    limit = step * int(np.ceil(max(values) / step))

    def y(value: float) -> float:
        return round(top + height * (1 - value / limit), 1)

    points = [(round(left + width * i / max(len(values) - 1, 1), 1), y(v)) for i, v in enumerate(values)]
    ticks = [{"y": y(v), "text": f"{v:g}"} for v in np.arange(0, limit + step / 2, step)]
    levels = [{"y": y(spread[level]), "text": f"{level} {spread[level]:.0f}"} for level in ("p50", "p95")]
    return {
        **PLOT,
        "ticks": ticks,
        "levels": levels,
        "points": " ".join(f"{x},{v}" for x, v in points),
        "dots": points if len(points) <= 120 else [],
    }


def _facts(measured: Mapping[str, Any]) -> list[tuple[str, str]]:
    topics = [(kind.replace("_", " "), name) for kind, name in measured["topics"].items() if name]
    sensors = [f"{number} × {names.replace('+', ' + ')}" for names, number in measured["sensors"].items()]
    return [("recording", measured["bag"]), *topics, ("fused", ", ".join(sensors) or "nothing")]


def _spread(pictures: Sequence[tuple[str, Path]], most: int) -> list[tuple[str, Path]]:
    places = np.unique(np.linspace(0, len(pictures) - 1, min(most, len(pictures))).round().astype(int))
    return [pictures[i] for i in places]


def _embedded(file: Path) -> str:
    """Return the picture as base64 of a JPEG; masks are not shown this way, only overlays."""
    picture: Any = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR)
    if picture.shape[1] > PICTURE_WIDTH:
        size = (PICTURE_WIDTH, round(picture.shape[0] * PICTURE_WIDTH / picture.shape[1]))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return jpeg(picture, JPEG_QUALITY)


def _width(file: Path) -> int:
    picture: Any = cv2.imread(str(file))
    return int(picture.shape[1])
