"""`samseg export`: from a folder of weights to a folder that takes its place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from samseg_ros import cli_export
from samseg_ros.cli import app
from samseg_ros.cli_settings import config_of_weights
from samseg_ros.errors import SamsegError
from samseg_ros.models import MODELS, ModelSpec, save_model
from samseg_ros.pipeline import Pipeline
from samseg_ros.types import Frame


class Bright(nn.Module):
    """Twelve scores: multiples of the camera's mean over 4 x 4 pixels, more by one where thermal is there."""

    modalities = ("rgb", "thermal")

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.linspace(-1, 1, 12).reshape(1, 12, 1, 1))

    def coarse_logits(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> Tensor:
        scores = self.gain * nn.functional.avg_pool2d(inputs["rgb"], 4).mean(1, keepdim=True)
        there = present["thermal"].float().reshape(-1, 1, 1, 1) if present else float("thermal" in inputs)
        return scores + there + 0 * sum(x.mean() for x in inputs.values())


SPEC = ModelSpec(
    name="mm_sam_adapter",
    preset="compact",
    labels="world",
    modalities=("rgb", "thermal"),
    input_pixels=64 * 96,
    weights="compact.safetensors",
    licence="Apache-2.0",
)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of weights of a very small network that stands for the compact one."""
    monkeypatch.setitem(MODELS, "mm_sam_adapter", replace(MODELS["mm_sam_adapter"], build=lambda *_: Bright()))
    monkeypatch.setattr(cli_export, "out", cli_export.Console(width=250))
    save_model(tmp_path / "weights", Bright(), SPEC)
    return tmp_path / "weights"


def export(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["export", *map(str, arguments)])
    if isinstance(result.exception, SamsegError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_folder_of_weights_becomes_one_that_takes_its_place(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shown = export("--checkpoint", weights, "--size", "128x192", "--out", out)
    assert "for cameras of 128x192, which the network sees at 64x96" in shown
    assert "compact.pt2: " in shown and "allowed: 1e-03" in shown
    assert f"use it: samseg replay BAG --set model.checkpoint={out}" in shown  # the rest is the default
    frame = Frame(np.random.default_rng(0).integers(0, 255, (128, 192, 3), np.uint8))
    exact, found = (Pipeline.from_config(config_of_weights(str(path)))(frame) for path in (weights, out))
    np.testing.assert_allclose(found.logits, exact.logits, atol=1e-4)
    listed = CliRunner().invoke(app, ["weights", "list", "--folder", str(tmp_path)]).output
    assert "exported (torch, sees 64x96 at once), " in " ".join(listed.replace("│", " ").split())
    assert "damaged" not in listed


def test_wrong_arguments_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(SamsegError, match="--size 480: expected HEIGHTxWIDTH of the camera in pixels, such as 480x640"):
        export("--size", "480", "--out", tmp_path / "out")
    with pytest.raises(SamsegError, match="no model 'mm_sam_adaptor'"):
        export("--model", "mm_sam_adaptor", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
