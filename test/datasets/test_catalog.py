from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from samseg_ros.datasets.catalog import DATASETS, Spread, open_dataset
from samseg_ros.errors import SamsegError
from samseg_ros.labels import load_labels
from samseg_ros.sensing.modalities import MODALITIES


@pytest.mark.parametrize("name", DATASETS)
def test_a_row_names_known_labels_and_sensors_and_says_what_it_expects(name: str) -> None:
    entry = DATASETS[name]
    assert entry.expects.startswith(f"{name} expects ")
    assert set(entry.modalities) <= set(MODALITIES) and entry.modalities[0] == "rgb"
    assert set(entry.sizes) <= {*entry.splits, *entry.other_splits}
    assert not entry.labels or len(load_labels(entry.labels)) > 1


@pytest.mark.parametrize("name", ["camvid", "mfnet", "fmb", "msrs", "pst900"])
def test_every_split_of_the_true_layout_opens_and_holds_what_its_row_says(
    tmp_path: Path, trees: ModuleType, name: str
) -> None:
    trees.TREES[name](tmp_path)
    entry = DATASETS[name]
    for split in entry.splits:
        dataset = open_dataset(name, tmp_path, split)
        assert (dataset.labels, dataset.modalities) == (entry.labels, entry.modalities)
        assert len(dataset) == len(dataset.samples) == len({s.name for s in dataset.samples}) > 0
        for frame, ids in dataset:
            assert frame.size == ids.shape and (frame.thermal is not None) == ("thermal" in entry.modalities)
            assert set(np.unique(ids)) <= {*range(len(load_labels(entry.labels))), 255}


def test_a_limit_leaves_samples_from_the_whole_split(tmp_path: Path, trees: ModuleType) -> None:
    trees.fmb(tmp_path)
    few = open_dataset("fmb", tmp_path, "train", limit=2)
    assert [s.name for s in few.samples] == ["00001", "00002"] and len(few) == 2
    np.testing.assert_array_equal(few[1][0].image, trees.picture(1))
    with pytest.raises(IndexError):
        few[2]
    assert len(open_dataset("fmb", tmp_path, "train", limit=99)) == 3


def test_what_a_limit_leaves_is_spread_evenly() -> None:
    spread = Spread(open_dataset("world", None, "train", limit=10), 4)
    names = [s.name for s in open_dataset("world", None, "train", limit=10).samples]
    assert [s.name for s in spread.samples] == [names[i] for i in (0, 2, 5, 7)]


def test_the_world_needs_no_folder_and_is_as_large_as_asked_for() -> None:
    assert len(open_dataset("world", None, "train", limit=7)) == 7
    assert len(open_dataset("world", None, "val")) == 60


@pytest.mark.parametrize(
    ("name", "split", "limit", "message"),
    [
        ("mfnett", "train", None, r"no dataset 'mfnett'; did you mean 'mfnet'\?"),
        ("mfnet", "tests", None, r"mfnet has no split 'tests'; did you mean 'test'\?"),
        ("world", "trainval", None, r"world has no split 'trainval'; did you mean 'train'\?"),
        ("mfnet", "train", None, r"mfnet: no folder given; get it from https://www\.mi\.t\.u-tokyo.*\nmfnet expects"),
        ("cityscapes", "tests", None, r"cityscapes has no split 'tests'; did you mean 'test'\?"),
        ("world", "train", 0, "limit: expected at least 1 sample, got 0"),
    ],
)
def test_what_cannot_be_opened_is_answered_with_what_can(
    name: str, split: str, limit: int | None, message: str
) -> None:
    with pytest.raises(SamsegError, match=message):
        open_dataset(name, None, split, limit)


@pytest.mark.parametrize("name", ["cityscapes", "bdd100k", "muses"])
def test_a_split_with_secret_labels_is_refused_for_that_reason(tmp_path: Path, name: str) -> None:
    with pytest.raises(SamsegError, match=f"{name}: the labels of test are not public"):
        open_dataset(name, tmp_path, "test")
