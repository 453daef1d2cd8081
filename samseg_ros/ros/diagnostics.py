"""/diagnostics: one status an input and one for the model; what turns bad is logged once."""

from __future__ import annotations

import time
from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node

from samseg_ros.ros.health import ERROR, LOG_PERIOD_S, OK, Verdict
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
        self._announced: dict[str, tuple[int, float]] = {}  # level that the log knows of, and since when
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._timer = node.create_timer(period_s, self.publish, clock=STEADY)

    def repeat_every(self, period_s: float) -> None:
        """Change the seconds between messages."""
        period_ns = round(period_s * 1e9)
        if period_ns != self._timer.timer_period_ns:
            self._timer.timer_period_ns = period_ns
            self._timer.reset()  # else the old period ends first

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
        level, when = self._announced.get(name, (OK, float("-inf")))
        now = time.monotonic()
        if verdict.level == level:
            return
        if verdict.logged:
            self._announced[name] = verdict.level, when
            return
        if now - when < LOG_PERIOD_S:  # it flickers; what it settles to is said later
            return
        self._announced[name] = verdict.level, now
        log = self._node.get_logger()
        if verdict.level == OK:
            log.info(f"{name}: fine again ({verdict.message})")
        elif verdict.level == ERROR:
            log.error(f"{name}: {verdict.message}")
        else:
            log.warning(f"{name}: {verdict.message}")
