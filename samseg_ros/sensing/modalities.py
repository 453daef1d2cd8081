"""What a network sees of each sensor: one function and one row of `MODALITIES` a modality."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from samseg_ros.config import Config, ThermalConfig
from samseg_ros.errors import InputError
from samseg_ros.sensing.camera import read_only
from samseg_ros.sensing.projection import project_frame
from samseg_ros.sensing.registration import register_frame
from samseg_ros.types import Frame

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)
PERCENTILE_SAMPLES = 16384
"""About this many pixels decide the percentiles of a thermal image."""
ASPECT_TOLERANCE = 0.05
"""Largest difference between the aspects of the thermal and the camera image, as a share."""
CALIBRATED = ", or set projection.thermal: calibrated (with both camera_info and the transform)"
"""What else helps where a thermal camera has a view of its own."""

Prepare = Callable[[Frame, tuple[int, int], Config], NDArray[np.float32] | None]
"""(frame, (h, w), config) -> (3, h, w), or None where the frame has nothing of that sensor."""


def rgb(frame: Frame, size: tuple[int, int], config: Config) -> NDArray[np.float32]:
    """Return the camera image, RGB, resized (areas averaged when shrinking), with ImageNet's mean and deviation.

    Raises:
        InputError: the image is not (H, W, 3) uint8.
    """
    image = frame.image
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise InputError(
            "camera image",
            expected="(H, W, 3) uint8 RGB",
            got=f"{image.shape} {image.dtype}",
            remedy="convert the message with sensing.convert.color_image",
        )
    source = image if _shrinks(image.shape, size) else _resize(image, size)
    planes = np.empty((3, *size), np.float32)
    gain = 1 / (255 * IMAGENET_STD)
    _average_areas(
        read_only(source, np.uint8),
        *_overlaps(source.shape[0], size[0]),
        *_overlaps(source.shape[1], size[1]),
        gain,
        -IMAGENET_MEAN / IMAGENET_STD,
        planes,
    )
    return planes


def padded(name: str, planes: NDArray[np.float32], size: tuple[int, int] | None) -> NDArray[np.float32]:
    """Fill (3, h, w) of a modality up to (3, H, W) with what black is to the network; None: leave it as it is."""
    if size is None:
        return planes
    black = -IMAGENET_MEAN / IMAGENET_STD if name == "rgb" else np.zeros(3, np.float32)
    filled = np.empty((3, *size), np.float32)
    filled[:] = black[:, None, None]
    filled[:, : planes.shape[1], : planes.shape[2]] = planes
    return filled


def thermal(frame: Frame, size: tuple[int, int], config: Config) -> NDArray[np.float32] | None:
    """Return the thermal image scaled to 0..1 by ``config.thermal``, resized and repeated to three channels.

    An image with a camera of its own is registered to the camera's view (see `samseg_ros.sensing.registration`); its
    range is that of the whole image. Values that are not finite and what the thermal camera does not see become the
    lower end. Where the percentiles are one value (a small hot thing before an even ground) the image's extremes serve;
    a constant image becomes 0.

    Raises:
        InputError: not an (H, W) uint8, uint16 or float image, nothing finite in it, wholly outside the fixed range, a
            range that float32 cannot hold; aligned, another aspect than the camera's; else as `register_frame`.
    """
    image = frame.thermal
    if image is None:
        return None
    if image.ndim != 2 or image.dtype.kind not in "uf" or image.dtype.itemsize > 8 or image.size == 0:
        raise InputError(
            "thermal image",
            expected="(H, W) uint8, uint16 or float32",
            got=f"{image.shape} {image.dtype}",
            remedy="publish mono8, mono16, 16UC1 or 32FC1",
        )
    is_aligned = frame.camera_from_thermal is None and config.projection.thermal == "aligned"
    if is_aligned:
        _require_aspect(image.shape, frame.size)
    counts = image if image.dtype in (np.uint8, np.uint16) else image.astype(np.float32)
    low, high = _thermal_range(counts, config.thermal)
    if counts.dtype == np.float32:
        counts = np.nan_to_num(counts, nan=low, posinf=high, neginf=low)
    gain = 1.0 / (high - low) if high > low else 0.0
    there, seen = (
        (_resize(counts, size), None) if is_aligned else register_frame(frame, counts, size, config.projection)
    )
    scaled = np.clip((there.astype(np.float32) - low) * gain, 0.0, 1.0)
    if seen is not None:
        scaled[~seen] = 0.0
    return np.repeat(scaled[None].astype(np.float32), 3, axis=0)


def _require_aspect(shape: tuple[int, ...], camera_size: tuple[int, int], name: str = "thermal") -> None:
    """Refuse an image that cannot show the camera's view: resizing would stretch it."""
    ratio = (shape[1] / shape[0]) / (camera_size[1] / camera_size[0])
    if abs(ratio - 1) > ASPECT_TOLERANCE:
        raise InputError(
            f"{name} image",
            expected=f"the aspect of the camera image ({camera_size[1]}x{camera_size[0]})",
            got=f"{shape[1]}x{shape[0]}",
            remedy=f"warp or crop it to the camera's view first{CALIBRATED if name == 'thermal' else ''}",
        )


def _thermal_range(counts: NDArray[np.generic], config: ThermalConfig) -> tuple[float, float]:
    """Return the counts that become 0 and 1."""
    step = max(1, int((counts.size / PERCENTILE_SAMPLES) ** 0.5)) if config.normalization == "percentile" else 1
    sample = counts[::step, ::step]
    values = sample[np.isfinite(sample)] if counts.dtype.kind == "f" else sample.ravel()
    if values.size == 0:
        raise InputError(
            "thermal image", expected="some finite values", got="none", remedy="check the thermal camera and its driver"
        )
    if config.normalization == "percentile":
        with np.errstate(over="ignore", invalid="ignore"):  # told below
            low, high = map(float, np.percentile(values, [config.percentile_low, config.percentile_high]))
        if low == high:
            low, high = _extremes(counts)
    else:
        low, high = float(values.min()), float(values.max())
    if not high - low <= float(np.finfo(np.float32).max):  # NaN too
        raise InputError(
            "thermal image",
            expected="counts or temperatures",
            got=f"values from {values.min():g} to {values.max():g}",
            remedy="check the thermal camera and its driver",
        )
    return (low, high) if config.normalization != "fixed" else _fixed_range(low, high, config)


def _extremes(counts: NDArray[np.generic]) -> tuple[float, float]:
    """Return the smallest and the largest finite value of the whole image."""
    values = counts[np.isfinite(counts)]
    return float(values.min()), float(values.max())


def _fixed_range(lowest: float, highest: float, config: ThermalConfig) -> tuple[float, float]:
    """Return the range that the settings fix, after a look whether anything of the image lies in it."""
    if highest < config.fixed_low or lowest > config.fixed_high:
        raise InputError(
            "thermal image",
            expected=f"values in thermal.fixed_low..fixed_high ({config.fixed_low:g} to {config.fixed_high:g})",
            got=f"{lowest:g} to {highest:g}",
            remedy="set thermal.normalization: fixed and the range in the camera's own units, or minmax",
        )
    return config.fixed_low, config.fixed_high


def lidar(frame: Frame, size: tuple[int, int], config: Config) -> NDArray[np.float32] | None:
    """Return the LiDAR image made at network size (see `samseg_ros.sensing.projection.LidarImage`).

    A picture that came ready-made goes before the cloud. An empty cloud is nothing seen: None.

    Raises:
        InputError: as `project_frame` and `ready_made`, or no point of the cloud is finite and in view.
    """
    if "lidar" in frame.images:
        return ready_made("lidar", frame, size)
    points = frame.points
    if points is None or len(points.xyz) == 0:
        return None
    image = project_frame(frame, size, config.projection)
    if not image.valid.any():
        finite = int(np.isfinite(points.xyz).all(1).sum())
        raise InputError(
            "point cloud",
            expected="points in the camera's view",
            got=f"{len(points.xyz)} points, {finite} of them finite and none in view",
            remedy="check the LiDAR's driver and camera_from_lidar",
        )
    return image.channels


def ready_made(name: str, frame: Frame, size: tuple[int, int]) -> NDArray[np.float32] | None:
    """Return the picture of a modality that the frame came with, resized: uint8 / 255, float32 as it is.

    Raises:
        InputError: not (H, W, 3) uint8 or float32, or of another aspect than the camera's.
    """
    image = frame.images.get(name)
    if image is None:
        return None
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.float32) or image.size == 0:
        raise InputError(
            f"{name} image",
            expected="(H, W, 3) uint8 or float32",
            got=f"{image.shape} {image.dtype}",
            remedy="check the dataset's reader",
        )
    _require_aspect(image.shape, frame.size, name)
    gain = np.float32(1 / 255) if image.dtype == np.uint8 else np.float32(1)
    planes: NDArray[np.float32] = np.ascontiguousarray(_resize(image, size).transpose(2, 0, 1), np.float32) * gain
    return planes


def depth(frame: Frame, size: tuple[int, int], config: Config) -> NDArray[np.float32] | None:
    """Return the depth picture (HHA: disparity, height, angle), see `ready_made`."""
    return ready_made("depth", frame, size)


def event(frame: Frame, size: tuple[int, int], config: Config) -> NDArray[np.float32] | None:
    """Return the picture of an event camera, see `ready_made`."""
    return ready_made("event", frame, size)


MODALITIES: Mapping[str, Prepare] = {"rgb": rgb, "thermal": thermal, "lidar": lidar, "depth": depth, "event": event}
"""Every modality that a model may ask for."""


def _shrinks(shape: tuple[int, ...], size: tuple[int, int]) -> bool:
    return size[0] <= shape[0] and size[1] <= shape[1]


def _resize(image: NDArray[np.generic], size: tuple[int, int]) -> NDArray[np.generic]:
    """Resize to (h, w), averaging areas where the image shrinks in both directions."""
    if image.shape[:2] == tuple(size):
        return image
    how = cv2.INTER_AREA if _shrinks(image.shape, size) else cv2.INTER_LINEAR
    resized: NDArray[np.generic] = cv2.resize(np.ascontiguousarray(image), size[::-1], interpolation=how)
    return resized


def _overlaps(source: int, target: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return each target pixel's first source pixel, and the shares that it and the next n - 1 have: (target, n)."""
    step = source / target
    start = np.arange(target) * step
    count = int(np.ceil(step)) + (source % target != 0)
    first = np.minimum(np.floor(start + 1e-9).astype(np.int64), source - count)
    pixel = first[:, None] + np.arange(count)
    shared = np.minimum(start[:, None] + step, pixel + 1) - np.maximum(start[:, None], pixel)
    return first, (np.clip(shared, 0.0, None) / step).astype(np.float32)


@njit(cache=True, nogil=True)
def _average_areas(image, top, row_shares, left, column_shares, gain, offset, planes):  # type: ignore[no-untyped-def]
    """Fill (3, h, w) planes with gain * (mean of the area of (H, W, 3) levels) + offset: cv2's INTER_AREA, unrounded.

    One pass over the image: whole rows are summed first (contiguous, so it vectorises), then columns of that sum.
    """
    width = image.shape[1]
    rows = image.reshape(image.shape[0], width * 3)
    total = np.empty(width * 3, np.float32)
    for y in range(planes.shape[1]):
        p0, p1, p2 = planes[0, y], planes[1, y], planes[2, y]
        row, share = rows[top[y]], row_shares[y, 0]
        for i in range(width * 3):
            total[i] = share * np.float32(row[i])
        for r in range(1, row_shares.shape[1]):
            row, share = rows[top[y] + r], row_shares[y, r]
            for i in range(width * 3):
                total[i] += share * np.float32(row[i])
        for x in range(planes.shape[2]):
            red, green, blue = np.float32(0), np.float32(0), np.float32(0)
            start = np.uint64(left[x] * 3)  # unsigned: no test for negative indices
            for c in range(column_shares.shape[1]):
                j, share = start + np.uint64(3 * c), column_shares[x, c]
                red += share * total[j]
                green += share * total[j + np.uint64(1)]
                blue += share * total[j + np.uint64(2)]
            p0[x] = red * gain[0] + offset[0]
            p1[x] = green * gain[1] + offset[1]
            p2[x] = blue * gain[2] + offset[2]
