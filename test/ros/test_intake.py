"""Which set is taken next, with a clock of our own."""

from __future__ import annotations

import threading

import pytest

from samseg_ros.config import InputSyncConfig
from samseg_ros.ros.intake import Intake
from samseg_ros.sensing.synchronize import Collector

SECOND = 10**9


class Clock:
    """Seconds that pass when told."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def make(clock, keep_all=False, **inputs):
    return Intake(Collector(inputs, 2.0), keep_all, clock)


def test_while_the_model_is_busy_the_newest_set_waits_and_older_ones_are_counted_as_dropped(clock):
    intake = make(clock)
    for i in range(1, 5):
        intake.add(None, i * SECOND // 10, f"image {i}")
    assert intake.take().reference == "image 4"
    assert intake.dropped == 3 and len(intake) == 0


def test_with_keep_all_every_set_comes_in_order(clock):
    intake = make(clock, keep_all=True)
    for i in range(1, 4):
        intake.add(None, i * SECOND // 10, i)
    assert [intake.take().reference for _ in range(3)] == [1, 2, 3]
    assert intake.dropped == 0


def test_two_sets_that_become_ready_at_once_are_both_taken_by_an_idle_model(clock):
    intake = make(clock, lidar=InputSyncConfig(timeout_s=0.1))
    intake.add(None, SECOND, "first")
    clock.now += 0.01
    intake.add(None, SECOND + 10**8, "second")
    clock.now += 1.0  # both have waited long enough, and nobody was at work
    assert intake.take().reference == "first"
    assert intake.take().reference == "second"
    assert intake.dropped == 0


def test_the_rate_limit_keeps_the_newest_until_the_next_start(clock):
    intake = make(clock)
    intake.max_rate_hz = 10.0
    intake.add(None, 1 * SECOND // 10, 1)
    assert intake.take().reference == 1  # at 100.0
    clock.now = 100.05
    intake.add(None, 2 * SECOND // 10, 2)
    clock.now = 100.08
    intake.add(None, 3 * SECOND // 10, 3)
    assert intake._pause_s(clock.now) == pytest.approx(0.02)
    clock.now = 100.1
    assert intake.take().reference == 3
    assert intake.dropped == 1


def test_a_set_waits_for_its_other_inputs_until_the_timeout(clock):
    intake = make(clock, lidar=InputSyncConfig(timeout_s=0.1))
    intake.add(None, SECOND, "image")
    assert intake._pause_s(clock.now) == pytest.approx(0.1)
    intake.add("lidar", SECOND, "sweep")
    assert intake.take().others == {"lidar": "sweep"}


def test_closing_ends_the_taker(clock):
    intake = make(clock)
    intake.add(None, SECOND, "image")
    intake.close()
    assert intake.take() is None


def test_the_tiniest_rate_limit_pauses_no_longer_than_the_system_can_wait(clock):
    intake = make(clock)
    intake.max_rate_hz = 1e-10
    intake.add(None, SECOND, 1)
    assert intake.take().reference == 1
    intake.add(None, 2 * SECOND, 2)
    assert intake._pause_s(clock.now) <= threading.TIMEOUT_MAX
    assert intake._pause_s(clock.now) == 60.0


def test_lifting_the_rate_limit_wakes_the_taker_at_once():
    intake = Intake(Collector({}, 2.0), keep_all=False)  # with the real clock: the taker really sleeps
    intake.max_rate_hz = 0.01
    intake.add(None, SECOND, 1)
    assert intake.take().reference == 1
    intake.add(None, 2 * SECOND, 2)
    taken = []
    taker = threading.Thread(target=lambda: taken.append(intake.take()), daemon=True)
    taker.start()
    taker.join(0.1)
    assert not taken  # held back for 100 s
    intake.max_rate_hz = 0.0
    taker.join(10.0)
    assert [matched.reference for matched in taken] == [2]


def test_setting_the_same_rate_limit_again_keeps_the_beat(clock):
    intake = make(clock)
    intake.max_rate_hz = 10.0
    intake.add(None, SECOND, 1)
    assert intake.take().reference == 1
    intake.max_rate_hz = 10.0
    intake.add(None, 2 * SECOND, 2)
    assert intake._pause_s(clock.now) == pytest.approx(0.1)


def test_with_keep_all_the_queue_is_bounded_and_the_oldest_sets_are_counted_as_lost(clock):
    intake = make(clock, keep_all=True)
    for i in range(1, 260):
        intake.add(None, i * SECOND // 10, i)
    assert len(intake) == 256
    assert intake.dropped == intake.overflowed == 3
    assert intake.take().reference == 4
