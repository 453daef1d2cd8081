from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from samseg_ros.datasets.camvid import EXPECTS, open_camvid
from samseg_ros.errors import SamsegError


def test_segnets_layout_gives_its_images_and_ids_with_11_ignored(tmp_path: Path, trees: ModuleType) -> None:
    trees.camvid(tmp_path)
    dataset = open_camvid(tmp_path, "train")
    frame, ids = dataset[0]
    np.testing.assert_array_equal(frame.image, trees.picture(0))
    np.testing.assert_array_equal(ids, [[0, 1, 10], [255, 5, 3]])
    assert (dataset.labels, dataset.modalities) == ("camvid", ("rgb",))


def test_the_dusk_sequence_is_told_from_those_by_day(tmp_path: Path, trees: ModuleType) -> None:
    trees.camvid(tmp_path)
    samples = open_camvid(tmp_path, "train").samples
    assert [(s.name, s.condition) for s in samples] == [("0001TP_1", "dusk"), ("0016E5_1", "day")]


def test_the_layout_by_kind_is_read_as_well(tmp_path: Path, trees: ModuleType) -> None:
    trees.camvid_by_kind(tmp_path)
    frame, ids = open_camvid(tmp_path, "val")[0]
    assert frame.image.shape == (2, 3, 3)
    np.testing.assert_array_equal(ids, [[0, 1, 10], [255, 5, 3]])


@pytest.mark.parametrize("tree", ["camvid", "camvid_by_kind"])
def test_a_half_unpacked_folder_is_told_what_is_missing(tmp_path: Path, trees: ModuleType, tree: str) -> None:
    getattr(trees, tree)(tmp_path)
    part = tmp_path / ("trainannot" if tree == "camvid" else "label")
    shutil.rmtree(part)
    with pytest.raises(SamsegError, match="2 of 4 files are missing") as error:
        open_camvid(tmp_path, "train")
    assert f"{part.name}/" in str(error.value) and str(error.value).endswith(EXPECTS)


def test_another_dataset_is_told_what_camvid_expects(tmp_path: Path, trees: ModuleType) -> None:
    trees.fmb(tmp_path)
    with pytest.raises(SamsegError, match=r"1 of 1 files are missing under .*: test\.txt;"):
        open_camvid(tmp_path, "test")


def test_an_id_that_segnet_does_not_use_is_refused(tmp_path: Path, trees: ModuleType) -> None:
    trees.camvid(tmp_path)
    trees.save(tmp_path / "valannot" / "0016E5_2.png", trees.ids([0, 12, 255], [0, 0, 0]))
    with pytest.raises(SamsegError, match=r"0016E5_2\.png: expected the ids 0-11, got 12, 255 as well"):
        open_camvid(tmp_path, "val")[0]


def test_the_real_camvid_has_its_official_splits_sizes_and_ids(shared_data: Path) -> None:
    splits = {split: open_camvid(shared_data / "camvid", split) for split in ("train", "val", "test")}
    assert {split: len(dataset) for split, dataset in splits.items()} == {"train": 367, "val": 101, "test": 233}
    names = [sample.name for dataset in splits.values() for sample in dataset.samples]
    assert len(set(names)) == 701
    for dataset in splits.values():
        seen = set()
        for index in range(0, len(dataset), 10):
            frame, ids = dataset[index]
            assert frame.size == ids.shape == (360, 480)
            seen |= set(np.unique(ids).tolist())
        assert seen == {*range(11), 255}
