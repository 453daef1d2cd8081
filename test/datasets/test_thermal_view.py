from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from samseg_ros.config import Config, ThermalConfig
from samseg_ros.datasets.catalog import open_dataset
from samseg_ros.errors import SamsegError


def test_the_thermal_image_stands_in_for_the_camera_and_nothing_else_is_there() -> None:
    whole, view = (open_dataset("world", None, "val", 2, view=name) for name in ("all", "thermal"))
    (frame, labels), (seen, same) = whole[1], view[1]
    low, high = np.percentile(frame.thermal[::4, ::4], [1, 99])  # sampled as the default settings say: 16384 pixels
    grey = 255 * np.clip((frame.thermal.astype(np.float64) - low) / (high - low), 0, 1)
    assert Config().thermal.normalization == "percentile"
    assert np.abs(seen.image[:, :, 0] - grey).max() <= 0.51
    assert (seen.image == seen.image[:, :, :1]).all()
    assert seen.thermal is None and seen.points is None
    assert view.modalities == ("rgb",) and [s.name for s in view.samples] == [s.name for s in whole.samples]
    np.testing.assert_array_equal(labels, same)


def test_counts_are_scaled_as_is_asked_for(tmp_path: Path, trees: ModuleType) -> None:
    trees.fmb(tmp_path)
    eight_bit = ThermalConfig(normalization="fixed", fixed_low=0, fixed_high=255)
    seen, _ = open_dataset("fmb", tmp_path, "test", view="thermal", scaling=eight_bit)[1]
    np.testing.assert_array_equal(seen.image[:, :, 0], trees.picture(1, 1))  # the file's own levels


def test_a_dataset_without_thermal_images_has_no_such_view(tmp_path: Path, trees: ModuleType) -> None:
    trees.camvid(tmp_path)
    with pytest.raises(SamsegError, match="view thermal: expected a dataset with thermal images, got rgb"):
        open_dataset("camvid", tmp_path, "train", view="thermal")
