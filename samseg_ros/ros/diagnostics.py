"""/diagnostics: one status an input and one for the model; what turns bad is logged once."""

from __future__ import annotations

from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node

from samseg_ros.ros.health import ERROR, OK, Verdict
from samseg_ros.ros.messages import status

STEADY = Clock(clock_type=ClockType.STEADY_TIME)
"""Our timers go on when simulated time stands still."""


class Diagnostics:
    """Publishes verdicts periodically and whenever asked.

    Args:
        node: the owner.
        verdicts: asked for all statuses, by name.
        period_s: seconds between messages.
    """

    def __init__(self, node: Node, verdicts: Callable[[], dict[str, Verdict]], period_s: float) -> None:
        self._node, self._verdicts = node, verdicts
        self._levels: dict[str, int] = {}
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._timer = node.create_timer(period_s, self.publish, clock=STEADY)

    def publish(self) -> None:
        """Publish now."""
        verdicts = self._verdicts()
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        owner = self._node.get_fully_qualified_name()
        message.status = [
            status(f"{self._node.get_name()}: {name}", v.level, v.message, v.values, owner)
            for name, v in verdicts.items()
        ]
        self._publisher.publish(message)
        for name, verdict in verdicts.items():
            self._log_change(name, verdict)

    def _log_change(self, name: str, verdict: Verdict) -> None:
        before = self._levels.get(name, OK)
        self._levels[name] = verdict.level
        if verdict.level == before or verdict.logged:
            return
        log = self._node.get_logger()
        if verdict.level == OK:
            log.info(f"{name}: fine again ({verdict.message})")
        elif verdict.level == ERROR:
            log.error(f"{name}: {verdict.message}")
        else:
            log.warning(f"{name}: {verdict.message}")
