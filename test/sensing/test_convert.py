"""Camera, stamp and transform; and the same message from rclpy, from rosbags and from real recordings."""

from __future__ import annotations

import array
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from samseg_ros.errors import InputError
from samseg_ros.sensing import convert

K = [500.0, 0.0, 320.0, 0.0, 510.0, 240.0, 0.0, 0.0, 1.0]
P = [480.0, 0.0, 310.0, -57.6, 0.0, 490.0, 230.0, 0.0, 0.0, 0.0, 1.0, 0.0]
D = [-0.3, 0.1, 0.001, -0.002, 0.05]


def info(**changes: Any) -> Any:
    values = {
        "header": SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=2), frame_id="camera_optical"),
        "width": 640,
        "height": 480,
        "distortion_model": "plumb_bob",
        "d": array.array("d", D),
        "k": np.array(K),
        "p": np.array(P),
        "binning_x": 0,
        "binning_y": 0,
        "roi": roi(0, 0, 0, 0),
    }
    return SimpleNamespace(**{**values, **changes})


def roi(x: int, y: int, width: int, height: int, do_rectify: bool = False) -> Any:
    return SimpleNamespace(x_offset=x, y_offset=y, width=width, height=height, do_rectify=do_rectify)


def test_a_stamp_is_whole_nanoseconds() -> None:
    header = SimpleNamespace(stamp=SimpleNamespace(sec=1_700_000_000, nanosec=999_999_999))
    assert convert.stamp_ns(header) == 1_700_000_000_999_999_999


@pytest.mark.parametrize("rectified", ["auto", "no"])
def test_a_raw_image_is_described_by_k_and_d(rectified: Any) -> None:
    camera = convert.camera(info(), rectified)
    assert (camera.width, camera.height, camera.frame_id) == (640, 480, "camera_optical")
    np.testing.assert_array_equal(camera.k, np.reshape(K, (3, 3)))
    np.testing.assert_array_equal(camera.distortion, D)
    assert camera.distortion_model == "plumb_bob"


@pytest.mark.parametrize(("rectified", "d"), [("yes", D), ("auto", [0.0] * 5), ("auto", [])])
def test_a_rectified_image_is_described_by_the_left_of_p_without_distortion(rectified: Any, d: list[float]) -> None:
    camera = convert.camera(info(d=d, distortion_model="anything"), rectified)
    np.testing.assert_array_equal(camera.k, [[480, 0, 310], [0, 490, 230], [0, 0, 1]])
    assert not camera.is_distorted
    assert camera.distortion_model == "plumb_bob"


def test_a_rectified_camera_without_p_falls_back_to_k() -> None:
    camera = convert.camera(info(d=[0.0] * 5, p=np.zeros(12)))
    np.testing.assert_array_equal(camera.k, np.reshape(K, (3, 3)))


@pytest.mark.parametrize(
    ("name", "d", "model", "count"),
    [
        ("", [0.0] * 5, "plumb_bob", 5),
        ("fisheye", [0.1, 0.2, 0.3, 0.4], "equidistant", 4),
        ("equidistant", [0.1, 0.2, 0.3, 0.4], "equidistant", 4),
        ("rational_polynomial", [0.1] * 8 + [0.0] * 6, "rational_polynomial", 8),
        ("plumb_bob", [0.1] * 4, "plumb_bob", 4),
    ],
)
def test_distortion_models_go_by_several_names(name: str, d: list[float], model: str, count: int) -> None:
    camera = convert.camera(info(distortion_model=name, d=d), "no")
    assert camera.distortion_model == model
    np.testing.assert_array_equal(camera.distortion, d[:count])


def test_a_window_moves_the_principal_point() -> None:
    camera = convert.camera(info(roi=roi(100, 40, 320, 200)), "no")
    assert (camera.width, camera.height) == (320, 200)
    np.testing.assert_allclose(camera.k, [[500, 0, 220], [0, 510, 200], [0, 0, 1]])


def test_binning_keeps_what_every_merged_pixel_sees() -> None:
    """Merged pixel (i, j) covers full-resolution pixels 2i, 2i+1 by 3j..3j+2, so its centre is (2i + 0.5, 3j + 1)."""
    camera = convert.camera(info(binning_x=2, binning_y=3, roi=roi(100, 40, 320, 201)), "no")
    assert (camera.width, camera.height) == (160, 67)
    x, y, z = 0.2, -0.1, 2.0
    u, v = 500 * x / z + 320, 510 * y / z + 240  # full resolution
    i, j = (u - 100 - 0.5) / 2, (v - 40 - 1) / 3
    np.testing.assert_allclose((camera.k @ [x, y, z])[:2] / z, [i, j])


def test_an_image_that_was_really_binned_agrees_with_its_camera() -> None:
    full = np.zeros((480, 640), np.float32)
    full[181, 300:303] = 1.0  # centre of mass at u = 301, v = 181
    window = full[40:440, 100:500]
    binned = window.reshape(200, 2, 200, 2).mean((1, 3))
    rows, columns = np.indices(binned.shape)
    centre = np.array([(columns * binned).sum(), (rows * binned).sum()]) / binned.sum()
    camera = convert.camera(info(binning_x=2, binning_y=2, roi=roi(100, 40, 400, 400)), "no")
    ray = np.linalg.inv(np.reshape(K, (3, 3))) @ [301, 181, 1]
    # A pixel's content moves by up to half a merged pixel into its centre.
    np.testing.assert_allclose((camera.k @ ray)[:2], centre, atol=0.26)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"k": np.zeros(9)}, r"expected a calibrated camera, got an uncalibrated one \(K is all zero\); calibrate"),
        ({"width": 0}, "camera_info size: expected width and height above 0"),
        ({"roi": roi(600, 0, 100, 0)}, r"got 640x480, window 100x480 at \(600, 0\), binning 1x1"),
        ({"distortion_model": ""}, r"distortion model: .* got no name, but D = \[-0.3"),
        ({"distortion_model": "kannala"}, "distortion model: .* got 'kannala'"),
        ({"d": [0.1] * 6}, "plumb_bob distortion: expected 4 or 5 coefficients, got 6"),
        ({"d": [float("nan")] * 5}, "distortion: expected finite D"),
    ],
)
def test_a_camera_info_that_cannot_be_used_is_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        convert.camera(info(**changes), "no")


def test_an_uncalibrated_camera_is_refused_also_when_it_says_that_it_is_rectified() -> None:
    with pytest.raises(InputError, match="uncalibrated"):
        convert.camera(info(k=np.zeros(9)), "yes")


def test_a_raw_window_of_a_rectified_image_is_refused() -> None:
    with pytest.raises(InputError, match="a window of the raw image, 100x80"):
        convert.camera(info(roi=roi(10, 10, 100, 80, do_rectify=True)), "yes")
    assert convert.camera(info(roi=roi(0, 0, 640, 480, do_rectify=True)), "yes").width == 640


def transform(translation: tuple[float, ...], rotation: tuple[float, ...]) -> Any:
    return SimpleNamespace(
        translation=SimpleNamespace(**dict(zip("xyz", translation, strict=True))),
        rotation=SimpleNamespace(**dict(zip("xyzw", rotation, strict=True))),
    )


def test_a_transform_turns_and_moves_points() -> None:
    half = np.sqrt(0.5)
    matrix = convert.transform_matrix(transform((1, 2, 3), (0, 0, half, half)))  # 90 degrees about z
    np.testing.assert_allclose(matrix @ [1, 0, 0, 1], [1, 3, 3, 1], atol=1e-12)
    np.testing.assert_allclose(matrix @ [0, 1, 1, 1], [0, 2, 4, 1], atol=1e-12)


def test_a_quaternion_that_tf_tolerates_is_normalised() -> None:
    matrix = convert.transform_matrix(transform((0, 0, 0), (0, 0, 0, 1.009)))
    np.testing.assert_allclose(matrix, np.eye(4), atol=1e-15)


@pytest.mark.parametrize(
    ("translation", "rotation"),
    [
        ((0, 0, 0), (0, 0, 0, 0)),
        ((0, 0, 0), (0, 0, 0, 1.1)),
        ((0, np.nan, 0), (0, 0, 0, 1)),
        ((0, 0, 0), (0, np.inf, 0, 1)),
    ],
)
def test_a_transform_that_is_none_is_refused(translation: tuple[float, ...], rotation: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="expected finite numbers and a rotation quaternion"):
        convert.transform_matrix(transform(translation, rotation))


# The same bytes through both message implementations.

PIXELS = np.random.default_rng(1).integers(0, 256, (4, 6, 3), np.uint8)


def rclpy_message(kind: str, values: dict[str, Any]) -> Any:
    """Message of the ROS 2 package itself."""
    messages = pytest.importorskip("sensor_msgs.msg")
    msg = getattr(messages, kind)()
    for name, value in values.items():
        if name == "data":
            msg.data.frombytes(value.tobytes())
        elif name == "fields":
            msg.fields = [messages.PointField(name=n, offset=o, datatype=t, count=1) for n, o, t in value]
        else:
            setattr(msg, name, value)
    msg.header.frame_id, msg.header.stamp.sec, msg.header.stamp.nanosec = "frame", 7, 8
    return msg


def rosbags_message(kind: str, values: dict[str, Any]) -> Any:
    """Message as it comes out of a bag: written, and read again."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types = store.types
    stamp = types["builtin_interfaces/msg/Time"](sec=7, nanosec=8)
    header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="frame")
    if "fields" in values:
        point_field = types["sensor_msgs/msg/PointField"]
        fields = [point_field(name=n, offset=o, datatype=t, count=1) for n, o, t in values["fields"]]
        values = {**values, "fields": fields}
    name = f"sensor_msgs/msg/{kind}"
    return store.deserialize_cdr(store.serialize_cdr(types[name](header=header, **values), name), name)


@pytest.mark.parametrize("make", [rclpy_message, rosbags_message])
def test_messages_of_rclpy_and_of_rosbags_are_read_alike(make: Any) -> None:
    image = make("Image", convert.image_fields(PIXELS, "rgb8"))
    np.testing.assert_array_equal(convert.color_image(image), PIXELS)
    assert convert.stamp_ns(image.header) == 7_000_000_008

    counts = PIXELS[..., 0].astype(np.uint16) * 100
    np.testing.assert_array_equal(convert.thermal_image(make("Image", convert.image_fields(counts, "16UC1"))), counts)

    png = cv2.imencode(".png", PIXELS[..., ::-1])[1].ravel()
    compressed = make("CompressedImage", {"format": "rgb8; png compressed bgr8", "data": png})
    np.testing.assert_array_equal(convert.color_image(compressed), PIXELS)

    xyz = np.arange(12, dtype=np.float32).reshape(4, 3)
    paint = np.zeros(4, np.float32)
    cloud = convert.point_cloud(
        make("PointCloud2", convert.painted_cloud_fields(xyz, paint.astype(np.uint8), paint, paint))
    )
    np.testing.assert_array_equal(cloud.xyz, xyz)
    assert (cloud.frame_id, cloud.stamp_ns, cloud.intensity) == ("frame", 7_000_000_008, None)


def test_an_untouched_camera_info_of_rclpy_is_uncalibrated() -> None:
    messages = pytest.importorskip("sensor_msgs.msg")
    with pytest.raises(InputError, match="uncalibrated"):
        convert.camera(messages.CameraInfo(width=640, height=480))


def test_a_camera_info_of_rclpy_is_read() -> None:
    messages = pytest.importorskip("sensor_msgs.msg")
    msg = messages.CameraInfo(width=640, height=480, k=np.array(K), p=np.array(P), d=D, distortion_model="plumb_bob")
    np.testing.assert_array_equal(convert.camera(msg).distortion, D)
    np.testing.assert_array_equal(convert.camera(msg, "yes").k, [[480, 0, 310], [0, 490, 230], [0, 0, 1]])


def first_messages(path: Path) -> dict[str, Any]:
    with AnyReader([path], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
        found: dict[str, Any] = {}
        for connection, _, raw in reader.messages():
            found.setdefault(connection.topic, reader.deserialize(raw, connection.msgtype))
        return found


def test_a_real_drive_is_read(shared_data: Path) -> None:
    messages = first_messages(shared_data / "bags" / "kitti_seq_db3")
    image = convert.color_image(messages["/camera/image_rect/compressed"])
    camera = convert.camera(messages["/camera/camera_info"])
    cloud = convert.point_cloud(messages["/velodyne_points"])
    assert image.shape == (camera.height, camera.width, 3) == (375, 1242, 3)
    assert camera.k[0, 0] == pytest.approx(721.5377)
    assert not camera.is_distorted
    assert cloud.xyz.shape == (56609, 3)
    assert np.isfinite(cloud.xyz).all()
    assert cloud.intensity is not None
    assert 0 <= cloud.intensity.min() < cloud.intensity.max() <= 1
    assert image[:100].mean(axis=(0, 1)).argmax() == 2  # the sky of that drive is bluish: red and blue are not swapped


def test_a_real_thermal_recording_is_read(shared_data: Path) -> None:
    messages = first_messages(shared_data / "bags" / "rgbt_msrs_mcap")
    thermal = convert.thermal_image(messages["/thermal/image_raw"])
    assert (thermal.shape, thermal.dtype) == ((480, 640), np.uint8)
    assert convert.color_image(messages["/visible/image_raw/compressed"]).shape == (480, 640, 3)
