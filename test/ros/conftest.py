"""A rig for tests over real DDS: the node in one executor, its sensors and listeners in another."""

from __future__ import annotations

import importlib.util
import itertools
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip(
    "rclpy", reason="rclpy is not installed: pip install 'samseg_ros[ros]', or source a ROS 2 distribution"
)

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from std_msgs.msg import Header

from samseg_ros.ros.fusion_node import FusionNode

FAKE_NODE = Path(__file__).with_name("fake_node.py")
_DOMAINS = itertools.count(os.getpid())
HEIGHT, WIDTH = 48, 64

CALIBRATION = """
transforms:
  - {target: camera, source: lidar, translation: [0, 0, 0], rotation_xyzw: [0, 0, 0, 1]}
  - {target: camera, source: thermal, translation: [0.5, 0, 0], rotation_xyzw: [0, 0, 0, 1]}
"""


def load_fake():
    spec = importlib.util.spec_from_file_location("fake_node", FAKE_NODE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def header(stamp_s, frame):
    result = Header(frame_id=frame)
    nanoseconds = round(stamp_s * 1e9)
    result.stamp.sec, result.stamp.nanosec = divmod(nanoseconds, 10**9)
    return result


def image(stamp_s, value=200, encoding="rgb8", size=(HEIGHT, WIDTH), frame="camera"):
    channels, kind = {"rgb8": (3, np.uint8), "mono8": (1, np.uint8), "16UC1": (1, np.uint16)}.get(
        encoding, (3, np.uint8)
    )
    pixels = np.full((*size, channels), value, kind)
    message = Image(header=header(stamp_s, frame), height=size[0], width=size[1], encoding=encoding)
    message.step = size[1] * channels * pixels.itemsize
    message.data.frombytes(pixels.tobytes())
    return message


def cloud(stamp_s, xyz=((0.0, 0.0, 5.0),), names="xyz", frame="lidar"):
    points = np.asarray(xyz, np.float32).reshape(-1, len(names))
    message = PointCloud2(header=header(stamp_s, frame), height=1, width=len(points), point_step=4 * len(names))
    message.row_step = message.point_step * len(points)
    message.fields = [PointField(name=n, offset=4 * i, datatype=7, count=1) for i, n in enumerate(names)]
    message.data.frombytes(points.tobytes())
    return message


def camera_info(stamp_s, size=(HEIGHT, WIDTH), frame="camera"):
    message = CameraInfo(header=header(stamp_s, frame), height=size[0], width=size[1], distortion_model="plumb_bob")
    message.k = [50.0, 0.0, 32.0, 0.0, 50.0, 24.0, 0.0, 0.0, 1.0]
    message.d = [0.0] * 5
    return message


class Rig:
    """One node under test and everything around it."""

    def __init__(self, pipeline, parameters, arguments=(), autostart=True, qos=None):
        self.domain = next(_DOMAINS) % 100 + 1
        self.contexts = []
        self.context = self._new_context(["--ros-args", *arguments])
        self.pipeline = pipeline
        fast = {"diagnostics.period_s": 0.1, "diagnostics.input_timeout_s": 0.5}
        overrides = [Parameter(name, value=value) for name, value in (fast | parameters).items()]
        try:
            self.node = FusionNode(self._make, context=self.context, parameter_overrides=overrides)
        except Exception:
            self.context.try_shutdown()
            raise
        self.world = Node("world", context=self.context)
        self.statuses, self.received = {}, {}
        self.world.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._spin(self.node)
        self._spin(self.world)
        qos = qos or QoSProfile(depth=10)
        self.publishers = {
            "image": self.world.create_publisher(Image, "/fusion_node/input/image", qos),
            "thermal": self.world.create_publisher(Image, "/fusion_node/input/thermal", qos),
            "lidar": self.world.create_publisher(PointCloud2, "/fusion_node/input/pointcloud", qos),
            "camera_info": self.world.create_publisher(CameraInfo, "/fusion_node/input/image/camera_info", qos),
            "thermal_info": self.world.create_publisher(CameraInfo, "/fusion_node/input/thermal/camera_info", qos),
        }
        if autostart:
            self.node.autostart()

    def _new_context(self, args=()):
        self.contexts.append(Context())
        self.contexts[-1].init(args=list(args), domain_id=self.domain)
        return self.contexts[-1]

    def another_node(self, name):
        """Make a node that is not spun, in a participant of its own."""
        return Node(name, context=self._new_context())

    def _make(self, config):
        self.pipeline.config = config
        return self.pipeline

    def _spin(self, node):
        executor = SingleThreadedExecutor(context=self.context)
        executor.add_node(node)
        thread = threading.Thread(target=executor.spin, daemon=True)
        thread.start()
        self.executors = [*getattr(self, "executors", []), (executor, thread)]

    def _on_diagnostics(self, message):
        for status in message.status:
            self.statuses[status.name.removeprefix("fusion_node: ")] = status

    def close(self):
        if self.pipeline is not None:
            self.pipeline.go_on.set()
        assert self.node.end(5.0)
        for executor, thread in self.executors:
            executor.shutdown()
            thread.join(5.0)
        self.world.destroy_node()
        self.node.destroy_node()
        for context in self.contexts:
            context.try_shutdown()

    def listen(self, kind, topic, latched=False):
        messages = self.received.setdefault(topic, [])
        durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
        qos = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=durability)
        self.world.create_subscription(kind, f"/fusion_node/{topic}", messages.append, qos)
        self.wait(lambda: self.node.count_subscribers(f"/fusion_node/{topic}"), f"{topic} to be discovered")
        return messages

    def wait(self, condition, what, timeout_s=30.0):
        end = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end:
                shown = {name: (s.level, s.message) for name, s in self.statuses.items()}
                pytest.fail(f"waited {timeout_s} s in vain for {what}; diagnostics: {shown}")
            time.sleep(0.005)

    def connect(self):
        """Wait until the node listens to every sensor and the mask reaches us; return the list of masks."""
        masks = self.listen(Image, "output/mask")
        used = [self.publishers[name] for name in self.node.session.health]
        self.wait(lambda: all(p.get_subscription_count() for p in used), "the inputs to be matched")
        return masks

    def send(self, **messages):
        for name, message in messages.items():
            self.publishers[name].publish(message)

    def send_all(self, stamp_s, **changed):
        """Publish one complete set, or with None for an input, one without it."""
        usual = {
            "camera_info": camera_info(stamp_s),
            "thermal": image(stamp_s, 30000, "16UC1", frame="thermal"),
            "lidar": cloud(stamp_s),
            "image": image(stamp_s),
        }
        self.send(**{name: message for name, message in (usual | changed).items() if message is not None})

    def level(self, name):
        status = self.statuses.get(name)
        return None if status is None else status.level[0]

    def message(self, name):
        return self.statuses[name].message

    def wait_status(self, name, level, *words, timeout_s=30.0):
        def says():
            status = self.statuses.get(name)
            return status is not None and status.level[0] == level and all(w in status.message for w in words)

        self.wait(says, f"{name} to be at level {level} and say {words}", timeout_s)


@pytest.fixture
def messages():
    """Makers of sensor messages."""
    import types

    return types.SimpleNamespace(image=image, cloud=cloud, camera_info=camera_info, header=header)


@pytest.fixture
def fake_node_path():
    return FAKE_NODE


@pytest.fixture
def fake_pipeline():
    """The class that stands where the real pipeline would."""
    return load_fake().FakePipeline


@pytest.fixture
def make_rig(tmp_path):
    """Return a function that makes a started rig; calibrated, so that the LiDAR can be fused."""
    calibration = tmp_path / "calibration.yaml"
    calibration.write_text(CALIBRATION)
    rigs = []

    def make(parameters=None, pipeline=None, **options):
        parameters = {"projection.calibration_path": str(calibration)} | (parameters or {})
        rigs.append(Rig(pipeline or load_fake().FakePipeline(), parameters, **options))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()


class CallLog:
    """Names of the functions that were called, of those that are watched."""

    def __init__(self, monkeypatch):
        self.calls = []
        self._monkeypatch = monkeypatch

    def watch(self, module, name):
        original = getattr(module, name)
        self._monkeypatch.setattr(module, name, lambda *a: (self.calls.append(name), original(*a))[1])


@pytest.fixture
def call_log(monkeypatch):
    return CallLog(monkeypatch)
