"""The command line: quick help, clear errors, and commands that only call the library."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from samseg_ros import __version__, cli
from samseg_ros.cli_settings import chosen_config
from samseg_ros.config import Config
from samseg_ros.errors import SamsegError
from samseg_ros.schema import json_schema

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def samseg(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process; gives exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["samseg", *arguments])
        monkeypatch.setattr(cli, "out", cli.Console(width=200))
        monkeypatch.setattr(cli, "err", cli.Console(stderr=True, width=200))
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_importing_the_command_line_loads_neither_ros_nor_torch() -> None:
    script = (
        "import sys, samseg_ros.cli\n"
        "print([m for m in ('rclpy', 'torch', 'numpy', 'cv2', 'numba', 'pydantic', 'rosbags') if m in sys.modules])"
    )
    # rclpy's wheels put their bootstrapper, not rclpy itself, into every interpreter
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_the_help_names_every_command(samseg: Run) -> None:
    code, shown, _ = samseg("--help")
    assert code == 0
    for command in (
        "demo",
        "replay",
        "evaluate",
        "train",
        "world",
        "models",
        "labels",
        "benchmark",
        "schema",
        "doctor",
    ):
        assert re.search(rf"\b{command}\b", shown), command


def test_the_version_is_that_of_the_package(samseg: Run) -> None:
    code, shown, _ = samseg("--version")
    assert code == 0 and shown.startswith(f"samseg_ros {__version__}")


def test_the_module_runs_as_a_script() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "samseg_ros.cli", "replay", "/nowhere", "--direct"], capture_output=True, text=True
    )
    assert shown.returncode == 2
    assert "Traceback" not in shown.stderr


def test_an_error_is_one_red_line_and_exit_code_2(samseg: Run) -> None:
    code, _, shown = samseg("replay", "/nowhere", "--direct")
    (line,) = [line for line in shown.splitlines() if line.startswith("error:")]
    assert code == 2
    assert line == "error: /nowhere: expected a rosbag2 folder, .mcap or .db3, got nothing; check the path"


def test_label_sets_are_listed_and_shown(samseg: Run) -> None:
    code, shown, _ = samseg("labels")
    assert code == 0
    assert re.search(r"cityscapes\W+19\b", shown) and re.search(r"mfnet\W+9\b", shown)
    code, shown, _ = samseg("labels", "cityscapes")
    assert re.search(r"\b13\W+car\b", shown) and "0 0 142" in shown
    code, _, shown = samseg("labels", "cityscape")
    assert code == 2 and "did you mean 'cityscapes'?" in shown


def test_a_model_is_shown_with_its_inputs_and_the_published_sizes(samseg: Run) -> None:
    code, shown, _ = samseg("models", "mm_sam_adapter")
    assert code == 0
    assert "inputs: rgb and any of thermal, lidar, depth, event" in shown
    # The published model (RGB + LiDAR, DeLiVER's 25 classes): 459.1M parameters, 455.89M of them in the backbone.
    assert re.search(r"vit_l\W+459\.05M.*backbone 455\.89M, decode_head 3\.16M", shown)


def test_the_schema_is_that_of_the_settings(samseg: Run) -> None:
    code, shown, _ = samseg("schema")
    assert code == 0
    assert json.loads(shown) == json_schema()


def test_settings_come_from_the_file_and_the_command_line_wins(tmp_path: Path) -> None:
    file = tmp_path / "my.param.yaml"
    file.write_text("/**:\n  ros__parameters:\n    publish: {min_confidence: 0.5, overlay_alpha: 0.1}\n")
    config = chosen_config("ad_sam", file, ["publish.min_confidence=0.25", "sync.lidar.on_missing=last"])
    assert config.model.name == "ad_sam"
    assert (config.publish.min_confidence, config.publish.overlay_alpha) == (0.25, 0.1)
    assert config.sync.lidar.on_missing == "last"
    assert chosen_config("", None) == Config()


def test_a_setting_that_does_not_exist_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(SamsegError, match=r"unknown setting 'publish.min_confidenc'; did you mean"):
        chosen_config("", None, ["publish.min_confidenc=0.25"])
    with pytest.raises(SamsegError, match="expected NAME=VALUE"):
        chosen_config("", None, ["publish.min_confidence"])


def test_the_summary_says_everything_in_a_few_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "out", cli.Console(width=120))
    monkeypatch.setattr(cli, "err", cli.Console(stderr=True, width=120))
    score = {"miou": 0.5, "miou_interval": [0.4, 0.6], "accuracy": 0.9, "frames": 4}
    measured = {
        "frames": {"received": 5, "published": 4, "dropped": 1},
        "latency_ms": {"p50": 30.0, "p95": 48.0},
        "fps": 12.34,
        "sensors": {"rgb+lidar": 4},
        "notes": ["the bag is cut off"],
        "errors": {},
        "troubles": {},
        "labels": score | {"conditions": {"night": score}},
    }
    cli._show(measured, Path("out/x"))
    shown = capsys.readouterr()
    assert re.search(r"night\W+50\.0\W+40\.0 – 60\.0\W+90\.0\W+4", shown.out)
    assert "frames received 5, masks 4, dropped 1; latency p50 30 ms, p95 48 ms; 12.3 masks/s" in shown.out
    assert "fused: 4 × rgb + lidar" in shown.out and "report: out/x/report.html" in shown.out
    assert "the bag is cut off" in shown.err and "fused pictures" not in shown.out
    fusion = {"frames": 3, "thermal_frames": 3, "entropy_bits": 6.5, "ssim_camera": 0.25}
    cli._show(measured | {"fusion": fusion}, Path("out/x"))
    assert "fused pictures (3 measured): entropy (bits) 6.500, SSIM with camera 0.250\n" in capsys.readouterr().out


def test_a_setting_that_is_no_yaml_is_one_line(samseg: Run) -> None:
    code, _, shown = samseg("replay", "/nowhere", "--direct", "--set", "publish.min_confidence=[")
    assert code == 2
    assert "--set publish.min_confidence=[: the value is no YAML" in shown


def test_training_refuses_an_unknown_model_before_it_renders(samseg: Run, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: foo\npreset: compact\nphases: [{steps: 1, crop: [64, 64]}]\n")
    code, _, shown = samseg("train", "--recipe", str(recipe), "--cache", str(tmp_path / "cache"), "-o", str(tmp_path))
    assert code == 2 and "foo" in shown
    assert not (tmp_path / "cache").exists()


def test_a_generated_drive_is_a_folder_and_not_a_file(samseg: Run, tmp_path: Path) -> None:
    code, _, told = samseg("world", str(tmp_path / "drive.mcap"))
    assert code == 2 and "expected the name of a folder for the recording; leave out .mcap" in " ".join(told.split())
    assert not list(tmp_path.iterdir())


def test_a_replay_that_is_scored_is_not_looped(samseg: Run, tmp_path: Path) -> None:
    code, _, told = samseg("replay", str(tmp_path), "--loop")
    assert code == 2 and "--loop is for --publish-only" in " ".join(told.split())
