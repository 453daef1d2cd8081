"""The same numbers from one process, two processes and a local Ray, and after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from samseg_ros.config import Config, ModelConfig
from samseg_ros.datasets.world import write_recording
from samseg_ros.evaluation.crews import Crew, alone, in_processes
from samseg_ros.evaluation.evaluation_files import write_evaluation
from samseg_ros.evaluation.jobs import settled
from samseg_ros.evaluation.plan import Entrant, Stress, jobs_of, results_of
from samseg_ros.evaluation.resumable import open_all, run_jobs
from samseg_ros.evaluation.sources import CHUNKS, RECORDING, Source
from samseg_ros.models.random_weights import random_weights

SIZE = (64, 96)
GIVEN = {"name": "mm_sam_adapter", "preset": "compact", "labels": "world", "input_pixels": SIZE[0] * SIZE[1]}
FRAMES = 10


@dataclass(frozen=True)
class Drives:
    """Two recordings, a model, and what scoring them in one process wrote."""

    bags: tuple[Path, ...]
    weights: Path
    confusion: bytes

    def evaluate(self, out: Path, crew: Crew) -> bytes:
        """Score both recordings; return confusion.csv."""
        model = ModelConfig(checkpoint=str(self.weights), device="cpu", precision="fp32")
        entrant = Entrant("random", settled(Config(model=model)))
        sources = [Source(RECORDING, str(bag), labels="world") for bag in self.bags]
        opened, failed = open_all(sources)
        outcomes = run_jobs(jobs_of([entrant], opened, Stress(), sources), opened, failed, out, crew)
        write_evaluation(out, results_of([entrant], outcomes))
        return (out / "confusion.csv").read_bytes()


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> Drives:
    root = tmp_path_factory.mktemp("drives")
    bags = tuple(
        write_recording(root / name, conditions=(name,), frames_per_condition=FRAMES, seed=seed, size=SIZE)
        for seed, name in enumerate(("day", "night"))
    )
    random_weights({**GIVEN, "modalities": ("rgb", "thermal", "lidar")}, root / "weights")
    given = Drives(bags, root / "weights", b"")
    return Drives(bags, root / "weights", given.evaluate(root / "serial", alone))


def test_one_process_scores_every_pixel_of_both_recordings(drives: Drives) -> None:
    rows = drives.confusion.decode().splitlines()[1:]
    assert sum(int(cell) for row in rows for cell in row.split(",")[1:]) == 2 * FRAMES * SIZE[0] * SIZE[1]


def test_two_processes_write_the_same_bytes(drives: Drives, tmp_path: Path) -> None:
    assert drives.evaluate(tmp_path, in_processes(2)) == drives.confusion


@pytest.mark.slow
def test_a_local_ray_writes_the_same_bytes(drives: Drives, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'samseg_ros[ray]')")
    from samseg_ros.evaluation.ray_crew import LOCAL, on_ray

    assert drives.evaluate(tmp_path, on_ray(LOCAL, 2)) == drives.confusion


@pytest.mark.slow
def test_a_run_that_is_killed_half_way_ends_whole_and_the_next_one_finishes_the_rest(
    drives: Drives, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "samseg_ros.cli", "evaluate", *map(str, drives.bags), "--workers", "2"]
    command += ["--checkpoint", str(drives.weights), "--set", "model.device=cpu", "--set", "model.precision=fp32"]
    command += ["--no-report", "--out", str(tmp_path)]
    run = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    _wait(lambda: any(tmp_path.glob(f"{CHUNKS}/*/*.npz")), run)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    _wait(lambda: not _in_session(run.pid))  # the processes that score end with it
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob(f"{CHUNKS}/*/*.npz")}
    assert kept and not (tmp_path / "confusion.csv").exists()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert (tmp_path / "confusion.csv").read_bytes() == drives.confusion
    assert not (tmp_path / CHUNKS).exists()


def _wait(until: Callable[[], bool], run: subprocess.Popen[bytes] | None = None) -> None:
    end = time.monotonic() + 300
    while not until():
        assert time.monotonic() < end
        assert run is None or run.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)


def _in_session(leader: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it ended just now
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.mark.slow
def test_ctrl_c_while_processes_start_is_told_in_one_line(drives: Drives, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "samseg_ros.cli", "evaluate", *map(str, drives.bags), "--workers", "2"]
    command += ["--checkpoint", str(drives.weights), "--set", "model.device=cpu", "--set", "model.precision=fp32"]
    command += ["--no-report", "--out", str(tmp_path)]
    run = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
    _wait(lambda: len(_in_session(run.pid)) > 2, run)  # it, multiprocessing's tracker, and whoever imports by now
    os.killpg(run.pid, signal.SIGINT)
    _, told = run.communicate(timeout=300)
    assert run.returncode == 130
    assert "Traceback" not in told and "stopped" in told
    _wait(lambda: not _in_session(run.pid))
