"""How every input and the model are doing, as plain numbers and one sentence each (no ROS types here)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from samseg_ros.config import DiagnosticsConfig
from samseg_ros.errors import InputError, SamsegError

OK, WARN, ERROR = 0, 1, 2
"""Levels of diagnostic_msgs/DiagnosticStatus."""
LOG_PERIOD_S = 5.0
"""A persisting fault is logged this often and no more; /diagnostics shows it all the time."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line of /diagnostics."""

    level: int
    message: str
    values: dict[str, str]
    logged: bool = False
    """Whether the message was logged when it happened, or is not worth it."""


@dataclass(frozen=True, slots=True)
class Check:
    """One row: what was looked at, and what was found."""

    what: str
    level: int
    """`OK`; `WARN`: used all the same; `ERROR`: cannot be used."""
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        """As one clause of a line."""
        return f"{self.what}: {self.found}" + (f"; {self.remedy}" if self.remedy else "")


def failure(what: str, error: Exception) -> Check:
    """Make the row of an error; those of this package say the remedy behind a semicolon."""
    if isinstance(error, InputError):
        return Check(what, ERROR, f"{error.what}: expected {error.expected}, got {error.got}", error.remedy)
    text = str(error) if isinstance(error, SamsegError) else f"{type(error).__name__}: {error}"
    found, _, remedy = text.partition("; ")
    return Check(what, ERROR, found, remedy)


@dataclass(slots=True)
class InputHealth:
    """One input. Callbacks count arrivals, the inference thread reports what became of them."""

    name: str
    topic: str
    needed: bool
    """Without it there is no mask: trouble is an ERROR, else a WARN."""
    started_s: float
    """When we began to listen."""
    received: int = 0
    fused: int = 0
    missing: int = 0
    bad: int = 0
    error: str = ""
    """What is wrong with the data now; empty once good data came."""
    note: str = ""
    """What is odd about data that is used all the same."""
    details: dict[str, str] = field(default_factory=dict)
    """Further values, shown as they are."""
    frame_id: str = ""
    """Of the last message."""
    offset_s: float | None = None
    """Stamp of the last fused message minus the camera's."""
    behind_s: float | None = None
    """Newest camera stamp at the time of arrival minus the message's own stamp."""
    last_stamp_ns: int = 0
    matched: bool = True
    """Whether most of the latest sets held this input."""
    _arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=30))
    _logged_s: float = float("-inf")
    _sets: tuple[int, int] = (0, 0)

    def arrived(self, stamp_ns: int, reference_ns: int, now_s: float) -> None:
        """Count a message; ``reference_ns`` is the newest camera stamp (0: none yet)."""
        self.received += 1
        self.last_stamp_ns = stamp_ns
        self.behind_s = (reference_ns - stamp_ns) * 1e-9 if reference_ns else None
        self._arrivals.append(now_s)

    def failed(self, error: str, now_s: float) -> bool:
        """Note unusable data; return whether it is time to log it."""
        self.bad += 1
        self.error = error
        due = now_s - self._logged_s >= LOG_PERIOD_S
        if due:
            self._logged_s = now_s
        return due

    def used(self, offset_s: float | None = None) -> None:
        """Note that good data went into a mask."""
        self.fused += 1
        self.error = ""
        self.offset_s = offset_s

    def synchronized(self, matched: int, missing: int) -> None:
        """Take over the collector's totals of sets with and without this input."""
        new_matched, new_missing = matched - self._sets[0], missing - self._sets[1]
        if new_matched or new_missing:
            self.matched = new_matched >= new_missing
        self._sets, self.missing = (matched, missing), missing

    def rate_hz(self) -> float:
        """Mean rate of the last messages."""
        if len(self._arrivals) < 2 or self._arrivals[-1] <= self._arrivals[0]:
            return 0.0
        return (len(self._arrivals) - 1) / (self._arrivals[-1] - self._arrivals[0])

    def silence_s(self, now_s: float) -> float:
        """Seconds since the last message, or since we began to listen."""
        return now_s - (self._arrivals[-1] if self._arrivals else self.started_s)

    def verdict(self, now_s: float, timeout_s: float, why_nothing: Callable[[], str]) -> Verdict:
        """Judge the input; ``why_nothing`` is asked what the graph knows when nothing comes."""
        silence = self.silence_s(now_s)
        silent = silence > timeout_s
        level = ERROR if self.needed else WARN
        logged = False
        if not self.received:
            message = f"never received on {self.topic}: {why_nothing()}" if silent else "waiting"
            level = level if silent else OK
        elif silent:
            message = f"missing: silent for {silence:.1f} s on {self.topic}: {self.error or why_nothing()}"
        elif self.error:
            message, logged = self.error, True
        elif not self.matched:
            message = self._unmatched()
        elif self.note:
            level, message = WARN, self.note
        else:
            level, message = OK, "fused" if self.fused else "received"
        values = {
            "rate_hz": "0" if silent else f"{self.rate_hz():.2f}",
            "age_s": f"{silence:.3f}" if self.received else "",
            "offset_s": _seconds(self.offset_s),
            "behind_camera_s": _seconds(self.behind_s),
            "received": str(self.received),
            "fused": str(self.fused),
            "missing": str(self.missing),
            "bad": str(self.bad),
            "topic": self.topic,
        }
        return Verdict(level, message, values | self.details, logged)

    def _unmatched(self) -> str:
        if self.name == "image":
            return "frames are dropped: an input that is required (or on_missing: skip) is missing"
        away = "" if self.behind_s is None else f", {self.behind_s:+.3f} s behind the camera when it came"
        return (
            f"missing: it arrives, but not in time or not near the camera's stamps{away}; "
            f"set sync.{self.name}.timeout_s (late) or sync.{self.name}.offset_s (shifted)"
        )


def frame_note(image_frame: str, info_frame: str) -> str:
    """Say that a camera_info names another frame than the image; empty where it does not, or one names none."""
    if not image_frame or not info_frame or image_frame == info_frame:
        return ""
    return f"camera_info is of frame {info_frame!r}, the image of {image_frame!r}: is it the same camera's?"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


@dataclass(slots=True)
class ModelHealth:
    """The model and the path around it."""

    state: str = "unconfigured"
    processed: int = 0
    failed_frames: int = 0
    error: str = ""
    timings_ms: dict[str, float] = field(default_factory=dict)
    """Of the last frame."""
    latency_ms: float | None = None
    """Node clock at publication minus the image's stamp."""
    frame_since_s: float | None = None
    """When the frame in work was begun; None between frames."""
    is_working: bool = True
    """Whether the inference thread lives, while active."""
    overflowed: int = 0
    """Sets that drop_policy none should have kept, but that the queue had no room for."""
    _totals: deque[float] = field(default_factory=lambda: deque(maxlen=100))
    _done: deque[float] = field(default_factory=lambda: deque(maxlen=30))
    _slow_since_s: float | None = None
    _logged_s: float = float("-inf")

    def done(self, timings_ms: dict[str, float], total_ms: float, limit_ms: float, now_s: float) -> None:
        """Note a published mask."""
        self.processed += 1
        self.error = ""
        self.timings_ms = {**timings_ms, "total": total_ms}
        self._totals.append(total_ms)
        self._done.append(now_s)
        if total_ms <= limit_ms:
            self._slow_since_s = None
        elif self._slow_since_s is None:
            self._slow_since_s = now_s - total_ms * 1e-3

    def failed(self, error: str, now_s: float) -> bool:
        """Note a frame without a mask; return whether it is time to log it."""
        self.failed_frames += 1
        self.error = error
        due = now_s - self._logged_s >= LOG_PERIOD_S
        if due:
            self._logged_s = now_s
        return due

    def verdict(self, now_s: float, limits: DiagnosticsConfig, extra: dict[str, str]) -> Verdict:
        """Judge the model; ``extra`` values are shown as they are."""
        level, message, logged = self._judge(now_s, limits)
        totals = sorted(self._totals)
        values = {"state": self.state, "processed": str(self.processed), "failed": str(self.failed_frames)}
        values |= {f"{stage}_ms": f"{ms:.1f}" for stage, ms in self.timings_ms.items()}
        if totals:
            values["total_p50_ms"] = f"{totals[len(totals) // 2]:.1f}"
            values["total_p95_ms"] = f"{totals[int(0.95 * (len(totals) - 1))]:.1f}"
        if self.latency_ms is not None:
            values["stamp_to_mask_ms"] = f"{self.latency_ms:.1f}"
        if len(self._done) > 1:
            values["rate_hz"] = f"{(len(self._done) - 1) / max(self._done[-1] - self._done[0], 1e-9):.2f}"
        return Verdict(level, message, values | extra, logged)

    def _judge(self, now_s: float, limits: DiagnosticsConfig) -> tuple[int, str, bool]:
        if self.state == "active" and (stopped := self._stopped(now_s, limits)):
            return ERROR, stopped, False
        if self.error:
            return ERROR, self.error, True
        if self.state != "active":
            return WARN, f"{self.state}: no masks are made; configure and activate the node (ros2 lifecycle set)", True
        if self.overflowed:
            remedy = "use drop_policy newest, a lower camera rate or a faster model"
            return ERROR, f"drop_policy none: the queue is full, {self.overflowed} sets were lost; {remedy}", False
        if self._slow_since_s is None:
            return OK, "segmenting" if self.processed else "waiting for the first image", not self.processed
        slow_ms = (now_s - self._slow_since_s) * 1e3
        message = f"slow: {self._totals[-1]:.0f} ms a frame, allowed {limits.max_allowed_processing_time_ms:.0f} ms"
        return (ERROR if slow_ms > limits.max_acceptable_consecutive_delay_ms else WARN), message, False

    def _stopped(self, now_s: float, limits: DiagnosticsConfig) -> str:
        if not self.is_working:
            return "no masks are made: the inference thread has ended; deactivate and activate the node"
        since = self.frame_since_s  # the inference thread may clear it meanwhile
        if since is None or (now_s - since) * 1e3 <= limits.max_acceptable_consecutive_delay_ms:
            return ""
        return f"no masks are made: the model has worked on one frame for {now_s - since:.1f} s"
