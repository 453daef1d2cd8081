"""What serves as what is guessed from types, names, frames and encodings, and can be told."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samseg_ros.datasets.bag import Bag, open_bag
from samseg_ros.datasets.bag_topics import (
    CAMERA_INFO,
    CLOUD,
    COMPRESSED,
    IMAGE,
    STRING,
    TF,
    BagTopics,
    guess_topics,
    other_cameras,
)
from samseg_ros.errors import InputError, SamsegError
from samseg_ros.evaluation.recording import STORE, OutputBag, image, serialize

KINDS = {
    "rgb8": (np.uint8, 3),
    "bgr8": (np.uint8, 3),
    "mono8": (np.uint8, 1),
    "16UC1": (np.uint16, 1),
    "32FC1": (np.float32, 1),
}


def _image(encoding: str, frame: str = "") -> tuple[str, Any]:
    kind, channels = KINDS[encoding]
    return IMAGE, image(1, frame, np.zeros((4, 6, channels) if channels > 1 else (4, 6), kind), encoding)


def _compressed(frame: str = "") -> tuple[str, Any]:
    header = _image("rgb8", frame)[1].header
    return COMPRESSED, STORE.types[COMPRESSED](
        header=header, format="rgb8; jpeg compressed bgr8", data=np.zeros(3, np.uint8)
    )


def _info() -> tuple[str, Any]:
    roi = STORE.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    numbers = [np.zeros(n) for n in (5, 9, 9, 12)]
    return CAMERA_INFO, STORE.types[CAMERA_INFO](_image("rgb8")[1].header, 4, 6, "plumb_bob", *numbers, 0, 0, roi)


def _cloud() -> tuple[str, Any]:
    return CLOUD, STORE.types[CLOUD](_image("rgb8")[1].header, 1, 0, [], False, 16, 0, np.zeros(0, np.uint8), True)


def _string() -> tuple[str, Any]:
    return STRING, STORE.types[STRING](data="night")


def _tf() -> tuple[str, Any]:
    return TF, STORE.types[TF](transforms=[])


def _bag(path: Path, topics: dict[str, tuple[str, Any]], repeats: dict[str, int] | None = None) -> Bag:
    with OutputBag(path / "bag.mcap") as bag:
        for name, (kind, message) in topics.items():
            for i in range((repeats or {}).get(name, 2)):
                bag.write(name, kind, i + 1, serialize(kind, message))
    return open_bag(path / "bag.mcap")


def test_everything_is_found_in_a_recording_like_the_worlds(tmp_path: Path) -> None:
    topics = {
        "/camera/image_raw": _image("rgb8", "camera_optical"),
        "/camera/camera_info": _info(),
        "/thermal/image_raw": _image("16UC1", "camera_optical"),
        "/thermal/camera_info": _info(),
        "/lidar/points": _cloud(),
        "/ground_truth/labels": _image("mono8"),
        "/ground_truth/depth": _image("32FC1"),
        "/ground_truth/condition": _string(),
        "/tf_static": _tf(),
    }
    with _bag(tmp_path, topics) as bag:
        guess = guess_topics(bag)
        assert guess == BagTopics(
            image="/camera/image_raw",
            thermal="/thermal/image_raw",
            lidar="/lidar/points",
            camera_info="/camera/camera_info",
            thermal_info="/thermal/camera_info",
            labels="/ground_truth/labels",
            condition="/ground_truth/condition",
            tf_static="/tf_static",
        )
        assert other_cameras(bag, guess) == ()


@pytest.mark.parametrize(
    ("topics", "expected"),
    [
        # A depth camera: its depth and its mono infrared are not the camera, infrared is thermal.
        (
            {
                "/d435/color/image_raw": _image("rgb8"),
                "/d435/depth/image_rect_raw": _image("16UC1"),
                "/d435/infra1/image_rect_raw": _image("mono8"),
            },
            ("/d435/color/image_raw", "/d435/infra1/image_rect_raw"),
        ),
        # Nothing in the names: the encoding says it.
        ({"/a/image": _image("16UC1"), "/b/image": _image("bgr8")}, ("/b/image", "/a/image")),
        # Nothing in topic and encoding: the frame says it.
        ({"/a/image": _image("mono8", "flir_optical"), "/b/image": _image("mono8", "cam")}, ("/b/image", "/a/image")),
        # Masks, depth and ground truth are no cameras.
        (
            {
                "/a/mask": _image("mono8"),
                "/a/segmentation": _image("rgb8"),
                "/a/depth": _image("32FC1"),
                "/z/image": _image("rgb8"),
            },
            ("/z/image", ""),
        ),
        # "mirror" holds "ir", but is no word of its own.
        ({"/mirror/image": _image("rgb8")}, ("/mirror/image", "")),
        # Colour before grey, uncompressed before compressed.
        (
            {"/a/image": _image("mono8"), "/b/image/compressed": _compressed(), "/b/image": _image("rgb8")},
            ("/b/image", ""),
        ),
    ],
)
def test_cameras_and_thermal_cameras_are_told_apart(
    tmp_path: Path, topics: dict[str, tuple[str, Any]], expected: tuple[str, str]
) -> None:
    with _bag(tmp_path, topics) as bag:
        guess = guess_topics(bag)
        assert (guess.image, guess.thermal) == expected


def test_of_several_the_one_with_most_messages_is_taken_and_the_rest_is_named(tmp_path: Path) -> None:
    topics = {n: _image("rgb8") for n in ("/cam0/image", "/cam1/image")} | {
        n: _cloud() for n in ("/a/points", "/b/points")
    }
    with _bag(tmp_path, topics, {"/cam1/image": 3, "/b/points": 5}) as bag:
        guess = guess_topics(bag)
        assert (guess.image, guess.lidar) == ("/cam1/image", "/b/points")
        assert other_cameras(bag, guess) == ("/cam0/image",)


@pytest.mark.parametrize(
    ("image", "infos", "expected"),
    [
        ("/camera/image_rect/compressed", ["/camera/camera_info", "/thermal/camera_info"], "/camera/camera_info"),
        ("/front/color/image", ["/front/camera_info", "/rear/camera_info"], "/front/camera_info"),
        ("/rgb/image", ["/sensors/camera_info", "/thermal/camera_info"], "/sensors/camera_info"),
        ("/rgb/image", ["/left/camera_info", "/right/camera_info"], ""),
        ("/rgb/image", [], ""),
    ],
)
def test_camera_info_is_taken_from_the_images_namespace_or_where_there_is_no_choice(
    tmp_path: Path, image: str, infos: list[str], expected: str
) -> None:
    kind = _compressed() if image.endswith("compressed") else _image("rgb8")
    with _bag(tmp_path, {image: kind} | {name: _info() for name in infos}) as bag:
        assert guess_topics(bag).camera_info == expected


@pytest.mark.parametrize(
    ("thermal", "infos", "expected"),
    [
        ("/ir/image_raw", ["/ir/camera_info", "/thermal/camera_info"], "/ir/camera_info"),
        ("/ir/left/image", ["/ir/camera_info", "/rgb/camera_info"], "/ir/camera_info"),
        ("/boson", ["/sensors/flir/camera_info"], "/sensors/flir/camera_info"),
        ("/boson", ["/ir/camera_info", "/flir/camera_info"], ""),
        ("/rgb/thermal", ["/rgb/camera_info"], ""),  # that is the camera's
    ],
)
def test_the_thermal_cameras_info_is_taken_likewise_and_never_the_cameras(
    tmp_path: Path, thermal: str, infos: list[str], expected: str
) -> None:
    topics = {"/rgb/image": _image("rgb8"), thermal: _image("16UC1")} | {name: _info() for name in infos}
    with _bag(tmp_path, topics) as bag:
        assert guess_topics(bag).thermal_info == expected
        assert guess_topics(bag, {"thermal": ""}).thermal_info == ""
        assert guess_topics(bag, {"thermal_info": ""}).thermal_info == ""


def test_a_topic_that_is_named_wins_and_an_empty_name_switches_off(tmp_path: Path) -> None:
    topics = {"/a/image": _image("rgb8"), "/b/image": _image("rgb8"), "/ir/image": _image("mono8"), "/points": _cloud()}
    with _bag(tmp_path, topics) as bag:
        guess = guess_topics(bag, {"image": "/b/image", "thermal": "", "lidar": None})
        assert guess == BagTopics(image="/b/image", lidar="/points")


def test_a_name_that_cannot_serve_is_refused(tmp_path: Path) -> None:
    with _bag(tmp_path, {"/camera/image": _image("rgb8"), "/points": _cloud()}) as bag:
        with pytest.raises(SamsegError, match=r"no topic '/camera/imag'; did you mean '/camera/image'\?"):
            guess_topics(bag, {"image": "/camera/imag"})
        with pytest.raises(
            InputError, match=r"thermal topic /points: expected .*Image.*got 2 of sensor_msgs/msg/PointCloud2"
        ):
            guess_topics(bag, {"thermal": "/points"})


def test_a_recording_without_a_camera_says_what_it_holds(tmp_path: Path) -> None:
    with _bag(tmp_path, {"/points": _cloud(), "/ground_truth/labels": _image("mono8")}) as bag:
        expected = (
            "expected a camera topic.*got topics of type sensor_msgs/msg/Image, sensor_msgs/msg/PointCloud2; name it"
        )
        with pytest.raises(InputError, match=expected):
            guess_topics(bag)


def test_real_recordings_are_understood_without_help(shared_data: Path) -> None:
    with open_bag(shared_data / "bags" / "kitti_seq_mcap") as bag:
        assert guess_topics(bag) == BagTopics(
            image="/camera/image_rect/compressed",
            lidar="/velodyne_points",
            camera_info="/camera/camera_info",
            tf_static="/tf_static",
        )
    with open_bag(shared_data / "bags" / "rgbt_msrs_mcap") as bag:
        assert guess_topics(bag) == BagTopics(image="/visible/image_raw/compressed", thermal="/thermal/image_raw")


def test_an_image_topic_that_cannot_be_decoded_does_not_end_the_guessing(tmp_path: Path) -> None:
    with OutputBag(tmp_path / "bag.mcap") as bag:
        bag.write("/broken/image", IMAGE, 1, b"\0\1\0\0")
        bag.write("/front/image", IMAGE, 1, serialize(*_image("rgb8")))
    with open_bag(tmp_path / "bag.mcap") as opened:
        assert guess_topics(opened).image == "/front/image"
