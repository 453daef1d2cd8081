"""The line by which a started node says what it found, and the one by which it says that all is well now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from samseg_ros.ros.health import OK, Check

DELAY_S = 5.0
"""From activation to the self-check: publishers are discovered, and every sensor has spoken."""
REPEAT_S = 5.0
"""Between looks at a set-up that was not well."""


class SelfCheck:
    """Looks some seconds after activation, and on until all is well; logs the first look and the good end, no more.

    Args:
        look: returns the rows.
        log: the node's logger.
        now_s: of the activation (any monotonic clock).
    """

    def __init__(self, look: Callable[[], Sequence[Check]], log: Any, now_s: float) -> None:
        self._look, self._log = look, log
        self._next_s: float | None = now_s + DELAY_S
        self._is_first = True

    def refresh(self, now_s: float) -> None:
        """Look if it is time to."""
        if self._next_s is None or now_s < self._next_s:
            return
        self._next_s = now_s + REPEAT_S
        checks = self._look()
        is_well = all(check.level == OK for check in checks)
        if is_well:
            self._log.info(line(checks))
            self._next_s = None
        elif self._is_first:
            self._log.warning(line(checks))  # a call of its own: rclpy refuses another severity from the same one
        self._is_first = False


def line(checks: Sequence[Check]) -> str:
    """Return one line: what is not well and its remedy, then what is."""
    bad = [check for check in checks if check.level != OK]
    good = [check for check in checks if check.level == OK]
    verdict = f"{len(bad)} of {len(checks)} not well" if bad else "all is well"
    return f"self-check: {verdict}: " + " | ".join(" ".join(str(check).split()) for check in [*bad, *good])
