"""One standalone page about a run: numbers, tables, plots and pictures inside, nothing loaded from anywhere."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np

from samseg_ros.evaluation.metrics import Counts
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
    source = files("samseg_ros.evaluation").joinpath("report.html.j2").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True).from_string(
        source
    )
    scored = measured.get("labels")
    broad = bool(pictures) and _width(pictures[0][1]) > PICTURE_WIDTH
    classes = [{"name": n, "color": _css(c)} for n, c in zip(labels.names, labels.colors, strict=True)]
    page = template.render(
        name=name,
        m=measured,
        notes=_notes(measured),
        tiles=_tiles(measured),
        classes=classes,
        broad=broad,
        pictures=[
            {"caption": caption, "data": _embedded(file)}
            for caption, file in _spread(pictures, MAX_BROAD if broad else MAX_PICTURES)
        ],
        conditions=_conditions(scored) if scored else [],
        iou=[c | {"value": _percent(v)} for c, v in zip(classes, scored["iou"].values(), strict=True)]
        if scored
        else [],
        heat=_heat(counts, labels) if counts is not None else None,
        latency=_latency(rows, measured["latency_ms"]),
        stages=", ".join(f"{stage} {ms:.1f} ms" for stage, ms in measured["stages_ms"].items()),
        facts=_facts(measured),
        config=config,
    )
    path.write_text(page, encoding="utf-8")


def _notes(measured: Mapping[str, Any]) -> list[str]:
    frames = measured["frames"]["received"]
    errors = [f"{number} of {frames} frames without a mask: {error}" for error, number in measured["errors"].items()]
    troubles = [f"{number} of {frames} frames without {what}" for what, number in measured["troubles"].items()]
    return [*measured["notes"], *errors, *troubles]


def _tiles(measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    frames, latency, scored = measured["frames"], measured["latency_ms"], measured.get("labels")
    tiles = []
    if scored and scored["miou"] is not None:
        tiles.append(_tile("mIoU", f"{100 * scored['miou']:.1f}", "%"))
        tiles.append(_tile("pixel accuracy", f"{100 * scored['accuracy']:.1f}", "%"))
    tiles.append(_tile("masks of frames", f"{frames['published']}", f"/ {frames['received']}"))
    tiles.append(_tile("frames dropped", str(frames["dropped"]), warn=frames["dropped"] > 0))
    for level in ("p50", "p95"):
        if latency[level] is not None:
            tiles.append(_tile(f"latency {level}", *_duration(latency[level])))
    if measured["fps"]:
        tiles.append(_tile("masks per second", f"{measured['fps']:.1f}"))
    return tiles


def _duration(ms: float) -> tuple[str, str]:
    return (f"{ms:.0f}", "ms") if ms < 10_000 else (f"{ms / 1000:.1f}", "s")


def _tile(name: str, value: str, unit: str = "", warn: bool = False) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "warn": warn}


def _conditions(scored: Mapping[str, Any]) -> list[dict[str, Any]]:
    entries = [(name, s, False) for name, s in scored["conditions"].items()] + [("all", scored, True)]
    return [
        {
            "name": name,
            "total": total,
            "miou": _percent(s["miou"]),
            "zero": _percent(s["miou_absent_zero"]),
            "accuracy": _percent(s["accuracy"]),
            "low": _percent(s["miou_interval"][0]),
            "high": _percent(s["miou_interval"][1]),
            "frames": s["frames"],
        }
        for name, s, total in entries
        if s["miou"] is not None
    ]


def _percent(share: float | None) -> float | None:
    return None if share is None else 100.0 * share


def _heat(counts: Counts, labels: LabelSet) -> dict[str, Any]:
    """Return the row-normalised confusion; the column *unlabelled* only where it counts something."""
    columns = [*labels.names, "unlabelled"]
    if not counts[:, len(labels) :].any():
        columns, counts = columns[:-1], counts[:, : len(labels)]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    rows = []
    for name, row in zip(labels.names, shares, strict=True):
        cells = [{"alpha": v, "share": f"{100 * v:.1f}", "text": f"{100 * v:.0f}" if v >= 0.005 else ""} for v in row]
        rows.append({"name": name, "cells": cells})
    return {"columns": columns, "rows": rows}


def _latency(rows: Sequence[FrameRow], spread: Mapping[str, Any]) -> dict[str, Any] | None:
    """Lay out a line over the frames, with the levels p50 and p95."""
    values = [row.latency_ms for row in rows if row.published and row.latency_ms is not None]
    if not values:
        return None
    left, top = PLOT["left"], PLOT["top"]
    width, height = PLOT["right"] - left, PLOT["height"] - top - PLOT["bottom"]
    step = _round_step(max(values) / 4)
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


def _round_step(value: float) -> float:
    """Return the next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(max(value, 1e-9)))
    return float(next(power * m for m in (1, 2, 5, 10) if power * m >= value))


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
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return base64.b64encode(data.tobytes()).decode()


def _width(file: Path) -> int:
    picture: Any = cv2.imread(str(file))
    return int(picture.shape[1])


def _css(color: Any) -> str:
    return "#{:02x}{:02x}{:02x}".format(*(int(c) for c in color))
