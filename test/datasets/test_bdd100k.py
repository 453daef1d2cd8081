from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from samseg_ros.datasets.bdd100k import open_bdd100k
from samseg_ros.errors import InputError, SamsegError

MASKS = "labels/sem_seg/masks/val/7d15b18b-1e0d6e3f.png"


def test_masks_hold_the_classes_of_cityscapes_as_they_are(tmp_path: Path, trees_b: ModuleType) -> None:
    trees_b.bdd100k(tmp_path)
    dataset = open_bdd100k(tmp_path, "train")
    assert dataset.labels == "cityscapes"
    assert [s.name for s in dataset.samples] == ["0004a4c0-d4dff0ad", "00054602-3bf57337"]
    frame, ids = dataset[0]
    with Image.open(tmp_path / "images/10k/train/0004a4c0-d4dff0ad.jpg") as image:
        np.testing.assert_array_equal(frame.image, np.asarray(image))
    np.testing.assert_array_equal(ids, [[0, 1, 2], [18, 255, 13]])


def test_an_id_beyond_the_classes_is_refused(tmp_path: Path, trees_b: ModuleType) -> None:
    trees_b.bdd100k(tmp_path)
    trees_b.save(tmp_path / MASKS, trees_b.ids([0, 19, 0], [0, 0, 0]))
    with pytest.raises(SamsegError, match=r"expected the ids 0-18, 255, got 19 as well \(1 pixels\)"):
        open_bdd100k(tmp_path, "val")[0]


def test_a_colour_map_in_the_place_of_a_mask_is_refused(tmp_path: Path, trees_b: ModuleType) -> None:
    trees_b.bdd100k(tmp_path)
    trees_b.save(tmp_path / MASKS, trees_b.picture(1))
    with pytest.raises(InputError, match="expected an image of class ids"):
        open_bdd100k(tmp_path, "val")[0]


def test_a_mask_of_another_size_is_refused(tmp_path: Path, trees_b: ModuleType) -> None:
    trees_b.bdd100k(tmp_path)
    trees_b.save(tmp_path / MASKS, trees_b.ids([0, 1], [2, 3]))
    with pytest.raises(InputError, match="got rgb 3x2, labels 2x2"):
        open_bdd100k(tmp_path, "val")[0]


@pytest.mark.parametrize("file", [MASKS, "images/10k/val/7d15b18b-1e0d6e3f.jpg"])
def test_half_a_pair_is_named(tmp_path: Path, trees_b: ModuleType, file: str) -> None:
    trees_b.bdd100k(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(SamsegError, match=f"bdd100k: 1 of 2 files are missing under .*: {file}; download"):
        open_bdd100k(tmp_path, "val")


def test_the_older_package_is_answered_with_the_layout(tmp_path: Path, trees_b: ModuleType) -> None:
    trees_b.save(tmp_path / "seg/images/val/7d15b18b-1e0d6e3f.jpg", trees_b.picture(0))
    with pytest.raises(SamsegError, match=r"2 of 2 files are missing(.|\n)*bdd100k expects the folder"):
        open_bdd100k(tmp_path, "val")


def test_the_test_split_is_answered_with_why_it_has_no_labels(tmp_path: Path) -> None:
    with pytest.raises(SamsegError, match="bdd100k: the labels of test are not public"):
        open_bdd100k(tmp_path, "test")
