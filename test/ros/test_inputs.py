"""Inputs that stop, come late, start again or hold rubbish: masks go on, diagnostics name it, good data heals it."""

from __future__ import annotations

import time

import numpy as np
import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2

from samseg_ros.config import from_flat
from samseg_ros.ros.session import needed_infos, used_inputs

OK, WARN, ERROR = 0, 1, 2


def stamps(masks):
    return [round(m.header.stamp.sec + m.header.stamp.nanosec * 1e-9, 3) for m in masks]


def play(rig, masks, first_s, frames, **changed):
    """Send sets of 0.1 s one after the other, each when the mask of the one before has come."""
    for stamp_s in (round(first_s + 0.1 * i, 3) for i in range(frames)):
        before = len(masks)
        rig.send_all(stamp_s, **changed)
        rig.wait(lambda n=before: len(masks) > n, f"the mask of {stamp_s}")


@pytest.mark.parametrize(("silent", "topic"), [("lidar", "input/pointcloud"), ("thermal", "input/thermal")])
def test_a_sensor_that_never_speaks_costs_no_mask_and_is_named(make_rig, silent, topic):
    rig = make_rig()
    masks = rig.connect()
    play(rig, masks, 1.0, 4, **{silent: None})
    rig.wait_status(silent, WARN, "never received", topic, "/world is there but sends nothing")
    assert stamps(masks) == [1.0, 1.1, 1.2, 1.3]
    other = {"lidar": "thermal", "thermal": "lidar"}[silent]
    assert rig.level(other) == OK


def test_a_sensor_that_stops_half_way_costs_no_mask_and_is_missed(make_rig):
    rig = make_rig()
    masks = rig.connect()
    play(rig, masks, 1.0, 3)
    rig.wait_status("lidar", OK, "fused")
    play(rig, masks, 1.3, 7, lidar=None)
    assert len(masks) == 10
    rig.wait_status("lidar", WARN, "missing", "silent for")
    assert [f.points is not None for f in rig.pipeline.frames] == [True] * 3 + [False] * 7
    for i in range(50):  # nobody waits for it any more, so it takes a few frames to be noticed again
        play(rig, masks, 2.0 + 0.1 * i, 1)
        time.sleep(0.05)
        if rig.level("lidar") == OK:
            break
    rig.wait_status("lidar", OK, "fused")


def test_a_sensor_that_comes_three_tenths_of_a_second_late_costs_no_mask_and_the_delay_is_named(make_rig, messages):
    rig = make_rig()
    masks = rig.connect()
    for i in range(12):
        rig.send_all(1.0 + 0.1 * i, lidar=None)
        if i >= 3:
            rig.send(lidar=messages.cloud(1.0 + 0.1 * (i - 3)))
        time.sleep(0.1)
    # One may be lost where the machine stalls for a frame: a delay that cost masks would cost most of them.
    rig.wait(lambda: len(masks) >= 11, "a mask for each image")
    rig.wait_status("lidar", WARN, "+0.300 s behind the camera", "sync.lidar.timeout_s")


def test_a_recording_that_loops_goes_on_with_every_frame(make_rig):
    rig = make_rig()
    masks = rig.connect()
    for _ in range(3):
        play(rig, masks, 1.0, 4)
    assert stamps(masks) == [1.0, 1.1, 1.2, 1.3] * 3
    assert all(f.points is not None and f.thermal is not None for f in rig.pipeline.frames)


def truncated(message):
    message.data = message.data[: len(message.data) // 2]
    return message


BAD = {
    "image with an unknown encoding": ("image", lambda m, t: m.image(t, encoding="jpg-of-doom"), ERROR, "encoding"),
    "image cut off": ("image", lambda m, t: truncated(m.image(t)), ERROR, "truncated"),
    "thermal with a color encoding": ("thermal", lambda m, t: m.image(t, encoding="rgb8"), WARN, "'rgb8'"),
    "thermal cut off": ("thermal", lambda m, t: truncated(m.image(t, 9, "16UC1")), WARN, "truncated"),
    "cloud without z": ("lidar", lambda m, t: m.cloud(t, [[1, 2]], "xy"), WARN, "x, y, z"),
    "cloud cut off": ("lidar", lambda m, t: truncated(m.cloud(t, np.ones((9, 3)))), WARN, "truncated"),
    "cloud of NaN": ("lidar", lambda m, t: m.cloud(t, np.full((9, 3), np.nan)), WARN, "all NaN"),
    "cloud in an unknown frame": ("lidar", lambda m, t: m.cloud(t, frame="lidr"), WARN, "'lidr'"),
}


@pytest.mark.parametrize("case", BAD)
def test_rubbish_is_named_and_the_node_recovers(make_rig, messages, case):
    name, make, level, word = BAD[case]
    rig = make_rig()
    masks = rig.connect()
    play(rig, masks, 1.0, 1)
    rig.send_all(1.1, **{name: make(messages, 1.1)})
    rig.wait_status(name, level, word)
    if name != "image":
        rig.wait(lambda: len(masks) == 2, "a mask without the bad input")
    assert rig.node.session.health[name].bad == 1
    play(rig, masks, 1.2, 1)
    rig.wait_status(name, OK, "fused")
    assert stamps(masks)[-1] == 1.2


@pytest.mark.parametrize(("name", "level"), [("image", ERROR), ("lidar", WARN)])
def test_empty_stamps_are_refused_and_named(make_rig, messages, name, level):
    rig = make_rig()
    masks = rig.connect()
    bad = {"image": messages.image(0.0), "lidar": messages.cloud(0.0)}[name]
    rig.send_all(1.0, **{name: bad})
    rig.wait_status(name, level, "empty")
    play(rig, masks, 1.1, 1)
    rig.wait_status(name, OK, "fused")


def test_a_camera_info_that_does_not_fit_the_image_is_named_and_the_lidar_left_out(make_rig, messages):
    rig = make_rig()
    masks = rig.connect()
    play(rig, masks, 1.0, 1, camera_info=messages.camera_info(1.0, (480, 640)))
    rig.wait_status("lidar", WARN, "camera_info: expected the image's size 64x48, got 640x480")
    assert rig.pipeline.frames[0].points is None
    rig.send(camera_info=messages.camera_info(1.1))
    rig.wait(lambda: rig.node.session.health["camera_info"].received == 2, "the right camera_info")
    play(rig, masks, 1.1, 1)
    rig.wait_status("lidar", OK, "fused")


def test_without_camera_info_the_lidar_is_left_out_and_the_topic_named(make_rig):
    rig = make_rig()
    masks = rig.connect()
    play(rig, masks, 1.0, 2, camera_info=None)
    rig.wait_status("lidar", WARN, "camera_info", "~/input/image/camera_info")
    rig.wait_status("camera_info", WARN, "never received")
    assert [f.points for f in rig.pipeline.frames] == [None, None]


def test_without_extrinsics_the_lidar_is_left_out_and_both_frames_named(make_rig):
    from samseg_ros.ros.interop import optional

    if optional("tf2_ros") is not None:
        pytest.skip("TF is installed here")
    rig = make_rig({"projection.calibration_path": ""})
    masks = rig.connect()
    play(rig, masks, 1.0, 1)
    rig.wait_status("lidar", WARN, "'camera'", "'lidar'", "projection.calibration_path")


CALIBRATED = {"projection.thermal": "calibrated"}


def test_a_thermal_camera_to_be_registered_comes_with_its_calibration(make_rig, messages):
    rig = make_rig(CALIBRATED)
    masks = rig.connect()
    play(rig, masks, 1.0, 1, thermal_info=messages.camera_info(1.0, frame="thermal"))
    rig.wait_status("thermal", OK, "fused")
    assert rig.level("thermal_info") == OK
    (frame,) = rig.pipeline.frames
    assert frame.camera_from_thermal[:3, 3].tolist() == [0.5, 0, 0]
    assert (frame.thermal_camera.frame_id, frame.thermal_camera.width) == ("thermal", 64)
    assert frame.camera.frame_id == "camera" and frame.points is not None


def test_a_thermal_camera_that_cannot_be_registered_is_left_out_and_both_frames_named(make_rig, messages):
    rig = make_rig(CALIBRATED)
    masks = rig.connect()
    play(rig, masks, 1.0, 1)
    rig.wait_status("thermal", WARN, "thermal_info: expected", "'thermal'", "'camera'", "~/input/thermal/camera_info")
    rig.wait_status("thermal_info", WARN, "never received")
    info, elsewhere = messages.camera_info(1.1, frame="thermal"), messages.image(1.1, 9, "16UC1", frame="roof")
    play(rig, masks, 1.1, 1, thermal_info=info, thermal=elsewhere)
    rig.wait_status("thermal", WARN, "calibration: expected a transform to 'camera' from 'roof'")
    rig.wait_status("thermal_info", WARN, "of frame 'thermal', the image of 'roof'")
    assert [f.thermal for f in rig.pipeline.frames] == [None, None]
    assert all(f.points is not None for f in rig.pipeline.frames)


def test_a_model_of_camera_and_thermal_gets_the_lidar_to_register_by_and_only_then():
    aligned, calibrated = from_flat({}), from_flat(CALIBRATED)
    without = from_flat(CALIBRATED | {"inputs.lidar": False})
    assert used_inputs(aligned, ("rgb", "thermal")) == ("thermal",)
    assert used_inputs(calibrated, ("rgb", "thermal")) == ("thermal", "lidar")
    assert used_inputs(calibrated, ("rgb",)) == ()
    assert used_inputs(without, ("rgb", "thermal")) == ("thermal",)
    assert needed_infos(aligned, ("thermal",)) == ()
    assert needed_infos(aligned, ("thermal", "lidar")) == ("camera_info",)
    assert needed_infos(without, ("thermal",)) == ("camera_info", "thermal_info")


def test_frames_without_a_required_input_are_skipped_and_counted(make_rig):
    rig = make_rig({"sync.lidar.required": True, "sync.lidar.timeout_s": 0.05})
    masks = rig.connect()
    rig.send_all(1.0, lidar=None)
    rig.wait(lambda: rig.node.session.collector.counters["image"].missing == 1, "the frame to be skipped")
    rig.wait_status("image", ERROR, "frames are dropped", "required")
    rig.wait_status("lidar", ERROR, "never received")
    play(rig, masks, 1.1, 1)
    assert stamps(masks) == [1.1]
    values = {v.key: v.value for v in rig.statuses["model"].values}
    assert values["skipped"] == "1"


def test_auto_reliability_matches_a_best_effort_publisher(make_rig):
    rig = make_rig(qos=QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT))
    masks = rig.connect()
    play(rig, masks, 1.0, 2)
    infos = rig.world.get_subscriptions_info_by_topic("/fusion_node/input/image")
    assert [i.qos_profile.reliability for i in infos] == [ReliabilityPolicy.BEST_EFFORT]
    rig.wait_status("lidar", OK, "fused")


def test_auto_reliability_prefers_reliable(make_rig):
    rig = make_rig()
    rig.connect()
    time.sleep(0.6)  # one look at the publishers
    infos = rig.world.get_subscriptions_info_by_topic("/fusion_node/input/image")
    assert [i.qos_profile.reliability for i in infos] == [ReliabilityPolicy.RELIABLE]


def test_a_qos_mismatch_that_was_asked_for_is_named_with_its_remedy(make_rig):
    weak = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
    rig = make_rig({"qos.reliability": "reliable"}, qos=weak)
    rig.wait_status("image", ERROR, "QoS mismatch", "/world offers best effort", "set qos.reliability to auto")


def test_a_qos_override_parameter_wins_over_auto(make_rig):
    rig = make_rig({"qos_overrides./fusion_node/input/image.subscription.reliability": "best_effort"})
    rig.connect()
    infos = rig.world.get_subscriptions_info_by_topic("/fusion_node/input/image")
    assert [i.qos_profile.reliability for i in infos] == [ReliabilityPolicy.BEST_EFFORT]


def test_a_slow_model_drops_old_frames_and_keeps_the_callbacks_alive(make_rig, messages):
    rig = make_rig({"inputs.thermal": False, "inputs.lidar": False})
    masks = rig.connect()
    rig.pipeline.go_on.clear()  # the model hangs in its first frame
    for i in range(10):
        rig.send(image=messages.image(1.0 + 0.1 * i))
        time.sleep(0.01)
    rig.wait(lambda: rig.node.session.health["image"].received == 10, "all images, while the model is busy")
    before = len(rig.statuses)
    rig.statuses.clear()
    rig.wait(lambda: len(rig.statuses) == before, "diagnostics, while the model is busy")
    rig.pipeline.go_on.set()
    rig.wait(lambda: len(masks) == 2, "two masks")
    assert stamps(masks) == [1.0, 1.9]  # the one it worked on, then the newest
    assert rig.node.session.intake.dropped == 8


def test_with_drop_policy_none_every_frame_is_kept(make_rig, messages):
    rig = make_rig({"inputs.thermal": False, "inputs.lidar": False, "drop_policy": "none"})
    masks = rig.connect()
    rig.pipeline.go_on.clear()
    for i in range(5):
        rig.send(image=messages.image(1.0 + 0.1 * i))
        time.sleep(0.01)
    rig.wait(lambda: rig.node.session.health["image"].received == 5, "all images")
    rig.pipeline.go_on.set()
    rig.wait(lambda: len(masks) == 5, "five masks")
    assert stamps(masks) == [1.0, 1.1, 1.2, 1.3, 1.4]


def test_an_error_in_the_model_is_named_and_the_next_frame_gets_its_chance(make_rig):
    rig = make_rig()
    masks = rig.connect()
    rig.pipeline.failure = RuntimeError("CUDA out of memory")
    rig.send_all(1.0)
    rig.wait_status("model", ERROR, "RuntimeError: CUDA out of memory")
    rig.pipeline.failure = None
    play(rig, masks, 1.1, 1)
    rig.wait_status("model", OK, "segmenting")
    values = {v.key: v.value for v in rig.statuses["model"].values}
    assert (values["failed"], values["processed"]) == ("1", "1")
    assert float(values["prepare_ms"]) == 0.1


def test_data_that_only_the_pipeline_finds_unusable_is_named_too(make_rig, messages):
    rig = make_rig()
    masks = rig.connect()
    rig.pipeline.problems = {"thermal": "thermal image: expected some finite values, got none; check the camera"}
    play(rig, masks, 1.0, 1)
    rig.wait_status("thermal", WARN, "some finite values")
    rig.pipeline.problems = {}
    play(rig, masks, 1.1, 1)
    rig.wait_status("thermal", OK, "fused")


def test_a_slow_frame_is_a_warning(make_rig):
    rig = make_rig({"diagnostics.max_allowed_processing_time_ms": 1.0})
    masks = rig.connect()
    rig.pipeline.frame_seconds = 0.05
    play(rig, masks, 1.0, 1)
    rig.wait_status("model", WARN, "slow", "allowed 1 ms")


def test_messages_of_another_type_on_the_topic_are_named(make_rig):
    rig = make_rig({"inputs.thermal": False, "inputs.lidar": False})
    rig.world.destroy_publisher(rig.publishers["image"])
    stranger = rig.another_node("stranger")  # one participant cannot have two types on a topic
    stranger.create_publisher(PointCloud2, "/fusion_node/input/image", 10)
    rig.wait_status("image", ERROR, "/stranger publishes sensor_msgs/msg/PointCloud2", "expected sensor_msgs/msg/Image")


def test_messages_that_come_while_the_node_subscribes_are_taken(make_rig, messages, monkeypatch):
    rig = make_rig(autostart=False)
    sent = {"/fusion_node/input/image": messages.image(1.0), "/fusion_node/input/pointcloud": messages.cloud(1.0)}
    sent["/fusion_node/input/image/camera_info"] = messages.camera_info(1.0)

    def delivers_at_once(node, kind, topic, callback, qos, **_):
        if topic in sent:
            callback(sent[topic])
        return lambda: None

    monkeypatch.setattr("samseg_ros.ros.inputs.subscribe", delivers_at_once)
    rig.node.autostart()
    session = rig.node.session
    assert session is not None, rig.node.model.error
    assert {name: h.received for name, h in session.health.items()} == {
        "image": 1,
        "thermal": 0,
        "lidar": 1,
        "camera_info": 1,
    }


def test_the_painted_cloud_of_a_camera_model_comes_where_it_is_asked_for():
    assert used_inputs(from_flat({}), ("rgb",)) == ()
    assert used_inputs(from_flat({"publish.pointcloud": "always"}), ("rgb",)) == ("lidar",)
    assert used_inputs(from_flat({"autoware.pointcloud": True}), ("rgb", "thermal")) == ("thermal", "lidar")
    assert used_inputs(from_flat({"publish.pointcloud": "always", "inputs.lidar": False}), ("rgb",)) == ()


def test_a_cloud_that_stands_in_is_not_painted(make_rig):
    rig = make_rig({"sync.lidar.on_missing": "last", "sync.lidar.timeout_s": 0.05, "sync.lidar.max_age_s": 0.25})
    masks = rig.connect()
    painted = rig.listen(PointCloud2, "output/pointcloud")
    play(rig, masks, 1.0, 2)
    rig.wait(lambda: len(painted) == 2, "two painted clouds")
    play(rig, masks, 1.2, 3, lidar=None)
    assert [f.points is not None for f in rig.pipeline.frames] == [True, True, True, True, False]
    play(rig, masks, 1.5, 1)
    rig.wait(lambda: len(painted) == 3, "the painted cloud of the last image")
    assert stamps(painted) == [1.0, 1.1, 1.5]


def test_intrinsics_that_cannot_be_used_are_told_of_themselves(make_rig, messages):
    rig = make_rig()
    masks = rig.connect()
    singular = messages.camera_info(1.0)
    singular.k[8] = 0.0
    play(rig, masks, 1.0, 1, camera_info=singular)
    rig.wait_status("camera_info", WARN, "camera matrix: expected")
    rig.wait_status("lidar", WARN, "camera matrix: expected")
    play(rig, masks, 1.1, 1)
    rig.wait_status("camera_info", OK, "fused")


def test_an_image_that_image_proc_rectified_is_not_taken_for_a_distorted_one(make_rig, messages):
    topic = "/fusion_node/input/image_rect_color"
    rig = make_rig(arguments=("-r", f"~/input/image:={topic}"))
    rig.publishers["image"] = rig.world.create_publisher(Image, topic, 10)
    masks = rig.connect()
    info = messages.camera_info(1.0)
    info.d, info.p = [-0.3, 0.1, 0.0, 0.0, 0.0], [60.0, 0.0, 32.0, 0.0, 0.0, 60.0, 24.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    play(rig, masks, 1.0, 1, camera_info=info)
    camera = rig.pipeline.frames[0].camera
    assert (camera.k[0, 0], camera.is_distorted) == (60.0, False)  # of P
