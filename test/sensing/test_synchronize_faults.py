"""What sensors and bags do wrong: silence, lateness, empty and repeated stamps, loops, floods."""

from __future__ import annotations

import logging
import weakref
from typing import Any

import pytest

from samseg_ros.errors import InputError
from samseg_ros.sensing.stream import MAX_QUEUED, STALE_AFTER


def test_a_silent_input_stops_delaying_frames_and_is_waited_for_again_once_it_is_in_time(player: Any) -> None:
    p = player(lidar={})
    count = STALE_AFTER + 3
    for i in range(count):
        p.image(1000 + 200 * i)
    p.wait(1000 + 200 * count)
    delays = [done - s.reference for done, s in zip(p.done_ms, p.sets, strict=True)]
    assert delays == [100] * STALE_AFTER + [0] * 3
    assert p.collector.counters["lidar"].stale
    start = 1000 + 200 * count
    p.image(start)
    p.other("lidar", start, now_ms=start + 40)  # too late for this set, which did not wait, but within the timeout
    p.image(start + 200)
    p.other("lidar", start + 200, now_ms=start + 240)
    assert p.items("lidar")[-2:] == [None, start + 200]
    assert not p.collector.counters["lidar"].stale


def test_an_input_that_is_always_too_late_stops_delaying_frames(player: Any) -> None:
    p = player(lidar={})
    for i in range(60):
        now = 1000 + 100 * i
        if i >= 3:
            p.other("lidar", now - 300, now_ms=now)  # 0.3 s late, the timeout is 0.1 s
        p.image(now, now_ms=now + 1)
    p.wait(10_000)
    delays = [done - s.reference for done, s in zip(p.done_ms, p.sets, strict=True)]
    assert len(p.sets) == 60
    assert set(delays[:5]) == {101}
    assert set(delays[10:]) == {1}
    assert p.collector.counters["lidar"].missing == 60


def test_on_missing_last_gives_a_late_input_its_newest_message(player: Any) -> None:
    p = player(lidar={"on_missing": "last"})
    for now in range(1000, 5000, 100):
        p.other("lidar", now - 300, now_ms=now)
        p.image(now, now_ms=now + 1)
    p.wait(10_000)
    assert len(p.sets) == 40
    assert p.items("lidar")[-1] == p.sets[-1].reference - 300
    assert p.sets[-1].offsets_s["lidar"] == pytest.approx(-0.3)


def test_a_message_stands_in_only_until_it_is_too_old(player: Any) -> None:
    p = player(lidar={"on_missing": "last", "max_age_s": 0.35})
    p.other("lidar", 1000)
    for now in range(1000, 1600, 100):
        p.image(now)
    p.wait(10_000)
    assert p.items("lidar") == [1000, 1000, 1000, 1000, None, None]


def test_an_empty_stamp_is_refused_and_warned_of_once_for_each_input(
    player: Any, caplog: pytest.LogCaptureFixture
) -> None:
    p = player(lidar={})
    collector = p.collector
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            collector.add_reference(0, "image", 1.0)
            collector.add("lidar", 0, "cloud", 1.0)
    assert collector.ready(100.0) == []
    assert collector.counters["image"].refused == collector.counters["lidar"].refused == 3
    assert [r.getMessage().split(":")[0] for r in caplog.records] == ["stamp of image", "stamp of lidar"]
    assert "expected a time after 0, another one for each message, got 0 (empty); let the driver fill in" in caplog.text


def test_a_repeated_stamp_is_refused_and_reported(player: Any) -> None:
    reports: list[tuple[str, InputError]] = []
    p = player(lidar={}, report=lambda name, error: reports.append((name, error)))
    collector = p.collector
    for item in ("first", "second"):
        collector.add("lidar", p.at(100), item, 0.1)
    for item in ("first", "second"):
        collector.add_reference(p.at(100), item, 0.1)
    (matched,) = collector.ready(0.1)
    assert (matched.reference, matched.others) == ("first", {"lidar": "first"})
    assert [(name, error.got) for name, error in reports] == [
        ("lidar", f"{p.at(100)} a second time"),
        ("image", f"{p.at(100)} a second time"),
    ]


def test_a_bag_that_loops_goes_on_without_loss_when_the_lidar_loops_first(player: Any) -> None:
    p = player(lidar={})
    for loop in range(3):
        for ms in range(100, 1100, 100):
            p.other("lidar", ms, now_ms=1000 * loop + ms)
            p.image(ms, now_ms=1000 * loop + ms + 5)
    assert [s.reference for s in p.sets] == [*range(100, 1100, 100)] * 3
    assert p.items("lidar") == [*range(100, 1100, 100)] * 3
    assert p.collector.jumps == 2


def test_a_bag_that_loops_goes_on_without_loss_when_the_image_loops_first(player: Any) -> None:
    p = player(lidar={})
    for loop in range(3):
        for ms in range(100, 1100, 100):
            p.image(ms, now_ms=1000 * loop + ms)
            p.other("lidar", ms, now_ms=1000 * loop + ms + 5)
    assert p.items("lidar") == [*range(100, 1100, 100)] * 3
    assert p.collector.jumps == 2


def test_a_message_from_before_a_restart_is_not_used_after_it(player: Any) -> None:
    p = player(lidar={"on_missing": "last"})
    for ms in range(100, 600, 100):
        p.other("lidar", ms)
        p.image(ms)
    p.image(100, now_ms=600)  # the stamps start again, the LiDAR is dead
    p.wait(2000)
    assert p.sets[-1].others == {}
    assert p.sets[-1].missing == ("lidar",)


def test_with_a_wide_window_too_a_message_from_before_a_restart_is_not_used_after_it(player: Any) -> None:
    p = player(lidar={"noise_window_s": 0.2})
    for ms in range(100, 600, 100):
        p.other("lidar", ms)
        p.image(ms)
    p.image(200, now_ms=600)  # 300 from before would lie in the window
    p.wait(10_000)
    assert p.items("lidar") == [100, 200, 300, 400, 500, None]


@pytest.mark.parametrize(("step_ms", "jumps"), [(1999, 0), (2001, 1)])
def test_a_forward_jump_beyond_the_limit_empties_the_queues(player: Any, step_ms: float, jumps: int) -> None:
    p = player(reset_s=2.0, lidar={"on_missing": "last", "max_age_s": 5.0})
    p.other("lidar", 100)
    p.image(100)
    p.image(100 + step_ms)
    p.wait(10_000)
    assert p.collector.jumps == jumps
    assert p.items("lidar") == [100, None if jumps else 100]


def test_waiting_images_are_finished_when_the_stamps_jump(player: Any) -> None:
    p = player(lidar={})
    p.image(5000, now_ms=0)
    p.image(100, now_ms=10)
    assert [s.reference for s in p.sets] == [5000]


def test_memory_is_bounded_when_the_camera_is_dead(player: Any) -> None:
    class Cloud:
        pass

    p = player(lidar={})
    collector = p.collector
    alive: weakref.WeakSet[Cloud] = weakref.WeakSet()
    for i in range(1000):
        cloud = Cloud()
        alive.add(cloud)
        collector.add("lidar", p.at(i), cloud, i / 1e3)
    del cloud
    assert MAX_QUEUED <= len(alive) <= MAX_QUEUED + 1  # one more is remembered for on_missing: last
    for i in range(10):
        collector.add("lidar", p.at(10_000 + 1000 * i), Cloud(), 10.0 + i)
    assert len(alive) == 0


def test_memory_is_bounded_when_every_image_waits(player: Any) -> None:
    p = player(lidar={"timeout_s": 60.0})
    collector = p.collector
    images = [f"image {i}" for i in range(MAX_QUEUED + 2)]
    for i, image in enumerate(images):
        collector.add_reference(p.at(10 * i), image, 0.0)
    assert [s.reference for s in collector.ready(0.0)] == images[:2]


def test_an_image_that_waits_long_for_one_input_keeps_its_message_of_another(player: Any) -> None:
    p = player(lidar={}, thermal={"timeout_s": 5.0})
    p.image(100)
    for ms in range(100, 4000, 100):
        p.other("lidar", ms)
    p.wait(10_000)
    assert p.items("lidar") == [100]
    assert p.done_ms == [5100]


def test_an_input_that_nobody_waits_for_is_not_called_stale(player: Any) -> None:
    p = player(lidar={"timeout_s": 0.0})
    for ms in range(100, 3000, 100):
        p.image(ms)
    assert len(p.sets) == 29
    assert not p.collector.counters["lidar"].stale
