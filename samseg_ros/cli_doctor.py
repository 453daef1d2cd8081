"""The command that says what is wrong with a set-up before the node is started. It hangs in what cli.py builds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from samseg_ros.cli_settings import MODEL, PARAMS, SET, chosen_config

if TYPE_CHECKING:
    from samseg_ros.config import Config
    from samseg_ros.ros.health import Check

out = Console()
err = Console(stderr=True)
OPTIONAL_TOPIC = Optional[str]  # noqa: UP045 typer reads it at run time
SHOWN = {0: "[green]OK[/]", 1: "[yellow]WARN[/]", 2: "[red]FAIL[/]"}
"""Levels of `samseg_ros.ros.health`."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(
    params: PARAMS = None,
    settings: SET = [],  # noqa: B006 typer copies it
    model: MODEL = "",
    image: Annotated[OPTIONAL_TOPIC, typer.Option(help="Camera image; default: /fusion_node/input/image.")] = None,
    thermal: Annotated[OPTIONAL_TOPIC, typer.Option(help="Thermal image; '' or not named beside others: none.")] = None,
    lidar: Annotated[OPTIONAL_TOPIC, typer.Option(help="Point cloud; '' or not named beside others: none.")] = None,
    camera_info: Annotated[str, typer.Option(help="Intrinsics; default: camera_info beside the image.")] = "",
    thermal_info: Annotated[str, typer.Option(help="Of the thermal camera; default: beside its image.")] = "",
    seconds: Annotated[float, typer.Option(help="How long to listen at most, s.", min=0.1, max=600.0)] = 5.0,
) -> None:
    """Check installation, model, topics, QoS, calibration and clocks, and say what to do. Exit code 1: a FAIL.

    Topics are named as in the launch file. Without any, those are listened to that the node has before remapping. The
    node is not started, and nothing is published.
    """
    named = {
        "image": image,
        "thermal": thermal,
        "lidar": lidar,
        "camera_info": camera_info,
        "thermal_info": thermal_info,
    }
    topics = _beside({name: topic.removesuffix("/compressed") for name, topic in named.items() if topic})
    config = chosen_config(model, params, [*_switched_off(named), *settings])
    with err.status(f"loading the model, then listening for {seconds:g} s at most …"):
        rows = _examine(config, topics, seconds)
    _show(rows)
    if any(row.level == 2 for row in rows):
        raise typer.Exit(1)


def _examine(config: Config, topics: dict[str, str], seconds: float) -> list[Check]:
    from samseg_ros.ros.installation import installation_checks, model_checks, provider_checks

    rows = list(installation_checks())
    if any(row.what in ("rclpy", "discovery") and row.level == 2 for row in rows):
        return [*rows, model_checks(config, _load)[0]]
    from samseg_ros.ros.doctor import examine

    return [*rows, *provider_checks(), *examine(config, topics, seconds, _load)]


def _load(config: Config) -> Any:
    from samseg_ros.pipeline import Pipeline

    return Pipeline.from_config(config)


def _switched_off(named: dict[str, Any]) -> list[str]:
    """Return the settings that the topics come to, as in the launch file: a sensor without a topic is not used."""
    if all(topic is None for name, topic in named.items() if not name.endswith("info")):
        return []
    return [f"inputs.{name}=false" for name in ("thermal", "lidar") if not named[name]]


def _beside(topics: dict[str, str]) -> dict[str, str]:
    """Add the camera_info beside each image whose own is not named."""
    from samseg_ros.ros.launching import beside

    for image, info in (("image", "camera_info"), ("thermal", "thermal_info")):
        if image in topics:
            topics.setdefault(info, beside(topics[image]))
    return topics


def _show(rows: Iterable[Check]) -> None:
    table = Table("", "what", "found", "what to do")
    for column in table.columns[1:]:
        column.overflow = "fold"
    for row in rows:
        table.add_row(SHOWN[row.level], *(escape(cell) for cell in (row.what, row.found, row.remedy)))
    out.print(table)
