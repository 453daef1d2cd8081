from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from samseg_ros.datasets.cityscapes import CLASS_IDS, LABEL_IDS, open_cityscapes
from samseg_ros.errors import SamsegError
from samseg_ros.labels import load_labels

OFFICIAL = {
    "road": 7,
    "sidewalk": 8,
    "building": 11,
    "wall": 12,
    "fence": 13,
    "pole": 17,
    "traffic light": 19,
    "traffic sign": 20,
    "vegetation": 21,
    "terrain": 22,
    "sky": 23,
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
}
"""Name to id, as helpers/labels.py of cityscapesScripts has them."""


def test_the_ids_of_every_class_are_the_official_ones_in_the_order_of_the_label_set() -> None:
    assert dict(zip(load_labels("cityscapes").names, CLASS_IDS, strict=True)) == OFFICIAL
    void = set(range(34)) - set(OFFICIAL.values())
    assert len(void) == 15 and all(LABEL_IDS[i] == 255 for i in void)


def test_label_ids_become_the_nineteen_classes_and_void_is_ignored(tmp_path: Path, trees_b: ModuleType) -> None:
    trees_b.cityscapes(tmp_path)
    dataset = open_cityscapes(tmp_path, "train")
    assert [s.name for s in dataset.samples] == ["aachen/aachen_000000_000019", "ulm/ulm_000001_000019"]
    frame, ids = dataset[1]
    np.testing.assert_array_equal(frame.image, trees_b.picture(1))
    np.testing.assert_array_equal(ids, [[255, 0, 1], [13, 18, 255]])  # unlabeled, road, sidewalk; car, bicycle, caravan


def test_train_ids_are_read_where_label_ids_are_not(tmp_path: Path, trees_b: ModuleType) -> None:
    trees_b.cityscapes(tmp_path)
    stem = "gtFine/val/munster/munster_000002_000019_gtFine"
    trees_b.save(tmp_path / f"{stem}_labelTrainIds.png", trees_b.ids([5, 5, 5], [5, 5, 5]))
    np.testing.assert_array_equal(open_cityscapes(tmp_path, "val")[0][1], [[255, 0, 1], [13, 18, 255]])
    (tmp_path / f"{stem}_labelIds.png").unlink()
    np.testing.assert_array_equal(open_cityscapes(tmp_path, "val")[0][1], [[5, 5, 5], [5, 5, 5]])


def test_train_ids_of_another_choice_of_classes_are_refused(tmp_path: Path, trees_b: ModuleType) -> None:
    trees_b.cityscapes(tmp_path)
    stem = "gtFine/val/munster/munster_000002_000019_gtFine"
    (tmp_path / f"{stem}_labelIds.png").unlink()
    trees_b.save(tmp_path / f"{stem}_labelTrainIds.png", trees_b.ids([0, 19, 0], [0, 19, 0]))
    with pytest.raises(
        SamsegError, match=r"labelTrainIds\.png: expected the ids 0-18, 255, got 19 as well \(2 pixels\)"
    ):
        open_cityscapes(tmp_path, "val")[0]


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("leftImg8bit/train/ulm/ulm_000001_000019_leftImg8bit.png", "1 of 4 files"),
        ("gtFine/train/ulm/ulm_000001_000019_gtFine_labelIds.png", "1 of 4 files"),
    ],
)
def test_an_image_without_labels_and_labels_without_image_are_named(
    tmp_path: Path, trees_b: ModuleType, file: str, message: str
) -> None:
    trees_b.cityscapes(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(SamsegError, match=f"cityscapes: {message} are missing under .*: {file}; download"):
        open_cityscapes(tmp_path, "train")


def test_a_package_that_is_not_unpacked_is_named_with_the_layout(tmp_path: Path, trees_b: ModuleType) -> None:
    trees_b.save(tmp_path / "leftImg8bit/val/munster/munster_000002_000019_leftImg8bit.png", trees_b.picture(0))
    with pytest.raises(SamsegError, match=r": gtFine/val; download(.|\n)*cityscapes expects a folder with both"):
        open_cityscapes(tmp_path, "val")
    (tmp_path / "gtFine" / "val").mkdir(parents=True)
    with pytest.raises(SamsegError, match=r"gtFine/val/munster/munster_000002_000019_gtFine_labelIds\.png"):
        open_cityscapes(tmp_path, "val")


def test_folders_without_any_image_are_told_from_a_whole_split(tmp_path: Path) -> None:
    for part in ("leftImg8bit/val", "gtFine/val"):
        (tmp_path / part).mkdir(parents=True)
    with pytest.raises(SamsegError, match=r"no leftImg8bit/val/\*/\*_leftImg8bit\.png or gtFine/val/"):
        open_cityscapes(tmp_path, "val")


def test_the_test_split_is_answered_with_why_it_has_no_labels(tmp_path: Path, trees_b: ModuleType) -> None:
    trees_b.cityscapes(tmp_path)
    with pytest.raises(SamsegError, match="cityscapes: the labels of test are not public"):
        open_cityscapes(tmp_path, "test")
