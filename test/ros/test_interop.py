"""Each provider of a full ROS 2 installation against our own code, and which is chosen (TF: test_extrinsics)."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image, PointCloud2

from samseg_ros.errors import InputError
from samseg_ros.ros import interop
from samseg_ros.sensing import convert


@pytest.fixture
def providers(monkeypatch):
    """Modules that the code under test finds, by name; every other optional one is missing."""
    found = {}
    monkeypatch.setattr(interop, "optional", found.get)
    return found


def test_a_module_that_is_missing_or_breaks_on_import_counts_as_not_installed(tmp_path, monkeypatch):
    (tmp_path / "breaks_on_import.py").write_text("raise AttributeError('_ARRAY_API not found')")
    monkeypatch.syspath_prepend(tmp_path)
    assert interop.optional("breaks_on_import") is None
    assert interop.optional("is_not_there_at_all") is None
    assert interop.optional("json").loads("1") == 1


def test_an_encoding_that_we_do_not_know_goes_through_cv_bridge_where_it_is_installed(providers, messages):
    strange = messages.image(1.0, encoding="bgr565")
    with pytest.raises(InputError, match="'bgr565'"):
        interop.color_image(strange)
    asked = []

    class CvBridge:
        def imgmsg_to_cv2(self, message, encoding):
            asked.append((message.encoding, encoding))
            return np.full((2, 3, 3), 7, np.uint8)

    providers["cv_bridge"] = SimpleNamespace(CvBridge=CvBridge)
    assert (interop.color_image(strange) == 7).all()
    assert asked == [("bgr565", "rgb8")]


def test_cv_bridge_is_not_asked_about_images_that_are_cut_off(providers, messages):
    providers["cv_bridge"] = SimpleNamespace(CvBridge=None)  # calling it would raise a TypeError
    broken = messages.image(1.0)
    broken.data = broken.data[:10]
    with pytest.raises(InputError, match="truncated"):
        interop.color_image(broken)


def test_what_cv_bridge_does_not_know_either_keeps_our_message(providers, messages):
    class CvBridge:
        def imgmsg_to_cv2(self, message, encoding):
            raise RuntimeError("Unrecognized image encoding")

    providers["cv_bridge"] = SimpleNamespace(CvBridge=CvBridge)
    with pytest.raises(InputError, match="color image encoding"):
        interop.color_image(messages.image(1.0, encoding="doom"))


def noise(messages, encoding, channels, kind):
    """Return an image of random numbers, with rows that are longer than the picture."""
    pixels = np.random.default_rng(1).integers(0, 256, (16, 20, channels * np.dtype(kind).itemsize), np.uint8)
    if kind == "f4":
        pixels = np.random.default_rng(1).normal(size=(16, 20, channels)).astype("<f4").view(np.uint8)
    rows = np.hstack([pixels.reshape(16, -1), np.full((16, 12), 0xEE, np.uint8)])
    message = Image(header=messages.header(1.0, "camera"), height=16, width=20, encoding=encoding, step=rows.shape[1])
    message.data.frombytes(rows.tobytes())
    return message


BAYER = [f"bayer_{pattern}8" for pattern in ("rggb", "bggr", "gbrg", "grbg")]


@pytest.mark.parametrize(
    ("encoding", "channels"),
    [("rgb8", 3), ("bgr8", 3), ("rgba8", 4), ("bgra8", 4), ("mono8", 1), *((b, 1) for b in BAYER), ("yuv422_yuy2", 2)],
)
def test_cv_bridge_and_our_views_give_the_same_colors(messages, encoding, channels):
    bridge = pytest.importorskip("cv_bridge", reason="cv_bridge needs a full ROS 2 installation").CvBridge()
    message = noise(messages, encoding, channels, "u1")
    theirs = bridge.imgmsg_to_cv2(message, "rgb8")
    np.testing.assert_array_equal(convert.color_image(message), theirs)


@pytest.mark.parametrize(("encoding", "kind"), [("mono8", "u1"), ("mono16", "<u2"), ("16UC1", "<u2"), ("32FC1", "f4")])
def test_cv_bridge_and_our_views_give_the_same_temperatures(messages, encoding, kind):
    bridge = pytest.importorskip("cv_bridge", reason="cv_bridge needs a full ROS 2 installation").CvBridge()
    message = noise(messages, encoding, 1, kind)
    ours, theirs = convert.thermal_image(message), bridge.imgmsg_to_cv2(message, "passthrough")
    np.testing.assert_array_equal(ours, theirs)
    assert ours.dtype == theirs.dtype


@pytest.mark.parametrize("names", ["xyz", ["intensity", "z", "y", "x"], ["x", "ring", "y", "z", "intensity"]])
def test_sensor_msgs_py_and_our_reader_give_the_same_points(messages, names):
    reader = pytest.importorskip("sensor_msgs_py.point_cloud2", reason="sensor_msgs_py needs a full ROS 2 installation")
    points = np.random.default_rng(0).normal(size=(50, len(names))).astype(np.float32)
    points[3] = np.nan
    cloud = messages.cloud(1.0, points, names)
    ours, theirs = convert.point_cloud(cloud), interop.point_cloud_with(reader, cloud)
    np.testing.assert_array_equal(ours.xyz, theirs.xyz)
    assert (ours.intensity is None) == (theirs.intensity is None) == ("intensity" not in names)
    if ours.intensity is not None:
        np.testing.assert_array_equal(ours.intensity, theirs.intensity)
    assert (ours.frame_id, ours.stamp_ns) == (theirs.frame_id, theirs.stamp_ns)


@pytest.mark.parametrize("name", ["t", "time"])
def test_sensor_msgs_py_and_our_reader_give_the_same_times_of_points(messages, name):
    reader = pytest.importorskip("sensor_msgs_py.point_cloud2", reason="sensor_msgs_py needs a full ROS 2 installation")
    milliseconds = np.arange(50)
    cloud = messages.cloud(1.0, np.zeros((50, 5), np.float32), ["x", "y", "z", "ring", name])
    rows = np.frombuffer(cloud.data, np.uint8).reshape(50, 20).copy()
    values = (milliseconds * 10**6).astype("<u4") if name == "t" else (milliseconds * 1e-3).astype("<f4")
    rows[:, 16:] = values.view(np.uint8).reshape(50, 4)
    cloud.fields[4].datatype, cloud.data = (6 if name == "t" else 7), rows.tobytes()
    theirs = reader.read_points(cloud, [name])[name].astype(np.float64) * (1 if name == "t" else 1e9)
    np.testing.assert_allclose(convert.point_times(cloud), theirs, rtol=0, atol=1)


def test_sensor_msgs_py_is_used_where_it_is_and_our_messages_stay_where_it_fails(providers, messages):
    def read_points(message, names):
        assert set(names) <= {f.name for f in message.fields}, "Requested field is not in the fields of the message!"
        return np.array([(1.0, 2.0, 3.0)], [("x", "f4"), ("y", "f4"), ("z", "f4")])

    providers["sensor_msgs_py.point_cloud2"] = SimpleNamespace(read_points=read_points)
    np.testing.assert_array_equal(interop.point_cloud(messages.cloud(1.0)).xyz, [[1, 2, 3]])
    with pytest.raises(InputError, match="x, y, z as float32"):
        interop.point_cloud(messages.cloud(1.0, [[1, 2]], "xy"))
    padded = PointCloud2(**{f: getattr(messages.cloud(1.0), f) for f in ("header", "height", "width", "fields")})
    padded.point_step, padded.row_step = 12, 16  # it would read over the padding
    padded.data = np.array([0, 0, 5, 9], np.float32).tobytes()
    np.testing.assert_array_equal(interop.point_cloud(padded).xyz, [[0, 0, 5]])


def test_a_cloud_of_the_other_byte_order_is_left_as_it_came(providers, messages):
    """sensor_msgs_py swaps the bytes in the message itself, so that the next reader gets rubbish."""
    asked = []
    providers["sensor_msgs_py.point_cloud2"] = SimpleNamespace(read_points=lambda *a: asked.append(a))
    big = messages.cloud(1.0, [[1, 2, 3]])
    big.is_bigendian, big.data = True, np.array([1, 2, 3], ">f4").tobytes()
    for _ in range(2):
        np.testing.assert_array_equal(interop.point_cloud(big).xyz, [[1, 2, 3]])
    assert asked == []


@pytest.fixture
def receive(messages):
    """Return a function that subscribes through interop, sends three images, ends it, sends one, and says what came."""

    def run(domain):
        context = Context()
        rclpy.init(context=context, domain_id=domain)
        node = rclpy.create_node("listener", context=context)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        came = []
        end = interop.subscribe(node, Image, "pictures", came.append, QoSProfile(depth=10))
        publisher = node.create_publisher(Image, "pictures", 10)
        for stamp_s, wanted in ((1.0, 1), (2.0, 2), (3.0, 3)):
            publisher.publish(messages.image(stamp_s))
            for _ in range(200):
                if len(came) < wanted:
                    executor.spin_once(timeout_sec=0.05)
        end()
        subscriptions = node.count_subscribers("pictures")
        context.try_shutdown()
        return [(type(m), m.header.stamp.sec, bytes(m.data)) for m in came], subscriptions

    return run


def test_message_filters_and_a_plain_subscription_hand_over_the_same_messages(receive, monkeypatch):
    pytest.importorskip("message_filters", reason="message_filters needs a full ROS 2 installation")
    theirs = receive(91)
    monkeypatch.setattr(interop, "optional", {}.get)
    ours = receive(92)
    assert theirs == ours and [sec for _, sec, _ in ours[0]] == [1, 2, 3] and ours[1] == 0


def test_message_filters_feeds_the_node_where_it_is_installed(make_rig):
    pytest.importorskip("message_filters", reason="message_filters needs a full ROS 2 installation")
    rig = make_rig()
    masks = rig.connect()
    rig.send_all(1.0)
    rig.wait(lambda: masks, "a mask")


def test_vision_msgs_are_offered_beside_our_own_where_they_are_installed(make_rig):
    vision = pytest.importorskip("vision_msgs.msg", reason="vision_msgs needs a full ROS 2 installation")
    rig = make_rig()
    rig.connect()
    infos = rig.listen(vision.LabelInfo, "output/vision/label_info", latched=True)
    found = rig.listen(vision.Classification, "output/vision/classification")
    rig.send_all(4.0)
    rig.wait(lambda: infos and found, "both messages")
    assert [(c.class_id, c.class_name) for c in infos[0].class_map] == [(0, "dark"), (1, "bright"), (2, "never")]
    assert [r.class_id for r in found[0].results] == ["bright"]
    assert found[0].header.stamp.sec == 4


def test_whole_numbers_for_metres_are_refused_whoever_reads(providers, messages):
    millimetres = messages.cloud(1.0, [[1000, 2000, 3000]])
    for field in millimetres.fields:
        field.datatype = 5  # int32
    taken = np.array([(1000, 2000, 3000)], [(n, "i4") for n in "xyz"])
    providers["sensor_msgs_py.point_cloud2"] = SimpleNamespace(read_points=lambda *_: taken)
    with pytest.raises(InputError, match="x, y, z as float32 or float64, got x:i4"):
        interop.point_cloud(millimetres)
