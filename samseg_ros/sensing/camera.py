"""Points in a camera's optical frame (x right, y down, z forward, metres) to pixels.

Distortion follows OpenCV: ``plumb_bob`` and ``rational_polynomial`` as in ``cv2.projectPoints``, ``equidistant`` as in
``cv2.fisheye`` (Kannala and Brandt 2006). The centre of the top-left pixel is (0, 0).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numba import njit
from numpy.polynomial import polynomial
from numpy.typing import DTypeLike, NDArray

from samseg_ros.config import ProjectionConfig
from samseg_ros.errors import InputError
from samseg_ros.types import Camera

_PINHOLE, _RADIAL_TANGENTIAL, _EQUIDISTANT = 0, 1, 2
LARGEST_COEFFICIENT = 1e6
"""No lens comes near; the roots of its polynomials can still be computed."""


def scaled(camera: Camera, width: int, height: int) -> Camera:
    """Return the camera of the same image resized to (width, height), pixel centres kept: u' = (u + 0.5) s - 0.5."""
    sx, sy = width / camera.width, height / camera.height
    resize = np.array([[sx, 0.0, 0.5 * sx - 0.5], [0.0, sy, 0.5 * sy - 0.5], [0.0, 0.0, 1.0]])
    return replace(camera, width=width, height=height, k=resize @ camera.k)


def undistorted(camera: Camera) -> Camera:
    """Return the pinhole camera of the same matrix: what a rectified image was taken with."""
    return replace(camera, distortion_model="plumb_bob", distortion=np.zeros(5))


def rectified_by_name(config: ProjectionConfig, image_topic: str, thermal_topic: str) -> ProjectionConfig:
    """Return the settings with ``auto`` decided where a topic's name decides it.

    image_proc publishes ``image_rect``, ``image_rect_color`` and the like beside the raw image's camera_info, whose D
    says nothing about them.
    """
    topics = {"rectified": image_topic, "thermal_rectified": thermal_topic}
    names = {setting: topic.removesuffix("/compressed").rsplit("/", 1)[-1] for setting, topic in topics.items()}
    decided = {
        setting: "yes"
        for setting, name in names.items()
        if name.startswith("image_rect") and getattr(config, setting) == "auto"
    }
    return config.model_copy(update=decided)


def as_rectified(camera: Camera, rectified: str) -> Camera:
    """Return the camera that an image was taken with, by the setting ``projection.rectified``: yes, no or auto."""
    is_rectified = rectified == "yes" or (rectified == "auto" and not camera.is_distorted)
    return undistorted(camera) if is_rectified else camera


def require_fit(camera: Camera, size: tuple[int, int], name: str = "camera_info") -> None:
    """Refuse a camera_info that describes an image of another size than (height, width).

    Raises:
        InputError: the sizes differ.
    """
    if (camera.height, camera.width) != tuple(size):
        raise InputError(
            name,
            expected=f"the image's size {size[1]}x{size[0]}",
            got=f"{camera.width}x{camera.height}",
            remedy="publish the camera_info of this very image (after any resizing or cropping)",
        )


def project_points(camera: Camera, xyz_camera: NDArray[np.floating]) -> NDArray[np.float32]:
    """Project points given in the camera's optical frame.

    Args:
        camera: intrinsics; only the first two rows of its matrix are used.
        xyz_camera: (N, 3) metres.

    Returns:
        (N, 2) pixels (u, v), which may lie outside the image; NaN for a point that cannot be seen: not finite, not in
        front of the camera, or so far off the axis that the distortion polynomial folds back.

    Raises:
        InputError: a distortion coefficient is not finite or beyond 1e6.
    """
    index, seen, _ = _run(camera, xyz_camera, np.eye(4), (np.inf, np.inf))
    uv = np.full((len(xyz_camera), 2), np.nan, np.float32)
    uv[index] = seen
    return uv


def project_into(
    camera: Camera, xyz: NDArray[np.floating], camera_from_source: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Move points into the optical frame and keep those that land in the image, in one pass.

    Args:
        camera: intrinsics.
        xyz: (N, 3) metres in the source frame.
        camera_from_source: (4, 4) or (3, 4).

    Returns:
        (M,) indices of the kept points, their (M, 2) pixels (u, v), their (M, 3) optical-frame positions, metres.

    Raises:
        InputError: a distortion coefficient is not finite or beyond 1e6.
    """
    return _run(camera, xyz, camera_from_source, (camera.width, camera.height))


def read_only(array: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """Return a contiguous view (a copy only where needed) that cannot be written.

    Messages come as arrays of either kind, and numba compiles a kernel once for each: seconds, in the middle of a run.
    """
    view = np.ascontiguousarray(array, dtype).view()
    view.flags.writeable = False
    return view


def _run(
    camera: Camera, xyz: NDArray[np.floating], camera_from_source: NDArray[np.floating], bounds: tuple[float, float]
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    points = read_only(xyz, np.float32)
    pose = np.ascontiguousarray(camera_from_source[:3], np.float32)
    model, coefficients, limit = _lens(camera)
    # Pages that the kernel does not reach are never touched, so room for every point costs nothing.
    index, uv, out = np.empty(len(points), np.int64), np.empty((len(points), 2), np.float32), np.empty_like(points)
    k = camera.k[:2].astype(np.float32)
    count = _project(points, pose, k, model, coefficients, limit, np.asarray(bounds, np.float32), index, uv, out)
    return index[:count], uv[:count], out[:count]


def _lens(camera: Camera) -> tuple[int, NDArray[np.float32], np.float32]:
    """Return the kernel's model, 8 coefficients, and the largest radius^2 (or angle) that is seen at all."""
    d = np.zeros(8)
    d[: len(camera.distortion)] = camera.distortion
    if not (np.abs(d) < LARGEST_COEFFICIENT).all():  # NaN too
        raise InputError(
            "distortion",
            expected=f"coefficients below {LARGEST_COEFFICIENT:g}",
            got=str(camera.distortion.tolist()),
            remedy="check D in camera_info and calibrate the camera again",
        )
    if camera.distortion_model == "equidistant":
        slope = np.array([1.0, 3 * d[0], 5 * d[1], 7 * d[2], 9 * d[3]])  # of theta_d, in theta^2
        return _EQUIDISTANT, d.astype(np.float32), np.float32(np.sqrt(_first_positive_root(slope)))
    if not camera.is_distorted:
        return _PINHOLE, d.astype(np.float32), np.float32(np.inf)
    numerator, denominator = np.array([1.0, d[0], d[1], d[4]]), np.array([1.0, d[5], d[6], d[7]])  # in r^2
    bend = polynomial.polysub(
        polynomial.polymul(polynomial.polyder(numerator), denominator),
        polynomial.polymul(numerator, polynomial.polyder(denominator)),
    )
    slope = polynomial.polyadd(polynomial.polymul(numerator, denominator), 2 * polynomial.polymulx(bend))
    limit = min(_first_positive_root(slope), _first_positive_root(denominator))
    return _RADIAL_TANGENTIAL, d.astype(np.float32), np.float32(limit)


def _first_positive_root(coefficients: NDArray[np.float64]) -> float:
    """Return the smallest positive real root of an ascending polynomial, inf where it has none."""
    trimmed = polynomial.polytrim(coefficients, 1e-30)  # a smaller one would overflow as divisor
    roots = polynomial.polyroots(trimmed) if len(trimmed) > 1 else np.empty(0)
    real = roots[np.abs(roots.imag) < 1e-9 * (1 + np.abs(roots))].real
    return float(np.min(real[real > 0], initial=np.inf))


@njit(cache=True, nogil=True)
def _project(xyz, pose, k, model, d, limit, bounds, index, uv, xyz_camera):  # type: ignore[no-untyped-def]
    """Append the points inside the bounds to index, uv and xyz_camera; return their number."""
    count = 0
    one, two, half = np.float32(1), np.float32(2), np.float32(0.5)
    for i in range(xyz.shape[0]):
        px, py, pz = xyz[i, 0], xyz[i, 1], xyz[i, 2]
        z = pose[2, 0] * px + pose[2, 1] * py + pose[2, 2] * pz + pose[2, 3]
        if not z > 0:  # NaN too
            continue
        x = pose[0, 0] * px + pose[0, 1] * py + pose[0, 2] * pz + pose[0, 3]
        y = pose[1, 0] * px + pose[1, 1] * py + pose[1, 2] * pz + pose[1, 3]
        a, b = x / z, y / z
        if model != _PINHOLE:
            s = a * a + b * b
            if model == _RADIAL_TANGENTIAL:
                if not s < limit:
                    continue
                radial = (one + s * (d[0] + s * (d[1] + s * d[4]))) / (one + s * (d[5] + s * (d[6] + s * d[7])))
                a, b = (
                    a * radial + two * d[2] * a * b + d[3] * (s + two * a * a),
                    b * radial + d[2] * (s + two * b * b) + two * d[3] * a * b,
                )
            elif s > 0:
                radius = np.sqrt(s)
                theta = np.arctan(radius)
                if not theta < limit:
                    continue
                t = theta * theta
                ratio = theta * (one + t * (d[0] + t * (d[1] + t * (d[2] + t * d[3])))) / radius
                a, b = a * ratio, b * ratio
        u = k[0, 0] * a + k[0, 1] * b + k[0, 2]
        v = k[1, 0] * a + k[1, 1] * b + k[1, 2]
        if bounds[0] == np.inf:
            inside = np.isfinite(u) and np.isfinite(v)
        else:
            inside = -half <= u < bounds[0] - half and -half <= v < bounds[1] - half
        if inside:
            index[count], uv[count, 0], uv[count, 1] = i, u, v
            xyz_camera[count, 0], xyz_camera[count, 1], xyz_camera[count, 2] = x, y, z
            count += 1
    return count
