"""A collector fed in milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from samseg_ros.config import InputSyncConfig
from samseg_ros.sensing.synchronize import Collector, MatchedSet

BASE_NS = 1_700_000_000 * 10**9


class Player:
    """Feeds a collector; every item is its own stamp in milliseconds, which says which one it is."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.sets: list[MatchedSet] = []
        self.done_ms: list[float] = []

    @staticmethod
    def at(ms: float) -> int:
        """Stamp of a time in milliseconds."""
        return BASE_NS + round(ms * 1e6)

    def image(self, stamp_ms: float, now_ms: float | None = None) -> None:
        self._step(None, stamp_ms, stamp_ms if now_ms is None else now_ms)

    def other(self, name: str, stamp_ms: float, now_ms: float | None = None) -> None:
        self._step(name, stamp_ms, stamp_ms if now_ms is None else now_ms)

    def _step(self, name: str | None, stamp_ms: float, now_ms: float) -> None:
        self.wait(now_ms)
        if name is None:
            self.collector.add_reference(self.at(stamp_ms), stamp_ms, now_ms / 1e3)
        else:
            self.collector.add(name, self.at(stamp_ms), stamp_ms, now_ms / 1e3)
        self._take(now_ms / 1e3)

    def wait(self, until_ms: float) -> None:
        """Let time pass, waking exactly when the collector asks for it."""
        while (deadline := self.collector.next_deadline()) is not None and deadline <= until_ms / 1e3:
            self._take(deadline)

    def _take(self, now_s: float) -> None:
        new = self.collector.ready(now_s)
        self.sets += new
        self.done_ms += [round(1e3 * now_s, 3)] * len(new)

    def items(self, name: str) -> list[Any]:
        return [s.others.get(name) for s in self.sets]


@pytest.fixture(scope="session")
def player() -> Callable[..., Player]:
    """Make one: settings of each input by its name, window 50 ms and timeout 100 ms where they say nothing else."""

    def make(reset_s: float = 2.0, report: Any = None, **inputs: dict[str, Any]) -> Player:
        common = {"noise_window_s": 0.05, "timeout_s": 0.1}
        configs = {name: InputSyncConfig.model_validate(common | settings) for name, settings in inputs.items()}
        return Player(Collector(configs, reset_s, report))

    return make
