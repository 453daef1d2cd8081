"""`samseg evaluate`: options that make no sense together, paths with ~, and what has to be right before model.yaml is
changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from samseg_ros.config import from_flat
from samseg_ros.datasets.labelled_recording import open_recording
from samseg_ros.errors import SamsegError
from samseg_ros.evaluation import calibration
from samseg_ros.evaluation.own_files import held
from samseg_ros.models import read_spec

Evaluate = Callable[..., Any]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--split", "val"), "--split is of datasets"),
        (("--frames", "12"), "--frames is for the world; --limit takes some frames"),
        (("--guard",), "--guard is for the table of the world"),
        (("--no-guard",), "--guard is for the table of the world"),
        (("--baseline", "."), "--baseline is for the table of the world"),
        (("--severity", "1"), "--severity is of sensor failures: name some"),
        (("--data", "recording:drive"), "no dataset 'recording'"),
    ],
)
def test_what_would_change_nothing_is_refused(
    evaluate: Evaluate, bags: tuple[Path, Path], tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    with pytest.raises(SamsegError, match=told):
        evaluate(bags[0], "--out", tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_frames_of_a_dataset_are_a_limit(evaluate: Evaluate, tmp_path: Path) -> None:
    with pytest.raises(SamsegError, match="--frames is for the world"):
        evaluate("--data", "world", "--frames", "6", "--out", tmp_path / "out")


def test_a_tilde_behind_an_equals_sign_is_the_home(
    evaluate: Evaluate, bags: tuple[Path, Path], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "drive").symlink_to(bags[0])
    assert evaluate("~/drive", "--checkpoint=~/weights", "--out=~/out").exit_code == 0
    assert (tmp_path / "out" / "metrics.json").is_file()
    with pytest.raises(SamsegError, match=f"no recording at {tmp_path}/gone"):
        evaluate("~/drive", "--outputs=~/gone", "--out=~/out")
    for name in ("projection.calibration_path", "labels.path", "labels.remap_path", "model.checkpoint"):
        section, leaf = name.split(".")
        assert getattr(getattr(from_flat({name: "~/a.yaml"}), section), leaf) == f"{tmp_path}/a.yaml"
    assert from_flat({"labels.path": "world"}).labels.path == "world"


def test_a_recording_that_cannot_be_read_does_not_change_where_results_lie(
    evaluate: Evaluate, bags: tuple[Path, Path], weights: Path, tmp_path: Path
) -> None:
    broken, out = tmp_path / "broken.mcap", tmp_path / "out"
    broken.write_bytes(b"no recording")
    for sensors, results in (("rgb", 1), ("rgb+thermal,rgb", 2)):
        result = evaluate(bags[0], broken, "--sensors", sensors, "--checkpoint", weights, "--out", out)
        assert result.exit_code == 1 and result.output.count("failed:") == 1
        measured = json.loads((out / "metrics.json").read_text())
        rows = measured.get("results", [measured])
        assert [len(row["recordings"]) for row in rows] == [2] * results
        assert (out / "confusion.csv").is_file() == (results == 1)


def test_results_of_a_larger_run_do_not_stay_beside_those_of_a_smaller_one(
    evaluate: Evaluate, bags: tuple[Path, Path], weights: Path, tmp_path: Path
) -> None:
    given = (bags[0], "--checkpoint", weights, "--out", tmp_path / "out")
    assert evaluate(*given, "--sensors", "rgb+thermal,rgb").exit_code == 0
    assert len(list((tmp_path / "out").rglob("confusion.csv"))) == 2
    assert evaluate(*given).exit_code == 0
    assert list((tmp_path / "out").rglob("confusion.csv")) == [tmp_path / "out" / "confusion.csv"]


def test_the_folder_of_a_replay_is_refused_before_anything_is_scored(
    evaluate: Evaluate, bags: tuple[Path, Path], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "result.jsonl").write_text('{"stamp_ns": 1}\n')
    monkeypatch.setattr("samseg_ros.evaluation.jobs.score_chunk", lambda *_: pytest.fail("scored"))
    with pytest.raises(SamsegError, match=r"got result\.jsonl of something else"):
        evaluate(bags[0], "--checkpoint", weights, "--out", tmp_path)


@pytest.mark.parametrize("given", [(), ("--data", "world")])
def test_two_evaluations_in_one_folder_are_refused_the_table_of_the_world_too(
    evaluate: Evaluate, weights: Path, tmp_path: Path, given: tuple[str, ...]
) -> None:
    with held(tmp_path / "out"), pytest.raises(SamsegError, match="another evaluation writes there"):
        evaluate(*given, "--checkpoint", weights, "--out", tmp_path / "out")


@pytest.fixture
def mine(bags: tuple[Path, Path], tmp_path: Path) -> Path:
    """A dataset whose splits val and test are one recording each."""
    for split in ("val", "test"):
        (tmp_path / "mine" / split).mkdir(parents=True)
        shutil.copytree(bags[0], tmp_path / "mine" / split / "drive")
    (tmp_path / "mine" / "dataset.yaml").write_text("labels: world\n")
    return tmp_path / "mine"


def _temperature(weights: Path) -> float:
    return read_spec(weights / "model.yaml").temperature


def test_weights_that_are_named_twice_get_their_temperature_once(
    evaluate: Evaluate, mine: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "fit_temperature", lambda *_: calibration.TemperatureFit(2.0, 0.5, 1.0))
    link = tmp_path / "link"
    link.symlink_to(weights)
    given = ("--data", f"labelled_bag:{mine}", "--fit-temperature")
    twice = ("--checkpoint", weights, "--checkpoint", link, "--checkpoint", weights / "compact.safetensors")
    assert evaluate(*given, *twice, "--out", tmp_path / "twice").exit_code == 0
    assert _temperature(weights) == 2.0
    assert not list(tmp_path.glob("*/.samseg-chunks"))


def test_a_limit_holds_for_the_frames_that_a_temperature_is_fitted_on(
    evaluate: Evaluate, mine: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels: list[int] = []

    def fit(_: object, number: int) -> calibration.TemperatureFit:
        pixels.append(number)
        return calibration.TemperatureFit(2.0, 0.5, 1.0)

    monkeypatch.setattr(calibration, "fit_temperature", fit)
    given = ("--data", f"labelled_bag:{mine}", "--fit-temperature", "--limit", "1")
    assert evaluate(*given, "--checkpoint", weights, "--out", tmp_path / "out").exit_code == 0
    assert pixels == [64 * 96]  # one frame


@pytest.mark.parametrize(
    "wrong", [("--corrupt", "thermal.blakout"), ("--sensors", "rgb+lidar"), ("--split", "tset"), ("--workers", "-1")]
)
def test_a_command_line_that_is_wrong_leaves_model_yaml_as_it_is(
    evaluate: Evaluate, mine: Path, weights: Path, tmp_path: Path, wrong: tuple[str, str]
) -> None:
    given = ("--data", f"labelled_bag:{mine}", "--fit-temperature", "--checkpoint", weights, "--out", tmp_path / "out")
    with pytest.raises(SamsegError):
        evaluate(*given, *wrong)
    assert _temperature(weights) == 1.0


def test_no_temperature_is_stored_where_frames_of_val_failed(
    evaluate: Evaluate, mine: Path, weights: Path, tmp_path: Path
) -> None:
    drive = mine / "val" / "drive"
    (mine / "val" / "drive_labels").mkdir()
    sizes = {0: (96, 64), 1: (10, 10)}
    for i, sample in enumerate(open_recording(drive, "world", from_flat({})).samples):
        ids = Image.fromarray(np.zeros(sizes[i][::-1], np.uint8))
        ids.save(mine / "val" / "drive_labels" / f"{sample.name.rpartition('/')[2]}.png")
    given = ("--data", f"labelled_bag:{mine}", "--fit-temperature", "--checkpoint", weights, "--out", tmp_path / "out")
    with pytest.raises(SamsegError, match=r"expected every frame of val, got .*expected 96x64.*; nothing is stored"):
        evaluate(*given)
    assert _temperature(weights) == 1.0
