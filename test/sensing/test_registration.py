"""A thermal image brought into the camera's view: against OpenCV, planes computed by hand, and the generated world."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from samseg_ros.config import Config, ProjectionConfig, from_flat
from samseg_ros.datasets.world import drive, make_rig
from samseg_ros.datasets.world.sensors import beside
from samseg_ros.errors import InputError
from samseg_ros.sensing.modalities import thermal
from samseg_ros.sensing.registration import INFINITY_M, register, register_frame
from samseg_ros.types import Camera, Frame, PointCloud

CALIBRATED = from_flat({"projection.thermal": "calibrated"})
LENSES = {
    "pinhole": ("plumb_bob", []),
    "plumb_bob": ("plumb_bob", [-0.2, 0.05, 1e-3, -2e-3, 0.0]),
    "rational_polynomial": ("rational_polynomial", [-0.3, 0.1, 1e-3, -2e-3, -0.02, 0.05, 0.01, 0.003]),
    "equidistant": ("equidistant", [-0.01, 0.02, -0.005, 0.001]),
}
RIGHT = np.eye(4)
RIGHT[0, 3] = 0.5
"""A thermal camera half a metre to the right."""


def pinhole(width: int, height: int, focal: float) -> Camera:
    return Camera(width, height, np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]]))


def smooth(height: int, width: int) -> NDArray[np.float32]:
    noise = np.random.default_rng(0).standard_normal((height, width))
    return (100 * gaussian_filter(noise, 5)).astype(np.float32)


def test_pure_rotation_is_the_homography_of_opencv() -> None:
    camera, own = pinhole(160, 120, 130.0), replace(pinhole(150, 140, 125.0), frame_id="thermal")
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", [3, -8, 5], degrees=True).as_matrix()
    image = smooth(140, 150)
    thermal_from_pixel = own.k @ pose[:3, :3].T @ np.linalg.inv(camera.k)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    expected = cv2.warpPerspective(image, thermal_from_pixel, (160, 120), flags=flags, borderValue=np.nan)
    registered, seen = register(image, own, camera, pose, (120, 160), INFINITY_M)
    inside = np.isfinite(expected)  # where no neighbour lies outside
    assert 0.5 < inside.mean() < seen.mean() < 1
    assert seen[inside].all()
    assert np.abs(registered - expected)[inside].max() < 0.02 * np.ptp(image)  # OpenCV rounds to 1/32 pixel


def test_infinitely_far_a_baseline_counts_for_nothing() -> None:
    camera, image = pinhole(64, 48, 100.0), smooth(48, 64)
    registered, seen = register(image, camera, camera, RIGHT, (48, 64), INFINITY_M)
    assert seen.all()
    assert np.abs(registered - image).max() < 1e-3


def test_a_plane_at_a_known_distance_is_shifted_by_focal_times_baseline_over_distance() -> None:
    camera, image = pinhole(64, 48, 100.0), smooth(48, 64)
    registered, seen = register(image, camera, camera, RIGHT, (48, 64), 10.0)  # 100 * 0.5 / 10 = 5 columns
    assert np.abs(registered[:, 5:] - image[:, :-5]).max() < 1e-3
    assert not seen[:, :5].any() and seen[:, 5:].all()


def test_each_pixel_is_shifted_by_its_own_depth_and_gaps_take_the_nearest() -> None:
    camera, image = pinhole(64, 48, 100.0), smooth(48, 64)
    depth = np.full((48, 64), np.nan, np.float32)
    depth[24, 20], depth[24, 44] = 10.0, 25.0  # 5 and 2 columns; the border of the two is column 32
    registered, seen = register(image, camera, camera, RIGHT, (48, 64), 3.0, depth)
    assert np.abs(registered[:, 5:32] - image[:, :27]).max() < 1e-3
    assert np.abs(registered[:, 33:] - image[:, 31:-2]).max() < 1e-3
    assert not seen[:, :5].any() and seen[:, 33:].all()


def test_depth_that_says_nothing_leaves_the_assumed_distance() -> None:
    camera, image = pinhole(64, 48, 100.0), smooth(48, 64)
    nothing = np.full((48, 64), np.nan, np.float32)
    one, _ = register(image, camera, camera, RIGHT, (48, 64), 10.0)
    other, _ = register(image, camera, camera, RIGHT, (48, 64), 10.0, nothing)
    np.testing.assert_array_equal(one, other)


def test_what_a_nearer_thing_hides_from_the_thermal_camera_is_not_seen() -> None:
    camera, image = pinhole(64, 48, 100.0), smooth(48, 64)
    depth = np.full((48, 64), 50.0, np.float32)  # 1 column
    depth[10:, 30:35] = 5.0  # 10 columns: lies on columns 20 to 24 of the thermal image, as the wall's 21 to 25 do
    registered, seen = register(image, camera, camera, RIGHT, (48, 64), 3.0, depth)
    expected = np.ones((48, 64), bool)
    expected[:, 0] = False
    expected[10:, 21:26] = False
    np.testing.assert_array_equal(seen, expected)
    assert np.abs(registered[10:, 30:35] - image[10:, 20:25]).max() < 1e-3


def test_slanted_ground_does_not_hide_itself_in_a_coarse_thermal_image() -> None:
    camera, coarse = pinhole(160, 120, 130.0), pinhole(40, 30, 32.5)
    below = np.maximum(np.arange(120) - 59.5, 0.5)[:, None]
    depth = np.repeat((1.5 * 130.0 / below).astype(np.float32), 160, axis=1)  # ground 1.5 m below the camera
    _, seen = register(smooth(30, 40), coarse, camera, np.eye(4), (120, 160), 3.0, depth)
    assert seen.all()


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("own_lens", LENSES)
def test_lenses_of_both_cameras_are_those_of_opencv(lens: str, own_lens: str) -> None:
    camera = replace(pinhole(320, 240, 200.0), distortion_model=LENSES[lens][0], distortion=np.array(LENSES[lens][1]))
    own = replace(
        pinhole(300, 260, 190.0), distortion_model=LENSES[own_lens][0], distortion=np.array(LENSES[own_lens][1])
    )
    pose = beside(0.3, 4.0)
    rng = np.random.default_rng(1)
    xyz = np.stack([rng.uniform(-4, 4, 300), rng.uniform(-3, 3, 300), np.full(300, 8.0)], 1)  # on a plane at 8 m
    here = project(camera, xyz)
    there = project(own, (xyz - pose[:3, 3]) @ pose[:3, :3])
    for axis in (0, 1):  # an image whose values are its own columns or rows says where each pixel came from
        ramp = np.indices((260, 300), np.float32)[1 - axis]
        registered, seen = register(ramp, own, camera, pose, (240, 320), 8.0)
        found = cv2.remap(registered, *here.T.astype(np.float32)[:, None], cv2.INTER_LINEAR)[0]
        fits = cv2.remap(seen.astype(np.float32), *here.T.astype(np.float32)[:, None], cv2.INTER_LINEAR)[0] == 1
        assert fits.sum() > 150
        assert np.abs(found - there[:, axis])[fits].max() < 0.1


def project(camera: Camera, xyz: NDArray[np.float64]) -> NDArray[np.float64]:
    """The pixels that OpenCV gives."""
    if camera.distortion_model == "equidistant":
        return cv2.fisheye.projectPoints(xyz[None], np.zeros(3), np.zeros(3), camera.k, camera.distortion)[0][0]
    distortion = camera.distortion if len(camera.distortion) else np.zeros(5)
    return cv2.projectPoints(xyz, np.zeros(3), np.zeros(3), camera.k, distortion)[0][:, 0]


def test_pixels_that_the_cameras_lens_does_not_show_are_not_seen() -> None:
    lens = np.array([-0.4, 0.05, 0.0, 0.0, 0.0])  # folds back at a radius of about 0.97, seen at 0.64 focal lengths
    camera, own = replace(pinhole(320, 240, 200.0), distortion=lens), pinhole(320, 240, 50.0)
    _, seen = register(smooth(240, 320), own, camera, np.eye(4), (240, 320), 10.0)
    radius = np.hypot(*np.meshgrid((np.arange(320) - 159.5) / 200, (np.arange(240) - 119.5) / 200))
    assert seen[radius < 0.6].all()
    assert not seen[radius > 0.7].any()


def test_any_size_of_the_same_view_shows_the_same() -> None:
    camera, image = pinhole(128, 96, 100.0), smooth(96, 128)
    large, seen_large = register(image, camera, camera, beside(0.5, 2.0), (96, 128), 10.0)
    small, seen = register(image, camera, camera, beside(0.5, 2.0), (48, 64), 10.0)
    expected = cv2.resize(large, (64, 48), interpolation=cv2.INTER_AREA)
    whole = seen & (cv2.resize(seen_large.astype(np.float32), (64, 48), interpolation=cv2.INTER_AREA) == 1)
    assert whole.mean() > 0.85
    assert np.abs(small - expected)[whole].max() < 0.05 * np.ptp(image)


def test_a_finer_thermal_image_is_averaged() -> None:
    board = (np.indices((96, 128)).sum(0) % 2 * 1000).astype(np.uint16)
    registered, _ = register(board, pinhole(128, 96, 200.0), pinhole(64, 48, 100.0), np.eye(4), (48, 64), 10.0)
    assert (registered == 500).all()


def frame(**changes: object) -> Frame:
    camera = pinhole(64, 48, 100.0)
    counts = np.tile(np.arange(64, dtype=np.uint16) * 10, (48, 1))
    own = replace(camera, frame_id="thermal")
    parts: dict[str, object] = {
        "thermal": counts,
        "camera": camera,
        "thermal_camera": own,
        "camera_from_thermal": RIGHT,
    }
    return Frame(np.zeros((48, 64, 3), np.uint8), frame_id="cam", **(parts | changes))  # type: ignore[arg-type]


def test_what_the_thermal_camera_does_not_see_is_zero_and_the_range_is_that_of_its_whole_image() -> None:
    config = from_flat({"thermal.normalization": "minmax", "projection.thermal_distance_m": 5.0})
    prepared = thermal(frame(), (48, 64), config)  # 10 columns
    assert prepared is not None and prepared.shape == (3, 48, 64)
    expected = np.maximum(np.arange(64) - 10, 0) / 63  # the hottest columns of the image are outside the view
    np.testing.assert_allclose(prepared, np.broadcast_to(expected, prepared.shape), atol=1e-3)


def test_values_that_are_not_finite_do_not_spread_through_the_registration() -> None:
    image = np.tile(np.linspace(10, 20, 64, dtype=np.float32), (48, 1))
    image[20, 20:24] = [np.nan, np.inf, -np.inf, np.nan]
    prepared = thermal(frame(thermal=image), (48, 64), CALIBRATED)
    assert prepared is not None and np.isfinite(prepared).all()


def test_the_depth_of_the_lidar_is_used_where_the_frame_has_one() -> None:
    x, y = np.meshgrid(np.linspace(-4, 4, 90), np.linspace(-3, 3, 70))
    wall = PointCloud(np.stack([x, y, np.full_like(x, 10.0)], -1).reshape(-1, 3).astype(np.float32))
    far = CALIBRATED.projection.model_copy(update={"thermal_distance_m": 0.0})
    seen_far = register_frame(frame(), frame().thermal, (48, 64), far)[0]
    lidar = frame(points=wall, camera_from_lidar=np.eye(4))
    by_lidar = register_frame(lidar, lidar.thermal, (48, 64), far)[0]
    assert seen_far[24, 40] == 400
    assert by_lidar[24, 40] == 350


@pytest.mark.parametrize(
    ("rectified", "thermal_rectified", "is_straight"),
    [("yes", "yes", True), ("yes", "auto", False), ("auto", "yes", False)],
)
def test_rectified_images_are_taken_as_pinhole_images(
    rectified: str, thermal_rectified: str, is_straight: bool
) -> None:
    bent = replace(pinhole(64, 48, 60.0), distortion=np.array([-0.3, 0.0, 0.0, 0.0, 0.0]))
    given = frame(camera=bent, thermal_camera=bent, camera_from_thermal=np.eye(4))
    config = from_flat({"projection.rectified": rectified, "projection.thermal_rectified": thermal_rectified})
    registered, _ = register_frame(given, given.thermal, (48, 64), config.projection)
    assert np.array_equal(registered, given.thermal) == is_straight


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"camera": None}, "got no camera_info"),
        ({"thermal_camera": None}, "got no thermal camera_info"),
        ({"camera_from_thermal": None}, "'thermal' to the camera 'cam': .* got no transform; check"),
        ({"camera_from_thermal": np.full((4, 4), np.nan)}, "expected a finite 4x4 transform"),
        ({"camera": pinhole(60, 48, 9.0)}, "camera_info: expected the image's size 64x48, got 60x48"),
        ({"thermal_camera": pinhole(60, 48, 9.0)}, "thermal camera_info: expected the image's size 64x48, got 60x48"),
        ({"camera_from_thermal": beside(0.0, 180.0)}, "'thermal' to the camera 'cam': expected .* 10% .* got 0.0%"),
    ],
)
def test_a_thermal_image_that_cannot_be_registered_is_refused(change: dict[str, object], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        thermal(frame(**change), (48, 64), CALIBRATED)


def test_an_aligned_image_is_never_registered() -> None:
    alone = frame(camera=None, thermal_camera=None, camera_from_thermal=None)
    assert thermal(alone, (48, 64), Config()) is not None


def test_a_misaligned_camera_of_the_world_comes_nearest_to_the_aligned_one_with_lidar() -> None:
    size, settings = (240, 320), ProjectionConfig(thermal="calibrated")
    aligned = next(drive("test", "night", 3, 1, make_rig(size, full_turn=False))).frame
    shifted = next(
        drive("test", "night", 3, 1, make_rig(size, full_turn=False, camera_from_thermal=beside(0.3, 2.0)))
    ).frame
    np.testing.assert_array_equal(aligned.image, shifted.image)
    assert aligned.thermal is not None and shifted.thermal is not None
    by_lidar, seen = register_frame(shifted, shifted.thermal, size, settings)
    by_distance, also_seen = register_frame(replace(shifted, points=None), shifted.thermal, size, settings)
    both = seen & also_seen
    lidar, distance, nothing = (
        np.abs(image.astype(float) - aligned.thermal)[both].mean() for image in (by_lidar, by_distance, shifted.thermal)
    )
    assert both.mean() > 0.8
    assert lidar < 0.6 * distance < 0.6 * 0.6 * nothing
