"""A row of the benchmark: ours, a peer that does the same, and a limit that nobody beats."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

Work = Callable[[], object]
VGA = (480, 640)


@dataclass(frozen=True)
class Row:
    """What is compared."""

    about: str
    peer: str
    """What the peer is."""
    limit: str
    """What the limit is."""
    aim: str
    ours_work: Work
    peer_work: Work
    limit_ms: Callable[[], float]
    """Measures (or computes) the limit in milliseconds."""


@dataclass(frozen=True)
class Timing:
    """Medians of one row, milliseconds."""

    name: str
    row: Row
    ours_ms: float
    peer_ms: float
    limit_ms: float

    @property
    def over_peer(self) -> float:
        """How many times faster than the peer."""
        return self.peer_ms / self.ours_ms

    @property
    def over_limit(self) -> float:
        """How many times the limit."""
        return self.ours_ms / self.limit_ms


def clock(work: Work) -> float:
    """Run it once; return milliseconds."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def timed(work: Work) -> Callable[[], float]:
    """Return what runs it once and returns milliseconds."""
    return lambda: clock(work)
