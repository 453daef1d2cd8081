"""Which provider serves what: packages of a full ROS 2 installation where they are, our own code where they are not.

Everything is looked up lazily, so that the base profile (PyPI only) never needs tf2_ros, cv_bridge, message_filters,
sensor_msgs_py or vision_msgs.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile

from samseg_ros.errors import InputError
from samseg_ros.sensing import convert
from samseg_ros.types import PointCloud


@cache
def optional(name: str) -> ModuleType | None:
    """Import a module that may be missing or broken (cv_bridge built against another NumPy raises anything)."""
    try:
        return importlib.import_module(name)
    except Exception:
        return None


def subscribe(
    node: Node, kind: type, topic: str, callback: Callable[[Any], None], qos: QoSProfile, **options: Any
) -> Callable[[], None]:
    """Subscribe through message_filters where it exists; return what ends the subscription."""
    filters = optional("message_filters")
    if filters is None:
        subscription = node.create_subscription(kind, topic, callback, qos, **options)
    else:
        subscriber = filters.Subscriber(node, kind, topic, qos_profile=qos, **options)
        subscriber.registerCallback(callback)
        subscription = subscriber.sub
    return lambda: node.destroy_subscription(subscription)


def color_image(message: Any) -> NDArray[np.uint8]:
    """(H, W, 3) RGB; encodings that we do not know go through cv_bridge where it is installed."""
    try:
        return convert.color_image(message)
    except InputError as error:
        return np.asarray(_bridged(message, "rgb8", error), np.uint8)


def thermal_image(message: Any) -> NDArray[np.generic]:
    """(H, W) counts or grey; encodings that we do not know go through cv_bridge where it is installed."""
    try:
        return convert.thermal_image(message)
    except InputError as error:
        image: NDArray[np.generic] = np.asarray(_bridged(message, "passthrough", error))
        if image.ndim != 2:
            raise
        return image


def _bridged(message: Any, encoding: str, refusal: InputError) -> Any:
    bridge = optional("cv_bridge")
    if bridge is None or not refusal.what.endswith("image encoding"):
        raise refusal
    try:
        return bridge.CvBridge().imgmsg_to_cv2(message, encoding)
    except Exception:  # it does not know the encoding either: ours is the clearer message
        raise refusal from None


def point_cloud(message: Any) -> PointCloud:
    """Read x, y, z and intensity, with sensor_msgs_py where it is installed."""
    reader = optional("sensor_msgs_py.point_cloud2")
    is_padded = message.row_step != message.width * message.point_step  # sensor_msgs_py does not look at row_step
    is_swapped = message.is_bigendian != (sys.byteorder == "big")  # it would swap the message's own bytes, each time
    return (
        convert.point_cloud(message) if reader is None or is_padded or is_swapped else point_cloud_with(reader, message)
    )


def point_cloud_with(reader: Any, message: Any) -> PointCloud:
    """Read a cloud with ``sensor_msgs_py.point_cloud2``; what it cannot read gets our own clear refusal."""
    has_intensity = any(field.name == "intensity" for field in message.fields)
    if message.width * message.height:
        convert.require_readable_cloud(message)  # it takes whole numbers for metres, and data of any length
    try:
        points = reader.read_points(message, ["x", "y", "z"] + ["intensity"] * has_intensity).reshape(-1)
        xyz = np.stack([points[axis] for axis in "xyz"], axis=-1).astype(np.float32)
        intensity = points["intensity"].astype(np.float32) if has_intensity else None
    except Exception:  # it asserts, or raises whatever NumPy raises
        return convert.point_cloud(message)
    return PointCloud(xyz, intensity, message.header.frame_id, convert.stamp_ns(message.header))
