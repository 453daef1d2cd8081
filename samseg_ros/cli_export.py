"""The command that exports a trained network. It hangs in the command line that cli.py builds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from samseg_ros.errors import SamsegError

if TYPE_CHECKING:
    from samseg_ros.models.export import Exported, Plan

out = Console()
err = Console(stderr=True)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(export)


def export(
    folder: Annotated[Path, typer.Option("--out", "-o", help="Folder of the artefact; must not exist.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Model; default: the checkpoint's own.")] = "",
    preset: Annotated[str, typer.Option("--config", help="Preset of the model; default: the checkpoint's own.")] = "",
    checkpoint: Annotated[str, typer.Option(help="Weights or model folder; default: the shipped ones.")] = "",
    kind: Annotated[
        Literal["torch", "onnx", "aoti"],
        typer.Option("--format", help="torch: torch.export; onnx: onnxruntime, TensorRT; aoti: AOTInductor."),
    ] = "torch",
    size: Annotated[str, typer.Option(help="Height x width of the camera's images.")] = "480x640",
    precision: Annotated[Literal["fp32", "bf16"], typer.Option(help="Arithmetic that is baked in.")] = "fp32",
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where it will run; ONNX runs anywhere.")] = "cpu",
) -> None:
    """Write a network as a file that the node and every command load in the place of its weights.

    It is made for one camera size. Before it is kept, it is held against the model: every set of sensors, one image
    and two.
    """
    from samseg_ros.config import from_flat
    from samseg_ros.models import load_model
    from samseg_ros.models.export import Plan, export_model
    from samseg_ros.pipeline import given_size
    from samseg_ros.runtime import choose_device

    camera_size = _size(size)
    choose_device(device)
    with err.status("loading the model …") as status:
        loaded = load_model(from_flat(_settings(model, preset, checkpoint), source="command line").model)
        plan = Plan(kind, camera_size, given_size(loaded.spec, camera_size), precision, device)
        exported = export_model(loaded, folder, plan, lambda stage: status.update(f"{stage} …"))
    _show(exported, folder, plan)


def _show(exported: Exported, folder: Path, plan: Plan) -> None:
    from samseg_ros.config import model_settings
    from samseg_ros.models.export import TOLERANCE
    from samseg_ros.pipeline import seen_as

    for name, count in exported.files.items():
        out.print(f"  {name}: {count / 1e6:.2f} MB", highlight=False)
    (height, width), spec = plan.camera_size, exported.spec
    out.print(
        f"written: {folder}, for cameras of {height}x{width}, which the network sees {seen_as(spec, plan.input_size)}; "
        f"largest difference from the model: "
        f"{exported.difference:.1e} of its largest logit (allowed: {TOLERANCE[plan.precision]:.0e})",
        highlight=False,
        soft_wrap=True,
    )
    settings = model_settings(spec.name, spec.preset, str(folder))
    flags = " ".join(f"--set {name}={value}" for name, value in settings.items())
    out.print(f"use it: samseg replay BAG {flags}", highlight=False, soft_wrap=True, markup=False)


def _settings(model: str, preset: str, checkpoint: str) -> dict[str, str]:
    """Return the settings of the model; a folder with a model.yaml says itself which model and preset it is of."""
    from samseg_ros.models import SPEC_FILE, read_spec

    if checkpoint and (Path(checkpoint) / SPEC_FILE).is_file():
        own = read_spec(Path(checkpoint) / SPEC_FILE)
        model, preset = model or own.name, preset or own.preset
    chosen = {"model.name": model, "model.config": preset, "model.checkpoint": checkpoint}
    return {name: value for name, value in chosen.items() if value}


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    sides = [int(side) if side.isascii() and side.isdigit() else 0 for side in (height, width)]
    if not all(64 <= side <= 16384 for side in sides):
        raise SamsegError(f"--size {text}: expected HEIGHTxWIDTH of the camera in pixels, such as 480x640")
    return int(height), int(width)
