"""One input of the collector beside the camera: its queue, and what can be said about what is still to come."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from samseg_ros.config import InputSyncConfig

DISORDER_S = 0.25
"""Stamps this much behind the newest are late messages; further behind, the stream has started again."""
KEEP_S = 2.0
"""Messages are kept this long (by their stamps) for an image that is still on its way."""
MAX_QUEUED = 64
"""Most messages kept of each input, images included, whatever the settings say."""
STALE_AFTER = 5
"""Sets in a row that waited in vain before an input is stale."""
GAPS_TO_PREDICT = 3
"""Gaps between messages that have to be known before the next message's stamp is predicted."""


def ns(seconds: float) -> int:
    """Return whole nanoseconds."""
    return round(seconds * 1e9)


@dataclass(frozen=True, slots=True)
class Message:
    """A message, its stamp, and when it came."""

    stamp_ns: int
    item: Any
    came_s: float


stamp_of: Callable[[Message], int] = attrgetter("stamp_ns")


@dataclass(slots=True)
class Counters:
    """What became of one input's messages."""

    received: int = 0
    refused: int = 0
    """Without a stamp, repeated, or too late to be put in order."""
    matched: int = 0
    """Sets that held it (of the camera: sets handed out)."""
    missing: int = 0
    """Sets without it (of the camera: images dropped because of `required` or `skip`)."""
    last_stamp_ns: int = 0
    last_offset_s: float | None = None
    """Of the last match: its stamp minus the camera's."""
    stale: bool = False
    """Whether sets have stopped waiting for it."""


@dataclass(slots=True)
class Stream:
    """One input beside the camera. ``reference_ns`` is always a camera stamp; ``offset_s`` is added here."""

    config: InputSyncConfig
    counters: Counters = field(default_factory=Counters)
    _messages: list[Message] = field(default_factory=list)  # by stamp
    _newest_ns: int | None = None
    _gaps_ns: deque[int] = field(default_factory=lambda: deque(maxlen=16))
    _last: Message | None = None  # newest of the dropped ones
    _leads: bool = False  # its stamps have jumped back and the camera's have not yet
    _vain_waits: int = 0

    def target_ns(self, reference_ns: int) -> int:
        """Return the stamp that is wanted for a camera image."""
        return reference_ns + ns(self.config.offset_s)

    def add(self, message: Message, reference_ns: int | None) -> bool:
        """Put a message in its place, unless its stamp is there already; ``reference_ns`` is the camera's newest."""
        newest = self._newest_ns
        if newest is not None and message.stamp_ns < newest - ns(DISORDER_S):
            self.clear()
            target = None if reference_ns is None else self.target_ns(reference_ns)
            self._leads = target is not None and abs(message.stamp_ns - target) > abs(newest - target)
        at = bisect_left(self._messages, message.stamp_ns, key=stamp_of)
        if at < len(self._messages) and self._messages[at].stamp_ns == message.stamp_ns:
            return False
        self._insert(message)
        return True

    def _insert(self, message: Message) -> None:
        if self._newest_ns is not None and message.stamp_ns > self._newest_ns:
            self._gaps_ns.append(message.stamp_ns - self._newest_ns)
        self._newest_ns = max(message.stamp_ns, self._newest_ns or 0)
        insort(self._messages, message, key=stamp_of)

    def nearest(self, reference_ns: int) -> Message | None:
        """Return the message nearest to the wanted stamp, the earlier of two; None outside the window."""
        target = self.target_ns(reference_ns)
        after = bisect_left(self._messages, target, key=stamp_of)
        around = self._messages[max(0, after - 1) : after + 1]
        best = min(around, key=lambda m: abs(m.stamp_ns - target), default=None)
        return best if best and abs(best.stamp_ns - target) <= ns(self.config.noise_window_s) else None

    def is_settled(self, reference_ns: int) -> bool:
        """Whether nothing that is still to come can be nearer (or, with nothing there, inside the window)."""
        target = self.target_ns(reference_ns)
        if self._newest_ns is None:
            return False
        if self._newest_ns >= target:
            return True
        if len(self._gaps_ns) < GAPS_TO_PREDICT:
            return False
        best = self.nearest(reference_ns)
        to_beat = abs(best.stamp_ns - target) if best else ns(self.config.noise_window_s) + 1
        return self._newest_ns + min(self._gaps_ns) - target >= to_beat

    def before(self, reference_ns: int) -> Message | None:
        """Return the last message before the wanted stamp; None where that is older than ``max_age_s``."""
        target = self.target_ns(reference_ns)
        at = bisect_left(self._messages, target, key=stamp_of)
        last = self._messages[at - 1] if at else self._last
        return last if last and target - last.stamp_ns <= ns(self.config.max_age_s) else None

    def forget(self, finished_ns: int | None, waiting_ns: int | None) -> None:
        """Drop what no image can want any more, and what is too much.

        Args:
            finished_ns: newest camera stamp whose set is done (later images are newer), or None.
            waiting_ns: oldest camera stamp that waits for its set, or None.
        """
        window = ns(self.config.noise_window_s)
        wanted_from = (self._newest_ns or 0) - ns(KEEP_S) - window
        if waiting_ns is not None:
            wanted_from = min(wanted_from, self.target_ns(waiting_ns) - window)
        if finished_ns is not None and not self._leads:
            wanted_from = max(wanted_from, self.target_ns(finished_ns) - window)
        drop = max(bisect_left(self._messages, wanted_from, key=stamp_of), len(self._messages) - MAX_QUEUED)
        if drop > 0:
            self._last = max(filter(None, (self._last, self._messages[drop - 1])), key=stamp_of)
            del self._messages[:drop]

    def clear(self) -> None:
        """Forget all messages."""
        self._messages.clear()
        self._gaps_ns.clear()
        self._newest_ns = self._last = None
        self._leads = False

    def jump(self, old_ns: int, new_ns: int) -> None:
        """Follow the camera's stamps from one time to another; what came from the new time already is kept."""
        old, new = self.target_ns(old_ns), self.target_ns(new_ns)
        is_there = new > old or self._leads
        kept = [m for m in self._messages if is_there and abs(m.stamp_ns - new) < abs(m.stamp_ns - old)]
        self.clear()
        for message in kept:
            self._insert(message)

    def judge(self, settled: bool, in_vain: bool) -> None:
        """Note how the wait for it ended: ``settled`` in time, or ``in_vain`` for the whole timeout."""
        if settled:
            self._vain_waits = 0
        elif in_vain:
            self._vain_waits += 1
        self.counters.stale = self._vain_waits >= STALE_AFTER
