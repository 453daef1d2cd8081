from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from samseg_ros.config import ProjectionConfig
from samseg_ros.errors import InputError
from samseg_ros.sensing.camera import project_into, project_points, rectified_by_name, require_fit, scaled, undistorted
from samseg_ros.types import Camera

K = np.array([[700.0, 0.0, 600.5], [0.0, 710.0, 180.25], [0.0, 0.0, 1.0]])
LENSES = {
    "no distortion": ("plumb_bob", []),
    "zero distortion": ("plumb_bob", [0.0] * 5),
    "plumb_bob of 4": ("plumb_bob", [-0.3, 0.1, 1e-3, -2e-3]),
    "plumb_bob of 5": ("plumb_bob", [-0.3, 0.1, 1e-3, -2e-3, -0.02]),
    "rational_polynomial": ("rational_polynomial", [-0.3, 0.1, 1e-3, -2e-3, -0.02, 0.05, 0.01, 0.003]),
    "equidistant": ("equidistant", [-0.01, 0.02, -0.005, 0.001]),
}


def camera(model: str = "plumb_bob", distortion: list[float] | None = None, k: NDArray[np.float64] = K) -> Camera:
    return Camera(1200, 360, k, model, np.array(distortion if distortion is not None else [0.0] * 5))


def opencv(model: str, distortion: list[float], xyz: NDArray[np.float64]) -> NDArray[np.float64]:
    """The pixels that OpenCV gives, in float64."""
    if model == "equidistant":
        return cv2.fisheye.projectPoints(xyz[None], np.zeros(3), np.zeros(3), K, np.array(distortion))[0][0]
    coefficients = np.array(distortion if distortion else [0.0] * 5)
    return cv2.projectPoints(xyz, np.zeros(3), np.zeros(3), K, coefficients)[0][:, 0]


@pytest.mark.parametrize("lens", LENSES)
def test_pixels_are_those_of_opencv_all_over_the_image(lens: str) -> None:
    model, distortion = LENSES[lens]
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 80, 5000)
    rays = np.stack([rng.uniform(-0.9, 0.9, 5000), rng.uniform(-0.3, 0.3, 5000), np.ones(5000)], axis=1)
    xyz = rays * depth[:, None]
    expected = opencv(model, distortion, xyz)
    assert np.abs(project_points(camera(model, distortion), xyz) - expected).max() < 2e-3  # float32 at 1200 pixels


def test_a_pixel_computed_by_hand() -> None:
    # (2, -1, 4): u = 700 * 0.5 + 600.5, v = 710 * -0.25 + 180.25
    assert project_points(camera(), np.array([[2.0, -1.0, 4.0]])) == pytest.approx(np.array([[950.5, 2.75]]))


def test_skew_moves_the_column_with_the_row() -> None:
    k = K.copy()
    k[0, 1] = 8.0
    uv = project_points(camera(k=k), np.array([[0.0, 1.0, 2.0]]))
    assert uv[0] == pytest.approx([600.5 + 8 * 0.5, 180.25 + 710 * 0.5])


@pytest.mark.parametrize("lens", LENSES)
def test_points_behind_or_beside_the_camera_and_those_not_finite_have_no_pixel(lens: str) -> None:
    bad = np.array([[0, 0, -5], [0.1, 0.1, -0.1], [1, 0, 0], [np.nan, 0, 5], [0, np.inf, 5], [0, 0, np.inf], [0, 0, 0]])
    assert np.isnan(project_points(camera(*LENSES[lens]), bad)).all()


FOLDING = {
    "plumb_bob": ("plumb_bob", [-0.4, 0.05, 0.0, 0.0, 0.0]),
    "rational_polynomial": ("rational_polynomial", [-0.1, 0.0, 0.0, 0.0, 0.0, 0.3, 0.1, 0.0]),
    "equidistant": ("equidistant", [-0.35, 0.0, 0.0, 0.0]),
}


@pytest.mark.parametrize("model", FOLDING)
def test_points_far_off_the_axis_do_not_fold_back_into_the_image(model: str) -> None:
    angles = np.deg2rad(np.arange(60, 89, 0.5))
    xyz = np.stack([np.sin(angles), np.zeros_like(angles), np.cos(angles)], axis=1)
    naive = opencv(*FOLDING[model], xyz)
    inside = (naive[:, 0] > 0) & (naive[:, 0] < 1199)
    assert inside.any(), "OpenCV would show some of these in the image"
    index, _, _ = project_into(camera(*FOLDING[model]), xyz, np.eye(4))
    assert len(index) < inside.sum()
    # Along the ray's angle, what we show moves outward only.
    kept = project_points(camera(*FOLDING[model]), xyz)[:, 0]
    kept = kept[~np.isnan(kept)]
    assert (np.diff(kept) > 0).all()


def test_the_fold_of_a_barrel_lens_is_where_its_radius_is_largest() -> None:
    # r (1 - 0.4 r^2) grows up to r = sqrt(1 / 1.2) = 0.91287
    lens = camera("plumb_bob", [-0.4, 0.0, 0.0, 0.0])
    uv = project_points(lens, np.array([[0.912, 0.0, 1.0], [0.914, 0.0, 1.0]]))
    assert np.isnan(uv[1]).all()
    assert uv[0, 0] == pytest.approx(600.5 + 700 * 0.912 * (1 - 0.4 * 0.912**2), abs=1e-3)


def test_project_into_keeps_exactly_the_points_of_the_image_with_their_index_and_position() -> None:
    camera_from_source = np.array([[0, -1, 0, 0.5], [0, 0, -1, 1.0], [1, 0, 0, -0.25], [0, 0, 0, 1.0]])
    points = np.random.default_rng(1).uniform(-20, 20, (2000, 3)).astype(np.float32)
    index, uv, xyz = project_into(camera(), points, camera_from_source)
    moved = points @ camera_from_source[:3, :3].T + camera_from_source[:3, 3]
    pixels = project_points(camera(), moved)
    inside = (pixels >= -0.5).all(1) & (pixels[:, 0] < 1199.5) & (pixels[:, 1] < 359.5)
    assert index.tolist() == np.flatnonzero(inside).tolist()
    assert len(index) > 20
    np.testing.assert_allclose(uv, pixels[inside], atol=1e-2)
    np.testing.assert_allclose(xyz, moved[inside], atol=1e-4)


def test_the_image_reaches_half_a_pixel_beyond_its_outer_pixel_centres() -> None:
    k = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    points = np.array([[-0.5, 0, 1], [-0.6, 0, 1], [1199.4, 0, 1], [1199.5, 0, 1], [0, 359.4, 1], [0, 359.5, 1]])
    assert project_into(camera(k=k), points, np.eye(4))[0].tolist() == [0, 2, 4]


def test_no_points_give_no_pixels() -> None:
    assert project_points(camera(), np.zeros((0, 3))).shape == (0, 2)


@pytest.mark.parametrize(
    ("row", "column", "value"), [(2, 2, 0.0), (2, 2, 2.0), (2, 0, 0.1), (1, 0, 5.0), (0, 0, 1e300), (1, 1, 0.01)]
)
def test_a_matrix_of_no_pinhole_camera_is_refused(row: int, column: int, value: float) -> None:
    k = np.array([[700.0, 0.0, 600.0], [0.0, 700.0, 180.0], [0.0, 0.0, 1.0]])
    k[row, column] = value
    with pytest.raises(InputError, match=r"camera matrix: expected \[\[fx, s, cx\], \[0, fy, cy\], \[0, 0, 1\]\]"):
        camera(k=k)


@pytest.mark.parametrize(
    ("topic", "rectified"),
    [
        ("/cam/image_rect", "yes"),
        ("/cam/image_rect_color", "yes"),
        ("/cam/image_rect_color/compressed", "yes"),
        ("/image_rect/image_raw", "auto"),
        ("/cam/image_raw", "auto"),
    ],
)
def test_image_procs_names_tell_that_an_image_is_rectified(topic: str, rectified: str) -> None:
    decided = rectified_by_name(ProjectionConfig(), topic, "/thermal/image_raw")
    assert (decided.rectified, decided.thermal_rectified) == (rectified, "auto")
    assert rectified_by_name(ProjectionConfig(), "", topic).thermal_rectified == rectified
    assert rectified_by_name(ProjectionConfig(rectified="no"), topic, "").rectified == "no"


def test_scaling_keeps_the_centres_of_pixels() -> None:
    half = scaled(camera(), 600, 180)
    assert (half.width, half.height) == (600, 180)
    # The old pixels 0 and 1 (centre 0.5 between them) become pixel 0.
    assert half.k[0].tolist() == pytest.approx([350.0, 0.0, (600.5 + 0.5) / 2 - 0.5])
    assert half.k[1].tolist() == pytest.approx([0.0, 355.0, (180.25 + 0.5) / 2 - 0.5])


@given(width=st.integers(64, 3000), height=st.integers(64, 2000), lens=st.sampled_from(sorted(LENSES)))
def test_a_scaled_camera_shows_the_scaled_pixel(width: int, height: int, lens: str) -> None:
    xyz = np.array([[0.3, -0.1, 1.0], [-2.0, 0.5, 4.0]])
    original = camera(*LENSES[lens])
    uv = project_points(original, xyz)
    expected = (uv + 0.5) * [width / 1200, height / 360] - 0.5
    np.testing.assert_allclose(project_points(scaled(original, width, height), xyz), expected, rtol=1e-5, atol=2e-3)


@pytest.mark.parametrize("lens", [LENSES["plumb_bob of 5"], LENSES["equidistant"], ("equidistant", [0.0] * 4)])
def test_an_undistorted_camera_is_a_pinhole(lens: tuple[str, list[float]]) -> None:
    point = np.array([[0.5, 0.0, 1.0]])
    assert project_points(camera(*lens), point)[0, 0] < 950.5 - 10
    assert project_points(undistorted(camera(*lens)), point)[0, 0] == pytest.approx(950.5)


def test_a_camera_info_of_another_size_is_refused_and_told() -> None:
    require_fit(camera(), (360, 1200))
    with pytest.raises(InputError) as error:
        require_fit(camera(), (720, 1280))
    assert str(error.value) == (
        "camera_info: expected the image's size 1280x720, got 1200x360; "
        "publish the camera_info of this very image (after any resizing or cropping)"
    )


@pytest.mark.parametrize("model", ["plumb_bob", "equidistant"])
@pytest.mark.parametrize("value", [1e308, -1e6, np.nan, np.inf])
def test_coefficients_that_no_lens_has_are_refused(model: str, value: float) -> None:
    with pytest.raises(InputError, match=r"distortion: expected coefficients below 1e\+06, got \[0.1, 0.0, 0.0, "):
        project_points(camera(model, [0.1, 0, 0, value]), np.ones((1, 3)))


def test_a_coefficient_next_to_nothing_changes_nothing() -> None:
    lens = [-0.3, 0.1, 0, 0]
    xyz = np.array([[0.5, 0.25, 2.0], [30.0, 0, 1.0]])
    expected = project_points(camera("plumb_bob", [*lens, 0]), xyz)
    np.testing.assert_array_equal(project_points(camera("plumb_bob", [*lens, 1e-310]), xyz), expected)
