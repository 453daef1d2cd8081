"""`samseg datasets`: which there are, what each expects, and whether a download is whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from typer.core import TyperGroup

from samseg_ros.errors import SamsegError
from samseg_ros.progress import bar

if TYPE_CHECKING:
    from samseg_ros.datasets.check import SplitCheck

out = Console()
OPTIONAL_PATH = Optional[Path]  # noqa: UP045 typer reads it at run time


class ByName(TyperGroup):
    """`samseg datasets NAME` is short for `samseg datasets show NAME`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Take a word that is no command for a dataset's name."""
        return super().resolve_command(ctx, args if args[0] in self.commands else ["show", *args])


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(cls=ByName, help="Labelled datasets: list, show and check them.")
    group.callback(invoke_without_command=True)(table)
    group.command()(show)
    group.command()(check)
    app.add_typer(group, name="datasets")


def table(context: typer.Context) -> None:
    """List the datasets; `samseg datasets NAME` shows the folder that one expects, `check` verifies a download."""
    if context.invoked_subcommand is not None:
        return
    from samseg_ros.datasets.catalog import DATASETS
    from samseg_ros.labels import load_labels

    rows = Table(Column("name", no_wrap=True), "about", "sensors", "classes", "splits")
    for name, entry in DATASETS.items():
        classes = str(len(load_labels(entry.labels))) if entry.labels else "own"
        splits = " ".join(entry.splits)
        rows.add_row(name, entry.about, " ".join(entry.modalities), classes, splits)
    out.print(rows)


def show(name: Annotated[str, typer.Argument(help="Dataset, one of `samseg datasets`.")]) -> None:
    """Show the folder that a dataset expects, and where to get it."""
    from samseg_ros.datasets.catalog import dataset_entry

    entry = dataset_entry(name)
    out.print(f"[bold]{name}[/]: {escape(entry.about)}")
    out.print(f"from {entry.source}; licence: {entry.licence}", highlight=False, markup=False, soft_wrap=True)
    out.print(entry.expects, highlight=False, markup=False, soft_wrap=True)


def check(
    name: Annotated[str, typer.Argument(help="Dataset, one of `samseg datasets`.")],
    path: Annotated[OPTIONAL_PATH, typer.Argument(help="Its folder; the world needs none.")] = None,
    split: Annotated[list[str], typer.Option("--split", help="Only this split; repeatable.")] = [],  # noqa: B006
    page: Annotated[OPTIONAL_PATH, typer.Option("--out", "-o", help="PNG; default: out/datasets/NAME.png.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Open every sample, not some of each split.")] = False,
) -> None:
    """Verify a download: every file there, samples readable, counts; and draw a page of samples."""
    from samseg_ros.datasets.catalog import dataset_entry
    from samseg_ros.datasets.check import check_split, draw_page

    entry = dataset_entry(name)
    splits = split or list(entry.splits)
    checks = []
    for one in splits:
        with bar(f"{name} {one}") as advance:
            checks.append(check_split(name, path, one, everything, advance))
    _print_splits(checks)
    if any(found.opened for found in checks):
        _print_classes(checks)
    problems = [problem for found in checks for problem in found.problems]
    for problem in problems:
        text = problem.removesuffix(f"\n{entry.expects}")
        out.print(f"[red]problem:[/] {escape(text)}", highlight=False, soft_wrap=True)
    if any(problem.endswith(entry.expects) for problem in problems):
        out.print(entry.expects, highlight=False, markup=False, soft_wrap=True)
    if any(found.opened for found in checks):
        page = page or Path("out") / "datasets" / f"{name}.png"
        draw_page(name, path, splits, page)
        out.print(f"written: {page}", soft_wrap=True, markup=False)
    if problems:
        raise SamsegError(f"{name}: {len(problems)} problem{'s' * (len(problems) > 1)}, see above")


def _print_splits(checks: Sequence[SplitCheck]) -> None:
    rows = Table("split", "samples", "expected", "opened", "conditions", "difficulty")
    for found in checks:
        expected = str(found.expected or "")
        counts = (_counts(found.conditions), _counts(found.difficulties))
        rows.add_row(found.split, str(found.samples), expected, str(found.opened), *counts)
    out.print(rows)


def _print_classes(checks: Sequence[SplitCheck]) -> None:
    from samseg_ros.datasets.check import class_shares

    rows = Table("share of pixels", *(found.split for found in checks))
    for name, shares in class_shares(checks).items():
        rows.add_row(name, *(f"{100 * share:.2f} %" for share in shares))
    out.print(rows)


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counter.items()))
