"""The options of evaluate, and which of them go together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from samseg_ros.cli_settings import at_home
from samseg_ros.errors import SamsegError

BAGS = Annotated[
    Optional[list[Path]],  # noqa: UP045 typer reads it at run time
    typer.Argument(
        callback=at_home,
        help="Recordings with labels (rosbag2 folder, .mcap, .db3): ids on a topic, or in BAG_labels/STAMP.png. "
        "Several are scored each by itself and all together.",
    ),
]
DATA = Annotated[
    list[str], typer.Option("--data", "-d", help="Dataset, NAME:FOLDER, one of `samseg datasets`; repeatable.")
]
LIMIT = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(help="Frames of each at most, evenly spread.", min=1),
]
CHECKPOINT = Annotated[
    list[str],
    typer.Option(callback=at_home, help="Weights or model folder; default: the shipped ones. Repeated: a comparison."),
]
MODEL = Annotated[
    list[str],
    typer.Option("--model", "-m", help="Model, one of `samseg models`; default: what --checkpoint is of. Repeatable."),
]
OUTPUTS = Annotated[
    list[str],
    typer.Option(
        callback=at_home, help="Recording of what a live node published, scored beside or instead; repeatable."
    ),
]
SET = Annotated[list[str], typer.Option("--set", "-s", help="One setting, as model.device=cuda; repeatable.")]
SENSORS = Annotated[str, typer.Option(help="Sets that the model is given in turn, as rgb+thermal,rgb; all: every one.")]
CORRUPT = Annotated[
    str, typer.Option(help="Sensor failures, as thermal.blackout,lidar.rotation; all: every one that fits.")
]
SEVERITY = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Of the failures, as 1,3,5; default: 1 to 5."),
]
REMAP = Annotated[
    str,
    typer.Option(
        callback=at_home, help="For data of other classes: table of which counts as which (CSV from,to, or a name)."
    ),
]
WORKERS = Annotated[
    int, typer.Option(help="Processes; the numbers are the same. 0: this one; with --ray: all there is room for.")
]
RAY = Annotated[str, typer.Option(help="Address of a Ray cluster; local: one on this machine alone.")]
FIT = Annotated[
    bool, typer.Option("--fit-temperature", help="First make confidence honest on split val; kept in model.yaml.")
]
REPORT = Annotated[bool, typer.Option("--report/--no-report", help="Write report.html.")]
FRAMES = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(help="World: unseen test scenes; the six conditions take turns; default: 360.", min=6),
]
BASELINE = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        callback=at_home,
        help="World: model folder of a net trained with fewer sensors (repeatable); default: the shipped RGB-only one.",
    ),
]
GUARD = Annotated[
    Optional[bool],  # noqa: UP045
    typer.Option("--guard/--no-guard", help="World: score a random forest on single pixels too; default: yes."),
]
SPLIT = Annotated[Optional[str], typer.Option(help="Of the datasets; default: test.")]  # noqa: UP045
OUT = Annotated[Path, typer.Option("--out", "-o", callback=at_home, help="Folder of the results.")]


def refuse_idle(
    is_table: bool,
    split: object,
    frames: object,
    guard: object,
    baseline: object,
    bags: object,
    data: object,
    *,
    corrupt: object,
    severity: object,
    remap: object,
    outputs: object,
) -> None:
    """Refuse options that would change nothing.

    Args:
        is_table: whether the table of the world is asked for, and nothing else.
        split, frames, guard, baseline, bags, data, corrupt, severity, remap, outputs: as given; None or empty: not.

    Raises:
        SamsegError: the first such option.
    """
    of_table = "is for the table of the world"
    wanted = (
        ("--split", split, data, "is of datasets: name one (--data); the world is one too (--data world)"),
        ("--frames", frames, not (bags or data), "is for the world; --limit takes some frames of anything else"),
        ("--guard", guard, is_table, f"{of_table}, which is made of one model, with nothing else asked"),
        ("--baseline", baseline, is_table, f"{of_table}; compare models with several --checkpoint"),
        ("--severity", severity, corrupt, "is of sensor failures: name some (--corrupt)"),
        ("--remap", remap, not is_table, "is for --data: the world is scored by its own classes"),
        ("--outputs:", outputs, bags or data, "expected the recording with labels that the node saw; name it too"),
    )
    for option, given, part, told in wanted:
        if given not in (None, "", []) and not part:
            raise SamsegError(f"{option} {told}")
