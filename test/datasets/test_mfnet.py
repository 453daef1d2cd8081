from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from samseg_ros.datasets.mfnet import day_or_night, open_mfnet
from samseg_ros.errors import InputError, SamsegError


def test_the_fourth_channel_is_the_thermal_image(tmp_path: Path, trees: ModuleType) -> None:
    trees.mfnet(tmp_path)
    frame, ids = open_mfnet(tmp_path, "val")[0]
    np.testing.assert_array_equal(frame.image, trees.picture(1, 4)[:, :, :3])
    np.testing.assert_array_equal(frame.thermal, trees.picture(1, 4)[:, :, 3])
    np.testing.assert_array_equal(ids, [[0, 1, 2], [8, 0, 3]])  # 0, unlabelled, is a class and not ignored


def test_a_flipped_name_is_the_mirrored_sample_though_no_such_file_is_there(tmp_path: Path, trees: ModuleType) -> None:
    trees.mfnet(tmp_path)
    dataset = open_mfnet(tmp_path, "train")
    assert [s.name for s in dataset.samples] == ["00001D", "00001D_flip"]
    (plain, ids), (mirrored, mirrored_ids) = dataset
    np.testing.assert_array_equal(mirrored.image, plain.image[:, ::-1])
    np.testing.assert_array_equal(mirrored.thermal, plain.thermal[:, ::-1])
    np.testing.assert_array_equal(mirrored_ids, [[2, 1, 0], [3, 0, 8]])
    assert mirrored.image.flags.c_contiguous and ids.flags.c_contiguous


def test_names_tell_day_from_night(tmp_path: Path, trees: ModuleType) -> None:
    trees.mfnet(tmp_path)
    assert [s.condition for s in open_mfnet(tmp_path, "test").samples] == ["day", "night"]
    assert [day_or_night(name) for name in ("01569N_flip", "00001D", "D00001", "00001")] == ["night", "day", "", ""]


def test_the_lists_of_day_and_night_are_splits(tmp_path: Path, trees: ModuleType) -> None:
    trees.mfnet(tmp_path)
    assert [s.name for s in open_mfnet(tmp_path, "test_day").samples] == ["00003D"]
    assert [s.name for s in open_mfnet(tmp_path, "test_night").samples] == ["00004N"]


def test_a_listed_image_that_is_not_there_is_named(tmp_path: Path, trees: ModuleType) -> None:
    trees.mfnet(tmp_path)
    (tmp_path / "images" / "00001D.png").unlink()
    with pytest.raises(SamsegError, match=r"mfnet: 1 of 2 files are missing under .*: images/00001D\.png;"):
        open_mfnet(tmp_path, "train")


def test_an_image_without_its_thermal_channel_is_refused(tmp_path: Path, trees: ModuleType) -> None:
    trees.mfnet(tmp_path)
    trees.save(tmp_path / "images" / "00002N.png", trees.picture(1, 3))
    with pytest.raises(InputError, match="expected 4 channels of 8 bits, got 2x3x3"):
        open_mfnet(tmp_path, "val")[0]


def test_a_ninth_object_class_is_refused(tmp_path: Path, trees: ModuleType) -> None:
    trees.mfnet(tmp_path)
    trees.save(tmp_path / "labels" / "00002N.png", trees.ids([0, 9, 0], [0, 0, 0]))
    with pytest.raises(SamsegError, match=r"00002N\.png: expected the ids 0-8, got 9 as well \(1 pixels\)"):
        open_mfnet(tmp_path, "val")[0]
