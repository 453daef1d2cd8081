"""std_msgs/Header, duck-typed: rclpy's and rosbags' alike, no ROS import."""

from __future__ import annotations

from typing import Any


def stamp_ns(header: Any) -> int:
    """Return the stamp of a std_msgs/Header in nanoseconds."""
    return int(header.stamp.sec) * 10**9 + int(header.stamp.nanosec)
