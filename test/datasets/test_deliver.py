from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from samseg_ros.datasets.deliver import open_deliver
from samseg_ros.errors import InputError, SamsegError

SUN = "sun/val/MAP_1_point1/000050"


def _index(tmp_path: Path, split: str, name: str) -> int:
    return [sample.name for sample in open_deliver(tmp_path, split).samples].index(name)


def test_ids_come_from_the_first_channel_less_one_and_nothing_is_ignored_but_0_and_255(
    tmp_path: Path, trees_b: ModuleType
) -> None:
    trees_b.deliver(tmp_path)
    values = np.zeros((4, 4, 3), np.uint8)
    values[:, :, 0] = [[0, 1, 2, 3], [23, 24, 25, 255], [7, 7, 7, 7], [0, 0, 0, 0]]
    trees_b.save(tmp_path / "semantic" / f"{SUN}_semantic_front.png", values)
    _, ids = open_deliver(tmp_path, "val")[_index(tmp_path, "val", SUN)]
    np.testing.assert_array_equal(
        ids, [[255, 0, 1, 2], [22, 23, 24, 255], [6, 6, 6, 6], [255, 255, 255, 255]]
    )  # 7 is Road: class 6


@pytest.mark.parametrize("channels", [1, 4])
def test_labels_in_one_or_four_channels_read_the_same(tmp_path: Path, trees_b: ModuleType, channels: int) -> None:
    trees_b.deliver(tmp_path)
    values = np.arange(1, 17, dtype=np.uint8).reshape(4, 4)
    pixels = values if channels == 1 else np.dstack([values, values, values // 2, np.full((4, 4), 255, np.uint8)])
    trees_b.save(tmp_path / "semantic" / f"{SUN}_semantic_front.png", pixels)
    _, ids = open_deliver(tmp_path, "val")[_index(tmp_path, "val", SUN)]
    np.testing.assert_array_equal(ids, np.arange(16).reshape(4, 4))


def test_every_sensor_is_the_file_of_its_folder(tmp_path: Path, trees_b: ModuleType) -> None:
    trees_b.deliver(tmp_path)
    dataset = open_deliver(tmp_path, "train")
    assert dataset.modalities == ("rgb", "depth", "lidar", "event") and len(dataset) == 5
    frame, _ = dataset[0]
    shown = [frame.image, frame.images["depth"], frame.images["lidar"], frame.images["event"]]
    for i, image in enumerate(shown):
        np.testing.assert_array_equal(image, trees_b.picture(10 + i, (4, 4)))
    assert all(image.dtype == np.uint8 for image in shown)


def test_a_lidar_picture_of_one_channel_is_repeated(tmp_path: Path, trees_b: ModuleType) -> None:
    trees_b.deliver(tmp_path)
    levels = np.arange(16, dtype=np.uint8).reshape(4, 4)
    trees_b.save(tmp_path / "lidar" / f"{SUN}_lidar_front.png", levels)
    frame, _ = open_deliver(tmp_path, "val")[_index(tmp_path, "val", SUN)]
    np.testing.assert_array_equal(frame.images["lidar"], np.dstack([levels] * 3))


def test_events_of_low_resolution_are_repeated_to_the_size_of_the_camera(tmp_path: Path, trees_b: ModuleType) -> None:
    trees_b.deliver(tmp_path)
    name = "night/test/MAP_2_point4_eventlowres/000060"
    frame, _ = open_deliver(tmp_path, "test")[_index(tmp_path, "test", name)]
    small = trees_b.picture(33, (2, 2))
    np.testing.assert_array_equal(frame.images["event"], np.kron(small, np.ones((2, 2, 1), np.uint8)))


def test_events_of_another_aspect_are_refused(tmp_path: Path, trees_b: ModuleType) -> None:
    trees_b.deliver(tmp_path)
    trees_b.save(tmp_path / "event" / f"{SUN}_event_front.png", trees_b.picture(0, (2, 3)))
    with pytest.raises(InputError, match="rgb 4x4, labels 4x4, depth 4x4, lidar 4x4, event 3x2"):
        open_deliver(tmp_path, "val")[_index(tmp_path, "val", SUN)]


def test_conditions_are_weather_and_failure_and_hard_is_underexposure(tmp_path: Path, trees_b: ModuleType) -> None:
    trees_b.deliver(tmp_path)
    found = Counter((s.condition, s.difficulty) for s in open_deliver(tmp_path, "test").samples)
    assert found == {
        ("cloud", "easy"): 1,
        ("fog", "easy"): 1,
        ("fog underexposure", "hard"): 1,
        ("night", "easy"): 1,
        ("night eventlowres", "easy"): 1,
        ("rain", "easy"): 1,
        ("sun", "easy"): 1,
    }
    assert {s.difficulty for s in open_deliver(tmp_path, "train").samples} == {""}


def test_an_id_beyond_truck_is_refused(tmp_path: Path, trees_b: ModuleType) -> None:
    trees_b.deliver(tmp_path)
    trees_b.save(tmp_path / "semantic" / f"{SUN}_semantic_front.png", np.full((4, 4, 3), 26, np.uint8))
    with pytest.raises(SamsegError, match=r"expected the ids 0-25, 255, got 26 as well \(16 pixels\)"):
        open_deliver(tmp_path, "val")[_index(tmp_path, "val", SUN)]


@pytest.mark.parametrize(
    "file",
    [
        f"hha/{SUN}_depth_front.png",
        f"lidar/{SUN}_lidar_front.png",
        f"img/{SUN}_rgb_front.png",
        f"semantic/{SUN}_semantic_front.png",
    ],
)
def test_a_file_that_one_sensor_lacks_is_named(tmp_path: Path, trees_b: ModuleType, file: str) -> None:
    trees_b.deliver(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(SamsegError, match=f"deliver: 1 of 25 files are missing under .*: {file}; download"):
        open_deliver(tmp_path, "val")


def test_weather_that_is_not_unpacked_is_named(tmp_path: Path, trees_b: ModuleType) -> None:
    for part in ("img", "hha", "lidar", "event", "semantic"):
        for weather in trees_b.WEATHERS[:4]:
            (tmp_path / part / weather).mkdir(parents=True)
    with pytest.raises(SamsegError, match=r"deliver: 5 of 25 files are missing .*: img/sun, hha/sun, lidar/sun"):
        open_deliver(tmp_path, "val")


def test_depth_alone_does_not_stand_in_for_hha(tmp_path: Path, trees_b: ModuleType) -> None:
    trees_b.deliver(tmp_path)
    (tmp_path / "hha").rename(tmp_path / "depth")
    with pytest.raises(SamsegError, match=r"hha/cloud, hha/fog(.|\n)*depth as HHA \(depth/ itself is not read\)"):
        open_deliver(tmp_path, "val")
