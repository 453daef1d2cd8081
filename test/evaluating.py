"""`samseg evaluate` over small recordings with a network that says one class: what tests of the command share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import Result
from torch import Tensor, nn
from typer.testing import CliRunner

from samseg_ros import cli_evaluate
from samseg_ros.cli import app
from samseg_ros.datasets.world import write_recording
from samseg_ros.errors import SamsegError
from samseg_ros.models import MODELS, ModelSpec, save_model

SIZE = (64, 96)


class Flat(nn.Module):
    """One class everywhere: 0, or with the thermal image the one that it was made for."""

    modalities = ("rgb", "thermal")

    def __init__(self, chosen: int = 1) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(12, 2))
        with torch.no_grad():
            self.scores[0, 0] = self.scores[chosen, 1] = 5.0

    def coarse_logits(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> Tensor:
        b, _, h, w = inputs["rgb"].shape
        return self.scores[:, int("thermal" in inputs)].reshape(1, 12, 1, 1).expand(b, -1, h // 4, w // 4)


SPEC = ModelSpec(
    name="mm_sam_adapter",
    preset="compact",
    labels="world",
    modalities=("rgb", "thermal"),
    input_pixels=SIZE[0] * SIZE[1],
    weights="compact.safetensors",
    licence="Apache-2.0",
)


def make_weights(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Save two networks, ``weights`` of class 1 and ``others`` of class 2; return the first one's folder."""
    monkeypatch.setitem(MODELS, "mm_sam_adapter", replace(MODELS["mm_sam_adapter"], build=lambda *_: Flat()))
    for name in ("out", "err"):
        monkeypatch.setattr(cli_evaluate, name, cli_evaluate.Console(width=250))
    save_model(root / "weights", Flat(1), SPEC)
    save_model(root / "others", Flat(2), SPEC)
    return root / "weights"


def make_bags(root: Path) -> tuple[Path, Path]:
    """Write two recordings of two and three frames."""
    day = write_recording(root / "a", conditions=("day",), frames_per_condition=2, size=SIZE)
    return day, write_recording(root / "b", conditions=("night",), frames_per_condition=3, seed=1, size=SIZE)


def evaluate(*arguments: str | Path, catch_exceptions: bool = True) -> Result:
    """Run the command; what it refuses is raised."""
    fixed = ("--set", "model.device=cpu", "--set", "model.precision=fp32", "--no-report")
    result = CliRunner().invoke(app, ["evaluate", *fixed, *map(str, arguments)], catch_exceptions=catch_exceptions)
    if isinstance(result.exception, SamsegError):
        raise result.exception
    return result
