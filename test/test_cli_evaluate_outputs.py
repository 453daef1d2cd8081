"""`samseg evaluate --outputs`: what live nodes said about recordings, in pairs that need not be named."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samseg_ros.errors import SamsegError
from samseg_ros.evaluation.own_files import MARKS
from samseg_ros.evaluation.recording import IMAGE, LABEL_INFO, MASK, STRING, OutputBag, image, label_info, serialize
from samseg_ros.labels import load_labels

SIZE = (64, 96)
MORNING = [1_700_000_000 * 10**9 + i * 10**8 for i in range(3)]
EVENING = [stamp + 3600 * 10**9 for stamp in MORNING]
Evaluate = Callable[..., Any]


def _drive(path: Path, stamps: Sequence[int]) -> Path:
    """Write a recording of grey images, the left half of class 1, the right one of class 2."""
    truth = np.repeat(np.arange(SIZE[1])[None] >= SIZE[1] // 2, SIZE[0], axis=0).astype(np.uint8) + 1
    with OutputBag(path) as bag:
        bag.write("/ground_truth/label_info", STRING, stamps[0], serialize(STRING, label_info(load_labels("world"))))
        for stamp in stamps:
            gray = np.full((*SIZE, 3), 128, np.uint8)
            bag.write("/camera/image_raw", IMAGE, stamp, serialize(IMAGE, image(stamp, "cam", gray, "rgb8")))
            bag.write("/ground_truth/labels", IMAGE, stamp, serialize(IMAGE, image(stamp, "cam", truth, "mono8")))
    return path


def _outputs(path: Path, stamps: Sequence[int], chosen: int = 1, size: tuple[int, int] = SIZE) -> Path:
    """Write what a node would say that sees one class everywhere."""
    with OutputBag(path) as bag:
        bag.write(LABEL_INFO, STRING, stamps[0], serialize(STRING, label_info(load_labels("world"))))
        for stamp in stamps:
            mask = np.full(size, chosen, np.uint8)
            bag.write(MASK, IMAGE, stamp, serialize(IMAGE, image(stamp, "cam", mask, "mono8")))
    return path


def _json(path: Path) -> Any:
    return json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.fixture
def morning(tmp_path: Path) -> Path:
    return _drive(tmp_path / "morning.mcap", MORNING)


@pytest.fixture
def evening(tmp_path: Path) -> Path:
    return _drive(tmp_path / "evening.mcap", EVENING)


def test_each_drive_is_scored_with_its_own_outputs(
    evaluate: Evaluate, morning: Path, evening: Path, tmp_path: Path
) -> None:
    first = _outputs(tmp_path / "first.mcap", MORNING)
    second = _outputs(tmp_path / "second.mcap", EVENING[:2])
    out = tmp_path / "out"
    assert evaluate(morning, evening, "--outputs", first, "--outputs", second, "--out", out).exit_code == 0
    results = _json(out / "metrics.json")["results"]
    found = [(Path(row["model"]).name, row["dataset"], row["frames"], row["dropped"]) for row in results]
    assert found == [("first.mcap", "morning.mcap", 3, 0), ("second.mcap", "evening.mcap", 2, 1)]
    assert not (out / ".samseg-chunks").exists()


def test_a_drive_without_outputs_of_its_own_is_a_failure(
    evaluate: Evaluate, morning: Path, evening: Path, tmp_path: Path
) -> None:
    first = _outputs(tmp_path / "first.mcap", MORNING)
    result = evaluate(morning, evening, "--outputs", first, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "expected masks with the stamps of evening.mcap, got none of its 3 frames" in result.output
    assert _json(tmp_path / "out" / "metrics.json")["dataset"] == "morning.mcap"  # what was scored


def test_outputs_that_were_cut_off_are_told(evaluate: Evaluate, morning: Path, tmp_path: Path) -> None:
    cut = _outputs(tmp_path / "cut.mcap", MORNING)
    cut.write_bytes(cut.read_bytes()[:-60])
    for _ in range(2):  # a run that goes on tells it as well
        result = evaluate(morning, "--outputs", cut, "--out", tmp_path / "out")
        assert result.exit_code == 1 and "damaged or cut off" in result.output
        assert "damaged or cut off" in _json(tmp_path / "out" / "metrics.json")["errors"][str(cut)]


def test_masks_of_another_size_are_told_so(evaluate: Evaluate, morning: Path, tmp_path: Path) -> None:
    half = _outputs(tmp_path / "half.mcap", MORNING[:1], size=(32, 48))
    with pytest.raises(
        SamsegError, match=r"predicted mask: expected the size of the labels \(64, 96\), got \(32, 48\)"
    ):
        evaluate(morning, "--outputs", half, "--out", tmp_path / "out")


def test_outputs_without_a_common_frame_are_scored_each_and_not_compared(
    evaluate: Evaluate, morning: Path, tmp_path: Path
) -> None:
    first = _outputs(tmp_path / "first.mcap", MORNING[:1])
    second = _outputs(tmp_path / "second.mcap", MORNING[1:], chosen=2)
    out = tmp_path / "out"
    assert evaluate(morning, "--outputs", first, "--outputs", second, "--out", out).exit_code == 0
    measured = _json(out / "metrics.json")
    assert [row["miou"] for row in measured["results"]] == [0.25, 0.25]  # half of one class, nothing of the other
    (other,) = measured["comparisons"][0]["others"]
    assert (other["frames"], other["miou"], other["difference"]) == (0, None, None)
    assert "second.mcap | 0 | – | – |" in (out / "table.md").read_text()


def test_no_settings_stand_beside_what_was_recorded(evaluate: Evaluate, morning: Path, tmp_path: Path) -> None:
    outputs = _outputs(tmp_path / "first.mcap", MORNING)
    assert evaluate(morning, "--outputs", outputs, "--out", tmp_path / "out").exit_code == 0
    assert not (tmp_path / "out" / "config.yaml").exists()


def test_results_beside_the_outputs_are_not_taken_for_a_replays(
    evaluate: Evaluate, morning: Path, tmp_path: Path
) -> None:
    (tmp_path / "live").mkdir()
    outputs = _outputs(tmp_path / "live" / "live.mcap", MORNING)
    for _ in range(2):
        assert evaluate(morning, "--outputs", outputs, "--out", tmp_path / "live").exit_code == 0
    assert {"result.jsonl", MARKS} <= {path.name for path in (tmp_path / "live").iterdir()}
