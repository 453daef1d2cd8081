"""An evaluation replaces what an evaluation wrote, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from samseg_ros.errors import InputError, SamsegError
from samseg_ros.evaluation import own_files
from samseg_ros.evaluation.own_files import MARKS, held, is_own, replaced


def _write(out: Path, *names: str, text: str = "first", keep: bool = False) -> None:
    with replaced(out, keep) as new:
        for name in names:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_text(text)


def _files(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())


def test_results_of_an_earlier_larger_run_do_not_stay_beside_new_ones(tmp_path: Path) -> None:
    _write(tmp_path, "table.md", "first/metrics.json", "second/day/metrics.json")
    (tmp_path / "second" / "notes.txt").write_text("mine")
    _write(tmp_path, "table.md", "metrics.json", text="second")
    assert _files(tmp_path) == [MARKS, "metrics.json", "second/notes.txt", "table.md"]
    assert not (tmp_path / "first").exists() and not (tmp_path / "second" / "day").exists()
    assert (tmp_path / "table.md").read_text() == "second"


def test_a_report_is_added_to_results_and_goes_with_them(tmp_path: Path) -> None:
    _write(tmp_path, "table.md")
    _write(tmp_path, "report.html", keep=True)
    assert is_own(tmp_path / "table.md") and is_own(tmp_path / "report.html")
    _write(tmp_path, "metrics.json")
    assert _files(tmp_path) == [MARKS, "metrics.json"]


@pytest.mark.parametrize("name", ["metrics.json", "result.jsonl", "config.yaml"])
def test_a_folder_with_results_of_a_replay_or_a_checkpoint_is_refused_and_left_as_it_is(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("of a replay")
    with pytest.raises(InputError, match=f"expected a folder without results.* got {name} of something else"):
        held(tmp_path).__enter__()
    with pytest.raises(InputError, match="choose another folder"):
        _write(tmp_path, name)
    assert (tmp_path / name).read_text() == "of a replay" and not is_own(tmp_path / name)


def test_a_file_that_was_changed_since_is_the_users(tmp_path: Path) -> None:
    _write(tmp_path, "table.md")
    (tmp_path / "table.md").write_text("with my remarks")
    with pytest.raises(InputError, match=r"got table\.md of something else"):
        held(tmp_path).__enter__()


def test_after_an_error_everything_is_as_it_was(tmp_path: Path) -> None:
    _write(tmp_path, "table.md")
    before = _files(tmp_path)
    with pytest.raises(OSError, match="full"), replaced(tmp_path) as new:
        (new / "table.md").write_text("second")
        raise OSError("full")
    assert _files(tmp_path) == before and (tmp_path / "table.md").read_text() == "first"


def test_a_disk_that_fills_up_while_results_are_put_in_place_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path, "table.md", "metrics.json")
    before = _files(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(own_files.json, "dumps", full)
        with pytest.raises(OSError, match="No space"):
            _write(tmp_path, "table.md", text="second")
    assert _files(tmp_path) == before and (tmp_path / "table.md").read_text() == "first"
    assert is_own(tmp_path / "table.md")


def test_killed_while_results_are_put_in_place_both_old_and_new_ones_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path, "metrics.json", "table.md")
    replace, moved = Path.replace, []

    def killed(self: Path, target: Path) -> Path:
        moved.append(target.name)
        if target.name == "table.md":
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            _write(tmp_path, "metrics.json", "table.md", text="second")
    assert (tmp_path / "metrics.json").read_text() == "second" and (tmp_path / "table.md").read_text() == "first"
    _write(tmp_path, "table.md", text="third")
    assert _files(tmp_path) == [MARKS, "table.md"]


def test_a_file_where_a_folder_of_results_belongs_is_refused_and_kept(tmp_path: Path) -> None:
    _write(tmp_path, "table.md")
    (tmp_path / "day").write_text("mine")
    with pytest.raises(InputError, match="got day of something else"):
        _write(tmp_path, "day/table.md", text="second")
    assert (tmp_path / "table.md").read_text() == "first" and (tmp_path / "day").read_text() == "mine"


def test_marks_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("mine")
    out = tmp_path / "out"
    _write(out, "table.md")
    marks = (out / MARKS).read_text()
    (out / MARKS).write_text(marks.replace('"table.md"', '"../metrics.json"'))
    (out / "table.md").unlink()
    _write(out, "table.md")
    assert (tmp_path / "metrics.json").read_text() == "mine"


def test_two_evaluations_in_one_folder_are_refused(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(SamsegError, match="another evaluation writes there"), held(tmp_path):
        pass
