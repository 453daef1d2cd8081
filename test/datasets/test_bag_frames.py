"""Recording → sets → Frames: what belongs together, what a player has to send first, and what is wrong is said."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samseg_ros.config import Config, from_flat
from samseg_ros.datasets.bag import Bag, Message, open_bag
from samseg_ros.datasets.bag_frames import Step, bag_calibration, build_frame, steps
from samseg_ros.datasets.bag_topics import CAMERA_INFO, TF, BagTopics
from samseg_ros.errors import InputError
from samseg_ros.evaluation.recording import CLOUD, IMAGE, STORE, STRING, OutputBag, image, painted_cloud, serialize
from samseg_ros.sensing import convert
from samseg_ros.sensing.calibration import Calibration
from samseg_ros.types import PointCloud

MS = 10**6
START = 10**9
TOPICS = BagTopics(image="/image", thermal="/thermal", lidar="/points", camera_info="/info", tf_static="/tf_static")


def _header(stamp_ns: int, frame: str) -> Any:
    return image(stamp_ns, frame, np.zeros((2, 2), np.uint8), "mono8").header


def _picture(stamp_ms: int, value: int = 0) -> tuple[str, Any]:
    return IMAGE, image(START + stamp_ms * MS, "cam", np.full((4, 6, 3), value, np.uint8), "rgb8")


def _thermal(stamp_ms: int) -> tuple[str, Any]:
    return IMAGE, image(START + stamp_ms * MS, "cam", np.full((4, 6), stamp_ms, np.uint16), "16UC1")


def _sweep(stamp_ms: int) -> tuple[str, Any]:
    points = PointCloud(np.array([[stamp_ms, 0.0, 0.0]], np.float32), None, "lidar")
    nothing = np.zeros(1, np.uint8), np.zeros(1, np.float32), np.zeros(1, np.float32)
    return CLOUD, painted_cloud(START + stamp_ms * MS, points, *nothing)


def _info(width: int = 6, focal: float = 5.0, distortion: float = 0.0) -> tuple[str, Any]:
    roi = STORE.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    k = np.array([focal, 0, 2.5, 0, focal, 1.5, 0, 0, 1])
    p = np.insert(k.reshape(3, 3), 3, 0, axis=1).ravel()
    message = STORE.types[CAMERA_INFO](
        _header(START, "cam"),
        4,
        width,
        "plumb_bob",
        np.array([distortion, 0, 0, 0, 0]),
        k,
        np.eye(3).ravel(),
        p,
        0,
        0,
        roi,
    )
    return CAMERA_INFO, message


def _transform(parent: str, child: str, x: float) -> tuple[str, Any]:
    geometry = "geometry_msgs/msg/"
    transform = STORE.types[geometry + "Transform"](
        translation=STORE.types[geometry + "Vector3"](x, 0.0, 0.0),
        rotation=STORE.types[geometry + "Quaternion"](0.0, 0.0, 0.0, 1.0),
    )
    stamped = STORE.types[geometry + "TransformStamped"](_header(START, parent), child, transform)
    return TF, STORE.types[TF](transforms=[stamped])


def _bag(path: Path, messages: list[tuple[str, int, tuple[str, Any]]]) -> Bag:
    """Write (topic, recorded at, in ms, message)."""
    with OutputBag(path / "bag.mcap") as bag:
        for topic, at_ms, (kind, message) in messages:
            bag.write(topic, kind, START + at_ms * MS, serialize(kind, message))
    return open_bag(path / "bag.mcap")


def _stamp_ms(message: Message) -> int:
    return (message.stamp_ns - START) // MS


def _matches(found: list[Step]) -> list[tuple[int, dict[str, int] | None]]:
    return [
        (_stamp_ms(s.image), None if s.matched is None else {n: _stamp_ms(m) for n, m in s.matched.others.items()})
        for s in found
    ]


def test_each_image_gets_the_nearest_of_the_others_within_the_window(tmp_path: Path) -> None:
    messages = [("/info", 0, _info())]
    messages += [("/image", t, _picture(t)) for t in (100, 200, 300)]
    messages += [("/points", t + 5, _sweep(t)) for t in (90, 205, 310)]
    messages += [("/thermal", t, _thermal(t)) for t in (100, 300)]  # none near 200
    with _bag(tmp_path, messages) as bag:
        found = list(steps(bag, TOPICS, Config().sync))
        assert _matches(found) == [
            (100, {"thermal": 100, "lidar": 90}),
            (200, {"lidar": 205}),
            (300, {"thermal": 300, "lidar": 310}),
        ]
        assert found[1].matched.missing == ("thermal",)
        assert found[1].matched.offsets_s == {"lidar": pytest.approx(0.005)}


def test_a_player_is_told_to_send_everything_up_to_the_completion_of_a_set_before_its_image(tmp_path: Path) -> None:
    # The sweep of image 100 is recorded 30 ms after it, the one of image 200 in front of it.
    messages = [
        ("/image", 100, _picture(100)),
        ("/points", 130, _sweep(100)),
        ("/points", 195, _sweep(200)),
        ("/image", 200, _picture(200)),
        ("/points", 290, _sweep(285)),
    ]
    with _bag(tmp_path, messages) as bag:
        found = list(steps(bag, BagTopics(image="/image", lidar="/points"), Config().sync))
        assert [(_stamp_ms(s.image), [_stamp_ms(m) for m in s.before]) for s in found] == [(100, [100]), (200, [200])]


def test_an_image_does_not_wait_longer_than_the_timeout_for_what_comes_late(tmp_path: Path) -> None:
    messages = [("/image", t, _picture(t)) for t in (100, 200, 300, 400)]
    messages += [("/points", t + 150, _sweep(t)) for t in (100, 200, 300, 400)]  # 150 ms late, timeout 100 ms
    with _bag(tmp_path, sorted(messages, key=lambda m: m[1])) as bag:
        lidar = BagTopics(image="/image", lidar="/points")
        found = list(steps(bag, lidar, Config().sync))
        assert _matches(found)[:3] == [(100, {}), (200, {}), (300, {})]
        assert [[_stamp_ms(m) for m in s.before] for s in found][:2] == [[], [100]]
        patient = from_flat({"sync.lidar.timeout_s": 0.2}).sync
        assert _matches(list(steps(bag, lidar, patient))) == [(t, {"lidar": t}) for t in (100, 200, 300, 400)]


def test_images_that_the_synchroniser_leaves_out_are_steps_without_a_set(tmp_path: Path) -> None:
    messages = [("/image", t, _picture(t)) for t in (100, 200, 300)] + [("/points", 200, _sweep(200))]
    messages += [("/image", 310, (IMAGE, image(0, "cam", np.zeros((4, 6, 3), np.uint8), "rgb8")))]  # no stamp
    with _bag(tmp_path, sorted(messages, key=lambda m: m[1])) as bag:
        required = from_flat({"sync.lidar.required": True}).sync
        found = list(steps(bag, BagTopics(image="/image", lidar="/points"), required))
        assert sorted(_matches(found), key=lambda m: m[0]) == [
            (-1000, None),
            (100, None),
            (200, {"lidar": 200}),
            (300, None),
        ]


def test_labels_go_aside_and_sensor_messages_pass_in_recorded_order(tmp_path: Path) -> None:
    note = STORE.types[STRING](data="night")
    messages = [
        ("/condition", 90, (STRING, note)),
        ("/points", 95, _sweep(100)),
        ("/image", 100, _picture(100)),
        ("/labels", 100, (IMAGE, image(START + 100 * MS, "cam", np.zeros((4, 6), np.uint8), "mono8"))),
    ]
    topics = BagTopics(image="/image", lidar="/points", labels="/labels", condition="/condition")
    aside: list[str] = []
    passing: list[str] = []
    with _bag(tmp_path, messages) as bag:
        list(steps(bag, topics, Config().sync, lambda m: aside.append(m.topic), lambda m: passing.append(m.topic)))
    assert (aside, passing) == (["/condition", "/labels"], ["/points", "/image"])


def test_a_frame_holds_what_the_messages_held(tmp_path: Path) -> None:
    messages = [
        ("/tf_static", 0, _transform("lidar", "cam", 2.0)),
        ("/image", 100, _picture(100, value=7)),
        ("/points", 100, _sweep(100)),
        ("/thermal", 100, _thermal(100)),
        ("/info", 101, _info()),  # behind the first image: it holds from the start all the same
        ("/image", 200, _picture(200)),
        ("/points", 200, _sweep(200)),
        ("/thermal", 200, _thermal(200)),
        ("/info", 201, _info(focal=9.0)),
        ("/image", 300, _picture(300)),
        ("/points", 300, _sweep(300)),
    ]
    with _bag(tmp_path, messages) as bag:
        calibration = bag_calibration(bag, TOPICS)
        frames = [build_frame(bag, s, calibration, Config(), _refuse) for s in steps(bag, TOPICS, Config().sync)]
    first = frames[0]
    assert (first.image == 7).all() and first.image.shape == (4, 6, 3)
    assert (first.stamp_ns, first.frame_id) == (START + 100 * MS, "cam")
    assert (first.thermal == 100).all() and first.thermal.dtype == np.uint16
    assert first.points.xyz.tolist() == [[100.0, 0.0, 0.0]]
    # lidar_from_camera moves by +2 along x, so camera_from_lidar moves by -2.
    assert first.camera_from_lidar[:3, 3].tolist() == [-2.0, 0.0, 0.0]
    assert [f.camera.k[0, 0] for f in frames] == [5.0, 5.0, 9.0]
    assert frames[2].thermal is None


def _refuse(name: str, what: str) -> None:
    raise AssertionError(f"{name}: {what}")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("no info", "camera_info: expected the camera's intrinsics"),
        ("wrong info", "expected the image's size 6x4, got 7x4"),
        ("no transform", "expected a transform between the frames 'cam' (camera) and 'lidar' (LiDAR)"),
        ("other frames", "expected a transform to 'cam' from 'lidar'"),
    ],
)
def test_a_lidar_that_cannot_be_used_is_reported_and_the_frame_goes_on(
    tmp_path: Path, change: str, expected: str
) -> None:
    messages = [("/image", 100, _picture(100)), ("/points", 100, _sweep(100))]
    if change != "no info":
        messages.insert(0, ("/info", 0, _info(width=7 if change == "wrong info" else 6)))
    child = "other" if change == "other frames" else "cam"
    if change != "no transform":
        messages.insert(0, ("/tf_static", 0, _transform("lidar", child, 0.0)))
    topics = BagTopics(image="/image", lidar="/points", camera_info="/info", tf_static="/tf_static")
    troubles: list[tuple[str, str]] = []
    with _bag(tmp_path, messages) as bag:
        (step,) = steps(bag, topics, Config().sync)
        frame = build_frame(
            bag, step, bag_calibration(bag, topics), Config(), lambda name, what: troubles.append((name, what))
        )
    assert frame.points is None and frame.image.shape == (4, 6, 3)
    ((name, what),) = troubles
    assert name == "lidar" and expected in what


@pytest.mark.parametrize(("topic", "is_distorted"), [("/cam/image_raw", True), ("/cam/image_rect_color", False)])
def test_an_image_that_image_proc_rectified_is_known_by_its_topic(
    tmp_path: Path, topic: str, is_distorted: bool
) -> None:
    messages = [
        ("/tf_static", 0, _transform("lidar", "cam", 0.0)),
        ("/info", 0, _info(distortion=-0.2)),
        (topic, 100, _picture(100)),
        ("/points", 100, _sweep(100)),
    ]
    topics = BagTopics(image=topic, lidar="/points", camera_info="/info", tf_static="/tf_static")
    with _bag(tmp_path, messages) as bag:
        (step,) = steps(bag, topics, Config().sync)
        frame = build_frame(bag, step, bag_calibration(bag, topics), Config(), _refuse)
    assert frame.camera.is_distorted == is_distorted


CALIBRATED = from_flat({"projection.thermal": "calibrated"})
THERMAL_TOPICS = BagTopics(
    image="/image", thermal="/ir", camera_info="/info", thermal_info="/ir_info", tf_static="/tf_static"
)


def _counts(stamp_ms: int) -> tuple[str, Any]:
    return IMAGE, image(START + stamp_ms * MS, "ir", np.full((4, 6), stamp_ms, np.uint16), "16UC1")


def test_a_thermal_camera_to_be_registered_comes_with_its_calibration_and_an_aligned_one_without(
    tmp_path: Path,
) -> None:
    messages = [
        ("/tf_static", 0, _transform("cam", "ir", 0.5)),
        ("/info", 0, _info(focal=5.0)),
        ("/image", 100, _picture(100)),
        ("/ir", 100, _counts(100)),
        ("/ir_info", 101, _info(focal=7.0)),  # the first one holds from the start
        ("/ir_info", 150, _info(focal=8.0)),
        ("/image", 200, _picture(200)),
        ("/ir", 200, _counts(200)),
    ]
    with _bag(tmp_path, messages) as bag:
        found = list(steps(bag, THERMAL_TOPICS, Config().sync))
        calibration = bag_calibration(bag, THERMAL_TOPICS)
        first, second = (build_frame(bag, step, calibration, CALIBRATED, _refuse) for step in found)
        aligned = build_frame(bag, found[0], calibration, Config(), _refuse)
    assert [m.topic for m in found[0].before[:2]] == ["/info", "/ir_info"]
    assert (first.camera.k[0, 0], first.thermal_camera.k[0, 0]) == (5.0, 7.0)
    assert second.thermal_camera.k[0, 0] == 8.0
    assert first.camera_from_thermal[:3, 3].tolist() == [0.5, 0.0, 0.0]
    assert (first.thermal == 100).all() and (aligned.thermal == 100).all()
    assert aligned.camera is aligned.thermal_camera is aligned.camera_from_thermal is None


@pytest.mark.parametrize(
    ("without", "expected"),
    [
        ("/info", r"^camera_info: expected the camera's intrinsics, .*'ir'.*'cam'.* got none in the recording"),
        ("/ir_info", r"^thermal camera_info: expected the camera's intrinsics, .*'ir'.*'cam'.* got none"),
        ("/tf_static", r"^extrinsics: expected a transform between the frames 'cam' \(camera\) and 'ir' \(thermal cam"),
    ],
)
def test_a_thermal_camera_that_cannot_be_registered_is_reported_and_the_frame_goes_on(
    tmp_path: Path, without: str, expected: str
) -> None:
    messages = [
        ("/tf_static", 0, _transform("cam", "ir", 0.5)),
        ("/info", 0, _info()),
        ("/ir_info", 0, _info()),
        ("/image", 100, _picture(100)),
        ("/ir", 100, _counts(100)),
    ]
    troubles: list[tuple[str, str]] = []
    with _bag(tmp_path, [m for m in messages if m[0] != without]) as bag:
        (step,) = steps(bag, THERMAL_TOPICS, Config().sync)
        calibration = bag_calibration(bag, THERMAL_TOPICS)
        frame = build_frame(bag, step, calibration, CALIBRATED, lambda name, what: troubles.append((name, what)))
    assert frame.thermal is None and frame.image.shape == (4, 6, 3)
    ((name, what),) = troubles
    assert name == "thermal" and re.search(expected, what)


def test_an_image_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    kind, message = _picture(100)
    message.data = message.data[:-5]
    with _bag(tmp_path, [("/image", 100, (kind, message))]) as bag:
        (step,) = steps(bag, BagTopics(image="/image"), Config().sync)
        with pytest.raises(InputError, match="expected 72 bytes"):
            build_frame(bag, step, None, Config(), _refuse)


def test_the_calibration_of_a_real_recording_maps_forward_to_depth(shared_data: Path) -> None:
    with open_bag(shared_data / "bags" / "kitti_seq_mcap") as bag:
        topics = BagTopics(image="/camera/image_rect/compressed", tf_static="/tf_static")
        calibration = bag_calibration(bag, topics)
    assert isinstance(calibration, Calibration)
    ahead = calibration.lookup("camera_2_optical", "velodyne") @ np.array([10.0, 0.0, 0.0, 1.0])
    np.testing.assert_allclose(ahead[:3], [0.0, 0.0, 9.7], atol=0.25)  # 10 m ahead of the LiDAR lies 10 m deep


def test_a_stump_of_a_message_is_left_out_and_the_walk_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with OutputBag(tmp_path / "bag.mcap") as bag:
        bag.write("/image", IMAGE, START, b"\0")
        bag.write("/thermal", IMAGE, START, b"\0\1\0\0")
        bag.write("/image", IMAGE, START + 1, serialize(*_picture(100)))
    with open_bag(tmp_path / "bag.mcap") as opened:
        found = list(steps(opened, BagTopics(image="/image", thermal="/thermal"), Config().sync))
    assert _matches(found) == [(100, {})]
    assert "/thermal at 1000000000 left out: 4 bytes hold no stamp" in caplog.text


def test_whatever_a_sensors_data_does_the_frame_goes_on_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bursts(_: object) -> None:
        raise OverflowError("too large")

    monkeypatch.setattr(convert, "thermal_image", bursts)
    told: list[tuple[str, str]] = []
    with _bag(tmp_path, [("/image", 100, _picture(100)), ("/thermal", 100, _thermal(100))]) as bag:
        topics = BagTopics(image="/image", thermal="/thermal")
        (step,) = steps(bag, topics, Config().sync)
        frame = build_frame(bag, step, None, Config(), lambda name, what: told.append((name, what)))
    assert frame.thermal is None
    assert told == [("thermal", "cannot be used (OverflowError: too large)")]
