"""Rays against primitives whose answers are known by hand."""

import numpy as np
import pytest

from samseg_ros.datasets.world import casting
from samseg_ros.datasets.world.primitives import Material, Shape, World, place, primitive

FLAT = np.zeros(17)
FLAT[[casting.ROAD_HALF, casting.CROSS_X]] = 1e6
LOOKING_ALONG_X = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.0], [0, 0, 0, 1.0]])
K = np.array([[100.0, 0, 10], [0, 100.0, 10], [0, 0, 1]])


def box(x, half, **options):
    rows = [primitive(Shape.BOX, (0, 0, 1.0), half, World.CAR, Material.PAINT, (1, 1, 1), **options)]
    return place(rows, x, 0.0, 0.0)


def test_a_box_ten_metres_ahead_is_hit_on_its_near_face():
    depth, index = casting.cast_camera(box(10.0, (1.0, 0.5, 0.5)), FLAT, LOOKING_ALONG_X, K, 21, 21)
    assert depth[10, 10] == pytest.approx(9.0)
    assert index[10, 10] == 0
    # The face spans +-0.5 m at 9 m: 100 * 0.5 / 9 = 5.6 pixels to either side of the middle.
    assert np.flatnonzero(index[10] == 0).tolist() == list(range(5, 16))


def test_the_road_is_met_where_the_camera_height_over_the_slope_says():
    depth, index = casting.cast_camera(box(1e4, (1, 1, 1)), FLAT, LOOKING_ALONG_X, K, 21, 21)
    # Row 20 looks down by 10 / 100; from 1 m up that meets the road at 10 m.
    assert depth[20, 10] == pytest.approx(10.0)
    assert index[20, 10] == casting.GROUND
    assert index[5, 10] == casting.SKY
    assert np.isinf(depth[5, 10])


def test_a_turned_box_shows_its_edge():
    rows = place(
        [primitive(Shape.BOX, (0, 0, 1.0), (1, 1, 1), World.CAR, Material.PAINT, (1, 1, 1))], 10.0, 0.0, np.pi / 4
    )
    depth, _ = casting.cast_camera(rows, FLAT, LOOKING_ALONG_X, K, 21, 21)
    assert depth[10, 10] == pytest.approx(10 - np.sqrt(2), abs=1e-5)


def test_a_fully_tapered_box_ends_in_a_ridge():
    rows = box(10.0, (1.0, 1.0, 1.0), taper=(1.0, 0.0))
    down = casting.hit(rows[0], 10.0, 0.0, 5.0, 0.0, 0.0, -1.0)
    assert down == pytest.approx(3.0)  # the ridge is at z = 2
    beside = casting.hit(rows[0], 10.5, 0.0, 5.0, 0.0, 0.0, -1.0)
    assert beside == pytest.approx(4.0)  # half-way out, half-way down


@pytest.mark.parametrize(
    ("shape", "half", "expected"),
    [
        (Shape.ELLIPSOID, (2.0, 1.0, 1.0), 8.0),
        (Shape.CYLINDER, (0.5, 0.5, 1.0), 9.5),
        (Shape.WHEEL, (0.4, 0.1, 0.4), 9.6),
    ],
)
def test_round_primitives_are_hit_at_their_radius(shape, half, expected):
    rows = place([primitive(shape, (0, 0, 1.0), half, World.CAR, Material.PAINT, (1, 1, 1))], 10.0, 0.0, 0.0)
    assert casting.hit(rows[0], 0.0, 0.0, 1.0, 1.0, 0.0, 0.0) == pytest.approx(expected)
    assert np.isinf(casting.hit(rows[0], 0.0, 3.0, 1.0, 1.0, 0.0, 0.0))


def test_the_lidar_measures_range_and_the_camera_depth_of_the_same_box():
    pose = np.eye(4)
    pose[2, 3] = 1.0
    azimuth = np.linspace(-0.5, 0.5, 101)
    reach, index = casting.cast_lidar(box(10.0, (1.0, 3.0, 3.0)), FLAT, pose, azimuth, np.array([0.0, 0.1]))
    turn = azimuth[60]
    assert reach[0, 60] == pytest.approx(9.0 / np.cos(turn), rel=1e-6)
    assert reach[1, 50] == pytest.approx(9.0 / np.cos(0.1), rel=1e-6)
    assert index[0, 60] == 0


def test_a_lidar_finds_a_box_behind_itself_across_the_seam_of_its_turn():
    azimuth = (np.arange(360) + 0.5) * 2 * np.pi / 360 - np.pi
    pose = np.eye(4)
    pose[2, 3] = 1.0
    _, index = casting.cast_lidar(box(-10.0, (1.0, 1.0, 1.0)), FLAT, pose, azimuth, np.array([0.0]))
    # From 9 m, +-1 m spans +-6.3 degrees about the seam: 6 columns on each side.
    assert (index[0, :6] == 0).all()
    assert (index[0, -6:] == 0).all()
    assert (index == 0).sum() == 12
