"""LiDAR points to an image: transform, project, drop what the camera cannot see, paint with the nearest on top.

A LiDAR does not stand where the camera stands, so it sees surfaces that the camera does not, and its points are too
sparse for a z-buffer alone to hide them: a point that much nearer points surround is dropped as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from samseg_ros.config import ProjectionConfig
from samseg_ros.errors import InputError
from samseg_ros.sensing.camera import as_rectified, project_into, read_only, require_fit, scaled
from samseg_ros.types import Camera, Frame, PointCloud

HEIGHT_SCALE_M = 3.0
"""Height above the camera that becomes 1 in the height channel."""
NEARER_RATIO, NEARER_M = np.float32(0.9), np.float32(0.25)
"""A point at depth z is *much nearer* than one at Z if z < NEARER_RATIO * Z - NEARER_M."""
MAX_WINDOW = 24
"""Largest half window of the occlusion test, pixels."""


@dataclass(frozen=True, eq=False, slots=True)
class LidarImage:
    """One sweep in the camera's image."""

    channels: NDArray[np.float32]
    """(3, h, w): range / max_range_m; height (-y of the optical frame) / 3 m in +-1; intensity 0..1; 0 where empty."""
    valid: NDArray[np.bool_]
    """(h, w) whether a point fills the pixel."""
    depth_m: NDArray[np.float32]
    """(h, w) z of the optical frame, metres; NaN where empty (REP-118)."""
    pixels: NDArray[np.int32]
    """(N, 2) row and column of every point; -1, -1 where it is outside, behind the camera, out of range or hidden."""


def project_frame(frame: Frame, size: tuple[int, int], config: ProjectionConfig) -> LidarImage:
    """Project a frame's sweep into its camera image, at any size (h, w): `project` behind all checks.

    Raises:
        InputError: no sweep, no camera_info or one of another size than the image, no transform, or as `project`.
    """
    points, camera, camera_from_lidar = frame.points, frame.camera, frame.camera_from_lidar
    if points is None or camera is None or camera_from_lidar is None:
        source = points.frame_id if points is not None and points.frame_id else "the LiDAR"
        missing = "point cloud" if points is None else "camera_info" if camera is None else f"transform from {source}"
        raise InputError(
            "LiDAR projection",
            expected="a point cloud, camera_info and the transform into the camera's frame",
            got=f"no {missing}",
            remedy="publish camera_info and TF, or name a calibration file in projection.calibration_path",
        )
    require_fit(camera, frame.size)
    return project(points, camera, camera_from_lidar, size, config)


def project_to_camera(frame: Frame, config: ProjectionConfig) -> LidarImage | None:
    """Project a frame's sweep at camera size, a pixel a point: for the depth image and the painted cloud.

    None where there is no sweep, or where it cannot be projected (preparing the network's input has said why).
    """
    if frame.points is None:
        return None
    try:
        return project_frame(frame, frame.size, config.model_copy(update={"dilation_px": 1}))
    except InputError:
        return None


def project(
    points: PointCloud,
    camera: Camera,
    camera_from_lidar: NDArray[np.float64],
    size: tuple[int, int],
    config: ProjectionConfig,
) -> LidarImage:
    """Project a sweep into an image of the camera's view, of any size.

    Args:
        points: NaN rows and rows of zeros are *no return*; deskewed ones go before those as measured.
        camera: intrinsics at the camera's own size.
        camera_from_lidar: (4, 4) metres.
        size: (h, w) of the result in pixels.
        config: range, intensity scale, dilation, occlusion.

    Raises:
        InputError: a transform that is not a finite 4x4 matrix, or intensities that do not match the points.
    """
    _check(points, camera_from_lidar)
    height, width = size
    measured = points.xyz if points.deskewed is None else points.deskewed
    lens = as_rectified(camera, config.rectified)
    index, uv, xyz = project_into(scaled(lens, width, height), measured, camera_from_lidar)
    cells = np.minimum(np.floor(uv[:, ::-1] + 0.5).astype(np.int32), np.array([height - 1, width - 1], np.int32))
    half_window = _half_window(cells, height, width) if config.occlusion else (0, 0)
    visible = _returned(read_only(measured, np.float32), index, xyz, np.float32(config.max_range_m))
    _hide(visible, cells, xyz, height, width, *half_window)
    image = LidarImage(
        channels=np.zeros((3, height, width), np.float32),
        valid=np.zeros((height, width), np.bool_),
        depth_m=np.full((height, width), np.nan, np.float32),
        pixels=np.full((len(points.xyz), 2), -1, np.int32),
    )
    image.pixels[index[visible]] = cells[visible]
    values = _values(xyz, None if points.intensity is None else points.intensity[index], config)
    _paint(visible, uv, xyz[:, 2], values, config.dilation_px, image.channels, image.valid, image.depth_m)
    return image


def _check(points: PointCloud, camera_from_lidar: NDArray[np.float64]) -> None:
    if camera_from_lidar.shape != (4, 4) or not np.isfinite(camera_from_lidar).all():
        raise InputError(
            "camera_from_lidar",
            expected="a finite 4x4 matrix",
            got=f"shape {camera_from_lidar.shape}: {camera_from_lidar.ravel().tolist()}",
            remedy="check the extrinsics (TF or the calibration file)",
        )
    if points.intensity is not None and len(points.intensity) != len(points.xyz):
        raise InputError(
            "point cloud",
            expected=f"an intensity for each of {len(points.xyz)} points",
            got=str(len(points.intensity)),
            remedy="check the driver",
        )


def _values(
    xyz: NDArray[np.float32], intensity: NDArray[np.float32] | None, config: ProjectionConfig
) -> NDArray[np.float32]:
    """Return the (3, M) channel values of points in the optical frame."""
    values = np.zeros((3, len(xyz)), np.float32)
    values[0] = np.sqrt(np.einsum("ni,ni->n", xyz, xyz)) / config.max_range_m
    values[1] = np.clip(-xyz[:, 1] / HEIGHT_SCALE_M, -1.0, 1.0)
    if intensity is not None:
        values[2] = np.clip(np.nan_to_num(intensity / config.max_intensity), 0.0, 1.0)
    return values


@njit(cache=True, nogil=True)
def _returned(points, index, xyz, max_range):  # type: ignore[no-untyped-def]
    """Return whether each point is a real return (not 0, 0, 0 in the sensor's frame) within range of the camera."""
    returned = np.zeros(len(index), np.bool_)
    for i in range(len(index)):
        j = index[i]
        real = points[j, 0] != 0 or points[j, 1] != 0 or points[j, 2] != 0
        x, y, z = xyz[i, 0], xyz[i, 1], xyz[i, 2]
        returned[i] = real and x * x + y * y + z * z <= max_range * max_range
    return returned


@njit(cache=True, nogil=True)
def _half_window(cells, height, width):  # type: ignore[no-untyped-def]
    """Return the half window (rows, columns) that reaches the neighbouring scan lines.

    The spacing of scan lines is the typical gap between hits down a strip of columns; that along a line follows
    from the density. Both depend on sensor, lens and image size, so they are measured.
    """
    if len(cells) < 16:
        return 1, 1
    area = (np.ptp(cells[:, 0]) + 1) * (np.ptp(cells[:, 1]) + 1)
    spacing = np.sqrt(area / len(cells))  # of a square lattice
    strip = max(1, int(spacing + 0.5))
    hit = np.zeros(((width - 1) // strip + 1, height), np.bool_)
    for i in range(len(cells)):
        hit[cells[i, 1] // strip, cells[i, 0]] = True
    gaps = np.zeros(height, np.int64)  # histogram
    for s in range(len(hit)):
        rows = np.nonzero(hit[s])[0]
        for i in range(1, len(rows)):
            gaps[rows[i] - rows[i - 1]] += 1
    gap = max(1, int(np.searchsorted(np.cumsum(gaps), 0.75 * gaps.sum())))
    along = max(spacing * spacing / gap, 0.5 * gap)
    return min(MAX_WINDOW, int(np.ceil(1.25 * gap))), min(MAX_WINDOW, int(np.ceil(1.5 * along)))


@njit(cache=True, nogil=True)
def _any_nearer(image, limit, r0, r1, c0, c1):  # type: ignore[no-untyped-def]
    """Whether a pixel of the rectangle (ends included, clipped to the image) is below the limit."""
    for r in range(max(r0, 0), min(r1, image.shape[0] - 1) + 1):
        for c in range(max(c0, 0), min(c1, image.shape[1] - 1) + 1):
            if image[r, c] < limit:
                return True
    return False


@njit(cache=True, nogil=True)
def _hide(visible, cells, xyz, height, width, half_rows, half_columns):  # type: ignore[no-untyped-def]
    """Clear ``visible`` of points with a much nearer point at their place or in each quadrant around it.

    The axes belong to both quadrants beside them, so two points above and below, or left and right, enclose too. On
    the ground, nearer points are below and never above, so it stays; so does what is seen beside or above an edge.
    Wide windows are searched in blocks of a few pixels, which keeps the cost the same at every image size.
    """
    block = max(1, min(half_rows, half_columns) // 4)
    rows, columns = half_rows // block, half_columns // block
    nearest = np.full(((height - 1) // block + 1, (width - 1) // block + 1), np.float32(np.inf), np.float32)
    for i in range(len(cells)):
        if visible[i]:
            r, c = cells[i, 0] // block, cells[i, 1] // block
            nearest[r, c] = min(nearest[r, c], xyz[i, 2])
    for i in range(len(cells)):
        if visible[i]:
            r, c = cells[i, 0] // block, cells[i, 1] // block
            limit = NEARER_RATIO * xyz[i, 2] - NEARER_M
            visible[i] = not (  # the upper two first: most points have nothing nearer above them
                _any_nearer(nearest, limit, r - rows, r, c - columns, c)
                and _any_nearer(nearest, limit, r - rows, r, c, c + columns)
                and _any_nearer(nearest, limit, r, r + rows, c - columns, c)
                and _any_nearer(nearest, limit, r, r + rows, c, c + columns)
            )


@njit(cache=True, nogil=True)
def _paint(visible, uv, depth, values, side, channels, valid, depth_m):  # type: ignore[no-untyped-def]
    """Fill the square of ``side`` pixels around every visible point; the nearest point wins."""
    height, width = depth_m.shape
    for i in range(len(uv)):
        if not visible[i]:
            continue
        r0 = int(np.floor(uv[i, 1] - 0.5 * side)) + 1
        c0 = int(np.floor(uv[i, 0] - 0.5 * side)) + 1
        for r in range(max(r0, 0), min(r0 + side, height)):
            for c in range(max(c0, 0), min(c0 + side, width)):
                if not depth[i] >= depth_m[r, c]:  # NaN is empty
                    depth_m[r, c], valid[r, c] = depth[i], True
                    channels[0, r, c], channels[1, r, c], channels[2, r, c] = values[0, i], values[1, i], values[2, i]
