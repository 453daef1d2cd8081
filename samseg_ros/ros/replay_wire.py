"""Both ends of the wire of a live replay: raw publishers onto the node's inputs, raw subscriptions to its outputs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import String

from samseg_ros.datasets.bag import Message, raw_stamp_ns
from samseg_ros.datasets.bag_topics import BagTopics
from samseg_ros.errors import SamsegError
from samseg_ros.evaluation import recording
from samseg_ros.ros.inputs import INPUTS

TYPES = {
    "sensor_msgs/msg/Image": Image,
    "sensor_msgs/msg/CompressedImage": CompressedImage,
    "sensor_msgs/msg/CameraInfo": CameraInfo,
    "sensor_msgs/msg/PointCloud2": PointCloud2,
    recording.ARRAY: DiagnosticArray,
    recording.STRING: String,
}
NODE_INPUTS = {name: private.removeprefix("~/") for name, (private, _) in INPUTS.items()}
"""Fields of `BagTopics` → the node's inputs, below its name."""

STAGES = ("convert", "prepare", "model", "posterior", "publish")
"""What the node times, as /diagnostics names it."""
DEPTH = 64
ACK_WAIT_S = 0.3
"""No error if it takes longer: the node waits for what is on its way. Only a window with two messages needs this."""
MATCH_WAIT_S = 30.0
SETTLE_S = 0.5
"""Matching is seen on one side a little before the other; a node publishes only what it knows to be listened to."""


@dataclass(frozen=True, slots=True)
class Received:
    """One output of the node, still serialised."""

    topic: str
    """As in `recording.OUTPUTS`, wherever the node stands."""
    raw: bytes
    came_s: float
    """time.monotonic()."""

    @property
    def stamp_ns(self) -> int:
        """Stamp in its header."""
        return raw_stamp_ns(self.raw)


class Wire:
    """Publishes to and records from one node.

    Args:
        node: ours.
        target: fully qualified name of the node on the other side.
        types: topic of the recording → message type.
        topics: which topic is what.
    """

    def __init__(self, node: Node, target: str, types: Mapping[str, str], topics: BagTopics) -> None:
        self.outputs: SimpleQueue[Received] = SimpleQueue()
        self.label_info = b""
        self.node_status: dict[str, Any] = {}
        """Last /diagnostics of the node: name → (level, message, values)."""
        self.stages_ms: dict[str, list[float]] = {}
        """Stage → samples, one a /diagnostics message that came after a mask."""
        self.published_s: dict[int, float] = {}
        """Stamp of each camera image → time.monotonic() at which it was handed to DDS."""
        self._node, self._target, self._image = node, target, topics.image
        qos = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.RELIABLE)
        self._inputs = {field: name for field in NODE_INPUTS if (name := getattr(topics, field))}
        self._publishers = {
            name: node.create_publisher(TYPES[types[name]], f"{target}/{input_name(field, types[name])}", qos)
            for field, name in self._inputs.items()
        }
        self._subscriptions = {topic: self._record(topic, kind, qos) for topic, kind in recording.OUTPUTS.items()}
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._state = node.create_client(GetState, f"{target}/get_state")

    def _record(self, topic: str, kind: str, qos: QoSProfile) -> Any:
        mine = topic.replace(recording.NODE, self._target, 1)
        if topic == recording.LABEL_INFO:
            latched = QoSProfile(
                depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
            )
            return self._node.create_subscription(TYPES[kind], mine, self._on_label_info, latched, raw=True)

        def take(raw: bytes) -> None:
            self.outputs.put(Received(topic, bytes(raw), time.monotonic()))

        return self._node.create_subscription(TYPES[kind], mine, take, qos, raw=True)

    def _on_label_info(self, raw: bytes) -> None:
        self.label_info = bytes(raw)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.hardware_id in ("", self._target):
                values = {pair.key: pair.value for pair in status.values}
                name = status.name.rpartition(": ")[2]
                self.node_status[name] = (int.from_bytes(status.level, "little"), status.message, values)
                if name == "model" and self.published_s:
                    for stage in STAGES:
                        if f"{stage}_ms" in values:
                            self.stages_ms.setdefault(stage, []).append(float(values[f"{stage}_ms"]))

    def wait_until_active(self, alive: Callable[[], None], timeout_s: float) -> None:
        """Wait until the node is active and both sides know of each other.

        Args:
            alive: raises if the node's process has ended.
            timeout_s: for loading and warming up the model.

        Raises:
            SamsegError: the node cannot be configured, or it takes too long.
        """
        self._until(self._is_active, alive, timeout_s, "the node did not become active")
        self._until(self._is_heard, alive, MATCH_WAIT_S, "the node's topics were not found")
        with suppress(SamsegError):
            self._until(self._is_listened_to, alive, MATCH_WAIT_S, "")
        time.sleep(SETTLE_S)

    def _until(self, done: Callable[[], bool], alive: Callable[[], None], timeout_s: float, failure: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not done():
            alive()
            if time.monotonic() > deadline:
                raise SamsegError(f"{failure} within {timeout_s:.0f} s")
            time.sleep(0.05)

    def _is_active(self) -> bool:
        level, message, _ = self.node_status.get("model", (0, "", {}))
        if level == 2:
            raise SamsegError(f"the node cannot start: {message}")
        if not self._state.service_is_ready():
            return False
        answer = self._state.call_async(GetState.Request())
        deadline = time.monotonic() + 1.0
        while not answer.done() and time.monotonic() < deadline:
            time.sleep(0.02)
        result = answer.result() if answer.done() else None
        return result is not None and result.current_state.id == State.PRIMARY_STATE_ACTIVE

    def _is_heard(self) -> bool:
        image = self._publishers[self._image].get_subscription_count() > 0
        always = (topic for topic in recording.OUTPUTS if topic not in recording.NOT_ALWAYS_OFFERED)
        return image and bool(self.label_info) and all(self.offered(topic) for topic in always)

    def _is_listened_to(self) -> bool:
        """Whether the node hears every input that it uses, by its own /diagnostics: the others never come."""
        used = [self._publishers[name] for field, name in self._inputs.items() if field in self.node_status]
        return bool(used) and all(publisher.get_subscription_count() for publisher in used)

    def offered(self, topic: str) -> bool:
        """Whether the node publishes this output (`recording.OUTPUTS`)."""
        return bool(self._subscriptions[topic].get_publisher_count())

    def wanted(self, topic: str) -> bool:
        """Whether the node listens to this topic of the recording."""
        return bool(topic) and self._publishers[topic].get_subscription_count() > 0

    def publish(self, message: Message) -> None:
        """Send a recorded message as it is."""
        if message.topic == self._image:
            self.published_s[message.stamp_ns] = time.monotonic()
        self._publishers[message.topic].publish(message.raw)

    def wait_until_delivered(self) -> None:
        """Wait until the node's side has acknowledged everything but images."""
        for topic, publisher in self._publishers.items():
            if topic != self._image and publisher.get_subscription_count():
                publisher.wait_for_all_acked(Duration(seconds=ACK_WAIT_S))

    def receive(self, timeout_s: float) -> Received | None:
        """Return the next output, None if none comes in time."""
        try:
            return self.outputs.get(timeout=max(timeout_s, 0.0)) if timeout_s > 0 else self.outputs.get_nowait()
        except Empty:
            return None

    def status(self) -> dict[str, Any]:
        """Return the node's last word on every input and the model, for the results."""
        return {n: {"level": v[0], "message": v[1], "values": v[2]} for n, v in sorted(self.node_status.items())}


def input_name(field: str, kind: str) -> str:
    """Return the node's input for a topic of that type, below the node's name."""
    return NODE_INPUTS[field] + ("/compressed" if kind == "sensor_msgs/msg/CompressedImage" else "")


@contextmanager
def spinning(name: str, domain: int | None = None, args: list[str] | None = None) -> Iterator[Node]:
    """Make a node in a context of its own, and spin it in a thread."""
    context = Context()
    rclpy.init(args=args, context=context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node(name, context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    thread = threading.Thread(target=_spin, args=(executor,), name="replay", daemon=True)
    thread.start()
    try:
        yield node
    finally:
        executor.shutdown(timeout_sec=1.0)
        thread.join(2.0)
        node.destroy_node()
        context.try_shutdown()


def _spin(executor: SingleThreadedExecutor) -> None:
    with suppress(ExternalShutdownException):
        executor.spin()
