from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from samseg_ros.datasets.muses import enlarged, open_muses
from samseg_ros.errors import InputError, SamsegError

VAL = "fog/night/REC0003_frame_2"
LIDAR = f"projected_to_rgb/lidar/val/{VAL}_lidar.npz"


def test_every_point_fills_itself_and_its_neighbours_right_and_below(tmp_path: Path, trees_b: ModuleType) -> None:
    trees_b.muses(tmp_path)
    frame, _ = open_muses(tmp_path, "val")[0]
    lidar = frame.images["lidar"]
    assert lidar.dtype == np.float32
    raw = lidar * np.float32((7.557, 9.850, 0.670)) + np.float32((1.463, 1.827, 0.078))
    expected = np.zeros((4, 6, 3))
    expected[1:3, 1] = 10.0, 5.0, -1.5  # the near point alone
    expected[1:3, 2] = 20.0, 5.0, 0.5  # both points: the largest range, intensity and height
    expected[1:3, 3] = 20.0, 3.0, 0.5
    np.testing.assert_allclose(raw, expected, atol=1e-5)
    np.testing.assert_allclose(lidar[0, 0], [-1.463 / 7.557, -1.827 / 9.850, -0.078 / 0.670], atol=1e-6)


def test_events_are_counts_with_their_own_mean_and_deviation(tmp_path: Path, trees_b: ModuleType) -> None:
    trees_b.muses(tmp_path)
    frame, _ = open_muses(tmp_path, "val")[0]
    event = frame.images["event"]
    assert event.dtype == np.float32
    np.testing.assert_allclose(event[3, 4], [(3 - 0.0877) / 0.448, (1 - 0.0878) / 0.401, 0], atol=1e-5)
    np.testing.assert_allclose(event[3, 5], [-0.0877 / 0.448, -0.0878 / 0.401, 0], atol=1e-6)


def test_enlarging_is_the_largest_value_over_two_by_two_pixels_where_there_are_points() -> None:
    rng = np.random.default_rng(0)
    picture = np.zeros((40, 50, 3), np.float32)
    rows, columns = rng.integers(0, 39, 60), rng.integers(0, 49, 60)
    picture[rows, columns] = rng.normal(0, 3, (60, 3))

    def slow(values: NDArray[np.float32]) -> NDArray[np.float32]:
        hollow = np.where(picture.any(2, keepdims=True), values, -np.inf)
        largest = ndimage.maximum_filter(hollow, (2, 2, 1), mode="constant", cval=-np.inf)
        return np.where(np.isfinite(largest), largest, 0)

    np.testing.assert_array_equal(enlarged(picture), slow(picture))


def test_a_picture_that_was_enlarged_already_or_is_empty_stays(trees_b: ModuleType) -> None:
    once = enlarged(trees_b.muses_sweep())
    np.testing.assert_array_equal(enlarged(once), once)
    assert not enlarged(np.zeros((4, 6, 3), np.float32)).any()


def test_labels_are_those_of_cityscapes_and_conditions_weather_and_light(tmp_path: Path, trees_b: ModuleType) -> None:
    trees_b.muses(tmp_path)
    dataset = open_muses(tmp_path, "train")
    assert dataset.labels == "cityscapes" and dataset.modalities == ("rgb", "lidar", "event")
    assert [(s.name, s.condition) for s in dataset.samples] == [
        ("clear/day/REC0001_frame_1", "clear day"),
        ("snow/night/REC0002_frame_7", "snow night"),
    ]
    frame, ids = dataset[1]
    np.testing.assert_array_equal(frame.image, trees_b.picture(1, (4, 6)))
    np.testing.assert_array_equal(ids[0], [0, 1, 2, 16, 17, 18])
    assert (ids[1:] == 255).all()


@pytest.mark.parametrize(("gone", "left"), [("lidar", "event"), ("event_camera", "lidar")])
def test_a_sensor_that_is_not_projected_is_no_modality(
    tmp_path: Path, trees_b: ModuleType, gone: str, left: str
) -> None:
    trees_b.muses(tmp_path)
    shutil.rmtree(tmp_path / "projected_to_rgb" / gone)
    dataset = open_muses(tmp_path, "val")
    assert dataset.modalities == ("rgb", left) and set(dataset[0][0].images) == {left}


def test_raw_sensors_are_answered_with_the_command_that_projects_them(tmp_path: Path, trees_b: ModuleType) -> None:
    trees_b.muses(tmp_path)
    shutil.rmtree(tmp_path / "projected_to_rgb")
    (tmp_path / "lidar").mkdir()
    with pytest.raises(
        SamsegError, match=r"no projected LiDAR or events .* `python scripts/project_sensors_to_rgb\.py"
    ):
        open_muses(tmp_path, "val")


@pytest.mark.parametrize("suffix", [".png", ".npy"])
def test_other_formats_of_the_projection_are_refused(tmp_path: Path, trees_b: ModuleType, suffix: str) -> None:
    trees_b.muses(tmp_path)
    (tmp_path / LIDAR).rename((tmp_path / LIDAR).with_suffix(suffix))
    with pytest.raises(InputError, match=rf"projected_to_rgb/lidar/val: expected \.npz files, got \{suffix}; project"):
        open_muses(tmp_path, "val")


def test_a_frame_without_its_projection_is_named(tmp_path: Path, trees_b: ModuleType) -> None:
    trees_b.muses(tmp_path)
    gone = "projected_to_rgb/lidar/train/snow/night/REC0002_frame_7_lidar.npz"
    (tmp_path / gone).unlink()
    with pytest.raises(SamsegError, match=f"muses: 1 of 8 files are missing under .*: {gone}; download"):
        open_muses(tmp_path, "train")


def test_a_projection_of_another_size_is_refused(tmp_path: Path, trees_b: ModuleType) -> None:
    trees_b.muses(tmp_path)
    trees_b.save_npz(tmp_path / LIDAR, np.zeros((2, 3, 3), np.float32))
    with pytest.raises(InputError, match="rgb 6x4, labels 6x4, lidar 3x2, event 6x4"):
        open_muses(tmp_path, "val")[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((4, 6), np.float32), r"expected \(H, W, 3\) uint8 or float32, got \(4, 6\) float32"),
        (np.zeros((4, 6, 3), np.float64), r"got \(4, 6, 3\) float64"),
        (np.full((4, 6, 3), np.nan, np.float32), "expected finite numbers, got NaN"),
    ],
)
def test_what_the_sdk_does_not_write_is_refused(
    tmp_path: Path, trees_b: ModuleType, content: NDArray[np.generic], message: str
) -> None:
    trees_b.muses(tmp_path)
    trees_b.save_npz(tmp_path / LIDAR, content)
    with pytest.raises(InputError, match=message):
        open_muses(tmp_path, "val")[0]


@pytest.mark.parametrize("damage", ["half", "empty", "npy", "other name"])
def test_a_damaged_projection_is_named(tmp_path: Path, trees_b: ModuleType, damage: str) -> None:
    trees_b.muses(tmp_path)
    path = tmp_path / LIDAR
    if damage == "other name":
        np.savez(path, image=trees_b.muses_sweep())
    elif damage == "npy":
        with path.open("wb") as file:
            np.save(file, trees_b.muses_sweep())
    else:
        path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2 if damage == "half" else 0])
    with pytest.raises(SamsegError, match=r"_lidar\.npz: not what the SDK writes \("):
        open_muses(tmp_path, "val")[0]


def test_the_test_split_is_answered_with_why_it_has_no_labels(tmp_path: Path) -> None:
    with pytest.raises(SamsegError, match="muses: the labels of test are not public"):
        open_muses(tmp_path, "test")
