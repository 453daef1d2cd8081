"""Between the callbacks and the inference thread: messages are matched here, and the newest set waits."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from samseg_ros.sensing.synchronize import Collector, MatchedSet

QUEUE_LIMIT = 256
"""Sets that wait at most with drop_policy none; a model that is too slow for its camera must not eat the memory."""
LONGEST_WAIT_S = 60.0
"""A tiny max_rate_hz asks for a pause that the operating system's clock cannot count."""


class Intake:
    """A collector that two threads share. Callbacks add and never wait; the inference thread takes.

    Args:
        collector: matches the inputs to the camera image.
        keep_all: queue every set (drop_policy none), up to `QUEUE_LIMIT`, instead of keeping only the newest.
        clock: monotonic seconds.
    """

    def __init__(self, collector: Collector, keep_all: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self.dropped = 0
        """Sets that a newer one replaced, because the model was busy or max_rate_hz held them back."""
        self.overflowed = 0
        """Those of them that should have been kept (drop_policy none)."""
        self._collector = collector
        self._keep_all = keep_all
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: deque[MatchedSet] = deque()
        self._max_rate_hz = 0.0
        self._next_start_s = 0.0
        self._closed = False
        self._taking = False

    @property
    def max_rate_hz(self) -> float:
        """Upper limit of sets per second; 0: none. A new one holds at once."""
        return self._max_rate_hz

    @max_rate_hz.setter
    def max_rate_hz(self, rate_hz: float) -> None:
        with self._changed:
            if rate_hz == self._max_rate_hz:  # other settings change too: the beat goes on
                return
            self._max_rate_hz = rate_hz
            self._next_start_s = 0.0
            self._changed.notify()

    def add(self, name: str | None, stamp_ns: int, item: Any) -> None:
        """Add a message of input ``name`` (None: the camera image)."""
        with self._changed:
            now = self._clock()
            if name is None:
                self._collector.add_reference(stamp_ns, item, now)
            else:
                self._collector.add(name, stamp_ns, item, now)
            self._collect(now)
            self._changed.notify()

    def take(self) -> MatchedSet | None:
        """Wait for the next set; None once closed."""
        with self._changed:
            self._taking = True
            while not self._closed:
                now = self._clock()
                self._collect(now)
                if self._waiting and now >= self._next_start_s:
                    self._pace(now)
                    self._taking = False
                    return self._waiting.popleft()
                self._changed.wait(self._pause_s(now))
            return None

    def close(self) -> None:
        """End the thread that takes, after the set it works on."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def __len__(self) -> int:
        """Return the number of sets that wait."""
        return len(self._waiting)

    def _collect(self, now: float) -> None:
        self._waiting.extend(self._collector.ready(now))
        is_idle = self._taking and now >= self._next_start_s
        capacity = 2 if is_idle else 1  # one to start with now, and one that waits meanwhile
        if self._keep_all:
            capacity = QUEUE_LIMIT
        while len(self._waiting) > capacity:
            self._waiting.popleft()
            self.dropped += 1
            self.overflowed += self._keep_all

    def _pace(self, now: float) -> None:
        if self._max_rate_hz <= 0:
            self._next_start_s = now
            return
        period = 1.0 / self._max_rate_hz
        is_on_beat = now - self._next_start_s < 0.5 * period  # then the mean rate is kept whatever the jitter
        self._next_start_s = (self._next_start_s if is_on_beat else now) + period

    def _pause_s(self, now: float) -> float | None:
        deadlines = [self._next_start_s] if self._waiting else []
        deadline = self._collector.next_deadline()
        if deadline is not None:
            deadlines.append(deadline)
        return max(0.0, min(min(deadlines) - now, LONGEST_WAIT_S)) if deadlines else None
