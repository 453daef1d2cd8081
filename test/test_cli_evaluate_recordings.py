"""`samseg evaluate` reads recordings by the settings it is given, as the node and a replay do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rosbags.interfaces import ConnectionExtRosbag2
from rosbags.rosbag2 import Reader, StoragePlugin, Writer

from samseg_ros.config import Config, from_flat
from samseg_ros.datasets.labelled_recording import open_recording
from samseg_ros.datasets.world import write_recording
from samseg_ros.errors import SamsegError
from samseg_ros.evaluation.jobs import settled
from samseg_ros.evaluation.plan import Entrant, Stress, jobs_of
from samseg_ros.evaluation.resumable import open_all
from samseg_ros.evaluation.sources import RECORDING, Source, read_by

SIZE = (64, 96)


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording whose thermal camera stands 0.3 m beside the camera, turned by 2 degrees."""
    path = tmp_path_factory.mktemp("turned") / "drive"
    return write_recording(path, conditions=("day",), frames_per_condition=2, size=SIZE, thermal_offset=(0.3, 2.0))


def _without(bag: Path, out: Path, *topics: str) -> Path:
    """Copy a recording without some topics."""
    with Reader(bag) as reader, Writer(out, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        kept = [c for c in reader.connections if c.topic not in topics]
        links = {}
        for c in kept:
            assert isinstance(c.ext, ConnectionExtRosbag2)
            links[c.topic] = writer.add_connection(c.topic, c.msgtype, msgdef=c.msgdef.data, rihs01=c.digest)
        for c, stamp, raw in reader.messages(kept):
            writer.write(links[c.topic], stamp, raw)
    return out


def _sensors(out: Path) -> dict[str, int]:
    lines = (out / "result.jsonl").read_text().splitlines()
    found = [json.loads(line)["sensors"] for line in lines]
    return {name: found.count(name) for name in found}


def test_a_thermal_camera_to_be_registered_is_fused_as_in_a_replay(
    evaluate: Callable[..., Any], turned: Path, weights: Path, tmp_path: Path
) -> None:
    given = ("--set", "projection.thermal=calibrated", "--checkpoint", weights, "--out", tmp_path / "out")
    assert evaluate(turned, *given).exit_code == 0
    assert _sensors(tmp_path / "out") == {"rgb+thermal": 2}


def test_settings_of_the_synchroniser_and_inputs_that_are_switched_off_hold_for_recordings(
    evaluate: Callable[..., Any], turned: Path, weights: Path, tmp_path: Path
) -> None:
    for name, setting in (("late", "sync.thermal.offset_s=5.0"), ("off", "inputs.thermal=false")):
        given = ("--set", setting, "--checkpoint", weights, "--out", tmp_path / name)
        assert evaluate(turned, *given).exit_code == 0
        assert _sensors(tmp_path / name) == {"rgb": 2}


def test_a_calibration_file_is_taken_in_the_place_of_tf_static(turned: Path, tmp_path: Path) -> None:
    file = tmp_path / "rig.yaml"
    turn = "translation: [1, 2, 3], rotation_xyzw: [0, 0, 0, 1]"
    with_file = open_recording(turned, "", Config())
    lidar = with_file[0][0].points
    assert lidar is not None
    frames = (lidar.frame_id, "thermal_optical")
    rows = ", ".join(f"{{target: camera_optical, source: {frame}, {turn}}}" for frame in frames)
    file.write_text(f"transforms: [{rows}]")
    config = from_flat({"projection.calibration_path": str(file), "projection.thermal": "calibrated"})
    frame, _ = open_recording(turned, "", config)[0]
    assert frame.camera_from_lidar is not None and frame.camera_from_thermal is not None
    for pose in (frame.camera_from_lidar, frame.camera_from_thermal):
        np.testing.assert_array_equal(pose[:3, 3], [1, 2, 3])


def test_models_with_other_settings_see_each_its_own_frames(turned: Path, weights: Path) -> None:
    flat = {"model.checkpoint": str(weights), "model.device": "cpu", "model.precision": "fp32"}
    entrants = [
        Entrant(mode, settled(from_flat({**flat, "projection.thermal": mode}))) for mode in ("aligned", "calibrated")
    ]
    source = Source(RECORDING, str(turned))
    opened, failed = open_all([read_by(source, entrant.config) for entrant in entrants])
    jobs = jobs_of(entrants, opened, Stress(), [source])
    assert failed == {} and len(opened) == len(jobs) == 2
    poses = [opened[job.source][0][0].camera_from_thermal for job in jobs]
    assert poses[0] is None and poses[1] is not None


def test_a_lidar_without_extrinsics_is_left_out_and_that_is_said(
    evaluate: Callable[..., Any],
    bags: tuple[Path, Path],
    weights: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bag = _without(bags[0], tmp_path / "bare", "/tf_static")
    result = evaluate(bag, "--checkpoint", weights, "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert "LiDAR /lidar/points: expected what it takes to project it" in caplog.text
    assert "got no extrinsics (/tf_static, or projection.calibration_path); it is left out" in caplog.text
    assert _sensors(tmp_path / "out") == {"rgb+thermal": 2}


def test_what_serves_as_what_is_told_once_a_recording(
    evaluate: Callable[..., Any], bags: tuple[Path, Path], weights: Path, tmp_path: Path
) -> None:
    given = ("--checkpoint", weights, "--checkpoint", tmp_path / "others", "--out", tmp_path / "out")
    said = evaluate(*bags, *given).output
    for bag in bags:
        assert said.count(f"{bag}: image /camera/image_raw, thermal /thermal/image_raw, lidar /lidar/points, ") == 1
    assert said.count("labels /ground_truth/labels, condition /ground_truth/condition") == 2


def test_motion_compensation_is_refused_as_in_a_replay(bags: tuple[Path, Path]) -> None:
    with pytest.raises(SamsegError, match="motion_compensation: expected false"):
        open_recording(bags[0], "", from_flat({"projection.motion_compensation": True}))


def test_messages_name_what_evaluate_has(bags: tuple[Path, Path], tmp_path: Path) -> None:
    bare = _without(bags[0], tmp_path / "bare", "/ground_truth/labels")
    with pytest.raises(SamsegError, match="no labels") as told:
        open_recording(bare, "world", Config())
    assert "dataset.yaml" not in str(told.value) and "RECORDING_labels/STAMP.png" in str(told.value)


def test_a_cut_off_recording_with_pngs_is_scored_up_to_the_cut(
    evaluate: Callable[..., Any], bags: tuple[Path, Path], weights: Path, tmp_path: Path
) -> None:
    whole = open_recording(bags[1], "", Config())
    cut = shutil.copytree(bags[1], tmp_path / "cut")
    (tmp_path / "cut_labels").mkdir()
    for sample in whole.samples:
        ids = Image.fromarray(np.zeros(SIZE, np.uint8))
        ids.save(tmp_path / "cut_labels" / f"{sample.name.rpartition('/')[2]}.png")
    (file,) = cut.glob("*.mcap")
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    result = evaluate(cut, "--checkpoint", weights, "--out", tmp_path / "out")
    assert result.exit_code == 1
    measured = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert 0 < measured["frames"] < 3
    assert "damaged or cut off" in measured["errors"][str(cut)]


def test_a_command_that_is_terminated_takes_its_temporary_files_along(bags: tuple[Path, Path], tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from samseg_ros import cli\n"
        "from samseg_ros.config import Config\n"
        "from samseg_ros.datasets.labelled_recording import open_recording\n"
        "def wait():\n"
        "    dataset = open_recording(cli.Path(sys.argv[1]), '', Config())\n"
        "    print(dataset.store, flush=True)\n"
        "    time.sleep(300)\n"
        "cli.app = wait\n"
        "cli.main()\n"
    )
    command = [sys.executable, "-c", script, str(bags[0])]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert run.stdout is not None
    store = Path(run.stdout.readline().strip())
    assert store.parent == tmp_path and store.is_file()
    run.terminate()
    assert run.wait(timeout=300) == 128 + 15
    assert not store.exists()
