"""Properties of the collector on random streams."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

# Times are whole milliseconds below two seconds, which keeps the streams free of jumps and overflow.

STAMPS = st.lists(st.integers(10, 1500), min_size=1, max_size=25, unique=True).map(sorted)
DELAYS = st.lists(st.integers(0, 200), min_size=25, max_size=25)
INPUT = st.fixed_dictionaries(
    {
        "noise_window_s": st.sampled_from([0.0, 0.01, 0.05, 0.2]),
        "offset_s": st.sampled_from([-0.1, 0.0, 0.03]),
        "timeout_s": st.sampled_from([0.0, 0.05, 0.3]),
    }
)


def arrivals(stamps: list[int], delays: list[int]) -> list[tuple[int, int]]:
    """(now, stamp) in order: a stream may be late by varying amounts, but does not overtake itself."""
    now = 0
    result = []
    for stamp, delay in zip(stamps, delays, strict=False):
        now = max(now, stamp + delay)
        result.append((now, stamp))
    return result


def play(p: Any, images: list[tuple[int, int]], others: dict[str, list[tuple[int, int]]]) -> None:
    events = [(now, stamp, "") for now, stamp in images]
    events += [(now, stamp, name) for name, messages in others.items() for now, stamp in messages]
    for now, stamp, name in sorted(events):
        if name:
            p.other(name, stamp, now_ms=now)
        else:
            p.image(stamp, now_ms=now)
    p.wait(100_000)


@given(STAMPS, DELAYS, STAMPS, DELAYS, INPUT, STAMPS, DELAYS, INPUT)
def test_every_image_comes_out_once_in_order_with_nothing_outside_a_window(
    player: Any,
    images: list[int],
    image_delays: list[int],
    lidar: list[int],
    lidar_delays: list[int],
    lidar_config: dict[str, float],
    thermal: list[int],
    thermal_delays: list[int],
    thermal_config: dict[str, float],
) -> None:
    configs = {"lidar": lidar_config, "thermal": thermal_config}
    p = player(lidar=lidar_config, thermal=thermal_config)
    came = arrivals(images, image_delays)
    play(p, came, {"lidar": arrivals(lidar, lidar_delays), "thermal": arrivals(thermal, thermal_delays)})
    assert [s.reference for s in p.sets] == images
    longest_ms = 1e3 * max(c["timeout_s"] for c in configs.values())
    for matched, done_ms, (now, _) in zip(p.sets, p.done_ms, came, strict=True):
        assert done_ms <= now + longest_ms + 1e-3
        assert set(matched.others) | set(matched.missing) == set(configs)
        for name, item in matched.others.items():
            away_ms = item - matched.reference - 1e3 * configs[name]["offset_s"]
            assert abs(away_ms) <= 1e3 * configs[name]["noise_window_s"] + 1e-6
            assert matched.offsets_s[name] == pytest.approx((item - matched.reference) / 1e3)


@given(
    st.integers(20, 120), st.integers(0, 119), st.integers(20, 120), st.integers(0, 50), st.sampled_from([0.01, 0.05])
)
def test_steady_streams_are_matched_as_if_everything_were_known_beforehand(
    player: Any, period: int, phase: int, image_period: int, latency: int, window_s: float
) -> None:
    stamps = list(range(10 + phase, 2000, period))
    images = list(range(500, 1500, image_period))
    p = player(lidar={"noise_window_s": window_s, "timeout_s": 1.0})
    play(p, [(i, i) for i in images], {"lidar": [(s + latency, s) for s in stamps]})
    nearest = [min(stamps, key=lambda s: (abs(s - i), s)) for i in images]
    expected = [s if abs(s - i) <= 1e3 * window_s else None for s, i in zip(nearest, images, strict=True)]
    assert p.items("lidar") == expected


@given(STAMPS, DELAYS, STAMPS, st.integers(0, 1600))
def test_an_input_that_dies_never_stops_the_others(
    player: Any, images: list[int], delays: list[int], thermal: list[int], death: int
) -> None:
    alive = player(thermal={})
    play(alive, arrivals(images, delays), {"thermal": arrivals(thermal, delays)})
    dying = player(thermal={}, lidar={"timeout_s": 0.0})
    lidar = [(now, s) for now, s in arrivals(images, delays) if now < death]
    play(dying, arrivals(images, delays), {"thermal": arrivals(thermal, delays), "lidar": lidar})
    assert [s.reference for s in dying.sets] == images
    assert dying.items("thermal") == alive.items("thermal")


@given(st.integers(5, 30), st.integers(1, 4), st.integers(0, 60), st.integers(0, 60), st.sampled_from([0.1, 1.0, 10.0]))
def test_a_loop_in_the_stamps_costs_no_image_and_at_most_the_seams(
    player: Any, frames: int, loops: int, image_latency: int, lidar_latency: int, reset_s: float
) -> None:
    stamps = [100 * i for i in range(1, frames + 1)]
    total = 100 * frames
    p = player(reset_s=reset_s, lidar={})
    images = [(loop * total + s + image_latency, s) for loop in range(loops + 1) for s in stamps]
    lidar = [(loop * total + s + lidar_latency, s) for loop in range(loops + 1) for s in stamps]
    play(p, images, {"lidar": lidar})
    assert [s.reference for s in p.sets] == stamps * (loops + 1)
    assert p.items("lidar") == stamps * (loops + 1)
    assert p.collector.jumps == loops
