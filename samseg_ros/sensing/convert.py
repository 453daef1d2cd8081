"""ROS messages to arrays and back: the one door for all of them. Duck-typed, so rclpy's and rosbags' messages alike.

Images and clouds have files of their own; here are the small messages.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from samseg_ros.config import ProjectionConfig
from samseg_ros.errors import InputError
from samseg_ros.sensing.calibration import pose_matrix
from samseg_ros.sensing.cloud_messages import painted_cloud_fields, point_cloud, point_times, require_readable_cloud
from samseg_ros.sensing.header import stamp_ns
from samseg_ros.sensing.image_messages import color_image, image_fields, thermal_image
from samseg_ros.types import DISTORTION_COEFFICIENTS, Camera

__all__ = [
    "camera",
    "color_image",
    "image_fields",
    "painted_cloud_fields",
    "point_cloud",
    "point_times",
    "require_readable_cloud",
    "stamp_ns",
    "thermal_image",
    "transform_matrix",
]

_DEFAULT = ProjectionConfig()

Rectified: TypeAlias = Literal["auto", "yes", "no"]

_MODEL_NAMES = {"": "plumb_bob", "fisheye": "equidistant", "radtan": "plumb_bob"}
"""Other names in use for the distortion models."""

_QUATERNION_TOLERANCE = 1e-2
"""As tf2: what TF lets through has to be usable here."""


def transform_matrix(transform: Any) -> NDArray[np.float64]:
    """Return a geometry_msgs/Transform as (4, 4): ``parent_from_child`` for a TransformStamped.

    Raises:
        InputError: not finite, or the quaternion is not of unit length.
    """
    t, r = transform.translation, transform.rotation
    return pose_matrix((t.x, t.y, t.z), (r.x, r.y, r.z, r.w), tolerance=_QUATERNION_TOLERANCE)


def camera(msg: Any, rectified: Rectified = _DEFAULT.rectified) -> Camera:
    """Return the intrinsics of the image that a CameraInfo comes with, region of interest and binning applied.

    Args:
        msg: sensor_msgs/CameraInfo.
        rectified: which image it comes with. ``no``: the raw one, described by K and D. ``yes``: the rectified one,
            described by the left 3x3 of P, without distortion. ``auto``: rectified if D is all zero.

    P's fourth column is left out on purpose: for the right camera of a stereo pair (and KITTI's cameras 1 to 3) it
    moves points from the first camera's frame into this camera's. Extrinsics here come from TF, which gives points in
    this camera's own frame, so applying it again would shift them twice. R is left out for the same reason: frame_id of
    a rectified image is the rectified frame.

    Raises:
        InputError: the camera is uncalibrated (K all zero), has no size, a window that does not lie in the image, a
            distortion model or a number of coefficients that we do not know, or a raw window (do_rectify) together with
            a rectified image.
    """
    k, p, d = (np.asarray(values, np.float64) for values in (msg.k, msg.p, msg.d))
    if k.size != 9 or not k.any():
        raise InputError(
            "camera_info",
            expected="a calibrated camera",
            got="an uncalibrated one (K is all zero)" if k.size == 9 else f"K with {k.size} numbers",
            remedy="calibrate the camera (camera_calibration) and let its driver publish the result",
        )
    if rectified == "yes" or (rectified == "auto" and not d.any()):
        matrix = p.reshape(3, 4)[:, :3] if p.size == 12 and p.any() else k.reshape(3, 3)
        model, distortion = "plumb_bob", np.zeros(5)
        _refuse_raw_window(msg)
    else:
        matrix, (model, distortion) = k.reshape(3, 3), _distortion(msg.distortion_model, d)
    width, height, image_from_sensor = _window(msg)
    return Camera(width, height, image_from_sensor @ matrix, model, distortion, msg.header.frame_id)


def _distortion(name: str, d: NDArray[np.float64]) -> tuple[str, NDArray[np.float64]]:
    if name == "" and d.any():
        raise InputError(
            "distortion model",
            expected=" | ".join(DISTORTION_COEFFICIENTS),
            got=f"no name, but D = {d.tolist()}",
            remedy="set distortion_model in camera_info",
        )
    if not np.isfinite(d).all():
        raise InputError("distortion", expected="finite D", got=str(d.tolist()), remedy="calibrate the camera again")
    model = _MODEL_NAMES.get(name, name)
    most = max(DISTORTION_COEFFICIENTS.get(model, (len(d),)))
    return model, d if d[most:].any() else d[:most]  # some drivers fill D up with zeros to OpenCV's 14


def _window(msg: Any) -> tuple[int, int, NDArray[np.float64]]:
    """Return the image's width and height, and the (3, 3) that maps full-resolution pixels to the image's pixels.

    CameraInfo gives size and K at full resolution; the driver then cuts out ``roi`` (in full-resolution pixels) and
    merges blocks of binning_x by binning_y. Centres of pixels are whole numbers, hence u' = (u - x + 0.5) / b - 0.5.
    """
    roi, bx, by = msg.roi, max(1, msg.binning_x), max(1, msg.binning_y)
    width, height = roi.width or msg.width, roi.height or msg.height  # 0: no window
    if (
        not (0 < roi.x_offset + width <= msg.width and 0 < roi.y_offset + height <= msg.height)
        or width < bx
        or height < by
    ):
        raise InputError(
            "camera_info size",
            expected="width and height above 0, with the window (roi) inside",
            got=f"{msg.width}x{msg.height}, window {width}x{height} at ({roi.x_offset}, {roi.y_offset}), "
            f"binning {bx}x{by}",
            remedy="check the camera driver",
        )
    image_from_sensor = np.array(
        [
            [1 / bx, 0.0, (0.5 - roi.x_offset) / bx - 0.5],
            [0.0, 1 / by, (0.5 - roi.y_offset) / by - 0.5],
            [0.0, 0.0, 1.0],
        ]
    )
    return width // bx, height // by, image_from_sensor


def _refuse_raw_window(msg: Any) -> None:
    roi = msg.roi
    whole = (roi.width or msg.width, roi.height or msg.height) == (msg.width, msg.height)
    if roi.do_rectify and not whole:
        raise InputError(
            "camera_info window",
            expected="a window of the rectified image (roi.do_rectify false)",
            got=f"a window of the raw image, {roi.width}x{roi.height} at ({roi.x_offset}, {roi.y_offset})",
            remedy="publish the camera_info of the rectified image, or the whole image",
        )
