from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from samseg_ros.datasets.pst900 import open_pst900
from samseg_ros.errors import InputError, SamsegError


def test_a_sample_is_three_files_of_one_name(tmp_path: Path, trees: ModuleType) -> None:
    trees.pst900(tmp_path)
    dataset = open_pst900(tmp_path, "train")
    frame, ids = dataset[1]
    np.testing.assert_array_equal(frame.image, trees.picture(1))
    np.testing.assert_array_equal(frame.thermal, trees.picture(1, 1))
    np.testing.assert_array_equal(ids, [[0, 1, 2], [3, 4, 0]])
    assert (dataset.labels, [s.name for s in dataset.samples]) == ("pst900", ["1_bag_1", "1_bag_2"])


def test_a_fifth_object_class_is_refused(tmp_path: Path, trees: ModuleType) -> None:
    trees.pst900(tmp_path)
    trees.save(tmp_path / "test" / "labels" / "2_bag_7.png", trees.ids([0, 5, 0], [0, 0, 0]))
    with pytest.raises(SamsegError, match=r"2_bag_7\.png: expected the ids 0-4, got 5 as well"):
        open_pst900(tmp_path, "test")[0]


def test_labels_of_another_size_are_refused(tmp_path: Path, trees: ModuleType) -> None:
    trees.pst900(tmp_path)
    trees.save(tmp_path / "test" / "labels" / "2_bag_7.png", trees.ids([0, 1]))
    with pytest.raises(InputError, match=r"sample 2_bag_7: .* got rgb 3x2, labels 2x1, thermal 3x2"):
        open_pst900(tmp_path, "test")[0]
