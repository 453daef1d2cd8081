"""A thermal image taken from a place of its own, brought into the camera's view.

Each pixel of the camera's view is taken to its point in space (along its ray, at a depth) and from there into the
thermal image. The depth comes from the LiDAR where the frame has one, and is one assumed distance otherwise: what
lies elsewhere is then off by focal * baseline * |1 / depth - 1 / distance| pixels. At infinity nothing but the
rotation counts, which is the homography K R K^-1 (Hartley and Zisserman, Multiple View Geometry, 13.4).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from samseg_ros.config import ProjectionConfig
from samseg_ros.errors import InputError
from samseg_ros.sensing.calibration import inverse
from samseg_ros.sensing.camera import as_rectified, project_into, project_points, require_fit, scaled
from samseg_ros.sensing.projection import NEARER_M, NEARER_RATIO, project_frame
from samseg_ros.types import Camera, Frame

LEAST_SEEN = 0.1
"""Share of the camera's view that the thermal camera has to see; less is a wrong calibration."""
INFINITY_M = 1e6
"""As good as infinitely far: a baseline of 1 m is a thousandth of a pixel at a focal length of 1000."""
LENS_STEPS = 20
"""OpenCV's own five leave the corners of a strong lens a pixel off, and its 4 and 5 differ in how to ask for more."""
LENS_ERROR_PX = 0.1
"""A pixel whose ray does not come back to it that closely shows nothing: the lens model folds back there."""


def register_frame(
    frame: Frame, image: NDArray[Any], size: tuple[int, int], config: ProjectionConfig
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Bring a frame's thermal image into its camera's view at any size: `register` behind all checks.

    Args:
        frame: its sweep, where it has one, gives the depth.
        image: (Ht, Wt) the thermal image, finite.
        size: (h, w) of the result in pixels.
        config: the assumed distance, and which images are rectified.

    Raises:
        InputError: a camera_info is missing or of another size than its image, the transform is missing or no finite
            4x4, as `project_frame`, or the thermal camera sees less than 10 % of the view.
    """
    camera, thermal_camera, pose = frame.camera, frame.thermal_camera, frame.camera_from_thermal
    if camera is None or thermal_camera is None or pose is None:
        missing = "transform" if thermal_camera and camera else "thermal camera_info" if camera else "camera_info"
        raise _unregistered(frame, "the camera_info of both and the transform between them", f"no {missing}")
    if pose.shape != (4, 4) or not np.isfinite(pose).all():
        raise _unregistered(frame, "a finite 4x4 transform", f"shape {pose.shape}: {pose.ravel().tolist()}")
    require_fit(camera, frame.size)
    require_fit(thermal_camera, (image.shape[0], image.shape[1]), "thermal camera_info")
    depth_m = None
    if frame.points is not None:
        depth_m = project_frame(frame, size, config.model_copy(update={"dilation_px": 1})).depth_m
    registered, seen = register(
        np.ascontiguousarray(image),
        as_rectified(thermal_camera, config.thermal_rectified),
        as_rectified(camera, config.rectified),
        pose,
        size,
        config.thermal_distance_m or INFINITY_M,
        depth_m,
    )
    if (share := float(seen.mean())) < LEAST_SEEN:
        enough = f"the thermal camera to see at least {LEAST_SEEN:.0%} of the camera's view"
        raise _unregistered(frame, enough, f"{share:.1%}")
    return registered, seen


def _unregistered(frame: Frame, expected: str, got: str) -> InputError:
    thermal_frame = frame.thermal_camera.frame_id if frame.thermal_camera else ""
    return InputError(
        f"registration of the thermal camera {thermal_frame!r} to the camera {frame.frame_id!r}",
        expected=expected,
        got=got,
        remedy="check both camera_info and the transform (TF or the calibration file)",
    )


def register(
    image: NDArray[Any],
    thermal_camera: Camera,
    camera: Camera,
    camera_from_thermal: NDArray[np.float64],
    size: tuple[int, int],
    distance_m: float,
    depth_m: NDArray[np.float32] | None = None,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Sample a thermal image at every pixel of the camera's view.

    Args:
        image: (Ht, Wt) uint8, uint16 or float32.
        thermal_camera: intrinsics at the thermal image's own size.
        camera: intrinsics at the camera's own size.
        camera_from_thermal: (4, 4) metres.
        size: (h, w) of the result in pixels.
        distance_m: of everything, along the camera's optical axis, where ``depth_m`` says nothing at all.
        depth_m: (h, w) z of the camera's optical frame, NaN where unknown; a gap takes the nearest pixel's.

    Returns:
        (h, w) the thermal image in the camera's view, and (h, w) whether the thermal camera sees that point: outside
        its image, or hidden from it behind something nearer, it does not, and the value means nothing.

    Raises:
        InputError: a distortion coefficient is not finite or beyond 1e6.
    """
    lens = scaled(camera, size[1], size[0])
    image, thermal_lens = _no_finer(image, thermal_camera, lens)
    depth = np.full((1, 1), distance_m, np.float32)
    if depth_m is not None and not np.isnan(depth_m).all():
        depth = _filled(depth_m).reshape(-1, 1)
    index, uv, xyz = project_into(thermal_lens, _rays(lens) * depth, inverse(camera_from_thermal))
    where, seen = np.zeros((2, *size), np.float32), np.zeros(size, np.bool_)
    apart = 1 + int(np.ceil(lens.k[0, 0] / thermal_lens.k[0, 0]))  # more than what shares a thermal pixel
    first = np.full(image.shape, -1, np.int64)
    _place(index, uv, xyz[:, 2], first, apart, where, seen)
    return cv2.remap(image, where[0], where[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), seen


def _no_finer(image: NDArray[Any], camera: Camera, target: Camera) -> tuple[NDArray[Any], Camera]:
    """Shrink an image that has more pixels an angle than the target: sampling it would drop some of them."""
    shrink = target.k[0, 0] / camera.k[0, 0]
    width, height = (max(1, round(side * shrink)) for side in (camera.width, camera.height))
    if width >= camera.width or height >= camera.height:
        return image, camera
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), scaled(camera, width, height)


def _filled(depth_m: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the depth with every gap filled by the nearest pixel's (in the image)."""
    empty = np.isnan(depth_m)
    _, nearest = cv2.distanceTransformWithLabels(
        empty.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    known = np.flatnonzero(~empty)
    of_label = np.zeros(len(known) + 1, np.float32)
    of_label[nearest.ravel()[known]] = depth_m.ravel()[known]
    filled: NDArray[np.float32] = of_label[nearest]
    return filled


def _rays(camera: Camera) -> NDArray[np.float32]:
    """Return (H * W, 3) the point at depth 1 m that each pixel shows; NaN where the lens shows none."""
    numbers = (tuple(map(float, values)) for values in (camera.k.ravel(), camera.distortion))
    return _rays_of(camera.width, camera.height, camera.distortion_model, *numbers)


@lru_cache(maxsize=4)  # camera_info comes with every frame and is always the same
def _rays_of(
    width: int, height: int, model: str, k: tuple[float, ...], distortion: tuple[float, ...]
) -> NDArray[np.float32]:
    camera = Camera(width, height, np.reshape(k, (3, 3)), model, np.array(distortion))
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    pixels = np.stack([columns, rows, np.ones_like(rows)], -1).reshape(-1, 3)
    plane_from_pixel = np.linalg.inv(camera.k)
    rays = (pixels @ plane_from_pixel.T).astype(np.float32)
    if model == "equidistant":
        rays[:, :2] = cv2.fisheye.undistortPoints(rays[:, None, :2], np.eye(3), np.resize(camera.distortion, 4))[:, 0]
    elif camera.is_distorted:
        rays[:, :2] = cv2.undistortPoints(rays[:, None, :2], np.eye(3), camera.distortion)[:, 0]
        for _ in range(LENS_STEPS):
            rays[:, :2] += (pixels[:, :2] - project_points(camera, rays)) @ plane_from_pixel[:2, :2].T
    error = np.abs(project_points(camera, rays) - pixels[:, :2]).max(1)
    rays[~(error < LENS_ERROR_PX)] = np.nan  # NaN itself too
    rays.flags.writeable = False
    return rays


@njit(cache=True, nogil=True)
def _place(index, uv, depth, first, apart, where, seen):  # type: ignore[no-untyped-def]
    """Fill (2, h, w) where each pixel of the view lies in the thermal image, and (h, w) whether it is seen there.

    Of pixels that land on the same thermal pixel, those behind a much nearer one are not: they would show it again.
    Neighbours in the view (up to ``apart`` pixels) share one on any slanted surface, and stay.
    """
    for i in range(len(index)):
        r, c = int(uv[i, 1] + 0.5), int(uv[i, 0] + 0.5)
        if first[r, c] < 0 or depth[i] < depth[first[r, c]]:
            first[r, c] = i
    width, flat_where, flat_seen = seen.shape[1], where.reshape(2, -1), seen.reshape(-1)
    for i in range(len(index)):
        p, j = index[i], first[int(uv[i, 1] + 0.5), int(uv[i, 0] + 0.5)]
        flat_where[0, p], flat_where[1, p], flat_seen[p] = uv[i, 0], uv[i, 1], True
        if depth[j] < NEARER_RATIO * depth[i] - NEARER_M:
            q = index[j]
            flat_seen[p] = max(abs(p // width - q // width), abs(p % width - q % width)) <= apart
