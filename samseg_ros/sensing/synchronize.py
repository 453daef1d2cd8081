"""The collector: messages of several sensors in, one matched set per camera image out. Pure: stamps, items and a clock.

The rules, in the order in which a set meets them:

1. Every camera image becomes one set, in the order of the stamps, exactly once.
2. Every other input gives its message nearest to ``stamp + offset_s``, if it lies within ``noise_window_s``. One
   message may serve several images (a 10 Hz LiDAR beside a 30 Hz camera).
3. A set waits for an input only while something better can still come. It cannot when a message at or after the wanted
   stamp is there (streams are ordered), or when the next message, one gap after the newest at the soonest, would be
   further away than what is there. The gap is the smallest of the last few.
4. It waits for ``timeout_s`` after the image came, no longer.
5. An input that made ``STALE_AFTER`` sets in a row wait for the whole timeout in vain (it is silent, or always later
   than that) is *stale*: nobody waits for it. It is still taken when it is there, and it is waited for again as soon
   as it is seen to settle an image within the timeout.
6. Then ``on_missing`` and ``required`` say what becomes of the set.

When the camera's stamps jump (a bag that loops, a simulator that restarts, a seek), the waiting sets are finished with
what is there, and the queues are emptied. A loop shorter than ``DISORDER_S`` cannot be told from late messages.
"""

from __future__ import annotations

import logging
from bisect import insort
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from samseg_ros.config import InputSyncConfig
from samseg_ros.errors import InputError
from samseg_ros.sensing.stream import DISORDER_S, MAX_QUEUED, Counters, Message, Stream, ns, stamp_of

_AT_ONCE = float("-inf")

Report = Callable[[str, InputError], None]
"""Takes the name of an input and why its message was refused."""


@dataclass(frozen=True, eq=False, slots=True)
class MatchedSet:
    """One camera image and what belongs to it."""

    stamp_ns: int
    reference: Any
    """The camera image's message."""
    others: dict[str, Any]
    """Messages by input. With ``on_missing: last`` an older one may stand in: then the name is in `missing` too."""
    offsets_s: dict[str, float]
    """Stamp of each of `others` minus the camera's, seconds (``offset_s`` not taken off)."""
    missing: tuple[str, ...]
    """Inputs without a message inside their window."""


class Collector:
    """Matches messages to camera images. Not thread-safe: share it under a lock.

    Args:
        inputs: settings by name of every input beside the camera.
        time_jump_reset_s: a forward jump of the camera's stamps beyond this empties the queues (a backward one beyond
            `DISORDER_S` always does, since images come in order).
        report: called for every refused message; by default each input's first one is logged as a warning.
        reference: the camera's name in `counters` and reports.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSyncConfig],
        time_jump_reset_s: float,
        report: Report | None = None,
        reference: str = "image",
    ) -> None:
        self.jumps = 0
        """How often the camera's stamps have jumped."""
        self._streams = {name: Stream(config) for name, config in inputs.items()}
        self.counters = {reference: Counters()} | {name: s.counters for name, s in self._streams.items()}
        """By input, the camera among them."""
        self._jump_ns = ns(time_jump_reset_s)
        self._report = report or _log_once()
        self._reference = reference
        self._waiting: list[Message] = []  # images, by stamp
        self._recent: deque[Message] = deque(maxlen=MAX_QUEUED)  # stamps of images, by arrival
        self._newest_ns: int | None = None
        self._finished_ns: int | None = None
        self._done: list[MatchedSet] = []

    def add_reference(self, stamp_ns: int, item: Any, now_s: float) -> None:
        """Take a camera image that came at ``now_s`` (any monotonic clock)."""
        if not self._has_stamp(self._reference, stamp_ns):
            return
        newest = self._newest_ns
        if newest is not None and not newest - ns(DISORDER_S) <= stamp_ns <= newest + self._jump_ns:
            self._jump(newest, stamp_ns)
        elif self._finished_ns is not None and stamp_ns <= self._finished_ns:
            self._refuse(self._reference, f"{stamp_ns}, not after {self._finished_ns}, which was handed out already")
            return
        elif any(image.stamp_ns == stamp_ns for image in self._waiting):
            self._refuse(self._reference, f"{stamp_ns} a second time")
            return
        self._newest_ns = max(stamp_ns, self._newest_ns or 0)
        insort(self._waiting, Message(stamp_ns, item, now_s), key=stamp_of)
        self._recent.append(Message(stamp_ns, None, now_s))
        if len(self._waiting) > MAX_QUEUED:
            self._finish_first(_AT_ONCE)

    def add(self, name: str, stamp_ns: int, item: Any, now_s: float) -> None:
        """Take a message of another input that came at ``now_s``."""
        if not self._has_stamp(name, stamp_ns):
            return
        stream = self._streams[name]
        open_stamps = self._unsettled_in_time(stream, now_s) if stream.counters.stale else []
        if not stream.add(Message(stamp_ns, item, now_s), self._newest_ns):
            self._refuse(name, f"{stamp_ns} a second time")
            return
        if any(map(stream.is_settled, open_stamps)):
            stream.judge(settled=True, in_vain=False)
        self._forget(stream)

    def ready(self, now_s: float) -> list[MatchedSet]:
        """Hand out the sets that are complete or have waited long enough, in camera order."""
        while self._waiting and self._due_s(self._waiting[0]) <= now_s:
            self._finish_first(now_s)
        done, self._done = self._done, []
        return done

    def next_deadline(self) -> float | None:
        """Return when `ready` has to be called even if nothing more comes (-inf: now); None if no image waits."""
        if self._done:
            return _AT_ONCE
        return self._due_s(self._waiting[0]) if self._waiting else None

    def flush(self) -> list[MatchedSet]:
        """Hand out what is left, with what is there: nothing more will come. The collector starts afresh."""
        self._finish_all()
        for stream in self._streams.values():
            stream.clear()
        return self.ready(_AT_ONCE)

    def _has_stamp(self, name: str, stamp_ns: int) -> bool:
        counters = self.counters[name]
        counters.received += 1
        if stamp_ns > 0:
            counters.last_stamp_ns = stamp_ns
        else:
            self._refuse(name, f"{stamp_ns} (empty)")
        return stamp_ns > 0

    def _refuse(self, name: str, got: str) -> None:
        self.counters[name].refused += 1
        error = InputError(
            f"stamp of {name}",
            expected="a time after 0, another one for each message",
            got=got,
            remedy="let the driver fill in header.stamp from its clock (with use_sim_time: is /clock published?)",
        )
        self._report(name, error)

    def _unsettled_in_time(self, stream: Stream, now_s: float) -> list[int]:
        """Return the stamps of the images, handed out or not, that a message would settle within the timeout now."""
        in_time = (i.stamp_ns for i in self._recent if now_s <= i.came_s + stream.config.timeout_s)
        return [stamp for stamp in in_time if not stream.is_settled(stamp)]

    def _due_s(self, image: Message) -> float:
        """Return until when a set waits: the longest timeout of the inputs that something better may come from."""
        timeouts = [
            stream.config.timeout_s
            for stream in self._streams.values()
            if not stream.counters.stale and not stream.is_settled(image.stamp_ns)
        ]
        return image.came_s + max(timeouts) if timeouts else _AT_ONCE

    def _finish_first(self, now_s: float) -> None:
        """Make the set of the oldest image and count what became of every input."""
        image = self._waiting.pop(0)
        found: dict[str, Message] = {}
        missing = []
        for name, stream in self._streams.items():
            settled, timeout = stream.is_settled(image.stamp_ns), stream.config.timeout_s
            stream.judge(settled, in_vain=timeout > 0 and now_s >= image.came_s + timeout)
            message = stream.nearest(image.stamp_ns)
            if message is not None:
                stream.counters.matched += 1
                stream.counters.last_offset_s = (message.stamp_ns - image.stamp_ns) * 1e-9
            else:
                stream.counters.missing += 1
                missing.append(name)
                message = stream.before(image.stamp_ns) if stream.config.on_missing == "last" else None
            if message is not None:
                found[name] = message
        self._finished_ns = image.stamp_ns
        self._hand_out(image, found, tuple(missing))
        for stream in self._streams.values():
            self._forget(stream)

    def _hand_out(self, image: Message, found: Mapping[str, Message], missing: tuple[str, ...]) -> None:
        counters = self.counters[self._reference]
        configs = [self._streams[name].config for name in missing]
        if any(c.required or c.on_missing == "skip" for c in configs):
            counters.missing += 1
            return
        counters.matched += 1
        others = {name: message.item for name, message in found.items()}
        offsets = {name: (message.stamp_ns - image.stamp_ns) * 1e-9 for name, message in found.items()}
        self._done.append(MatchedSet(image.stamp_ns, image.item, others, offsets, missing))

    def _finish_all(self) -> None:
        while self._waiting:
            self._finish_first(_AT_ONCE)
        self._finished_ns = self._newest_ns = None

    def _jump(self, old_ns: int, new_ns: int) -> None:
        self.jumps += 1
        self._finish_all()
        for stream in self._streams.values():
            stream.jump(old_ns, new_ns)

    def _forget(self, stream: Stream) -> None:
        stream.forget(self._finished_ns, self._waiting[0].stamp_ns if self._waiting else None)


def _log_once() -> Report:
    """Return a report that logs the first refusal of each input."""
    seen: set[str] = set()

    def report(name: str, error: InputError) -> None:
        if name not in seen:
            seen.add(name)
            logging.getLogger(__name__).warning("%s (said once)", error)

    return report
