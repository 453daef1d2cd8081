"""One standalone page about an evaluation: runs side by side, and from the confusion to the frames that show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from samseg_ros import __version__
from samseg_ros.errors import InputError
from samseg_ros.evaluation.compare import titles
from samseg_ros.evaluation.evaluation_pictures import (
    EXTREMES,
    MAX_BYTES,
    MAX_PICTURES,
    Album,
    Picture,
    by_score,
    collect,
    top_frames,
)
from samseg_ros.evaluation.evaluation_plots import reliability_plot, stress_plots
from samseg_ros.evaluation.evaluation_tables import groupings, latency, losses, overview, per_class
from samseg_ros.evaluation.measures import Measures, Scored
from samseg_ros.evaluation.metrics import miou
from samseg_ros.evaluation.page import classes, heat, percent, render, tile
from samseg_ros.provenance import revision

MOST_CONFUSED = 10
"""Cells that stand in words beside the confusion."""
RUN_COLORS = 8
"""Colours that the page's style has for runs; further runs begin again."""


@dataclass(slots=True)
class Board:
    """Runs on the same frames, and the same models under corruptions."""

    runs: list[Scored] = field(default_factory=list)
    stressed: list[Scored] = field(default_factory=list)


def write_evaluation_report(
    path: Path,
    scored: Sequence[Scored],
    picture: Picture | None = None,
    title: str = "",
    notes: Sequence[str] = (),
) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        scored: what is on the same frames of one dataset is compared with the first of them; what was scored under a
            corruption becomes a stress curve.
        picture: gives a frame as it was scored; asked for a few frames only. None: a page without pictures.
        title: its heading; empty: said from what was scored.
        notes: what a reader has to know, such as a recording that could not be read.

    Raises:
        InputError: nothing was scored without a corruption.
    """
    boards, strays = _boards(scored)
    if not boards:
        raise InputError(
            "report of an evaluation",
            expected="at least one model scored without a corruption",
            got=f"{len(scored)} scores under corruptions" if scored else "no scores",
            remedy="score the frames as they are too; the stress curves begin there",
        )
    share = 1.0 / len(boards)
    values = {
        "title": title or _title(boards),
        "notes": [*notes, *strays],
        "boards": [_board(board, collect(board.runs, picture, share) if picture else Album(0, 0)) for board in boards],
        "bounds": {"megabytes": MAX_BYTES / 1e6, "pictures": MAX_PICTURES},
        "version": __version__,
        "revision": revision(),
        "colors": RUN_COLORS,
    }
    path.write_text(render("evaluation.html.j2", values), encoding="utf-8")


def _boards(scored: Sequence[Scored]) -> tuple[list[Board], list[str]]:
    """Part what was scored by dataset and frames; also say which stress scores have no clean ones to stand beside."""
    found: dict[tuple[Any, ...], Board] = {}
    for s in scored:
        board = found.setdefault((s.dataset, s.labels.names, s.measures.names), Board())
        (board.stressed if s.corruption else board.runs).append(s)
    strays = [
        f"{s.model} under {s.corruption} {s.severity} on {s.dataset}: left out of the curves; these frames were not "
        "scored without a corruption"
        for board in found.values()
        if not board.runs
        for s in board.stressed
    ]
    return [board for board in found.values() if board.runs], strays


def _title(boards: Sequence[Board]) -> str:
    models = list(dict.fromkeys(run.model for board in boards for run in board.runs))
    datasets = list(dict.fromkeys(board.runs[0].dataset for board in boards))
    runs = max(len(board.runs) for board in boards)
    if len(models) == 1:
        what = models[0] if runs == 1 else f"{runs} runs of {models[0]}"
    else:
        what = f"{runs} runs of {len(models)} models" if runs > len(models) else f"{len(models)} models"
    return f"{what} on {' and '.join(datasets)}"


def _board(board: Board, album: Album) -> dict[str, Any]:
    runs = board.runs
    names, rows, lost = titles(runs), overview(runs), losses(runs, board.stressed)
    totals = [run.measures.confusions.sum(0) for run in runs]
    labels = runs[0].labels
    unlabelled = any(bool(total[:, len(labels) :].any()) for total in totals)
    return {
        "dataset": runs[0].dataset,
        "label_set": labels.name,
        "frames": len(runs[0].measures),
        "pictured": len(album.entries),
        "names": names,
        "classes": classes(labels),
        "tiles": _tiles(names, rows, board),
        "overview": rows,
        "groupings": groupings(runs),
        "per_class": per_class(runs),
        "heats": [heat(total, labels, unlabelled) for total in totals],
        "most_confused": [_most_confused(total, labels.names) for total in totals],
        "reliability": reliability_plot(runs),
        "latency": latency(runs),
        "losses": lost,
        "stress": stress_plots(lost),
        "data": _data(board, album, names),
    }


def _tiles(names: Sequence[str], rows: Sequence[dict[str, Any]], board: Board) -> list[dict[str, Any]]:
    several = len(rows) > 1
    tiles = [
        tile(
            f"mIoU, {name}" if several else "mIoU", f"{row['miou']:.1f}", "%", color=i % RUN_COLORS if several else None
        )
        for i, (name, row) in enumerate(zip(names, rows, strict=True))
        if row["miou"] is not None
    ]
    if not several:
        said = {"pixel accuracy": "accuracy", "boundary F": "boundary", "calibration error": "ece"}
        tiles += [tile(name, f"{rows[0][key]:.1f}", "%") for name, key in said.items() if rows[0][key] is not None]
        tiles += [tile("latency p50", f"{row['p50']:.0f}", "ms") for row in latency(board.runs)]
    tiles.append(tile("frames", str(rows[0]["frames"])))
    dropped = sum(row["dropped"] for row in rows)
    return [*tiles, tile("frames dropped", str(dropped), warn=True)] if dropped else tiles


def _most_confused(total: Any, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the mistakes with the most pixels."""
    wrong = total * (1 - np.eye(*total.shape, dtype=np.int64))
    order = [divmod(int(place), total.shape[1]) for place in np.argsort(-wrong, axis=None, kind="stable")]
    columns = [*names, "unlabelled"]
    return [
        {
            "cell": f"{r},{c}",
            "text": f"{names[r]} → {columns[c]}",
            "pixels": int(wrong[r, c]),
            "share": f"{100 * wrong[r, c] / total[r].sum():.1f}",
        }
        for r, c in order[:MOST_CONFUSED]
        if wrong[r, c]
    ]


def _data(board: Board, album: Album, names: Sequence[str]) -> dict[str, Any]:
    """Return what the script of the page looks up when a cell is clicked."""
    labels = board.runs[0].labels
    runs = [{"name": name, **_listed(run.measures, album)} for name, run in zip(names, board.runs, strict=True)]
    listed = {frame for run in runs for frames in run["cells"].values() for frame, _ in frames["top"]}
    listed |= {frame for run in runs for frame in (*run["worst"], *run["best"])}
    scores = [miou(run.measures.confusions) for run in board.runs]
    return {
        "classes": [*labels.names, "unlabelled"],
        "colors": labels.colors.tolist(),
        "pictures": album.entries,
        "frames": {i: _frame(i, board, album, [s[i] for s in scores]) for i in sorted(listed)},
        "runs": runs,
    }


def _listed(measures: Measures, album: Album) -> dict[str, Any]:
    """Return for each cell that counts anything its pixels, its frames and those with the most; worst and best frames.

    Where no picture is held of those with the most, the one that shows the cell best is named too.
    """
    counts, held = measures.confusions, list(album.place)
    total, number = counts.sum(0), (counts > 0).sum(0)
    cells = {}
    for (r, c), top in top_frames(counts).items():
        if held and not any(frame in album.place for frame, _ in top):
            best = held[int(np.argmax(counts[held, r, c]))]
            top = [*top, (best, int(counts[best, r, c]))] if counts[best, r, c] else top
        cells[f"{r},{c}"] = {
            "pixels": int(total[r, c]),
            "of": int(total[r].sum()),
            "frames": int(number[r, c]),
            "top": top,
        }
    order = by_score(counts)
    return {"cells": cells, "worst": order[:EXTREMES], "best": order[::-1][:EXTREMES]}


def _frame(index: int, board: Board, album: Album, scores: Sequence[float]) -> dict[str, Any]:
    m = board.runs[0].measures
    said = [text for text in (m.conditions[index], m.difficulties[index]) if text]
    return {
        "name": m.names[index],
        "said": ", ".join(said),
        "miou": [percent(score) for score in scores],
        "picture": album.place.get(index),
    }
