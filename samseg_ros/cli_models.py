"""Commands: benchmark, settings. They hang in the command line that cli.py builds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from samseg_ros.progress import bar

out = Console()
OPTIONAL_FILE = Optional[Path]  # noqa: UP045 typer reads it at run time


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (benchmark, settings):
        app.command()(command)


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
        table.add_row(t.name, *times, f"{t.over_peer:.1f}", f"{t.over_limit:.2f}", t.row.aim)
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
