from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from samseg_ros.config import ProjectionConfig
from samseg_ros.errors import InputError
from samseg_ros.sensing.camera import project_points
from samseg_ros.sensing.projection import LidarImage, project, project_frame
from samseg_ros.types import Camera, Frame, PointCloud

SIZE = (80, 100)
CAMERA = Camera(100, 80, np.array([[100.0, 0.0, 50.0], [0.0, 100.0, 40.0], [0.0, 0.0, 1.0]]))
OPTICAL_FROM_BODY = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
"""x forward, y left, z up -> x right, y down, z forward."""
POINTS_ONLY = ProjectionConfig(dilation_px=1, occlusion=False)


def cloud(*xyz: tuple[float, float, float], intensity: list[float] | None = None) -> PointCloud:
    values = None if intensity is None else np.array(intensity, np.float32)
    return PointCloud(np.array(xyz, np.float32).reshape(-1, 3), values)


def optical(points: PointCloud, config: ProjectionConfig = POINTS_ONLY, size: tuple[int, int] = SIZE) -> LidarImage:
    """Project points that are given in the camera's optical frame."""
    return project(points, CAMERA, np.eye(4), size, config)


def test_a_projection_computed_by_hand() -> None:
    # The LiDAR stands 0.5 m above the camera and 1 m behind it. Its point 9 m ahead, 2 m left, 1.5 m up is
    # x = -2, y = -2, z = 8 for the camera: column 50 - 25, row 40 - 25, range sqrt(72), height 2 m.
    camera_from_lidar = OPTICAL_FROM_BODY.copy()
    camera_from_lidar[:3, 3] = [0.0, -0.5, -1.0]
    image = project(
        cloud((9, 2, 1.5), intensity=[25.0]),
        CAMERA,
        camera_from_lidar,
        SIZE,
        ProjectionConfig(dilation_px=1, max_range_m=80.0, max_intensity=100.0),
    )
    assert image.pixels.tolist() == [[15, 25]]
    assert np.argwhere(image.valid).tolist() == [[15, 25]]
    assert image.depth_m[15, 25] == pytest.approx(8.0)
    assert image.channels[:, 15, 25] == pytest.approx([np.sqrt(72) / 80, 2 / 3, 0.25])
    assert np.isnan(image.depth_m).sum() == 80 * 100 - 1
    assert np.count_nonzero(image.channels) == 3


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_the_nearest_point_of_a_pixel_wins_whatever_the_order(order: list[int]) -> None:
    points = np.array([[0, 0, 5], [0, 0, 20], [0, 0, 10]], np.float32)[order]
    image = optical(PointCloud(points))
    assert image.depth_m[40, 50] == 5
    assert [order[i] for i in np.flatnonzero(image.pixels[:, 0] >= 0)] == [0]


def test_points_of_one_surface_in_one_pixel_are_all_visible() -> None:
    image = optical(cloud((0, 0, 30), (0.001, 0, 30.4)))
    assert image.pixels.tolist() == [[40, 50], [40, 50]]
    assert image.depth_m[40, 50] == 30


def test_points_that_are_not_seen_have_no_pixel() -> None:
    nan, inf = np.nan, np.inf
    unseen = [
        (0, 0, -5),
        (50, 0, 5),
        (0, -50, 5),
        (nan, 0, 5),
        (0, 0, nan),
        (inf, 0, 5),
        (0, 0, inf),
        (0, 0, 0),
        (1, 0, 81),
    ]
    image = optical(cloud(*unseen))
    assert image.pixels.tolist() == [[-1, -1]] * len(unseen)
    assert not image.valid.any()
    assert np.isnan(image.depth_m).all()
    assert not image.channels.any()


def test_a_return_of_zeros_is_no_return_even_where_the_sensor_itself_is_in_view() -> None:
    camera_from_lidar = np.eye(4)
    camera_from_lidar[2, 3] = 3.0  # 3 m in front of the camera
    assert not project(cloud((0, 0, 0)), CAMERA, camera_from_lidar, SIZE, POINTS_ONLY).valid.any()


def test_the_range_limit_is_along_the_ray_and_not_the_depth() -> None:
    config = ProjectionConfig(dilation_px=1, max_range_m=10.0)
    image = optical(cloud((0, 0, 9.9), (4, 0, 9.5)), config)  # the second is 10.3 m away
    assert (image.pixels[:, 0] >= 0).tolist() == [True, False]


def test_an_empty_cloud_gives_an_empty_image() -> None:
    image = optical(cloud())
    assert image.pixels.shape == (0, 2)
    assert not image.valid.any()


def test_intensity_is_clipped_and_what_is_not_a_number_is_zero() -> None:
    columns = np.linspace(-0.4, 0.4, 5)
    points = cloud(*[(x, 0, 1) for x in columns], intensity=[-1, 0.5, 3, np.nan, np.inf])
    image = optical(points, ProjectionConfig(dilation_px=1, max_intensity=2.0))
    rows, cols = image.pixels.T
    assert image.channels[2, rows, cols].tolist() == [0, 0.25, 1, 0, 1]


def test_a_cloud_without_intensity_has_an_empty_channel() -> None:
    assert not optical(cloud((0, 0, 5))).channels[2].any()


def test_height_is_clipped_at_three_metres() -> None:
    image = optical(cloud((0, -6, 20), (0, 6, 20), (0, 1.5, 20)))
    rows, cols = image.pixels.T
    assert image.channels[1, rows, cols] == pytest.approx([1, -1, -0.5])


@pytest.mark.parametrize(
    ("side", "rows", "columns"), [(1, [40], [50]), (2, [40, 41], [50, 51]), (3, [39, 40, 41], [49, 50, 51])]
)
def test_a_point_fills_a_square(side: int, rows: list[int], columns: list[int]) -> None:
    image = optical(cloud((0, 0, 5), intensity=[0.5]), ProjectionConfig(dilation_px=side))
    assert np.argwhere(image.valid).tolist() == [[r, c] for r in rows for c in columns]
    assert (image.channels[2][image.valid] == 0.5).all()
    assert image.pixels.tolist() == [[40, 50]]


def test_an_even_square_covers_the_pixel_centres_nearest_to_the_point() -> None:
    # u = 50 - 0.3, v = 40 + 0.2: columns 49 and 50, rows 40 and 41
    image = optical(cloud((-0.003, 0.002, 1)), ProjectionConfig(dilation_px=2))
    assert np.argwhere(image.valid).tolist() == [[40, 49], [40, 50], [41, 49], [41, 50]]


def test_squares_are_cut_at_the_border() -> None:
    image = optical(cloud((-0.5, -0.4, 1)), ProjectionConfig(dilation_px=3))
    assert np.argwhere(image.valid).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


@pytest.mark.parametrize("swap", [False, True])
def test_where_squares_overlap_the_nearer_point_wins(swap: bool) -> None:
    points = [(0.0, 0.0, 5.0), (0.08, 0.0, 4.0)]  # columns 50 and 52
    image = optical(cloud(*(points[::-1] if swap else points)), ProjectionConfig(dilation_px=3, occlusion=False))
    assert image.depth_m[40, 49:54].tolist() == [5, 5, 4, 4, 4]


def test_an_image_of_half_the_size_has_the_point_at_half_the_pixel() -> None:
    image = optical(cloud((0.1, 0.2, 1)), size=(40, 50))  # (60, 60) of the camera; (60 + 0.5) / 2 - 0.5 = 29.75
    assert image.pixels.tolist() == [[30, 30]]
    assert image.valid.shape == (40, 50)


def test_a_rectified_image_is_projected_without_the_distortion_of_its_camera_info() -> None:
    lens = replace(CAMERA, distortion=np.array([0.5, 0.0, 0.0, 0.0, 0.0]))
    columns = {
        how: int(project(cloud((0.4, 0, 1)), lens, np.eye(4), SIZE, ProjectionConfig(rectified=how)).pixels[0, 1])
        for how in ("auto", "yes", "no")
    }
    assert columns == {"auto": 93, "yes": 90, "no": 93}  # 0.4 (1 + 0.5 * 0.16) = 0.432


def test_an_equidistant_camera_info_with_zero_distortion_is_taken_as_rectified_unless_told_otherwise() -> None:
    lens = replace(CAMERA, distortion_model="equidistant", distortion=np.zeros(4))
    columns = [
        int(project(cloud((0.4, 0, 1)), lens, np.eye(4), SIZE, ProjectionConfig(rectified=how)).pixels[0, 1])
        for how in ("auto", "no")
    ]
    assert columns == [90, 88]  # atan(0.4) = 0.3805


@given(st.integers(0, 10_000))
def test_depth_is_that_of_a_slow_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform([-8, -8, -5], [8, 8, 30], (300, 3)).astype(np.float32)
    image = optical(PointCloud(points))
    uv = cv2.projectPoints(points.astype(float), np.zeros(3), np.zeros(3), CAMERA.k, np.zeros(5))[0][:, 0]
    expected = np.full(SIZE, np.inf)
    for (u, v), z in zip(uv, points[:, 2], strict=True):
        if z > 0 and 0 <= round(v) < 80 and 0 <= round(u) < 100:
            expected[round(v), round(u)] = min(expected[round(v), round(u)], z)
    np.testing.assert_array_equal(np.where(image.valid, image.depth_m, np.inf), expected.astype(np.float32))


def lattice(depth: float, rows: range, columns: range) -> NDArray[np.float32]:
    """Points at one depth that fall on these pixels."""
    v, u = np.meshgrid(np.array(rows), np.array(columns), indexing="ij")
    return (
        np.stack([(u - 50) / 100 * depth, (v - 40) / 100 * depth, np.full(v.shape, depth)], -1)
        .reshape(-1, 3)
        .astype(np.float32)
    )


def test_a_wall_does_not_shine_through_a_nearer_surface_of_sparse_points() -> None:
    near, far = lattice(5, range(20, 61, 6), range(30, 71, 3)), lattice(20, range(2, 79, 4), range(2, 99, 2))
    points = PointCloud(np.concatenate([near, far]))
    loose, strict = optical(points), optical(points, ProjectionConfig(dilation_px=1, occlusion=True))
    rows, columns = loose.pixels.T
    is_far = (np.arange(len(rows)) >= len(near)) & (rows >= 0)  # not just behind a point of the same pixel
    inside = is_far & (rows > 22) & (rows < 58) & (columns > 32) & (columns < 68)
    outside = is_far & ((rows < 20) | (rows > 60) | (columns < 30) | (columns > 70))
    assert inside.sum() > 100
    seen = strict.pixels[:, 0] >= 0
    assert not seen[inside].any()
    assert seen[outside].all()
    assert seen[: len(near)].all()
    assert (loose.pixels[inside, 0] >= 0).sum() > 100  # without the test most of them are shown
    assert np.nanmax(strict.depth_m[24:57, 34:67]) == 5


def test_the_ground_hides_nothing_of_itself() -> None:
    # 64 scan lines from 1.7 m above the ground, seen by a camera 0.2 m below the sensor.
    elevation, azimuth = np.meshgrid(np.deg2rad(np.linspace(-24, -1.5, 64)), np.deg2rad(np.linspace(-25, 25, 250)))
    reach = 1.7 / np.tan(-elevation)
    ground = np.stack([reach * np.cos(azimuth), -reach * np.sin(azimuth), np.full_like(reach, -1.7)], -1)
    points = PointCloud(ground.reshape(-1, 3).astype(np.float32))
    camera_from_lidar = OPTICAL_FROM_BODY.copy()
    camera_from_lidar[1, 3] = -0.2
    shown = [
        project(points, CAMERA, camera_from_lidar, SIZE, ProjectionConfig(occlusion=on)).pixels for on in (False, True)
    ]
    assert (shown[0][:, 0] >= 0).sum() > 5000
    np.testing.assert_array_equal(shown[1], shown[0])


def test_a_pole_hides_the_wall_behind_it_and_nothing_beside_it() -> None:
    pole, wall = lattice(6, range(10, 71, 6), range(49, 52)), lattice(18, range(13, 71, 6), range(20, 81, 2))
    image = optical(PointCloud(np.concatenate([pole, wall])), ProjectionConfig(dilation_px=1))
    seen = image.pixels[:, 0] >= 0
    columns = np.round(np.concatenate([pole, wall])[:, 0] / np.concatenate([pole, wall])[:, 2] * 100 + 50).astype(int)
    is_wall = np.arange(len(seen)) >= len(pole)
    assert seen[~is_wall].all()
    assert not seen[is_wall & (columns == 50)].any()
    assert seen[is_wall & (np.abs(columns - 50) >= 4)].all()


def test_a_surface_only_a_little_behind_is_kept() -> None:
    points = np.concatenate(
        [lattice(20, range(10, 71, 4), range(10, 91, 4)), lattice(20.5, range(12, 71, 4), range(12, 91, 4))]
    )
    image = optical(PointCloud(points), ProjectionConfig(dilation_px=1))
    assert (image.pixels[:, 0] >= 0).all()


@pytest.mark.parametrize("bad", [np.eye(3), np.full((4, 4), np.nan)])
def test_a_transform_that_is_none_is_refused(bad: NDArray[np.float64]) -> None:
    with pytest.raises(InputError, match="camera_from_lidar: expected a finite 4x4 matrix"):
        project(cloud((0, 0, 5)), CAMERA, bad, SIZE, POINTS_ONLY)


def test_intensities_of_another_number_than_points_are_refused() -> None:
    with pytest.raises(InputError, match="an intensity for each of 1 points, got 2"):
        optical(cloud((0, 0, 5), intensity=[1.0, 2.0]))


FRAME = Frame(np.zeros((80, 100, 3), np.uint8), points=cloud((0, 0, 5)), camera=CAMERA, camera_from_lidar=np.eye(4))


def test_a_frame_is_projected_like_its_parts() -> None:
    assert project_frame(FRAME, SIZE, POINTS_ONLY).pixels.tolist() == [[40, 50]]


@pytest.mark.parametrize(
    ("lacks", "got"),
    [
        ({"points": None}, "no point cloud"),
        ({"camera": None}, "no camera_info"),
        ({"camera_from_lidar": None}, "no transform from velodyne"),
    ],
)
def test_a_frame_that_lacks_a_part_says_which(lacks: dict[str, Any], got: str) -> None:
    named = replace(FRAME, points=PointCloud(np.zeros((1, 3), np.float32), frame_id="velodyne"))
    with pytest.raises(InputError, match=got):
        project_frame(replace(named, **lacks), SIZE, POINTS_ONLY)


def test_a_frame_whose_camera_info_is_of_another_image_is_refused() -> None:
    frame = replace(FRAME, image=np.zeros((160, 200, 3), np.uint8))
    with pytest.raises(InputError, match="expected the image's size 200x160, got 100x80"):
        project_frame(frame, SIZE, POINTS_ONLY)


# Real data: frame 000008 of the KITTI object benchmark.


@pytest.fixture(scope="module")
def kitti(shared_data: Path) -> tuple[Frame, list[dict[str, Any]]]:
    """The frame, and its two labelled cars that are neither occluded nor truncated."""
    folder = shared_data / "kitti_object"
    rows = (line.split(":") for line in (folder / "calib/000008.txt").read_text().splitlines() if ":" in line)
    calib = {name: np.array(values.split(), float) for name, values in rows}
    p2, rectify, camera_from_velodyne = calib["P2"].reshape(3, 4), np.eye(4), np.eye(4)
    rectify[:3, :3] = calib["R0_rect"].reshape(3, 3)
    camera_from_velodyne[:3] = calib["Tr_velo_to_cam"].reshape(3, 4)
    shift = np.eye(4)
    shift[:3, 3] = np.linalg.inv(p2[:, :3]) @ p2[:, 3]
    image = cv2.cvtColor(cv2.imread(str(folder / "image_2/000008.png")), cv2.COLOR_BGR2RGB)
    scan = np.fromfile(folder / "velodyne/000008_reduced.bin", np.float32).reshape(-1, 4)
    frame = Frame(
        image=image,
        points=PointCloud(scan[:, :3].copy(), scan[:, 3].copy()),
        camera=Camera(image.shape[1], image.shape[0], p2[:, :3]),
        camera_from_lidar=shift @ rectify @ camera_from_velodyne,
    )
    boxes = json.loads((folder / "label_2/000008_instances.json").read_text())
    return frame, [b for b in boxes if b["occluded"] == 0 and b["truncated"] == 0 and b["bbox_label"] == 2]


def box_errors(frame: Frame, cars: list[dict[str, Any]]) -> list[float]:
    """Relative error of the median projected depth inside each car's box against the label's z."""
    depth = project_frame(frame, frame.size, ProjectionConfig(dilation_px=1)).depth_m
    errors = []
    for car in cars:
        left, top, right, bottom = (round(v) for v in car["bbox"])
        errors.append(float(np.nanmedian(depth[top:bottom, left:right])) / car["bbox_3d"][2] - 1)
    return errors


def test_the_depth_in_the_boxes_of_real_cars_is_within_a_tenth_of_their_labels(
    kitti: tuple[Frame, list[dict[str, Any]]],
) -> None:
    errors = box_errors(*kitti)
    assert len(errors) == 2
    assert errors == pytest.approx([-0.021, -0.046], abs=0.005)


def test_one_degree_of_wrong_pitch_fails_the_check_of_the_boxes(kitti: tuple[Frame, list[dict[str, Any]]]) -> None:
    frame, cars = kitti
    tilt = np.eye(4)
    tilt[:3, :3] = Rotation.from_euler("x", -1, degrees=True).as_matrix()
    errors = box_errors(replace(frame, camera_from_lidar=tilt @ frame.camera_from_lidar), cars)
    assert max(abs(e) for e in errors) > 0.10


def test_few_points_of_a_real_frame_are_dropped_and_they_are_far_behind_what_surrounds_them(
    kitti: tuple[Frame, list[dict[str, Any]]],
) -> None:
    frame, _ = kitti
    before = project_frame(frame, frame.size, ProjectionConfig(dilation_px=1, occlusion=False))
    after = project_frame(frame, frame.size, ProjectionConfig(dilation_px=1, occlusion=True))
    dropped = (before.pixels[:, 0] >= 0) & (after.pixels[:, 0] < 0)
    assert 0.01 < dropped.sum() / (before.pixels[:, 0] >= 0).sum() < 0.08
    depth = (frame.points.xyz @ frame.camera_from_lidar[:3, :3].T + frame.camera_from_lidar[:3, 3])[:, 2]
    surround = np.where(before.valid, before.depth_m, np.inf).astype(np.float32)
    nearest = cv2.erode(surround, np.ones((21, 21), np.uint8))
    rows, columns = before.pixels[dropped].T
    assert (nearest[rows, columns] < 0.9 * depth[dropped]).all()


def test_the_pixels_of_a_real_frame_are_those_of_opencv(kitti: tuple[Frame, list[dict[str, Any]]]) -> None:
    frame, _ = kitti
    xyz = frame.points.xyz @ frame.camera_from_lidar[:3, :3].T + frame.camera_from_lidar[:3, 3]
    xyz = xyz[xyz[:, 2] > 0.5]
    expected = cv2.projectPoints(xyz, np.zeros(3), np.zeros(3), frame.camera.k, np.zeros(5))[0][:, 0]
    near = np.abs(expected).max(1) < 3000
    assert np.abs(project_points(frame.camera, xyz)[near] - expected[near]).max() < 2e-3
