"""A sensor that fails, seen in a frame: which of its parts change, and the failures that need more than one part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samseg_ros.errors import InputError
from samseg_ros.evaluation import cloud_failures as cloud
from samseg_ros.evaluation import picture_failures as picture
from samseg_ros.evaluation.fog import fog
from samseg_ros.types import Frame

Earlier = Callable[[int], Frame | None]
"""k -> the frame k before this one in the same recording; None where it had not begun."""
Apply = Callable[[Frame, float, np.random.Generator, Earlier], Frame]
"""(frame with that sensor, strength, random generator, earlier) -> the frame as it fails."""

ASSUMED_FOCAL = 1.0
"""Focal length of a picture without intrinsics, as a share of its width: a view of 53 degrees."""


def on_image(change: picture.Change) -> Apply:
    """Change the camera image."""
    return lambda frame, value, rng, _: replace(frame, image=change(frame.image, value, rng))


def on_thermal(change: picture.Change) -> Apply:
    """Change the thermal image."""
    return lambda frame, value, rng, _: replace(frame, thermal=change(_there(frame.thermal), value, rng))


def on_ready_made(sensor: str, change: picture.Change) -> Apply:
    """Change a picture that came ready-made."""

    def apply(frame: Frame, value: float, rng: np.random.Generator, _: Earlier) -> Frame:
        changed = change(frame.images[sensor], value, rng)
        return replace(frame, images={**frame.images, sensor: changed})

    return apply


def on_lidar(on_cloud: cloud.Change, on_picture: picture.Change | None = None) -> Apply:
    """Change the sweep and the picture made of it, whichever there is."""

    def apply(frame: Frame, value: float, rng: np.random.Generator, earlier: Earlier) -> Frame:
        if frame.points is not None:
            frame = replace(frame, points=on_cloud(frame.points, value, rng))
        if "lidar" in frame.images and on_picture is not None:
            frame = on_ready_made("lidar", on_picture)(frame, value, rng, earlier)
        return frame

    return apply


def in_fog(frame: Frame, visibility_m: float, rng: np.random.Generator, _: Earlier) -> Frame:
    """Put fog before the camera, see `samseg_ros.evaluation.fog`."""
    return replace(frame, image=fog(frame, visibility_m))


def turned_thermal(frame: Frame, degrees: float, rng: np.random.Generator, _: Earlier) -> Frame:
    """Turn its extrinsics where it has them, else the picture."""
    yaw = _either_side(degrees, rng)
    if frame.camera_from_thermal is not None:
        return replace(frame, camera_from_thermal=cloud.turned_pose(frame.camera_from_thermal, "y", yaw))
    thermal = _there(frame.thermal)
    return replace(frame, thermal=picture.turn(thermal, _focal(frame, thermal), yaw))


def turned_lidar(frame: Frame, degrees: float, rng: np.random.Generator, _: Earlier) -> Frame:
    """Turn its extrinsics, and the picture made with them."""
    yaw = _either_side(degrees, rng)
    if frame.camera_from_lidar is not None:
        frame = replace(frame, camera_from_lidar=cloud.turned_pose(frame.camera_from_lidar, "z", yaw))
    if "lidar" in frame.images:
        turned = picture.turn(frame.images["lidar"], _focal(frame, frame.images["lidar"]), yaw, points=True)
        frame = replace(frame, images={**frame.images, "lidar": turned})
    return frame


def late_thermal(frame: Frame, frames: float, rng: np.random.Generator, earlier: Earlier) -> Frame:
    """Give it the thermal image of an earlier frame; none, where the recording had not begun."""
    then = earlier(int(frames))
    return replace(frame, thermal=None if then is None else then.thermal)


def late_lidar(frame: Frame, frames: float, rng: np.random.Generator, earlier: Earlier) -> Frame:
    """Give it the sweep and the picture of an earlier frame; none, where the recording had not begun."""
    then = earlier(int(frames))
    images = {name: image for name, image in frame.images.items() if name != "lidar"}
    if then is not None and "lidar" in then.images:
        images["lidar"] = then.images["lidar"]
    return replace(frame, points=None if then is None else then.points, images=images)


def _either_side(degrees: float, rng: np.random.Generator) -> float:
    return float(degrees * rng.choice((-1, 1)))


def _focal(frame: Frame, aligned: NDArray[Any]) -> float:
    """Return the focal length of a picture that shares the camera's view, in its pixels."""
    share = ASSUMED_FOCAL if frame.camera is None else float(frame.camera.k[0, 0]) / frame.camera.width
    return float(share * aligned.shape[1])


def _there(array: NDArray[np.generic] | None) -> NDArray[Any]:
    """Return what `corrupt` has seen to be there."""
    if array is None:
        raise InputError("thermal image", expected="one", got="none", remedy="call `corrupt`, which looks first")
    return array
