"""What a run writes down: log.jsonl (the truth), TensorBoard, and a page of curves."""

from __future__ import annotations

import json
import logging
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any

from samseg_ros.errors import SamsegError
from samseg_ros.models.card import SCORES

logger = logging.getLogger(__name__)
LOG_FILE, CURVES_FILE = "log.jsonl", "curves.html"
Row = dict[str, float]


class RunLog:
    """Rows of a run, with the same in TensorBoard.

    Args:
        folder: of the run.
        done: steps of the checkpoint that the run goes on from. Rows of later steps, which a killed run left behind,
            are taken out: they come again, the same.
    """

    def __init__(self, folder: Path, done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        kept = [row for row in read_log(folder) if row["step"] <= done] if done else []
        (folder / LOG_FILE).write_text("".join(json.dumps(row) + "\n" for row in kept))
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1 if done else None)

    def write(self, row: Row) -> None:
        """Add one row; "step" says where."""
        with (self._folder / LOG_FILE).open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        for name, value in row.items():
            if name != "step":
                self._board.add_scalar(name, value, int(row["step"]))
        logger.info("%s", row)

    def draw(self, title: str) -> None:
        """Write the page of curves anew."""
        self._board.flush()
        (self._folder / CURVES_FILE).write_text(curves_page(read_log(self._folder), title))

    def close(self) -> None:
        """Close TensorBoard's file."""
        self._board.close()


def read_log(folder: Path) -> list[Row]:
    """Return the rows of a run's log; a last line that a kill cut off is left out.

    Raises:
        SamsegError: a line within it is damaged.
    """
    path = folder / LOG_FILE
    rows: list[Row] = []
    lines = path.read_bytes().splitlines() if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            float(row["step"])
            rows.append(row)
        except (ValueError, TypeError, KeyError):  # ValueError: no JSON, or no text
            if number < len(lines):
                raise SamsegError(
                    f"{path}:{number}: expected a JSON object, got {line[:60]!r}; remove the line"
                ) from None
    return rows


def score_of(rows: list[Row]) -> str:
    """Return by what a run was judged: one of `SCORES`."""
    return next((name for name in SCORES if any(name in row for row in rows)), next(iter(SCORES)))


def curves_page(rows: list[Row], title: str) -> str:
    """Return an HTML page that stands alone: loss and its parts, validation mIoU, learning rate over the steps."""
    score = score_of(rows)
    table = "".join(
        f"<tr><td>{row['step']:.0f}</td><td>{row[score]:.2f}</td><td>{row['seconds'] / 60:.1f}</td></tr>"
        for row in rows
        if score in row
    )
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{escape(title)}</title>"
        "<style>body{font:15px system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "svg{width:100%;height:auto}td,th{padding:.15rem 1rem;text-align:right}</style>"
        f"<h1>{escape(title)}</h1>{_picture(rows)}"
        f"<table><tr><th>step</th><th>{SCORES[score]}</th><th>minutes</th></tr>{table}</table></html>\n"
    )


def _picture(rows: list[Row]) -> str:
    """Draw the curves as SVG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 9), layout="constrained")
    score = score_of(rows)
    loss, quality, rate = figure.subplots(3, sharex=True, height_ratios=(3, 3, 1))
    losses = sorted({name for row in rows for name in row if name.startswith("loss")})
    for axes, names in ((loss, losses), (quality, [score]), (rate, ["lr"])):
        for name in names:
            points = [(row["step"], row[name]) for row in rows if name in row]
            axes.plot(*zip(*points, strict=True), label=name, marker="." if name == score else "") if points else None
        axes.grid(alpha=0.3)
    loss.set_ylabel("loss")
    if losses:
        loss.legend()
    quality.set_ylabel(SCORES[score])
    rate.set_ylabel("learning rate")
    rate.set_xlabel("step")
    stream = StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue().partition("<svg")[1] + stream.getvalue().partition("<svg")[2]


def summary(rows: list[Row]) -> dict[str, Any]:
    """Return the first, best and last validation, and the time: what a card says of a run."""
    score = score_of(rows)
    scored = [row for row in rows if score in row]
    if not scored:
        return {}
    best = max(scored, key=lambda row: row[score])
    return {
        "score": SCORES[score],
        "start": scored[0][score],
        "best": best[score],
        "best_step": int(best["step"]),
        "steps": int(rows[-1]["step"]),
        "seconds": rows[-1]["seconds"],
    }
