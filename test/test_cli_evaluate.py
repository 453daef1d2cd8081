"""`samseg evaluate` over recordings and datasets: what it writes, and what it does with what cannot be read."""

from __future__ import annotations

import csv
import errno
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from samseg_ros.cli_evaluate_world import _write_table
from samseg_ros.errors import SamsegError
from samseg_ros.evaluation.own_files import MARKS, replaced
from samseg_ros.evaluation.sources import CHUNKS

SIZE = (64, 96)
PIXELS = SIZE[0] * SIZE[1]

Evaluate = Callable[..., Result]


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


def _pixels(path: Path) -> int:
    with path.open() as stream:
        return sum(int(cell) for row in list(csv.reader(stream))[1:] for cell in row[1:])


def test_recordings_are_scored_each_by_itself_and_all_together(
    evaluate: Evaluate, bags: tuple[Path, Path], weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert evaluate(*bags, "--checkpoint", weights, "--out", out).exit_code == 0
    measured = _json(out / "metrics.json")
    assert measured["frames"] == 5
    assert {Path(path).name: row["frames"] for path, row in measured["recordings"].items()} == {"a": 2, "b": 3}
    assert set(measured["conditions"]) == {"day", "night"}
    assert _pixels(out / "confusion.csv") == 5 * PIXELS
    assert len((out / "result.jsonl").read_text().splitlines()) == 5
    assert {"per_class.csv", "config.yaml", "table.md"} <= {path.name for path in out.iterdir()}
    assert not (out / CHUNKS).exists()
    assert "| distance | mIoU |\n" in (out / "table.md").read_text()  # the LiDAR knows it, though the network has none


def test_a_recording_that_cannot_be_read_is_told_and_the_others_are_scored(
    evaluate: Evaluate, bags: tuple[Path, Path], weights: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mcap"
    broken.write_bytes(b"no recording")
    result = evaluate(bags[0], broken, bags[1], "--checkpoint", weights, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert f"failed: {broken}: " in result.output
    measured = _json(tmp_path / "out" / "metrics.json")
    assert measured["frames"] == 5
    assert "error" in measured["recordings"][str(broken)]
    assert evaluate(*bags, "--checkpoint", weights, "--out", tmp_path / "without").exit_code == 0
    whole, without = ((tmp_path / name / "confusion.csv").read_bytes() for name in ("out", "without"))
    assert whole == without


def test_a_single_recording_that_cannot_be_read_is_an_error(evaluate: Evaluate, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(SamsegError, match=r"gone\.mcap"):
        evaluate(tmp_path / "gone.mcap", "--checkpoint", weights, "--out", tmp_path / "out")


def test_two_models_are_held_against_each_other_each_in_a_folder_of_its_own(
    evaluate: Evaluate, bags: tuple[Path, Path], weights: Path, tmp_path: Path
) -> None:
    others, out = tmp_path / "others", tmp_path / "out"
    assert evaluate(bags[0], "--checkpoint", weights, "--checkpoint", others, "--out", out).exit_code == 0
    measured = _json(out / "metrics.json")
    assert [row["model"].rpartition("/")[2] for row in measured["results"]] == ["weights", "others"]
    (comparison,) = measured["comparisons"]
    first, second = (row["miou"] for row in measured["results"])
    assert comparison["others"][0]["difference"] == pytest.approx(second - first)
    assert sorted(_pixels(path) for path in out.glob("*/confusion.csv")) == [2 * PIXELS, 2 * PIXELS]


def test_models_whose_names_make_one_folder_keep_their_files_apart(
    evaluate: Evaluate, bags: tuple[Path, Path], weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    given = [part for name in ("a b", "a-b", "é", "è") for part in ("--checkpoint", tmp_path / name)]
    for name in given[1::2]:
        shutil.copytree(weights, name)
    assert evaluate(bags[0], *given, "--out", out).exit_code == 0
    names = [_json(path)["model"] for path in out.glob("*/metrics.json")]
    assert sorted(name[-1] for name in names) == ["b", "b", "è", "é"]
    assert len(set(names)) == 4


def test_a_folder_whose_name_looks_like_markup_is_told_as_it_is(
    evaluate: Evaluate, bags: tuple[Path, Path], weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "day[bold] x[" / "end]"
    result = evaluate(bags[0], "--checkpoint", weights, "--out", out)
    assert result.exit_code == 0 and f"written: {out / 'table.md'}" in result.output


def test_one_folder_of_weights_in_two_spellings_is_one_model(
    evaluate: Evaluate, bags: tuple[Path, Path], weights: Path, tmp_path: Path
) -> None:
    given = ("--checkpoint", weights, "--checkpoint", f"{weights}/")
    assert evaluate(bags[0], *given, "--out", tmp_path / "out").exit_code == 0
    assert _json(tmp_path / "out" / "metrics.json")["frames"] == 2


def test_a_run_that_ends_while_it_writes_is_not_scored_again(
    evaluate: Evaluate, bags: tuple[Path, Path], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = (bags[0], "--checkpoint", weights, "--out", tmp_path / "out")
    with monkeypatch.context() as full:
        full.setattr("samseg_ros.evaluation.evaluation_files.write_scores", lambda *_: _no_space())
        with pytest.raises(OSError, match="No space left"):
            evaluate(*given, catch_exceptions=False)
    monkeypatch.setattr("samseg_ros.evaluation.jobs.score_chunk", lambda *_: pytest.fail("scored again"))
    assert evaluate(*given).exit_code == 0
    assert not (tmp_path / "out" / CHUNKS).exists()


def _no_space() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_recording_that_is_cut_off_is_told(
    evaluate: Evaluate, bags: tuple[Path, Path], weights: Path, tmp_path: Path
) -> None:
    cut = shutil.copytree(bags[1], tmp_path / "cut")
    (file,) = cut.glob("*.mcap")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    for limit in ((), ("--limit", "1")):
        result = evaluate(cut, "--checkpoint", weights, "--out", tmp_path / "out", *limit)
        assert result.exit_code == 1
        assert "damaged or cut off" in _json(tmp_path / "out" / "metrics.json")["errors"][str(cut)]
        assert (tmp_path / "out" / "table.md").read_text().count("**failed**") == 1


def test_a_failure_is_told_once_whatever_was_asked_of_the_recording(
    evaluate: Evaluate, bags: tuple[Path, Path], weights: Path, tmp_path: Path
) -> None:
    broken, out = tmp_path / "broken.mcap", tmp_path / "out"
    broken.write_bytes(b"no recording")
    given = ("--corrupt", "image.noise", "--severity", "1", "--out", out)
    assert evaluate(bags[0], broken, "--checkpoint", weights, *given).exit_code == 1
    text = (out / "table.md").read_text()
    assert text.count("**failed**") == 1
    assert {row["dataset"] for row in _json(out / "metrics.json")["results"]} == {"a"}  # so that they are compared


def test_recordings_under_a_failure_are_told_apart_from_them_as_they_are(
    evaluate: Evaluate, bags: tuple[Path, Path], weights: Path, tmp_path: Path
) -> None:
    given = ("--corrupt", "image.noise", "--severity", "1", "--out", tmp_path / "out")
    assert evaluate(*bags, "--checkpoint", weights, *given).exit_code == 0
    assert (tmp_path / "out" / "table.md").read_text().count(", image.noise 1) | frames |") == 1


def test_sensors_go_by_the_order_of_the_model(
    evaluate: Evaluate, bags: tuple[Path, Path], weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    given = ("--sensors", "rgb+thermal+rgb,rgb+thermal,rgb")
    assert evaluate(bags[0], "--checkpoint", weights, *given, "--out", out).exit_code == 0
    assert [row["given"] for row in _json(out / "metrics.json")["results"]] == ["rgb+thermal", "rgb"]


def test_recorded_outputs_alone_want_their_recording_and_can_be_given_nothing_else(
    evaluate: Evaluate, bags: tuple[Path, Path], weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "outputs.mcap").touch()
    outputs = ("--outputs", tmp_path / "outputs.mcap", "--out", tmp_path / "out")
    with pytest.raises(SamsegError, match="expected the recording with labels that the node saw"):
        evaluate(*outputs)
    with pytest.raises(SamsegError, match="expected a model that is run, got recorded outputs"):
        evaluate(bags[0], *outputs, "--sensors", "rgb")
    with pytest.raises(SamsegError, match=r"unknown setting 'model\.nane'"):
        evaluate(bags[0], *outputs, "--set", "model.nane=x")


def test_a_table_of_the_world_replaces_what_an_earlier_evaluation_left(tmp_path: Path) -> None:
    with replaced(tmp_path) as new:
        for name in ("report.html", "confusion.csv", "table.md"):
            (new / name).write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    _write_table(tmp_path, "new", {})
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "table.md", "metrics.json", MARKS}


def test_sensor_sets_and_failures_are_rows_of_their_own(
    evaluate: Evaluate, bags: tuple[Path, Path], weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    given = ("--sensors", "all", "--corrupt", "thermal.blackout", "--severity", "5")
    assert evaluate(bags[0], "--checkpoint", weights, *given, "--out", out).exit_code == 0
    rows = [(r.get("given", ""), r.get("corruption", "")) for r in _json(out / "metrics.json")["results"]]
    assert rows == [("rgb+thermal", ""), ("rgb+thermal", "thermal.blackout"), ("rgb", "")]


def test_what_is_asked_for_twice_is_scored_once(
    evaluate: Evaluate, bags: tuple[Path, Path], weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    given = ("--sensors", "rgb,rgb", "--corrupt", "image.noise,image.noise", "--severity", "2,2")
    assert evaluate(bags[0], "--checkpoint", weights, *given, "--out", out).exit_code == 0
    assert [row["frames"] for row in _json(out / "metrics.json")["results"]] == [2, 2]  # as it is, and with noise


def test_frames_before_a_frame_are_known_of_a_part_of_a_recording_too(
    evaluate: Evaluate, bags: tuple[Path, Path], weights: Path, tmp_path: Path
) -> None:
    given = ("--limit", "2", "--corrupt", "thermal.time", "--severity", "1", "--out", tmp_path / "out")
    assert evaluate(bags[1], "--checkpoint", weights, *given).exit_code == 0


def test_one_dataset_from_two_folders_is_two_results(
    evaluate: Evaluate, bags: tuple[Path, Path], weights: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        folder = tmp_path / name
        (folder / "test").mkdir(parents=True)
        (folder / "dataset.yaml").write_text("labels: world\n")
        shutil.copytree(bags[0], folder / "test" / "drive")
    data = [part for name in ("one", "two") for part in ("--data", f"labelled_bag:{tmp_path / name}")]
    out = tmp_path / "out"
    assert evaluate(*data, "--checkpoint", weights, "--out", out).exit_code == 0
    names = [row["dataset"] for row in _json(out / "metrics.json")["results"]]
    assert names == [f"labelled_bag test ({tmp_path / name})" for name in ("one", "two")]
    assert len(list(out.rglob("confusion.csv"))) == 2


def test_the_world_is_a_dataset_too(evaluate: Evaluate, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert evaluate("--data", "world", "--limit", "2", "--checkpoint", weights, "--out", out).exit_code == 0
    assert _json(out / "metrics.json")["frames"] == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--corrupt", "image.noise", "--severity", "high"), "--severity: expected numbers of 1 to 5"),
        (("--sensors", "rgb+radar"), "no sensor 'radar'"),
        (("--sensors", "thermal"), "expected sets that start with rgb"),
        (("--corrupt", "thermal.blakout"), "did you mean 'thermal.blackout'"),
        (("--sensors", "rgb+lidar"), "no model here takes lidar; expected some of rgb, thermal"),
        (("--sensors", " , "), "--sensors: expected names with commas"),
        (("--corrupt", ","), "--corrupt: expected names with commas"),
        (("--corrupt", "lidar.range"), "--corrupt lidar.range: no model here is given lidar"),
        (("--corrupt", "image.noise", "--severity", ""), "--severity: expected numbers of 1 to 5, .* got nothing"),
        (("--checkpoint", "."), "expected a folder of weights, got one without model.yaml"),
        (("--out", "/proc/none"), "/proc/none: expected a folder that can be written"),
        (("--workers", "-1"), "expected 0 or more processes"),
        (("--outputs", "gone.mcap"), "no recording at gone.mcap"),
        (("--model", "ad_sam", "--model", "fusionsam"), "a --model for each --checkpoint"),
        (("--ray", "10.0.0.1:6379", "--set", "model.device=auto"), "machines may differ"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_scored(
    evaluate: Evaluate, bags: tuple[Path, Path], weights: Path, tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    with pytest.raises(SamsegError, match=told):
        evaluate(bags[0], "--checkpoint", weights, "--out", tmp_path / "out", *arguments)


def test_without_ray_the_error_says_how_to_install_it(
    evaluate: Evaluate, bags: tuple[Path, Path], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SamsegError, match=r"pip install 'samseg_ros\[ray\]'"):
        evaluate(bags[0], "--checkpoint", weights, "--ray", "local", "--out", tmp_path / "out")
