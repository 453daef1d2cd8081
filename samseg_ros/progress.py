"""A progress bar with the time left, for everything that takes longer than a moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextmanager
def bar(what: str, console: Console | None = None) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on stderr from the first step on; yields what takes (done, in all)."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    shown = console or Console(stderr=True)
    with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=shown) as progress:
        task = progress.add_task(what, start=False, visible=False, total=None)

        def advance(done: int, total: int) -> None:
            progress.start_task(task)
            progress.update(task, completed=done, total=total, visible=True)

        yield advance
