from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from samseg_ros.datasets.msrs import open_msrs
from samseg_ros.errors import SamsegError


def test_a_sample_is_three_files_of_one_name_with_mfnets_ids(tmp_path: Path, trees: ModuleType) -> None:
    trees.msrs(tmp_path)
    dataset = open_msrs(tmp_path, "train")
    frame, ids = dataset[1]
    np.testing.assert_array_equal(frame.image, trees.picture(1))
    np.testing.assert_array_equal(frame.thermal, trees.picture(1, 1))
    np.testing.assert_array_equal(ids, [[0, 1, 2], [8, 0, 3]])
    assert dataset.labels == "mfnet"
    assert [(s.name, s.condition) for s in dataset.samples] == [("00001D", "day"), ("00004N", "night")]


def test_a_folder_without_labels_is_told_so(tmp_path: Path, trees: ModuleType) -> None:
    trees.msrs(tmp_path)
    (tmp_path / "test" / "Segmentation_labels" / "00008N.png").unlink()
    (tmp_path / "test" / "Segmentation_labels").rmdir()
    with pytest.raises(SamsegError, match=r"1 of 3 files are missing under .*: test/Segmentation_labels;"):
        open_msrs(tmp_path, "test")
