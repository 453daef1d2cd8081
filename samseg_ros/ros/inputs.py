"""One input of the node: its topic, the compressed variant, and a reliability that follows the publishers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Set
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSPolicyKind, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from samseg_ros.config import QosConfig
from samseg_ros.ros import qos
from samseg_ros.ros.interop import subscribe
from samseg_ros.sensing import convert

INPUTS: dict[str, tuple[str, type]] = {
    "image": ("~/input/image", Image),
    "thermal": ("~/input/thermal", Image),
    "lidar": ("~/input/pointcloud", PointCloud2),
    "camera_info": ("~/input/image/camera_info", CameraInfo),
    "thermal_info": ("~/input/thermal/camera_info", CameraInfo),
}
"""Name → topic before remapping, message type. An Image is taken from ``…/compressed`` as well."""


RAW_SILENCE_S = 2.0
"""The compressed variant is left alone until the raw topic has been silent for so long."""


class Input:
    """Subscriptions to one input; the first `refresh` makes them.

    Args:
        node: the owner.
        name: a key of `INPUTS`.
        callback: takes every message.
        config: reliability and depth.
        overridden: names of parameters that the user gave (a QoS override wins over ``auto``).
    """

    def __init__(
        self, node: Node, name: str, callback: Callable[[Any], None], config: QosConfig, overridden: Set[str]
    ) -> None:
        self.name = name
        self.private, kind = INPUTS[name]
        self.topic = node.resolve_topic_name(self.private)
        self._node, self._callback, self._config, self._overridden = node, callback, config, overridden
        if kind is Image:
            self.topic = self.topic.removesuffix("/compressed")  # remapped to the variant itself: both are taken
        self._kinds: dict[str, type] = {self.topic: kind}
        if kind is Image:
            self._kinds[_compressed_topic(node, self.private, self.topic)] = CompressedImage
        self._open: dict[str, tuple[ReliabilityPolicy, Callable[[], None]]] = {}
        self._raw_s = float("-inf")
        self._seen: deque[tuple[int, str]] = deque(maxlen=16)  # stamps, and the variant that they came by

    def refresh(self) -> None:
        """Subscribe, and follow the publishers: call it now and then, from the executor's thread."""
        raw_comes = time.monotonic() - self._raw_s < RAW_SILENCE_S
        for topic, kind in self._kinds.items():
            wanted = kind is not CompressedImage or not raw_comes  # nobody should compress for nothing
            reliability = self._reliability(topic)
            if topic in self._open and (not wanted or self._open[topic][0] != reliability):
                self._open.pop(topic)[1]()
            if wanted and topic not in self._open:
                self._open[topic] = reliability, self._subscribe(topic, kind, reliability)

    def close(self) -> None:
        """End the subscriptions."""
        for _, end in self._open.values():
            end()
        self._open.clear()

    def why_nothing(self) -> str:
        """Say why no message comes, with the remedy."""
        return qos.why_nothing(*self._asked())

    def problems(self) -> list[tuple[str, str]]:
        """Return the same as pairs of what is wrong and what to do."""
        return qos.problems(*self._asked())

    def offers(self) -> str:
        """Say who publishes here, and how reliably."""
        return qos.offers(self._node, self._kinds)

    def _asked(self) -> tuple[Node, dict[str, str], ReliabilityPolicy, str]:
        kinds = {topic: f"sensor_msgs/msg/{kind.__name__}" for topic, kind in self._kinds.items()}
        asked = next((r for r, _ in self._open.values()), ReliabilityPolicy.RELIABLE)
        return self._node, kinds, asked, self.private

    def _reliability(self, topic: str) -> ReliabilityPolicy:
        fixed = qos.FIXED.get(self._config.reliability)
        return qos.matching_reliability(self._node, topic) if fixed is None else fixed

    def _subscribe(self, topic: str, kind: type, reliability: ReliabilityPolicy) -> Callable[[], None]:
        policies = [QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH]
        if f"qos_overrides.{topic}.subscription.reliability" in self._overridden:
            policies.append(QoSPolicyKind.RELIABILITY)
        return subscribe(
            self._node,
            kind,
            topic,
            lambda message: self._take(topic, message),
            qos.input_qos(reliability, self._config.depth),
            qos_overriding_options=QoSOverridingOptions(policies),
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=lambda _: self._incompatible(topic)),
        )

    def _take(self, topic: str, message: Any) -> None:
        stamp = convert.stamp_ns(message.header)
        if any(stamp == seen and topic != variant for seen, variant in self._seen):
            return  # the same image, once more as the other variant
        self._seen.append((stamp, topic))
        if topic == self.topic:
            self._raw_s = time.monotonic()
        self._callback(message)

    def _incompatible(self, topic: str) -> None:
        if self._config.reliability != "auto":  # auto changes over by itself with the next refresh
            self._node.get_logger().warning(f"{self.name}: {self.why_nothing()} ({topic})")


def _compressed_topic(node: Node, private: str, resolved: str) -> str:
    """``…/compressed`` beside the topic itself, unless it was remapped on its own."""
    name = f"{private}/compressed"
    remapped = node.resolve_topic_name(name)
    is_remapped = remapped != node.resolve_topic_name(name, only_expand=True)
    return remapped if is_remapped else f"{resolved}/compressed"
