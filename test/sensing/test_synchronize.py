"""The collector's rules, one by one, with times that can be followed by hand."""

from __future__ import annotations

from typing import Any

import pytest


def test_equal_stamps_make_a_set_at_once_whichever_comes_first(player: Any) -> None:
    p = player(lidar={}, thermal={})
    p.other("lidar", 100, now_ms=0)
    p.image(100, now_ms=10)
    assert p.sets == []
    p.other("thermal", 100, now_ms=20)
    (matched,) = p.sets
    assert (matched.stamp_ns, matched.reference) == (p.at(100), 100)
    assert matched.others == {"lidar": 100, "thermal": 100}
    assert matched.offsets_s == {"lidar": 0.0, "thermal": 0.0}
    assert matched.missing == ()
    assert p.done_ms == [20]


def test_without_other_inputs_every_image_passes_at_once(player: Any) -> None:
    p = player()
    p.image(100)
    p.image(200)
    assert [s.reference for s in p.sets] == [100, 200]


def test_the_nearest_message_wins_and_its_offset_is_told(player: Any) -> None:
    p = player(lidar={})
    for ms in (60, 90):
        p.other("lidar", ms)
    p.image(100)
    assert p.sets == []  # 90 is there, but a nearer one may come
    p.other("lidar", 104)
    assert p.items("lidar") == [104]
    assert p.sets[0].offsets_s["lidar"] == pytest.approx(0.004)


def test_of_two_equally_near_messages_the_earlier_one_is_taken(player: Any) -> None:
    p = player(lidar={})
    p.other("lidar", 90)
    p.other("lidar", 110)
    p.image(100)
    assert p.items("lidar") == [90]


@pytest.mark.parametrize(("stamp_ms", "expected"), [(150, 150), (151, None), (50, 50), (49, None)])
def test_the_window_holds_its_own_edge_and_nothing_beyond(player: Any, stamp_ms: float, expected: float | None) -> None:
    p = player(lidar={"noise_window_s": 0.05})
    p.other("lidar", stamp_ms)
    p.image(100)
    p.wait(1000)
    assert p.items("lidar") == [expected]


def test_the_offset_moves_the_window(player: Any) -> None:
    p = player(lidar={"offset_s": -0.3, "noise_window_s": 0.01})
    p.other("lidar", 700)
    p.other("lidar", 1000, now_ms=1000)
    p.image(1000)
    assert p.items("lidar") == [700]
    assert p.sets[0].offsets_s["lidar"] == pytest.approx(-0.3)


def test_a_missing_input_is_waited_for_until_its_timeout_and_no_longer(player: Any) -> None:
    p = player(lidar={"timeout_s": 0.08})
    p.image(100)
    assert p.collector.next_deadline() == pytest.approx(0.18)
    p.wait(179)
    assert p.sets == []
    p.wait(181)
    assert p.sets[0].missing == ("lidar",)
    assert p.sets[0].others == {}
    assert p.done_ms == [180]
    assert p.collector.next_deadline() is None


def test_an_input_that_has_passed_the_image_is_not_waited_for(player: Any) -> None:
    p = player(lidar={})
    p.image(100)
    p.other("lidar", 151, now_ms=110)  # outside the window, and whatever follows is later still
    assert p.done_ms == [110]
    assert p.sets[0].missing == ("lidar",)


def test_a_steady_input_is_not_waited_for_when_its_next_message_would_be_further_away(player: Any) -> None:
    p = player(lidar={})
    for ms in (0, 100, 200, 300):  # three gaps of 100 are known
        p.other("lidar", ms)
    p.image(340)  # 300 is 40 away, 400 would be 60 away
    p.image(351, now_ms=351)  # 300 is outside, 400 would be 49 away: worth waiting for
    p.other("lidar", 400)
    assert p.items("lidar") == [300, 400]
    assert p.done_ms == [340, 400]


def test_one_slow_message_serves_several_fast_images(player: Any) -> None:
    p = player(lidar={})
    p.other("lidar", 100)
    p.image(66)
    p.image(100)
    p.image(133, now_ms=133)
    p.wait(1000)
    assert p.items("lidar") == [100, 100, 100]


def test_sets_come_in_camera_order_even_if_a_later_one_is_complete_first(player: Any) -> None:
    p = player(lidar={})
    p.image(100)
    p.image(200, now_ms=110)
    p.other("lidar", 201, now_ms=120)  # completes both: the first one without
    assert [s.reference for s in p.sets] == [100, 200]
    assert p.items("lidar") == [None, 201]


def test_images_swapped_on_the_way_come_out_in_order(player: Any) -> None:
    p = player(lidar={})
    p.image(200, now_ms=200)
    p.image(167, now_ms=201)
    p.wait(1000)
    assert [s.reference for s in p.sets] == [167, 200]


def test_an_image_behind_one_that_was_handed_out_is_refused(player: Any) -> None:
    refused: list[str] = []
    p = player(report=lambda name, error: refused.append(f"{name}: {error}"))
    p.image(200)
    p.image(167, now_ms=201)
    assert [s.reference for s in p.sets] == [200]
    assert refused[0].startswith("image: stamp of image: expected a time after 0")
    assert p.collector.counters["image"].refused == 1


@pytest.mark.parametrize("on_missing", ["zero", "last", "skip"])
def test_on_missing_decides_what_becomes_of_the_set(player: Any, on_missing: str) -> None:
    p = player(lidar={"on_missing": on_missing})
    p.other("lidar", 100)
    p.image(100)
    p.image(400)
    p.wait(1000)
    seen = [(s.reference, s.others, s.missing) for s in p.sets[1:]]
    assert (
        seen
        == {
            "zero": [(400, {}, ("lidar",))],
            "last": [(400, {"lidar": 100}, ("lidar",))],
            "skip": [],
        }[on_missing]
    )
    assert p.collector.counters["image"].matched == (1 if on_missing == "skip" else 2)


def test_a_required_input_drops_the_frame_whatever_on_missing_says(player: Any) -> None:
    p = player(lidar={"on_missing": "last", "required": True})
    p.other("lidar", 100)
    p.image(100)
    p.image(400)
    p.wait(1000)
    assert [s.reference for s in p.sets] == [100]
    assert p.collector.counters["image"].missing == 1


def test_flush_hands_out_what_waits_and_forgets_the_rest(player: Any) -> None:
    p = player(lidar={}, thermal={"required": True})
    collector = p.collector
    collector.add("thermal", p.at(100), "t", 0.0)
    collector.add_reference(p.at(100), "a", 0.0)
    collector.add_reference(p.at(300), "b", 0.0)
    (matched,) = collector.flush()  # b lacks its thermal image
    assert (matched.reference, matched.others) == ("a", {"thermal": "t"})
    collector.add_reference(p.at(100), "again", 0.0)
    collector.add("lidar", p.at(100), "cloud", 0.0)
    assert collector.flush() == []
    assert collector.next_deadline() is None


def test_counters_tell_what_became_of_every_input(player: Any) -> None:
    p = player(lidar={}, thermal={})
    p.other("lidar", 110)
    p.image(100, now_ms=111)
    p.wait(1000)
    image, lidar, thermal = (p.collector.counters[n] for n in ("image", "lidar", "thermal"))
    assert (image.received, image.matched, image.last_stamp_ns) == (1, 1, p.at(100))
    assert (lidar.received, lidar.matched, lidar.missing, lidar.last_stamp_ns) == (1, 1, 0, p.at(110))
    assert lidar.last_offset_s == pytest.approx(0.01)
    assert (thermal.received, thermal.matched, thermal.missing, thermal.last_offset_s) == (0, 0, 1, None)
