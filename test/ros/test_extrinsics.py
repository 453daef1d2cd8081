"""Where the sensors stand: what TF is asked, what is said when it does not know, and the real tf2 where it is."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from geometry_msgs.msg import Transform, TransformStamped
from rclpy.qos import DurabilityPolicy, QoSProfile
from scipy.spatial.transform import Rotation

from samseg_ros.config import ProjectionConfig
from samseg_ros.errors import InputError, SamsegError
from samseg_ros.ros import extrinsics
from samseg_ros.sensing.calibration import Calibration, save_calibration

NO_TF = "tf2_ros needs a full ROS 2 installation"
COMPENSATED = ProjectionConfig(motion_compensation=True, fixed_frame="/map")


class FakeBuffer:
    """Answers with a shift along x; remembers what it was asked."""

    def __init__(self):
        self.asked, self.waits, self.connected, self.failure, self.cleared = [], [], True, None, 0

    def _answer(self, question, timeout):
        self.asked.append(question)
        self.waits.append(timeout.nanoseconds * 1e-9)
        if self.failure is not None:
            raise self.failure
        stamped = TransformStamped(transform=Transform())
        stamped.transform.translation.x = 1.5
        return stamped

    def lookup_transform(self, target, source, time, timeout):
        return self._answer((target, source, time.nanoseconds), timeout)

    def lookup_transform_full(self, target, target_time, source, source_time, fixed, timeout):
        return self._answer((target, target_time.nanoseconds, source, source_time.nanoseconds, fixed), timeout)

    def can_transform(self, target, source, time):
        assert time.nanoseconds == 0  # the newest there is
        return self.connected

    def clear(self):
        self.cleared += 1


@pytest.fixture
def fake_tf(monkeypatch):
    buffer = FakeBuffer()
    listener = SimpleNamespace(unregister=lambda: buffer.asked.append("unregister"))
    module = SimpleNamespace(Buffer=lambda: buffer, TransformListener=lambda *a, **k: listener)
    monkeypatch.setattr(extrinsics, "optional", {"tf2_ros": module}.get)
    return buffer


def ask(source, messages, camera="camera", sensor="lidar", camera_s=2.0, sensor_s=1.5, **more):
    return source.camera_from_sensor(
        messages.header(camera_s, camera), messages.header(sensor_s, sensor), "LiDAR", **more
    )


def test_tf_is_asked_for_camera_from_lidar_at_the_images_stamp(fake_tf, messages):
    source = extrinsics.make_extrinsics(None, ProjectionConfig())
    pose = ask(source, messages, camera="/camera", sensor="/lidar")
    assert fake_tf.asked == [("camera", "lidar", 2_000_000_000)]
    np.testing.assert_array_equal(pose, [[1, 0, 0, 1.5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    source.close()
    assert fake_tf.asked[-1] == "unregister"


def test_motion_compensation_goes_from_the_sweeps_time_to_the_images_through_the_fixed_frame(fake_tf, messages):
    source = extrinsics.make_extrinsics(None, COMPENSATED)
    ask(source, messages)
    ask(source, messages, sensor_ns=1_400_000_000)
    assert fake_tf.asked == [
        ("camera", 2_000_000_000, "lidar", 1_500_000_000, "map"),
        ("camera", 2_000_000_000, "lidar", 1_400_000_000, "map"),
    ]
    assert "'map'" in source.source


def test_a_cloud_in_the_cameras_own_frame_needs_no_tf_unless_it_moves(fake_tf, messages):
    source = extrinsics.make_extrinsics(None, ProjectionConfig())
    np.testing.assert_array_equal(ask(source, messages, sensor="/camera"), np.eye(4))
    np.testing.assert_array_equal(ask(extrinsics.NoExtrinsics(), messages, sensor="camera"), np.eye(4))
    assert fake_tf.asked == []
    ask(extrinsics.make_extrinsics(None, COMPENSATED), messages, sensor="camera")
    assert fake_tf.asked == [("camera", 2_000_000_000, "camera", 1_500_000_000, "map")]


@pytest.mark.parametrize(
    ("config", "between"),
    [(ProjectionConfig(), "'lidar' and 'camera'"), (COMPENSATED, "'camera' and 'map' and 'lidar' and 'map'")],
)
def test_frames_that_nothing_connects_are_named_and_not_waited_for_again(fake_tf, messages, config, between):
    fake_tf.failure, fake_tf.connected = LookupError("source frame does not exist"), False
    fake_tf.can_transform = lambda target, source, time: target == source
    source = extrinsics.make_extrinsics(None, config)
    for _ in range(3):
        with pytest.raises(InputError, match=rf"'camera'.*'lidar'.*source frame does not exist.*{between}.*/tf_static"):
            ask(source, messages)
    assert fake_tf.waits == [0.05, 0, 0]
    fake_tf.failure = None
    ask(source, messages)
    ask(source, messages)
    assert fake_tf.waits[3:] == [0, 0.05]


def test_a_transform_that_is_late_is_told_from_one_that_nobody_publishes_and_is_waited_for(fake_tf, messages):
    fake_tf.failure = RuntimeError("Lookup would require extrapolation into the future")
    source = extrinsics.make_extrinsics(None, ProjectionConfig())
    for _ in range(2):
        with pytest.raises(InputError, match=r"'camera'.*'lidar'.*extrapolation.*image's clock.*0\.05 s late"):
            ask(source, messages)
    assert fake_tf.waits == [0.05, 0.05]


@pytest.mark.parametrize(("camera", "sensor", "who"), [("", "lidar", "image"), ("camera", "", "LiDAR")])
def test_a_message_without_a_frame_is_sent_back_to_its_driver(fake_tf, messages, camera, sensor, who):
    fake_tf.failure = ValueError("frame_id cannot be empty")
    source = extrinsics.make_extrinsics(None, ProjectionConfig())
    with pytest.raises(InputError, match=f"set frame_id in the driver of the {who}"):
        ask(source, messages, camera, sensor)


def test_a_recording_that_begins_again_empties_what_tf_would_else_hold_against_it(fake_tf, messages):
    source = extrinsics.make_extrinsics(None, ProjectionConfig())
    for camera_s in (100.0, 99.0, 112.0, 102.5):
        ask(source, messages, camera_s=camera_s)
    assert fake_tf.cleared == 0
    ask(source, messages, camera_s=101.9)  # tf2 keeps 10 s
    ask(source, messages, camera_s=102.0)
    assert fake_tf.cleared == 1


def test_a_calibration_file_wins_over_tf_but_cannot_compensate_motion(fake_tf, messages, tmp_path):
    path = tmp_path / "calibration.yaml"
    path.write_text(
        "transforms:\n- {target: lidar, source: camera, translation: [0, 0, 2], rotation_xyzw: [0, 0, 0, 1]}\n"
    )
    source = extrinsics.make_extrinsics(None, ProjectionConfig(calibration_path=str(path)))
    np.testing.assert_array_equal(ask(source, messages)[:3, 3], [0, 0, -2])  # the inverse of what the file gives
    assert fake_tf.asked == [] and source.source == str(path)
    with pytest.raises(SamsegError, match="does not say how the vehicle moved"):
        extrinsics.make_extrinsics(None, ProjectionConfig(calibration_path=str(path), motion_compensation=True))


# From here on with the real tf2.


def stamped(messages, time_s, parent, child, xyz, rotation=None):
    result = TransformStamped(header=messages.header(time_s, parent), child_frame_id=child)
    t, r = result.transform.translation, result.transform.rotation
    t.x, t.y, t.z = (float(v) for v in xyz)
    r.x, r.y, r.z, r.w = (0.0, 0.0, 0.0, 1.0) if rotation is None else rotation.as_quat().tolist()
    return result


@pytest.fixture
def real_tf(monkeypatch):
    """Return a function that makes TfExtrinsics, and its buffer; no node, no wire."""
    tf2_ros = pytest.importorskip("tf2_ros", reason=NO_TF)
    monkeypatch.setattr(tf2_ros, "TransformListener", lambda *a, **k: None)

    def make(config):
        source = extrinsics.make_extrinsics(None, config)
        return source, source._buffer

    return make


def test_tf2_and_our_calibration_give_the_same_pose_over_a_chain(real_tf, messages, tmp_path):
    rng = np.random.default_rng(5)
    links = [("base", "/camera_link"), ("camera_link", "camera"), ("base", "roof"), ("/roof", "lidar")]
    turns = Rotation.random(len(links), random_state=5)
    chain = [stamped(messages, 0, *link, rng.normal(size=3), turn) for link, turn in zip(links, turns, strict=True)]
    source, buffer = real_tf(ProjectionConfig())
    for link in chain:
        buffer.set_transform_static(link, "test")
    save_calibration(tmp_path / "c.yaml", Calibration.from_messages(chain))
    ours = extrinsics.make_extrinsics(None, ProjectionConfig(calibration_path=str(tmp_path / "c.yaml")))
    theirs = ask(source, messages, camera="/camera")
    np.testing.assert_allclose(theirs, ask(ours, messages, camera="/camera"), atol=1e-12)
    assert np.linalg.norm(theirs[:3, 3]) > 0.1


def test_tf2_compensates_a_turning_vehicle_as_worked_out_by_hand(real_tf, messages):
    """At 0 s the vehicle stands in the origin; at 1 s, 10 m ahead and turned by 90 degrees to the left."""
    source, buffer = real_tf(ProjectionConfig(motion_compensation=True, fixed_frame="/odom"))
    buffer.set_transform_static(stamped(messages, 0, "base", "lidar", [0, 0, 2]), "test")
    buffer.set_transform_static(stamped(messages, 0, "base", "camera", [1, 0, 0]), "test")
    buffer.set_transform(stamped(messages, 10, "odom", "base", [0, 0, 0]), "test")
    buffer.set_transform(
        stamped(messages, 11, "odom", "base", [10, 0, 0], Rotation.from_euler("z", 90, degrees=True)), "test"
    )
    pose = ask(source, messages, camera_s=11.0, sensor_s=10.0)
    # 15 m ahead of the LiDAR at 10 s: (15, 0, 2) in odom, so 5 m ahead of where base stands at 11 s, which is to its
    # right: (0, -5, 2) in base, one less along x in camera.
    np.testing.assert_allclose(pose @ [15, 0, 0, 1], [-1, -5, 2, 1], atol=1e-9)
    half_way = ask(source, messages, camera_s=11.0, sensor_s=11.0, sensor_ns=10_500_000_000)
    # At 10.5 s it stands at (5, 0), turned by 45 degrees; its origin is 5 m behind: to the left.
    np.testing.assert_allclose(half_way @ [0, 0, 0, 1], [-1, 5, 2, 1], atol=1e-9)


def test_what_tf2_says_of_unknown_late_and_early_frames_is_explained(real_tf, messages):
    source, buffer = real_tf(ProjectionConfig())
    with pytest.raises(InputError, match=r"nothing connects 'lidar' and 'camera': publish it on /tf"):
        ask(source, messages)
    buffer.set_transform(stamped(messages, 10, "camera", "lidar", [0, 0, 0]), "test")
    buffer.set_transform(stamped(messages, 11, "camera", "lidar", [1, 0, 0]), "test")
    assert ask(source, messages, camera_s=10.5)[0, 3] == pytest.approx(0.5)
    for camera_s in (9.9, 11.1):
        with pytest.raises(InputError, match=r"extrapolation.*use the image's clock"):
            ask(source, messages, camera_s=camera_s)
    with pytest.raises(InputError, match="set frame_id in the driver of the image"):
        ask(source, messages, camera="")


def test_tf2_takes_a_recording_that_begins_again(real_tf, messages):
    source, buffer = real_tf(ProjectionConfig())
    buffer.set_transform_static(stamped(messages, 0, "base", "camera", [0, 0, 0]), "test")
    for lap in (1, 2):
        for time_s in range(100, 130):
            buffer.set_transform(stamped(messages, time_s, "base", "lidar", [lap, 0, 0]), "test")
            if lap == 1:
                assert ask(source, messages, camera_s=time_s)[0, 3] == 1
        if lap == 2:
            with pytest.raises(InputError):  # all refused as too old, the cause is mended by asking
                ask(source, messages, camera_s=101.0)
    buffer.set_transform(stamped(messages, 102, "base", "lidar", [2, 0, 0]), "test")
    assert ask(source, messages, camera_s=102.0)[0, 3] == 2


def test_the_node_places_the_lidar_by_tf_and_compensates_motion(make_rig, messages):
    """A vehicle at x = 10 t, the LiDAR 1 m in front of the camera; a point seen 0.02 s before the image."""
    pytest.importorskip("tf2_ros", reason=NO_TF)
    tf2_msgs = pytest.importorskip("tf2_msgs.msg")
    rig = make_rig({"projection.calibration_path": "", "projection.motion_compensation": True})
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    fixed = rig.world.create_publisher(tf2_msgs.TFMessage, "/tf_static", latched)
    fixed.publish(tf2_msgs.TFMessage(transforms=[stamped(messages, 0, "camera", "lidar", [1, 0, 0])]))
    moving = rig.world.create_publisher(tf2_msgs.TFMessage, "/tf", 10)
    rig.wait(lambda: moving.get_subscription_count() and fixed.get_subscription_count(), "the node to listen to TF")
    poses = [stamped(messages, t, "odom", "camera", [10 * t, 0, 0]) for t in (0.9, 1.0, 1.1)]
    moving.publish(tf2_msgs.TFMessage(transforms=poses))
    masks = rig.connect()
    rig.send_all(1.0, lidar=messages.cloud(0.98))
    rig.wait(lambda: masks, "a mask")
    np.testing.assert_allclose(rig.pipeline.frames[0].camera_from_lidar[:3, 3], [1 - 10 * 0.02, 0, 0], atol=1e-9)
    timed = messages.cloud(1.01, [[0, 0, 5, 0.0], [0, 0, 5, 0.05]], ["x", "y", "z", "time"])
    rig.send_all(1.05, lidar=timed)
    rig.wait(lambda: len(masks) == 2, "the second mask")
    deskewed = rig.pipeline.frames[1].points.deskewed
    np.testing.assert_allclose(deskewed, [[0, 0, 5], [10 * 0.05, 0, 5]], atol=5e-4)
    rig.send_all(9.0)
    rig.wait_status("lidar", 1, "'camera'", "'lidar'", "use the image's clock")
    rig.send_all(9.1, lidar=messages.cloud(9.1, frame="lidr"))
    rig.wait_status("lidar", 1, "'lidr'", "nothing connects 'lidr' and 'odom'", "/tf_static")
