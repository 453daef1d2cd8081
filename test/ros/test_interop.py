"""Each provider of a full ROS 2 installation against our own code, and which of the two is chosen."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from geometry_msgs.msg import Transform, TransformStamped
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import PointCloud2

from samseg_ros.config import ProjectionConfig
from samseg_ros.errors import InputError, SamsegError
from samseg_ros.ros import extrinsics, interop
from samseg_ros.sensing import convert


@pytest.fixture
def providers(monkeypatch):
    """Modules that the code under test finds, by name; every other optional one is missing."""
    found = {}
    monkeypatch.setattr(interop, "optional", found.get)
    monkeypatch.setattr(extrinsics, "optional", found.get)
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


def stamped(messages, time_s, parent, child, x):
    result = TransformStamped(header=messages.header(time_s, parent), child_frame_id=child)
    result.transform.translation.x, result.transform.rotation.w = float(x), 1.0
    return result


def test_real_tf_places_the_lidar_and_compensates_motion(make_rig, messages):
    """A vehicle at x = 10 t, the LiDAR 1 m in front of the camera; a point seen 0.02 s before the image."""
    pytest.importorskip("tf2_ros", reason="tf2_ros needs a full ROS 2 installation")
    tf2_msgs = pytest.importorskip("tf2_msgs.msg")
    rig = make_rig({"projection.calibration_path": "", "projection.motion_compensation": True})
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    fixed = rig.world.create_publisher(tf2_msgs.TFMessage, "/tf_static", latched)
    fixed.publish(tf2_msgs.TFMessage(transforms=[stamped(messages, 0, "camera", "lidar", 1)]))
    moving = rig.world.create_publisher(tf2_msgs.TFMessage, "/tf", 10)
    rig.wait(lambda: moving.get_subscription_count() and fixed.get_subscription_count(), "the node to listen to TF")
    poses = [stamped(messages, t, "odom", "camera", 10 * t) for t in (0.9, 1.0, 1.1)]
    moving.publish(tf2_msgs.TFMessage(transforms=poses))
    masks = rig.connect()
    rig.send_all(1.0, lidar=messages.cloud(0.98))
    rig.wait(lambda: masks, "a mask")
    rig.wait_status("lidar", 0, "fused")
    np.testing.assert_allclose(rig.pipeline.frames[0].camera_from_lidar[:3, 3], [1 - 10 * 0.02, 0, 0], atol=1e-9)
    rig.send_all(9.0)
    rig.wait_status("lidar", 1, "'camera'", "'lidar'", "/tf_static")


class FakeBuffer:
    """Answers with a shift along x that tells which question was asked."""

    def __init__(self):
        self.asked = []

    def _answer(self, question):
        self.asked.append(question)
        stamped = TransformStamped(transform=Transform())
        stamped.transform.translation.x = 1.5
        return stamped

    def lookup_transform(self, target, source, time, timeout):
        return self._answer((target, source, time.nanoseconds))

    def lookup_transform_full(self, target, target_time, source, source_time, fixed, timeout):
        return self._answer((target, target_time.nanoseconds, source, source_time.nanoseconds, fixed))


@pytest.fixture
def fake_tf(providers):
    buffer = FakeBuffer()
    listener = SimpleNamespace(unregister=lambda: buffer.asked.append("unregister"))
    providers["tf2_ros"] = SimpleNamespace(Buffer=lambda: buffer, TransformListener=lambda *a, **k: listener)
    return buffer


def test_tf_is_asked_for_camera_from_lidar_at_the_images_stamp(fake_tf, messages):
    source = extrinsics.make_extrinsics(None, ProjectionConfig())
    pose = source.camera_from_lidar(messages.header(2.0, "/camera"), messages.header(1.9, "lidar"))
    assert fake_tf.asked == [("camera", "lidar", 2_000_000_000)]
    np.testing.assert_array_equal(pose, [[1, 0, 0, 1.5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    source.close()
    assert fake_tf.asked[-1] == "unregister"


def test_motion_compensation_goes_from_the_sweeps_stamp_to_the_images_through_the_fixed_frame(fake_tf, messages):
    config = ProjectionConfig(motion_compensation=True, fixed_frame="map")
    source = extrinsics.make_extrinsics(None, config)
    source.camera_from_lidar(messages.header(2.0, "camera"), messages.header(1.5, "lidar"))
    assert fake_tf.asked == [("camera", 2_000_000_000, "lidar", 1_500_000_000, "map")]


def test_a_transform_that_tf_does_not_have_names_both_frames(fake_tf, messages):
    def fail(*_):
        raise LookupError("source frame does not exist")

    fake_tf.lookup_transform = fail
    source = extrinsics.make_extrinsics(None, ProjectionConfig())
    with pytest.raises(InputError, match=r"'camera'.*'lidar'.*source frame does not exist.*/tf_static"):
        source.camera_from_lidar(messages.header(2.0, "camera"), messages.header(1.5, "lidar"))


def test_a_calibration_file_wins_over_tf_but_cannot_compensate_motion(fake_tf, messages, tmp_path):
    path = tmp_path / "calibration.yaml"
    path.write_text(
        "transforms:\n- {target: lidar, source: camera, translation: [0, 0, 2], rotation_xyzw: [0, 0, 0, 1]}\n"
    )
    source = extrinsics.make_extrinsics(None, ProjectionConfig(calibration_path=str(path)))
    pose = source.camera_from_lidar(messages.header(2.0, "camera"), messages.header(2.0, "lidar"))
    np.testing.assert_array_equal(pose[:3, 3], [0, 0, -2])  # the inverse of what the file gives
    assert fake_tf.asked == [] and source.source == str(path)
    with pytest.raises(SamsegError, match="does not say how the vehicle moved"):
        extrinsics.make_extrinsics(None, ProjectionConfig(calibration_path=str(path), motion_compensation=True))
