"""Points of a standing wall, seen from a sensor that moves and turns, and brought back to one moment."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from samseg_ros.sensing.calibration import inverse
from samseg_ros.sensing.deskew import deskew, sweep_knots

MS = 1_000_000


def pose(x: float, y: float = 0.0, degrees: float = 0.0, axis: str = "z") -> NDArray[np.float64]:
    """Return world_from_sensor of a sensor that stands at (x, y) and is turned to the left."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler(axis, degrees, degrees=True).as_matrix()
    matrix[:2, 3] = x, y
    return matrix


def test_a_wall_seen_while_driving_towards_it_is_flat_again() -> None:
    # 10 m/s towards a wall 20 m ahead, 0.1 s a sweep: the wall seems 20 m away at first and 19 m at the end.
    times = np.array([0, 25, 50, 75, 100]) * MS
    seen = np.array([[20, 2, 0], [19.75, 1, 0], [19.5, 0, 1], [19.25, -1, 0], [19, -2, 0]], np.float32)
    at_start = deskew(seen, times, np.array([0, 100 * MS]), np.stack([pose(0), pose(1)]))
    np.testing.assert_allclose(at_start, [[20, 2, 0], [20, 1, 0], [20, 0, 1], [20, -1, 0], [20, -2, 0]], atol=1e-5)
    at_end = deskew(seen, times, np.array([0, 100 * MS]), np.stack([pose(-1), pose(0)]))
    np.testing.assert_allclose(at_end[:, 0], 19, atol=1e-5)
    assert at_start.dtype == np.float32


def test_a_turn_is_followed_along_the_arc_and_not_along_the_chord() -> None:
    # It turns by 90 degrees to the left around its own axis; at half time, by 45. What it then has 10 m ahead
    # was 45 degrees to its left when it began.
    seen = np.array([[10, 0, 0]] * 3, np.float32)
    moved = deskew(seen, np.array([0, 50, 100]) * MS, np.array([0, 100 * MS]), np.stack([pose(0), pose(0, degrees=90)]))
    half = 10 * np.sqrt(0.5)
    np.testing.assert_allclose(moved, [[10, 0, 0], [half, half, 0], [0, 10, 0]], atol=1e-4)


@given(seed=st.integers(0, 10_000), knots=st.integers(2, 6))
def test_points_that_stand_still_come_back_to_where_they_are(seed: int, knots: int) -> None:
    rng = np.random.default_rng(seed)
    moments = np.cumsum(rng.integers(5, 30, knots)) * MS + 1_700_000_000_000 * MS
    poses = np.tile(np.eye(4), (knots, 1, 1))
    turns = Rotation.from_rotvec(np.cumsum(rng.normal(scale=0.02, size=(knots, 3)), axis=0))
    poses[:, :3, :3], poses[:, :3, 3] = turns.as_matrix(), np.cumsum(rng.normal(scale=0.3, size=(knots, 3)), axis=0)
    world = rng.uniform(-30, 30, (200, 3))
    times = rng.integers(moments[0], moments[-1] + 1, 200)
    since = (times - moments[0]).astype(float)  # one slow rigid transform a point, in double precision
    turned = Slerp((moments - moments[0]).astype(float), turns)(since).as_matrix()
    origin = np.stack([np.interp(since, moments - moments[0], poses[:, a, 3]) for a in range(3)], -1)
    seen = np.einsum("nji,nj->ni", turned, world - origin).astype(np.float32)
    # A pose is up to 0.05 ms off: at no more than 180 m/s and 12 rad/s and 50 m away, 9 mm and 30 mm.
    np.testing.assert_allclose(deskew(seen, times, moments, poses), world, atol=0.04)


def test_what_is_no_return_stays_none() -> None:
    seen = np.array([[0, 0, 0], [np.nan, np.nan, np.nan], [1, 0, 0]], np.float32)
    moved = deskew(seen, np.array([0, 1, 1]) * MS, np.array([0, MS]), np.stack([pose(5), pose(5)]))
    np.testing.assert_array_equal(moved, [[0, 0, 0], [np.nan] * 3, [6, 0, 0]])


def test_a_flash_of_one_moment_moves_as_one() -> None:
    times = np.full(4, 7 * MS)
    knots = sweep_knots(times)
    assert knots.tolist() == [7 * MS]
    moved = deskew(np.ones((4, 3), np.float32), times, knots, pose(2)[None])
    np.testing.assert_array_equal(moved, [[3, 1, 1]] * 4)


def test_the_result_is_the_same_from_whichever_frame_it_is_seen() -> None:
    start, end, elsewhere = pose(0), pose(1.0, 0.2, 3), pose(1e3, -2e3, 77)
    seen, times = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32), np.arange(50) * 2 * MS
    knots = np.array([0, 98 * MS])
    moved = deskew(seen, times, knots, np.stack([start, end]))
    through_odom = np.stack([inverse(elsewhere @ start) @ elsewhere @ p for p in (start, end)])
    np.testing.assert_allclose(deskew(seen, times, knots, through_odom), moved, atol=1e-5)


@pytest.mark.parametrize(("last_ms", "count"), [(20, 2), (21, 3), (100, 6), (101, 7)])
def test_poses_are_asked_for_at_both_ends_and_every_twenty_milliseconds(last_ms: int, count: int) -> None:
    first = 1_700_000_000 * 10**9
    knots = sweep_knots(first + np.array([last_ms, 0, 3], np.int64) * MS)
    assert (knots[0], knots[-1], len(knots)) == (first, first + last_ms * MS, count)
    assert (np.diff(knots) > 0).all() and np.diff(knots).max() <= 20 * MS
