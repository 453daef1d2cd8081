from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from samseg_ros.datasets.fmb import open_fmb
from samseg_ros.errors import SamsegError


def test_the_files_first_id_is_ignored_and_every_other_moves_down_by_one(tmp_path: Path, trees: ModuleType) -> None:
    trees.fmb(tmp_path)
    frame, ids = open_fmb(tmp_path, "test")[1]
    np.testing.assert_array_equal(ids, [[255, 0, 13], [8, 255, 7]])
    np.testing.assert_array_equal(frame.image, trees.picture(1))
    np.testing.assert_array_equal(frame.thermal, trees.picture(1, 1))  # saved as three equal channels


def test_without_lists_train_is_the_whole_folder_and_nothing_is_easy_or_hard(tmp_path: Path, trees: ModuleType) -> None:
    trees.fmb(tmp_path)
    assert [(s.name, s.difficulty) for s in open_fmb(tmp_path, "train").samples] == [
        ("00001", ""),
        ("00002", ""),
        ("00003", ""),
    ]
    assert [s.difficulty for s in open_fmb(tmp_path, "test").samples] == ["", ""]


def test_lists_say_what_is_easy_and_hard(tmp_path: Path, trees: ModuleType) -> None:
    trees.fmb(tmp_path)
    trees.lines(tmp_path / "test_easy.txt", "00005.png")
    trees.lines(tmp_path / "test_hard.txt", "00004")
    samples = open_fmb(tmp_path, "test").samples
    assert [(s.name, s.difficulty) for s in samples] == [("00004", "hard"), ("00005", "easy")]


def test_the_validation_lists_take_their_samples_out_of_train(tmp_path: Path, trees: ModuleType) -> None:
    trees.fmb(tmp_path)
    trees.lines(tmp_path / "val_easy.txt", "00003")
    trees.lines(tmp_path / "val_hard.txt", "00001")
    val = open_fmb(tmp_path, "val")
    assert [(s.name, s.difficulty) for s in val.samples] == [("00001", "hard"), ("00003", "easy")]
    np.testing.assert_array_equal(val[1][0].image, trees.picture(2))
    assert [s.name for s in open_fmb(tmp_path, "train").samples] == ["00002"]


def test_the_validation_split_needs_its_lists(tmp_path: Path, trees: ModuleType) -> None:
    trees.fmb(tmp_path)
    with pytest.raises(SamsegError, match=r"2 of 2 files are missing under .*: val_easy\.txt, val_hard\.txt;"):
        open_fmb(tmp_path, "val")
    trees.lines(tmp_path / "val_easy.txt", "00003")
    with pytest.raises(SamsegError, match=r"1 of 2 files are missing under .*: val_hard\.txt;"):
        open_fmb(tmp_path, "train")


@pytest.mark.parametrize(
    ("easy", "hard", "message"),
    [
        (["00004"], ["00009"], r"test_hard\.txt: 00009 is no sample"),
        (["00004"], ["00004", "00005"], r"test_hard\.txt: 00004 is in the other list too"),
        (["00004"], [""], r"test_hard\.txt: expected one name a line, got an empty list"),
    ],
)
def test_lists_that_do_not_fit_the_files_are_refused(
    tmp_path: Path, trees: ModuleType, easy: list[str], hard: list[str], message: str
) -> None:
    trees.fmb(tmp_path)
    trees.lines(tmp_path / "test_easy.txt", *easy)
    trees.lines(tmp_path / "test_hard.txt", *hard)
    with pytest.raises(SamsegError, match=message):
        open_fmb(tmp_path, "test")


def test_a_test_sample_in_neither_list_is_named(tmp_path: Path, trees: ModuleType) -> None:
    trees.fmb(tmp_path)
    for part, pixels in (("Visible", trees.picture(0)), ("Infrared", trees.picture(0, 1)), ("Label", trees.ids([1]))):
        trees.save(tmp_path / "test" / part / "00006.png", pixels)
    trees.lines(tmp_path / "test_easy.txt", "00005")
    trees.lines(tmp_path / "test_hard.txt", "00004")
    with pytest.raises(SamsegError, match=r"1 test samples are neither .*: 00006; complete the lists"):
        open_fmb(tmp_path, "test")


def test_a_missing_infrared_image_is_named(tmp_path: Path, trees: ModuleType) -> None:
    trees.fmb(tmp_path)
    (tmp_path / "train" / "Infrared" / "00002.png").unlink()
    with pytest.raises(SamsegError, match=r"fmb: 1 of 9 files are missing under .*: train/Infrared/00002\.png;"):
        open_fmb(tmp_path, "train")


def test_a_fifteenth_class_is_refused(tmp_path: Path, trees: ModuleType) -> None:
    trees.fmb(tmp_path)
    trees.save(tmp_path / "test" / "Label" / "00004.png", trees.ids([1, 15, 0], [0, 0, 0]))
    with pytest.raises(SamsegError, match=r"00004\.png: expected the ids 0-14, got 15 as well"):
        open_fmb(tmp_path, "test")[0]
