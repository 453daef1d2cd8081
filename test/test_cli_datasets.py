from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import cv2
import pytest
import typer
from typer.testing import CliRunner

from samseg_ros import cli_datasets
from samseg_ros.datasets.catalog import DATASETS
from samseg_ros.errors import SamsegError


@pytest.fixture(scope="module")
def trees(project_root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("trees", project_root / "test" / "datasets" / "trees.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables that do not wrap their cells."""
    monkeypatch.setenv("COLUMNS", "240")


def run(*args: object) -> str:
    app = typer.Typer()
    app.command()(lambda: None)
    cli_datasets.register(app)
    result = CliRunner().invoke(app, ["datasets", *map(str, args)])
    if isinstance(result.exception, SamsegError):
        raise SamsegError(f"{result.output}\n{result.exception}")
    assert result.exit_code == 0, result.output
    return result.output


def test_every_dataset_has_its_row() -> None:
    shown = run()
    assert all(name in shown for name in DATASETS)
    row = next(line for line in shown.splitlines() if "mfnet" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")][2:5] == ["rgb thermal", "9", "train val test"]


def test_a_name_shows_what_the_dataset_expects_with_and_without_the_word_show() -> None:
    shown = run("camvid")
    assert DATASETS["camvid"].expects in shown and DATASETS["camvid"].source in shown
    assert run("show", "camvid") == shown


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(SamsegError, match=r"no dataset 'camvit'; did you mean 'camvid'\?"):
        run("camvit")
    with pytest.raises(SamsegError, match=r"did you mean 'camvid'\?"):
        run("check", "camvit", "x")


def test_a_check_of_real_data_counts_it_and_writes_a_page(shared_data: Path, tmp_path: Path) -> None:
    shown = run("check", "camvid", shared_data / "camvid", "--split", "val", "--out", tmp_path / "page.png")
    row = next(line for line in shown.splitlines() if line.startswith("│ val"))
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["val", "101", "101", "40", "day 101", ""]
    assert str(tmp_path / "page.png") in shown
    assert cv2.imread(str(tmp_path / "page.png")).shape[1] == 640


def test_a_check_of_a_tiny_tree_says_that_samples_are_missing_and_still_draws(
    tmp_path: Path, trees: ModuleType
) -> None:
    trees.mfnet(tmp_path)
    with pytest.raises(SamsegError) as error:
        run("check", "mfnet", tmp_path, "--out", tmp_path / "page.png", "--all")
    assert "problem: mfnet val: expected 392 samples, got 1; download or unpack it again" in str(error.value)
    assert str(error.value).endswith("mfnet: 3 problems, see above")
    assert (tmp_path / "page.png").exists()


def test_the_layout_is_shown_once_however_much_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SamsegError) as error:
        run("check", "mfnet", tmp_path)
    text = str(error.value)
    assert "1 of 1 files are missing" in text and "test.txt; download or unpack it again" in text
    assert text.count(DATASETS["mfnet"].expects) == 1


def test_a_split_that_the_dataset_does_not_have_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(SamsegError, match=r"mfnet has no split 'tset'; did you mean 'test'\?"):
        run("check", "mfnet", tmp_path, "--split", "tset")


def test_a_check_without_a_folder_asks_for_it() -> None:
    with pytest.raises(SamsegError, match="fmb: no folder given; get it from"):
        run("check", "fmb")
