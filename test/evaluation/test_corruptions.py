from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from samseg_ros.config import ProjectionConfig
from samseg_ros.datasets.world.dataset import WorldDataset
from samseg_ros.datasets.world.labelled import LabelledWorld
from samseg_ros.errors import InputError, SamsegError
from samseg_ros.evaluation import cloud_failures, fog, picture_failures
from samseg_ros.evaluation.corruptions import (
    CORRUPTIONS,
    SEVERITIES,
    applicable,
    corrupt,
    require_applicable,
    sensor_of,
    sensors_of,
)
from samseg_ros.evaluation.frame_failures import Earlier
from samseg_ros.evaluation.sequence import earlier_of
from samseg_ros.sensing.camera import project_points
from samseg_ros.sensing.projection import project_frame
from samseg_ros.types import Camera, Frame, PointCloud

RNG = np.random.default_rng(0)
WORLD = LabelledWorld(WorldDataset("test", 1, size=(96, 128)))


def _locked(frame: Frame) -> Frame:
    for part in fields(Frame):
        _lock(getattr(frame, part.name))
    return frame


def _lock(value: object) -> None:
    if isinstance(value, np.ndarray):
        value.flags.writeable = False
    elif isinstance(value, PointCloud):
        _lock(value.xyz), _lock(value.intensity)
    elif isinstance(value, dict):
        for inner in value.values():
            _lock(inner)


@pytest.fixture(scope="module")
def world() -> Frame:
    """A frame with every sensor; its arrays refuse to be written."""
    frame = WORLD[0][0]
    return _locked(replace(frame, images={"depth": frame.image.copy(), "event": frame.image.copy()}))


@pytest.fixture(scope="module")
def earlier() -> Earlier:
    seen = {k: _locked(WORLD.scenes.capture(0, earlier=k).frame) for k in SEVERITIES}
    return seen.get


def _pictures(frame: Frame) -> dict[str, NDArray[np.float64]]:
    """What of each sensor reaches the networks, roughly: the LiDAR as its depth image."""
    lidar = np.zeros(frame.size)
    if frame.points is not None:
        lidar = np.nan_to_num(project_frame(frame, frame.size, ProjectionConfig(dilation_px=1)).depth_m)
    shown = {"rgb": frame.image, "thermal": frame.thermal, "lidar": lidar, **frame.images}
    return {name: np.asarray(image, np.float64) for name, image in shown.items()}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_changes_its_own_sensor_alone_and_writes_into_nothing(
    name: str, world: Frame, earlier: Earlier
) -> None:
    clean, worst = _pictures(world), _pictures(corrupt(world, name, 5, 1, earlier))
    changed = {sensor for sensor in clean if not np.array_equal(clean[sensor], worst[sensor])}
    assert changed == {sensor_of(name)}


@pytest.mark.parametrize("name", [name for name, row in CORRUPTIONS.items() if row.needs != "sequence"])
def test_a_higher_severity_is_further_from_the_original(name: str, world: Frame) -> None:
    sensor = sensor_of(name)
    clean = _pictures(world)[sensor]
    errors = [np.abs(_pictures(corrupt(world, name, s, 2))[sensor] - clean).mean() for s in SEVERITIES]
    assert errors == sorted(errors) and 0 < errors[0] < errors[-1]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_one_seed_gives_one_result(name: str, world: Frame, earlier: Earlier) -> None:
    once, again = (_pictures(corrupt(world, name, 3, 4, earlier))[sensor_of(name)] for _ in range(2))
    np.testing.assert_array_equal(once, again)


@pytest.mark.parametrize("name", ["image.noise", "thermal.noise", "lidar.dropped_packets"])
def test_another_seed_gives_another_result(name: str, world: Frame) -> None:
    once, other = (_pictures(corrupt(world, name, 3, seed))[sensor_of(name)] for seed in (4, 5))
    assert not np.array_equal(once, other)


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if not name.startswith("image.")])
def test_a_frame_without_the_sensor_comes_back_as_it_is_and_the_dataset_is_refused(name: str) -> None:
    frame = Frame(np.full((8, 8, 3), 100, np.uint8))
    assert corrupt(frame, name, 5) is frame
    with pytest.raises(
        InputError, match=f"corruption {name}: expected a dataset with {sensor_of(name)}, got one of rgb;"
    ):
        require_applicable(name, ("rgb",), (), is_sequence=True)


def test_every_corruption_of_the_image_runs_without_other_sensors() -> None:
    frame = Frame(np.random.default_rng(1).integers(0, 256, (24, 32, 3), np.uint8))
    names = applicable(("rgb",), (), is_sequence=False)
    assert names == tuple(name for name in CORRUPTIONS if name.startswith("image."))
    for name in names:
        assert not np.array_equal(corrupt(frame, name, 5).image, frame.image)


def test_a_late_sensor_needs_frames_that_follow_each_other(world: Frame) -> None:
    with pytest.raises(InputError, match="expected frames of one recording, in order, got frames that do not follow"):
        corrupt(world, "lidar.time", 1)
    assert not [name for name in applicable(("rgb", "thermal", "lidar"), (), False) if name.endswith(".time")]


def test_a_late_sensor_is_the_earlier_one_and_missing_before_the_recording_began(
    world: Frame, earlier: Earlier
) -> None:
    then = earlier(2)
    assert then is not None
    assert corrupt(world, "thermal.time", 2, 0, earlier).thermal is then.thermal
    assert corrupt(world, "lidar.time", 2, 0, earlier).points is then.points
    assert corrupt(world, "thermal.time", 1, 0, lambda k: None).thermal is None
    assert sensors_of(corrupt(world, "lidar.time", 1, 0, lambda k: None)) == ("rgb", "thermal", "depth", "event")


def test_the_world_gives_frames_of_the_same_drive_before_a_frame() -> None:
    look = earlier_of(WORLD, 0)
    assert look is not None
    now, before = look(0), look(3)
    assert now is not None and before is not None
    np.testing.assert_array_equal(now.image, WORLD[0][0].image)
    assert before.stamp_ns == now.stamp_ns - 300_000_000


def test_what_needs_points_is_refused_on_a_ready_made_picture_and_the_rest_changes_it() -> None:
    picture = np.zeros((20, 40, 3), np.uint8)
    picture[:, ::2] = 9  # 400 points
    frame = Frame(np.zeros((20, 40, 3), np.uint8), images={"lidar": picture})
    for name in ("lidar.range", "lidar.dropped_packets"):
        with pytest.raises(InputError, match=f"{name}: expected a point cloud, got a ready-made picture of lidar"):
            corrupt(frame, name, 1)
        assert name not in applicable(("rgb", "lidar"), ("lidar",), is_sequence=True)
    assert (corrupt(frame, "lidar.sparsity", 2).images["lidar"] > 0).any(2).sum() == 100  # one of 4
    assert not corrupt(frame, "lidar.blackout", 5).images["lidar"].any()
    assert not np.array_equal(corrupt(frame, "lidar.rotation", 5).images["lidar"], picture)


def test_unknown_names_and_severities_are_refused(world: Frame) -> None:
    with pytest.raises(SamsegError, match=r"no corruption 'image.fogg'; did you mean 'image.fog'\?"):
        corrupt(world, "image.fogg", 1)
    with pytest.raises(InputError, match="severity: expected 1 to 5, got 0"):
        corrupt(world, "image.fog", 0)


def test_a_blackout_is_0_from_below() -> None:
    picture = np.full((10, 4, 3), 7, np.uint8)
    half = picture_failures.blackout(picture, 0.4, RNG)
    assert (half[:6] == 7).all() and not half[6:].any()
    assert not picture_failures.blackout(picture, 1.0, RNG).any()


def test_a_dark_thermal_image_has_its_lowest_count() -> None:
    counts = np.arange(29000, 29040, dtype=np.uint16).reshape(10, 4)[::-1]
    dark = picture_failures.thermal_blackout(counts, 0.5, RNG)
    np.testing.assert_array_equal(dark[:5], counts[:5])
    assert (dark[5:] == 29000).all() and dark.dtype == np.uint16


@pytest.mark.parametrize(("stops", "level"), [(2.2, 200), (-2.2, 50), (4.4, 255)])
def test_2_point_2_stops_double_or_halve_a_level(stops: float, level: int) -> None:
    picture = np.full((3, 3, 3), 100, np.uint8)
    assert (picture_failures.exposure(picture, stops, RNG) == level).all()


@pytest.mark.parametrize("blur", [picture_failures.motion_blur, picture_failures.defocus])
def test_a_blur_spreads_a_point_over_its_width_and_keeps_its_light(blur: picture_failures.Change) -> None:
    picture = np.zeros((101, 100), np.float32)
    picture[50, 50] = 1.0
    spread = blur(picture, 10.0, np.random.default_rng(3))  # 11 pixels
    rows, columns = np.nonzero(spread > 1e-4)
    assert spread.sum() == pytest.approx(1.0, abs=1e-4)
    assert 9 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 11


def test_noise_has_the_strength_that_is_asked_for() -> None:
    picture = np.full((200, 200, 3), 128, np.uint8)
    noisy = picture_failures.noise(picture, 16.0, np.random.default_rng(0)).astype(float)
    assert noisy.std() == pytest.approx(16.0, rel=0.02) and noisy.mean() == pytest.approx(128, abs=0.2)


def test_thermal_noise_is_a_share_of_the_span_half_of_it_along_columns() -> None:
    counts = np.tile(np.linspace(20000, 30000, 400), (400, 1)).T.astype(np.uint16)  # 1st to 99th: 9800
    error = picture_failures.thermal_noise(counts, 0.1, np.random.default_rng(0)) - counts.astype(float)
    assert error.std() == pytest.approx(980, rel=0.05)
    assert error.mean(0).std() == pytest.approx(980 / np.sqrt(2), rel=0.1)


@pytest.mark.parametrize("yaw", [-5.0, 2.0])
def test_a_turned_picture_moves_its_centre_by_the_tangent_of_the_angle(yaw: float) -> None:
    picture = np.zeros((41, 201), np.uint8)
    picture[20, 100] = 200
    turned = picture_failures.turn(picture, 300.0, yaw, points=True)
    assert np.argwhere(turned).tolist() == [[20, round(100 - 300 * np.tan(np.deg2rad(yaw)))]]


def test_a_turned_lidar_moves_a_point_ahead_by_the_tangent_of_the_angle() -> None:
    k = np.array([[500.0, 0, 320], [0, 500.0, 240], [0, 0, 1]])
    optical_from_lidar = np.array([[0, -1.0, 0, 0], [0, 0, -1.0, 0], [1.0, 0, 0, 0], [0, 0, 0, 1]])
    frame = Frame(
        np.zeros((480, 640, 3), np.uint8),
        points=PointCloud(np.array([[10.0, 0, 0]], np.float32)),
        camera=Camera(640, 480, k),
        camera_from_lidar=optical_from_lidar,
    )
    turned = corrupt(frame, "lidar.rotation", 5).camera_from_lidar  # 5 degrees
    assert turned is not None
    ahead = (turned @ [10.0, 0, 0, 1])[None, :3]
    u, v = project_points(Camera(640, 480, k), ahead)[0]
    assert abs(u - 320) == pytest.approx(500 * np.tan(np.deg2rad(5)), abs=0.01)
    assert v == pytest.approx(240)


def test_a_calibrated_thermal_camera_is_turned_by_its_extrinsics_alone(world: Frame) -> None:
    frame = replace(world, thermal_camera=world.camera, camera_from_thermal=np.eye(4))
    turned = corrupt(frame, "thermal.rotation", 4)  # 3.5 degrees
    assert turned.thermal is frame.thermal and turned.camera_from_thermal is not None
    assert np.rad2deg(np.arccos(turned.camera_from_thermal[0, 0])) == pytest.approx(3.5)


def _cloud(beams: int, columns: int) -> PointCloud:
    """A full turn at 20 m; the intensity is the beam's number."""
    elevation, azimuth = np.meshgrid(
        np.linspace(-0.4, 0.2, beams), (np.arange(columns) + 0.5) * 2 * np.pi / columns, indexing="ij"
    )
    rays = [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
    xyz = 20 * np.stack(rays, -1).reshape(-1, 3).astype(np.float32)
    return PointCloud(xyz, np.repeat(np.arange(beams), columns).astype(np.float32))


@pytest.mark.parametrize("beams", [32, 64])
@pytest.mark.parametrize("n", [2, 4, 8, 16, 32])
def test_sparsity_keeps_every_nth_beam_whole(beams: int, n: int) -> None:
    kept = cloud_failures.sparsity(_cloud(beams, 90), n, RNG)
    assert kept.intensity is not None and len(kept.xyz) == beams // n * 90
    assert sorted(set(kept.intensity)) == list(range(0, beams, n))


def test_dropped_packets_are_whole_sectors_and_the_share_that_is_asked_for() -> None:
    cloud = _cloud(4, 720)
    kept = cloud_failures.dropped_packets(cloud, 0.25, RNG)
    assert len(kept.xyz) == 3 * len(cloud.xyz) // 4
    degrees = np.rad2deg(np.arctan2(kept.xyz[:, 1], kept.xyz[:, 0])) + 180
    assert np.isin(np.bincount((degrees / 2).astype(int) % 180, minlength=180), (0, 16)).all()


def test_a_shorter_range_loses_what_is_beyond_it_and_no_returns_go_too() -> None:
    xyz = np.array([[3, 4, 0], [0, 0, 30], [0, 0, 0], [np.nan, 0, 0]], np.float32)
    kept = cloud_failures.shorter_range(PointCloud(xyz, np.arange(4, dtype=np.float32)), 5.0, RNG)
    assert kept.xyz.tolist() == [[3, 4, 0]] and kept.intensity is not None and kept.intensity.tolist() == [0]


@pytest.mark.parametrize(("share", "left"), [(0.25, [1, 2, 3]), (1.0, [])])
def test_a_dark_lidar_loses_its_lowest_beams_first(share: float, left: list[int]) -> None:
    kept = cloud_failures.blackout(_cloud(4, 10), share, RNG)
    assert kept.intensity is not None and sorted(set(kept.intensity)) == left


def test_an_empty_sweep_stays_empty() -> None:
    empty = PointCloud(np.zeros((0, 3), np.float32))
    for failure in (
        cloud_failures.blackout,
        cloud_failures.sparsity,
        cloud_failures.shorter_range,
        cloud_failures.dropped_packets,
    ):
        assert len(failure(empty, 2.0, RNG).xyz) == 0


def test_fog_leaves_5_percent_of_a_contrast_at_the_visibility() -> None:
    image = np.full((40, 60, 3), 200, np.uint8)
    image[18:22, 28:32] = 0
    seen = fog.fog(Frame(image), fog.WALL_M)  # above the horizon everything stands at that distance
    assert seen[0, 0, 0] == 200 and seen[18, 30, 0] == 190  # 200 - 0.05 * 200, exp(-3) = 0.0498


def test_the_depth_of_the_road_follows_from_the_camera_height() -> None:
    camera = Camera(60, 40, np.array([[100.0, 0, 30], [0, 100.0, 9], [0, 0, 1]]))
    depth = fog.scene_depth(Frame(np.zeros((40, 60, 3), np.uint8), camera=camera))
    assert depth[39, 5] == pytest.approx(100 * fog.CAMERA_HEIGHT_M / 30) and depth[0, 5] == fog.WALL_M


def test_the_depth_is_that_of_the_lidar_where_there_is_one() -> None:
    y, x = np.meshgrid(np.linspace(-3, 3, 60), np.linspace(-3, 3, 60), indexing="ij")
    wall = np.stack([x, y, np.full_like(x, 7.0)], -1).reshape(-1, 3).astype(np.float32)
    camera = Camera(60, 40, np.array([[60.0, 0, 30], [0, 60.0, 20], [0, 0, 1]]))
    frame = Frame(np.zeros((40, 60, 3), np.uint8), points=PointCloud(wall), camera=camera, camera_from_lidar=np.eye(4))
    np.testing.assert_allclose(fog.scene_depth(frame), 7.0, rtol=1e-5)
