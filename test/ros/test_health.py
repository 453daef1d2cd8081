"""Verdicts on inputs and model, from numbers that we hand in."""

from __future__ import annotations

import pytest

from samseg_ros.config import DiagnosticsConfig
from samseg_ros.ros.health import ERROR, OK, WARN, InputHealth, ModelHealth, frame_note

LIMITS = DiagnosticsConfig(max_acceptable_consecutive_delay_ms=2000.0)


@pytest.mark.parametrize(("now_s", "level"), [(11.9, OK), (12.1, ERROR)])
def test_a_frame_that_stays_in_work_too_long_is_an_error(now_s, level):
    model = ModelHealth(state="active", processed=3, frame_since_s=10.0)
    verdict = model.verdict(now_s, LIMITS, {})
    assert verdict.level == level
    assert ("has worked on one frame for 2.1 s" in verdict.message) == (level == ERROR)
    assert not verdict.logged  # so that the log tells it too


def test_between_frames_any_pause_is_fine():
    assert ModelHealth(state="active", processed=3).verdict(1e6, LIMITS, {}).level == OK


@pytest.mark.parametrize(("state", "level"), [("active", ERROR), ("inactive", WARN)])
def test_a_dead_inference_thread_is_an_error_while_active(state, level):
    verdict = ModelHealth(state=state, is_working=False).verdict(0.0, LIMITS, {})
    assert verdict.level == level
    assert ("the inference thread has ended" in verdict.message) == (level == ERROR)


def test_sets_that_the_full_queue_lost_are_an_error_with_a_remedy():
    verdict = ModelHealth(state="active", overflowed=7).verdict(0.0, LIMITS, {})
    assert verdict.level == ERROR
    assert "7 sets were lost" in verdict.message and "drop_policy newest" in verdict.message


def test_a_note_on_good_data_is_a_warning_that_the_log_tells_once():
    health = InputHealth("lidar", "/points", needed=True, started_s=0.0, note="odd")
    health.arrived(10**9, 0, 1.0)
    health.used()
    verdict = health.verdict(1.1, 1.0, lambda: "")
    assert (verdict.level, verdict.message, verdict.logged) == (WARN, "odd", False)
    health.note = ""
    assert health.verdict(1.1, 1.0, lambda: "").level == OK


@pytest.mark.parametrize(
    ("image", "info", "is_noted"),
    [("left", "left", False), ("left", "right", True), ("", "right", False), ("left", "", False)],
)
def test_a_camera_info_of_another_frame_is_noted_unless_one_names_none(image, info, is_noted):
    note = frame_note(image, info)
    assert bool(note) == is_noted
    assert not is_noted or (repr(image) in note and repr(info) in note)
