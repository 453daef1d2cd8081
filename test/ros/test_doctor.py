"""`samseg doctor` over real DDS: a good set-up passes, and each fault is named with its remedy."""

from __future__ import annotations

import itertools
import os
import threading
import time
from types import SimpleNamespace

import pytest
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import String
from typer.testing import CliRunner

from samseg_ros import cli_doctor
from samseg_ros.cli import app
from samseg_ros.config import from_flat
from samseg_ros.errors import SamsegError
from samseg_ros.ros.checks import offset_and_delay
from samseg_ros.ros.doctor import examine
from samseg_ros.ros.health import ERROR, OK, WARN
from samseg_ros.ros.installation import installation_checks

TOPICS = {"image": "/cam/image_raw", "camera_info": "/cam/camera_info", "lidar": "/points"}
KINDS = {"image": Image, "camera_info": CameraInfo, "lidar": PointCloud2}
PATIENCE_S = 30.0
"""A good set-up is judged long before."""
SHORT_S = 4.0
"""Where something never comes, the whole time is waited."""
_DOMAINS = itertools.count(os.getpid() + 50)


class World:
    """Sensors that publish at 20 Hz."""

    def __init__(self, messages, reliability=ReliabilityPolicy.RELIABLE, without=(), changed=None):
        self.context = Context()
        self.context.init()
        self.node = Node("world", context=self.context)
        qos = QoSProfile(depth=10, reliability=reliability)
        self.makers = {"image": messages.image, "camera_info": messages.camera_info, "lidar": messages.cloud}
        self.makers = {n: make for n, make in (self.makers | (changed or {})).items() if n not in without}
        self.publishers = {n: self.node.create_publisher(KINDS[n], TOPICS[n], qos) for n in self.makers}
        self.of_the_doctor = set()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._play)
        self.thread.start()

    def _play(self):
        while not self.ended.wait(0.05):
            now = time.time()
            for name, make in self.makers.items():
                self.publishers[name].publish(make(now))
            if "samseg_doctor" in self.node.get_node_names():
                offered = self.node.get_publisher_names_and_types_by_node("samseg_doctor", "/")
                self.of_the_doctor |= {topic for topic, _ in offered}

    def close(self):
        self.ended.set()
        self.thread.join()
        self.node.destroy_node()
        self.context.try_shutdown()


@pytest.fixture
def make_world(messages, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(next(_DOMAINS) % 100 + 1))
    worlds = []

    def make(**options):
        worlds.append(World(messages, **options))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


@pytest.fixture
def settings(tmp_path):
    path = tmp_path / "calibration.yaml"
    path.write_text(
        "transforms:\n- {target: camera, source: lidar, translation: [0, 0, 0], rotation_xyzw: [0, 0, 0, 1]}\n"
    )
    return {"inputs.thermal": False, "projection.calibration_path": str(path)}


@pytest.fixture
def diagnose(settings, fake_pipeline):
    """Return the rows by name, after the model of the tests was loaded."""

    def run(seconds, changed=None, load=fake_pipeline):
        return {row.what: row for row in examine(from_flat(settings | (changed or {})), TOPICS, seconds, load)}

    return run


def bad(rows):
    return [name for name, row in rows.items() if row.level == ERROR]


def test_a_good_set_up_passes_and_nothing_is_published(make_world, diagnose):
    world = make_world()
    rows = diagnose(PATIENCE_S)
    assert [row for row in rows.values() if row.level != OK] == []
    assert rows["image"].found == "/cam/image_raw from /world (reliable), frame 'camera', 64x48 rgb8"
    assert rows["camera_info"].found.endswith("frame 'camera', 64x48 undistorted")
    assert rows["lidar"].found.endswith("frame 'lidar', 1 points of x, y, z")
    assert "'lidar' to 'camera'" in rows["lidar → image"].found
    assert rows["lidar stamps"].found.startswith("+0.000 s from the images'")
    assert rows["model"].found == "mm_sam_adapter (compact) on nothing, bool: 3 classes from rgb, thermal, lidar"
    assert world.of_the_doctor <= {"/parameter_events"}  # every rclpy node has that


def test_a_qos_mismatch_is_named_with_its_remedy(make_world, diagnose):
    make_world(reliability=ReliabilityPolicy.BEST_EFFORT)
    rows = diagnose(SHORT_S, {"qos.reliability": "reliable"})
    assert "image" in bad(rows) and "lidar" in bad(rows)
    assert "QoS mismatch: /world offers best effort, we ask for reliable" in rows["image"].found
    assert rows["image"].remedy == "set qos.reliability to auto"


def test_a_best_effort_publisher_is_no_fault_by_default(make_world, diagnose):
    make_world(reliability=ReliabilityPolicy.BEST_EFFORT)
    rows = diagnose(PATIENCE_S)
    assert bad(rows) == []
    assert "/world (best effort)" in rows["image"].found


def test_a_missing_camera_info_is_named_with_the_topics_that_there_are(make_world, diagnose):
    world = make_world(without=["camera_info"])
    world.publishers["other"] = world.node.create_publisher(CameraInfo, "/other/camera_info", 10)
    for topic, kind in {"label_info": String, "not_from_a_camera": CameraInfo}.items():  # as a fusion_node has them
        world.publishers[topic] = world.node.create_publisher(kind, f"/seg/output/{topic}", 10)
    rows = diagnose(SHORT_S)
    assert bad(rows) == ["camera_info"]
    assert rows["camera_info"].found == "nothing comes on /cam/camera_info: nobody publishes there"
    assert rows["camera_info"].remedy.endswith(
        "remap ~/input/image/camera_info to the right topic, one of /other/camera_info"
    )


def test_a_camera_info_of_another_size_is_named(make_world, diagnose, messages):
    make_world(changed={"camera_info": lambda t: messages.camera_info(t, (480, 640))})
    rows = diagnose(PATIENCE_S)
    assert bad(rows) == ["camera_info"]
    assert rows["camera_info"].found == "camera_info: expected the image's size 64x48, got 640x480"


def test_a_camera_info_of_another_frame_is_doubted(make_world, diagnose, messages):
    make_world(changed={"camera_info": lambda t: messages.camera_info(t, frame="roof")})
    rows = diagnose(PATIENCE_S)
    assert bad(rows) == [] and rows["camera_info"].level == WARN
    assert "of frame 'roof', the image of 'camera'" in rows["camera_info"].remedy


def test_missing_extrinsics_are_named_with_both_frames(make_world, diagnose, messages):
    make_world(changed={"lidar": lambda t: messages.cloud(t, frame="roof")})
    rows = diagnose(PATIENCE_S)
    assert bad(rows) == ["lidar → image"]
    assert "expected a transform to 'camera' from 'roof'" in rows["lidar → image"].found
    assert rows["lidar → image"].remedy


def test_without_tf_and_without_a_calibration_file_the_remedy_is_named(make_world, diagnose):
    from samseg_ros.ros.interop import optional

    if optional("tf2_ros") is not None:
        pytest.skip("TF is installed here")
    make_world()
    rows = diagnose(PATIENCE_S, {"projection.calibration_path": ""})
    assert bad(rows) == ["lidar → image"]
    assert "tf2_ros" in rows["lidar → image"].found and "projection.calibration_path" in rows["lidar → image"].remedy


def test_a_wrong_encoding_is_named_with_those_that_are_known(make_world, diagnose, messages):
    make_world(changed={"image": lambda t: messages.image(t, encoding="rgb17")})  # cv_bridge knows rgb16
    rows = diagnose(PATIENCE_S)
    assert bad(rows) == ["image"]
    assert "'rgb17'" in rows["image"].found and "bgr8" in rows["image"].found
    assert rows["image"].remedy


def test_missing_weights_are_named_and_the_sensors_looked_at_all_the_same(make_world, diagnose):
    from samseg_ros.ros.fusion_node import load_pipeline

    make_world()
    rows = diagnose(PATIENCE_S, {"model.name": "ad_sam"}, load_pipeline)
    assert bad(rows) == ["model"]
    assert rows["model"].found.startswith("no weights of ad_sam (compact) are shipped, or installed in")
    assert "samseg weights install" in rows["model"].remedy
    assert rows["lidar → image"].level == OK


def test_zero_stamps_are_named(make_world, diagnose, messages):
    make_world(changed={"image": lambda t: messages.image(0.0)})
    rows = diagnose(PATIENCE_S)
    assert bad(rows) == ["image"] and rows["image"].found == "its stamps are zero"
    assert "header.stamp" in rows["image"].remedy


def test_clocks_apart_are_named_with_the_setting_and_allowed_by_it(make_world, diagnose, messages):
    make_world(changed={"lidar": lambda t: messages.cloud(t - 1000)})
    rows = diagnose(PATIENCE_S)
    assert bad(rows) == ["lidar stamps"]
    assert rows["lidar stamps"].found.endswith("s from the images', allowed: +0.000 ± 0.05")
    assert rows["lidar stamps"].remedy.endswith("set sync.lidar.offset_s if that is constant")
    rows = diagnose(PATIENCE_S, {"sync.lidar.offset_s": -10.0})
    assert bad(rows) == ["lidar stamps"]  # no setting reaches so far


def test_a_clock_that_is_off_by_what_is_set_is_allowed(make_world, diagnose, messages):
    make_world(changed={"lidar": lambda t: messages.cloud(t - 5)})
    assert bad(diagnose(PATIENCE_S, {"sync.lidar.offset_s": -5.0})) == []


@pytest.mark.parametrize(
    ("images", "others", "expected_s", "offset_s", "delay_s"),
    [
        ([(1.0, 5.0)], [(1.0, 5.0)], 0.0, 0.0, 0.0),
        ([(1.0, 5.0), (1.1, 5.1)], [(1.0, 5.3), (1.1, 5.4)], 0.0, 0.0, 0.3),  # each comes late
        ([(1.0, 5.0), (1.1, 5.1)], [(1.2, 5.0), (1.3, 5.1)], 0.2, 0.2, 0.0),  # of another clock, as it was set
        ([(1.0, 5.0), (1.1, 5.1)], [(9.0, 5.0), (9.1, 5.1)], 0.0, 7.95, -0.05),  # of another clock
        ([(1.0, 5.0), (1.1, 5.1), (1.2, 5.2)], [(1.0, 5.0), (1.1, 5.1)], 0.0, 0.0, 0.0),  # the last is on its way
    ],
)
def test_offset_and_delay_are_those_of_the_messages_that_belong_together(images, others, expected_s, offset_s, delay_s):
    assert offset_and_delay(images, others, expected_s) == pytest.approx((offset_s, delay_s))


def test_a_late_input_is_named_with_both_settings_that_may_be_wrong(make_world, diagnose, messages):
    make_world(changed={"lidar": lambda t: messages.cloud(t - 0.3)})
    rows = diagnose(PATIENCE_S)
    assert bad(rows) == ["lidar stamps"]
    assert "behind the image, waited for: 0.1 s" in rows["lidar stamps"].found
    assert rows["lidar stamps"].remedy == "set sync.lidar.timeout_s (late) or sync.lidar.offset_s (shifted)"
    assert bad(diagnose(PATIENCE_S, {"sync.lidar.timeout_s": 0.6})) == []


def test_nobody_there_is_a_warning_about_the_domain(make_world, diagnose):
    rows = diagnose(0.2, {"inputs.lidar": False})
    assert rows["other nodes"].level == WARN and "ROS_DOMAIN_ID" in rows["other nodes"].remedy
    assert bad(rows) == ["image"]


def test_a_name_that_no_topic_can_have_is_one_clear_error(fake_pipeline):
    with pytest.raises(SamsegError, match="cannot listen to /a b"):
        examine(from_flat({}), {"image": "/a b"}, 0.1, fake_pipeline)


def shown(monkeypatch, fake_pipeline, *arguments):
    monkeypatch.setattr(cli_doctor, "_load", fake_pipeline)
    monkeypatch.setattr(cli_doctor, "out", cli_doctor.Console(width=250))
    result = CliRunner().invoke(app, ["doctor", *arguments])
    return result.exit_code, result.output


def test_the_command_ends_with_0_where_all_is_usable_and_1_where_not(
    make_world, settings, monkeypatch, fake_pipeline, tmp_path
):
    file = tmp_path / "robot.param.yaml"
    file.write_text(f"projection:\n  calibration_path: {settings['projection.calibration_path']}\n")
    make_world()
    topics = ["--params", str(file), "--image", "/cam/image_raw", "--lidar", "/points"]  # and no thermal camera
    code, text = shown(monkeypatch, fake_pipeline, *topics, "--seconds", "30")
    assert code == 0 and "FAIL" not in text and "thermal stamps" not in text
    for seconds in ("2", "5", "20"):  # under load, what else is published is discovered late
        code, text = shown(monkeypatch, fake_pipeline, *topics, "--camera-info", "/nowhere", "--seconds", seconds)
        assert code == 1
        failed = [line for line in text.splitlines() if "FAIL" in line]
        if any("camera_info" in line and "/cam/camera_info" in line for line in failed):
            return
    pytest.fail(text)


def test_without_rclpy_the_model_is_looked_at_and_the_remedy_named(monkeypatch, fake_pipeline):
    monkeypatch.setitem(__import__("sys").modules, "rclpy", None)  # import raises ModuleNotFoundError
    code, text = shown(monkeypatch, fake_pipeline)
    assert code == 1 and "pip install 'samseg_ros[ros]'" in text and "3 classes" in text


@pytest.mark.parametrize("domain", ["abc", "500", "-1"])
def test_a_domain_that_there_is_none_of_is_told_before_the_middleware_ends_over_it(monkeypatch, fake_pipeline, domain):
    monkeypatch.setenv("ROS_DOMAIN_ID", domain)
    code, text = shown(monkeypatch, fake_pipeline)
    assert code == 1 and f"ROS_DOMAIN_ID is '{domain}'" in text and "a number of 0 to 232" in text
    assert "3 classes" in text  # the model is looked at all the same


def test_a_sensor_that_the_model_does_not_take_is_told(diagnose):
    pipeline = SimpleNamespace(modalities=("rgb",), labels=("road",), runs_on="cpu")
    rows = diagnose(0.2, load=lambda config: pipeline)
    assert rows["lidar"].level == WARN and rows["lidar"].found.startswith("/points is not listened to: the model takes")


@pytest.mark.parametrize(
    ("given", "level", "word"),
    [("SUBNET", OK, "SUBNET"), ("LOCALHOST", OK, "LOCALHOST"), ("OFF", WARN, "OFF"), ("LAN", WARN, "LAN")],
)
def test_the_discovery_range_is_told_and_doubted(monkeypatch, given, level, word):
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", given)
    monkeypatch.setenv("ROS_DOMAIN_ID", "7")
    (row,) = [row for row in installation_checks() if row.what == "discovery"]
    assert row.level == level and row.found == f"domain 7, range {word}"
    assert bool(row.remedy) is (level == WARN)
