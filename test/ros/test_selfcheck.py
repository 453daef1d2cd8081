"""The node's self-check: one line of what was found, one more when all has turned good."""

from __future__ import annotations

import threading

import pytest
from rclpy.logging import get_logger

from samseg_ros.ros import fusion_node, selfcheck
from samseg_ros.ros.health import ERROR, OK, WARN, Check
from samseg_ros.ros.selfcheck import DELAY_S, REPEAT_S, SelfCheck, line

GOOD = Check("image", OK, "/image from /camera (reliable)")
BAD = Check("lidar", ERROR, "nothing comes on /points: nobody\npublishes there", "check the driver")


class Log:
    """Takes the place of a node's logger."""

    def __init__(self):
        self.lines = []

    def info(self, text):
        self.lines.append(("info", text))

    def warning(self, text):
        self.lines.append(("warning", text))


def run(rows_by_look, until_s):
    """Refresh twice a second; return the times of the looks and the log."""
    log, looks = Log(), []

    def look():
        looks.append(now)
        return rows_by_look[min(len(looks), len(rows_by_look)) - 1]

    now = 100.0
    check = SelfCheck(look, log, now)
    while now < 100.0 + until_s:
        check.refresh(now)
        now += 0.5
    return [t - 100.0 for t in looks], log.lines


def test_the_line_names_what_is_not_well_first_and_is_one_line():
    assert line([GOOD, BAD]) == (
        "self-check: 1 of 2 not well: lidar: nothing comes on /points: nobody publishes there; check the driver"
        " | image: /image from /camera (reliable)"
    )
    assert line([GOOD]) == "self-check: all is well: image: /image from /camera (reliable)"


def test_the_loggers_of_rclpy_take_both_lines():
    """They refuse a second severity from one and the same call."""
    rows = [[BAD], [GOOD]]
    check = SelfCheck(lambda: rows.pop(0), get_logger("selfcheck"), 0.0)
    check.refresh(DELAY_S)
    check.refresh(DELAY_S + REPEAT_S)
    assert rows == []


def test_a_good_set_up_is_told_once_and_not_looked_at_again():
    looks, lines = run([[GOOD]], 60)
    assert looks == [DELAY_S] and [level for level, _ in lines] == ["info"]


def test_a_bad_set_up_is_told_once_and_once_more_when_it_has_turned_good():
    looks, lines = run([[BAD], [BAD], [GOOD, Check("lidar", WARN, "odd")], [GOOD]], 60)
    assert looks == [DELAY_S + i * REPEAT_S for i in range(4)]
    assert [level for level, _ in lines] == ["warning", "info"]
    assert "all is well" in lines[1][1]


@pytest.fixture
def said(monkeypatch):
    """The lines that the self-checks of nodes log, which come at once."""
    log = Log()
    monkeypatch.setattr(selfcheck, "DELAY_S", 0.5)
    monkeypatch.setattr(selfcheck, "REPEAT_S", 0.5)
    monkeypatch.setattr(fusion_node, "SelfCheck", lambda look, _, now_s: SelfCheck(look, log, now_s))
    return log.lines


def test_the_node_says_what_is_missing_and_later_that_all_is_there(make_rig, said):
    rig = make_rig()
    rig.wait(lambda: said, "the first line")
    (level, text) = said[0]
    assert level == "warning"
    assert "image: nothing comes on /fusion_node/input/image" in text and "check that its sensor or bag" in text
    masks = rig.connect()
    for i in range(100):
        rig.send_all(1.0 + 0.1 * i)
        rig.wait(lambda n=i: len(masks) > n, "a mask")
        if len(said) == 2:
            break
        threading.Event().wait(0.05)
    level, text = said[1]
    assert level == "info" and text.startswith("self-check: all is well: ")
    for found in (
        "image: /fusion_node/input/image from /world (reliable), frame 'camera', 64x48 rgb8",
        "thermal: /fusion_node/input/thermal from /world (reliable), frame 'thermal', 64x48 16UC1",
        "lidar: /fusion_node/input/pointcloud from /world (reliable), frame 'lidar', 1 points of x, y, z",
        "camera_info: ",
        "lidar → image: extrinsics from ",
        "model: mm_sam_adapter (compact) on nothing, bool, segmenting",
    ):
        assert found in text
