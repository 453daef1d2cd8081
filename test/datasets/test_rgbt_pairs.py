from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from samseg_ros.datasets.rgbt_pairs import open_rgbt_pairs
from samseg_ros.errors import SamsegError


@pytest.fixture
def folder(tmp_path: Path, trees: ModuleType) -> Path:
    for i in range(12):
        trees.save(tmp_path / "vi" / f"{i:02d}.png", trees.picture(i))
        trees.save(tmp_path / "ir" / f"{i:02d}.png", trees.picture(i, 1))
    return tmp_path


def test_every_tenth_pair_is_held_back(folder: Path) -> None:
    names = {split: [s.name for s in open_rgbt_pairs(folder, split).samples] for split in ("train", "val", "all")}
    assert names["val"] == ["00", "10"]
    assert names["train"] == [f"{i:02d}" for i in (1, 2, 3, 4, 5, 6, 7, 8, 9, 11)]
    assert names["all"] == [f"{i:02d}" for i in range(12)]


def test_pairs_without_labels_are_wholly_unlabelled(folder: Path, trees: ModuleType) -> None:
    frame, ids = open_rgbt_pairs(folder, "all")[3]
    np.testing.assert_array_equal(frame.image, trees.picture(3))
    np.testing.assert_array_equal(frame.thermal, trees.picture(3, 1))
    assert ids.shape == frame.size and (ids == 255).all()


def test_labels_are_mfnets_with_255_for_what_is_open(folder: Path, trees: ModuleType) -> None:
    for i in range(12):
        trees.save(folder / "label" / f"{i:02d}.png", trees.ids([0, 1, 2], [8, 255, 3]))
    np.testing.assert_array_equal(open_rgbt_pairs(folder, "val")[0][1], [[0, 1, 2], [8, 255, 3]])


def test_a_picture_without_its_partner_is_named(folder: Path) -> None:
    (folder / "ir" / "07.png").unlink()
    with pytest.raises(
        SamsegError, match=r"expected pairs of one name, got 07, which is not in each of vi, ir \(as \.png"
    ):
        open_rgbt_pairs(folder, "train")


def test_two_pictures_of_one_name_are_refused(folder: Path, trees: ModuleType) -> None:
    trees.save(folder / "vi" / "03.bmp", trees.picture(3))
    with pytest.raises(SamsegError, match=r"03\.bmp and 03\.png have one name"):
        open_rgbt_pairs(folder, "all")


def test_empty_and_missing_folders_are_told(tmp_path: Path) -> None:
    with pytest.raises(SamsegError, match="2 of 2 files are missing"):
        open_rgbt_pairs(tmp_path, "train")
    (tmp_path / "vi").mkdir()
    (tmp_path / "ir").mkdir()
    with pytest.raises(SamsegError, match="expected pairs of one name, got no picture"):
        open_rgbt_pairs(tmp_path, "train")
