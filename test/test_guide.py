"""docs/training.md, tried: every command of the guide runs on a tiny folder of MFNet's layout."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from samseg_ros.cli import app
from samseg_ros.datasets.catalog import DATASETS
from samseg_ros.datasets.world import write_recording

SHORT = {
    "samseg train": "--set 'phases=[{steps: 4, batch: 2, crop: [64, 64]}]' --set data.size='[64, 96]' --workers 1",
}
"""What is put behind a command so that it ends soon."""


def commands(root: Path) -> list[str]:
    text = (root / "docs" / "training.md").read_text()
    blocks = re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines() if line.startswith("samseg ")]


def mfnet_tree(root: Path) -> None:
    """Eight samples of MFNet's layout, large enough to be trained on."""
    rng = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    names = [f"{i:05d}{'DN'[i % 2]}" for i in range(8)]
    for name in names:
        Image.fromarray(rng.integers(0, 255, (64, 96, 4), np.uint8)).save(root / "images" / f"{name}.png")
        Image.fromarray(rng.integers(0, 9, (64, 96), np.uint8)).save(root / "labels" / f"{name}.png")
    for split, part in {"train": names[:4], "val": names[4:6], "test": names[6:]}.items():
        (root / f"{split}.txt").write_text("\n".join(part) + "\n")


def test_every_command_of_the_guide_runs_in_its_order(project_root: Path, tmp_path: Path, monkeypatch) -> None:
    mfnet_tree(tmp_path / "data" / "mfnet")
    write_recording(tmp_path / "my_bag", "test", ("night",), 1)
    monkeypatch.setitem(DATASETS, "mfnet", replace(DATASETS["mfnet"], sizes={}))  # the tree is no whole download
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for command in commands(project_root):
        extra = next((more for start, more in SHORT.items() if command.startswith(start)), "")
        arguments = [word.replace("~", str(tmp_path)) for word in shlex.split(f"{command} {extra}")[1:]]
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, f"{command}\n{result.output}"
    for made in ("out/mfnet.png", "runs/mfnet/model/model.yaml", "runs/mfnet/curves.html", "out/my_bag/report.html"):
        assert (tmp_path / made).is_file(), made
