from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from samseg_ros.config import Config, ThermalConfig
from samseg_ros.errors import InputError
from samseg_ros.sensing.modalities import MODALITIES, depth, lidar, rgb, thermal
from samseg_ros.sensing.projection import project
from samseg_ros.types import Camera, Frame, PointCloud

CONFIG = Config()
SIZE = (64, 96)
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def image(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def heat(array: NDArray[np.generic], config: ThermalConfig, size: tuple[int, int] | None = None) -> NDArray[np.float32]:
    """The first channel of a thermal image, prepared."""
    frame = Frame(image(*array.shape), thermal=array)
    prepared = thermal(frame, size or array.shape, CONFIG.model_copy(update={"thermal": config}))
    assert prepared is not None
    assert prepared.dtype == np.float32
    assert (prepared == prepared[0]).all(), "one channel, three times"
    return prepared[0]


def test_there_is_a_row_for_each_modality_of_the_default_model() -> None:
    assert list(MODALITIES) == ["rgb", "thermal", "lidar", "depth", "event"]


# rgb


def test_a_pixel_of_the_camera_image_computed_by_hand() -> None:
    planes = rgb(Frame(np.full((64, 96, 3), [255, 0, 102], np.uint8)), SIZE, CONFIG)
    assert planes.shape == (3, 64, 96)
    assert planes[:, 5, 5] == pytest.approx([(1 - 0.485) / 0.229, -0.456 / 0.224, (0.4 - 0.406) / 0.225])


@pytest.mark.parametrize(
    ("camera", "size"),
    [
        ((480, 640), (384, 512)),
        ((375, 1242), (256, 800)),
        ((128, 192), (64, 96)),
        ((100, 97), (64, 96)),
        ((64, 96), (64, 96)),
    ],
)
def test_a_shrunk_image_is_that_of_opencvs_area_average(camera: tuple[int, int], size: tuple[int, int]) -> None:
    source = image(*camera)
    area = cv2.resize(source.astype(np.float64), size[::-1], interpolation=cv2.INTER_AREA)
    expected = ((area / 255 - MEAN) / STD).transpose(2, 0, 1)
    np.testing.assert_allclose(rgb(Frame(source), size, CONFIG), expected, atol=1e-5)


@pytest.mark.parametrize("camera", [(40, 50), (40, 300), (300, 50)])
def test_an_image_smaller_than_the_network_is_interpolated(camera: tuple[int, int]) -> None:
    source = image(*camera)
    linear = cv2.resize(source, SIZE[::-1], interpolation=cv2.INTER_LINEAR)
    expected = ((linear / 255 - MEAN) / STD).transpose(2, 0, 1)
    np.testing.assert_allclose(rgb(Frame(source), SIZE, CONFIG), expected, atol=1e-5)


def test_a_view_into_a_larger_image_is_read_rightly() -> None:
    source = image(200, 300)
    view, copy = source[20:148, 30:222], source[20:148, 30:222].copy()
    np.testing.assert_array_equal(rgb(Frame(view), SIZE, CONFIG), rgb(Frame(copy), SIZE, CONFIG))


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((64, 96), np.uint8),
        np.zeros((64, 96, 4), np.uint8),
        np.zeros((64, 96, 3)),
        np.zeros((0, 9, 3), np.uint8),
    ],
)
def test_a_camera_image_of_another_kind_is_refused(bad: NDArray[np.uint8]) -> None:
    with pytest.raises(InputError, match=r"camera image: expected \(H, W, 3\) uint8 RGB, got"):
        rgb(Frame(bad), SIZE, CONFIG)


# thermal


def test_a_frame_without_a_thermal_image_has_none() -> None:
    assert thermal(Frame(image(8, 8)), SIZE, CONFIG) is None


def test_a_fixed_range_of_counts_computed_by_hand() -> None:
    # centikelvin: 0 deg C is 27315, 40 deg C is 31315
    counts = np.array([[27315, 29315], [31315, 40000]], np.uint16)
    fixed = ThermalConfig(normalization="fixed", fixed_low=27315, fixed_high=31315)
    assert heat(counts, fixed).tolist() == [[0.0, 0.5], [1.0, 1.0]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_the_extremes_of_an_image_become_0_and_1(dtype: type) -> None:
    ramp = np.linspace(10, 210, 64 * 96).reshape(64, 96).astype(dtype)
    prepared = heat(ramp, ThermalConfig(normalization="minmax"))
    np.testing.assert_allclose(prepared, (ramp.astype(float) - 10) / 200, atol=1e-6)


def test_percentiles_are_those_of_numpy_and_clip_what_lies_outside() -> None:
    counts = np.random.default_rng(0).normal(30000, 500, (100, 120)).astype(np.uint16)  # small: every pixel decides
    low, high = np.percentile(counts, [1, 99])
    expected = np.clip((counts - low) / (high - low), 0, 1)
    np.testing.assert_allclose(heat(counts, ThermalConfig()), expected, atol=1e-5)


def test_percentiles_of_a_large_image_come_from_a_sample_of_it_and_are_nearly_the_same() -> None:
    counts = np.random.default_rng(0).normal(30000, 500, (1024, 1280)).astype(np.uint16)
    low, high = np.percentile(counts, [1, 99])
    expected = np.clip((counts - low) / (high - low), 0, 1)
    assert np.abs(heat(counts, ThermalConfig()) - expected).max() < 0.03


def test_one_hot_pixel_does_not_darken_the_rest_under_percentiles() -> None:
    counts = np.tile(np.linspace(100, 200, 100), (100, 1)).astype(np.uint16)
    counts[3, 3] = 65535
    assert heat(counts, ThermalConfig())[50].max() > 0.95
    assert heat(counts, ThermalConfig(normalization="minmax"))[50].max() < 0.01


@pytest.mark.parametrize("kind", ["percentile", "minmax"])
def test_a_constant_image_is_zero(kind: str) -> None:
    assert not heat(np.full((64, 96), 30000, np.uint16), ThermalConfig(normalization=kind)).any()


def test_a_person_before_an_even_ground_is_seen_though_the_percentiles_are_one_value() -> None:
    counts = np.full((480, 640), 29500, np.uint16)
    counts[100:160, 300:340] = 31000  # 0.8 % of the image
    assert np.percentile(counts, 1) == np.percentile(counts, 99)
    seen = heat(counts, ThermalConfig())
    assert (seen.min(), seen.max()) == (0.0, 1.0)


@pytest.mark.parametrize("kind", ["percentile", "minmax", "fixed"])
def test_values_that_are_not_finite_do_not_spread(kind: str) -> None:
    degrees = np.tile(np.linspace(0, 40, 96, dtype=np.float32), (64, 1))
    settings = ThermalConfig(normalization=kind, fixed_low=0, fixed_high=40, percentile_low=0, percentile_high=100)
    clean = heat(degrees, settings)
    broken = degrees.copy()
    broken[10, 10:13] = [np.nan, np.inf, -np.inf]
    prepared = heat(broken, settings)
    assert prepared[10, 10:13].tolist() == [0, 1, 0]
    prepared[10, 10:13] = clean[10, 10:13]
    np.testing.assert_allclose(prepared, clean, atol=1e-6)


def test_a_thermal_image_is_resized_to_the_network() -> None:
    left_warm = np.zeros((128, 192), np.uint16)
    left_warm[:, :96] = 1000
    prepared = heat(left_warm, ThermalConfig(normalization="minmax"), SIZE)
    assert prepared.shape == SIZE
    assert prepared[:, :48].min() == 1
    assert prepared[:, 48:].max() == 0


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.full((9, 9), np.nan, np.float32), "thermal image: expected some finite values, got none"),
        (np.zeros((9, 9, 3), np.uint8), r"thermal image: expected \(H, W\) uint8, uint16 or float32"),
        (np.zeros((9, 9), np.int32), "got .* int32"),
        (np.zeros((0, 9), np.uint8), "thermal image: expected"),
    ],
)
def test_a_thermal_image_that_cannot_be_used_is_refused(bad: NDArray[np.generic], message: str) -> None:
    with pytest.raises(InputError, match=message):
        thermal(Frame(image(8, 8), thermal=bad), SIZE, CONFIG)


def test_a_thermal_image_of_another_aspect_is_refused_and_not_stretched() -> None:
    camera = image(48, 64)
    for shape in [(24, 32), (50, 64), (48, 67)]:  # the same, 4 % and 4.7 % off
        assert thermal(Frame(camera, thermal=np.zeros(shape, np.uint16)), SIZE, CONFIG) is not None
    for height, width in [(51, 64), (48, 68), (64, 48)]:  # 5.9 %, 6.3 % and far off
        with pytest.raises(
            InputError, match=rf"expected the aspect of the camera image \(64x48\), got {width}x{height}"
        ):
            thermal(Frame(camera, thermal=np.zeros((height, width), np.uint16)), SIZE, CONFIG)


def test_a_thermal_camera_of_another_view_is_told_of_its_registration_and_a_ready_made_picture_is_not() -> None:
    with pytest.raises(InputError, match=r"warp or crop it .*, or set projection\.thermal: calibrated"):
        thermal(Frame(image(48, 64), thermal=np.zeros((48, 68), np.uint16)), SIZE, CONFIG)
    with pytest.raises(InputError, match=r"to the camera's view first$"):
        depth(Frame(image(48, 64), images={"depth": np.zeros((48, 68, 3), np.uint8)}), SIZE, CONFIG)


@pytest.mark.parametrize("kind", ["percentile", "minmax", "fixed"])
def test_values_whose_range_no_float32_holds_are_refused(kind: str) -> None:
    values = np.tile(np.array([-3e38, 3e38], np.float32), (64, 48))
    with pytest.raises(InputError, match=r"thermal image: expected counts or temperatures, got .* -3e\+38 to 3e\+38"):
        heat(values, ThermalConfig(normalization=kind))


def test_an_image_wholly_outside_the_fixed_range_is_refused_and_one_that_touches_it_is_not() -> None:
    fixed = ThermalConfig(normalization="fixed", fixed_low=100, fixed_high=200)
    for low, high in [(0, 99), (201, 255)]:
        with pytest.raises(InputError, match=rf"fixed_high \(100 to 200\), got {low} to {high};"):
            heat(np.array([[low, high]], np.uint8), fixed)
    assert heat(np.array([[0, 100]], np.uint8), fixed).tolist() == [[0, 0]]
    assert heat(np.array([[200, 255]], np.uint8), fixed).tolist() == [[1, 1]]


# lidar


CAMERA = Camera(192, 128, np.array([[100.0, 0, 96], [0, 100, 64], [0, 0, 1]]))
FRAME = Frame(
    image(128, 192),
    points=PointCloud(np.array([[0, 0, 10], [2, 1, 20]], np.float32), np.array([0.2, 0.4], np.float32), "velodyne"),
    camera=CAMERA,
    camera_from_lidar=np.eye(4),
)


def test_the_lidar_image_is_the_projection_at_network_size() -> None:
    expected = project(FRAME.points, CAMERA, np.eye(4), SIZE, CONFIG.projection).channels
    prepared = lidar(FRAME, SIZE, CONFIG)
    np.testing.assert_array_equal(prepared, expected)
    assert np.count_nonzero(prepared[0]) == 2 * 4  # two points, each 2 x 2


@pytest.mark.parametrize("points", [None, PointCloud(np.zeros((0, 3), np.float32))])
def test_no_cloud_and_an_empty_cloud_are_nothing_seen(points: PointCloud | None) -> None:
    assert lidar(replace(FRAME, points=points), SIZE, CONFIG) is None


def test_a_cloud_of_nans_is_refused_and_counted() -> None:
    frame = replace(FRAME, points=PointCloud(np.full((7, 3), np.nan, np.float32)))
    with pytest.raises(InputError, match="got 7 points, 0 of them finite and none in view"):
        lidar(frame, SIZE, CONFIG)


def test_a_cloud_that_the_extrinsics_put_out_of_view_is_refused() -> None:
    frame = replace(FRAME, camera_from_lidar=np.diag([1.0, 1, -1, 1]))
    with pytest.raises(
        InputError, match="2 points, 2 of them finite and none in view; check the LiDAR's driver and camera"
    ):
        lidar(frame, SIZE, CONFIG)


def test_a_cloud_without_camera_info_is_refused() -> None:
    with pytest.raises(InputError, match="no camera_info"):
        lidar(replace(FRAME, camera=None), SIZE, CONFIG)


def ready_made_frame(image, name="depth"):
    return Frame(np.zeros((4, 6, 3), np.uint8), images={name: image})


@pytest.mark.parametrize("name", ["lidar", "depth", "event"])
def test_a_ready_made_picture_of_bytes_becomes_shares_of_255_and_one_of_floats_stays(name):
    levels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    as_bytes = MODALITIES[name](ready_made_frame(levels, name), (4, 6), Config())
    as_floats = MODALITIES[name](ready_made_frame(levels.astype(np.float32), name), (4, 6), Config())
    np.testing.assert_allclose(as_bytes, levels.transpose(2, 0, 1) / 255, atol=1e-6)
    np.testing.assert_array_equal(as_floats, levels.transpose(2, 0, 1))


def test_a_frame_without_a_depth_picture_has_none():
    assert MODALITIES["depth"](Frame(np.zeros((4, 6, 3), np.uint8)), (4, 6), Config()) is None


@pytest.mark.parametrize(
    "image", [np.zeros((4, 6), np.uint8), np.zeros((4, 6, 3), np.int32), np.zeros((9, 6, 3), np.uint8)]
)
def test_a_ready_made_picture_of_a_wrong_kind_or_aspect_is_refused(image):
    with pytest.raises(InputError, match="depth image"):
        MODALITIES["depth"](ready_made_frame(image), (4, 6), Config())
