"""Matched messages → Frame. What is wrong with an auxiliary input is reported, and the frame goes on without it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from samseg_ros.config import Config
from samseg_ros.errors import InputError
from samseg_ros.ros import interop
from samseg_ros.ros.extrinsics import Extrinsics
from samseg_ros.sensing import convert
from samseg_ros.sensing.camera import require_fit
from samseg_ros.sensing.synchronize import MatchedSet
from samseg_ros.types import Camera, Frame, PointCloud

Report = Callable[[str, InputError], None]
"""Takes the name of an input and what is wrong with it."""

INTENSITY_SAMPLE = 16
"""One point of so many tells the scale of the intensities."""


def intensity_note(points: PointCloud, max_intensity: float) -> str:
    """Say that most intensities are above the largest that the network can tell apart; empty where not."""
    if points.intensity is None or not len(points.intensity):
        return ""
    median = float(np.median(points.intensity[::INTENSITY_SAMPLE]))
    if not median > max_intensity:
        return ""
    return (
        f"half of the intensities are above {median:g}, where all look alike to the model: "
        f"set projection.max_intensity (now {max_intensity:g}) to the LiDAR's largest value, 255 say"
    )


class FrameBuilder:
    """Converts sets in the inference thread.

    Args:
        extrinsics: where the LiDAR stands.
        report: told what is wrong with an auxiliary input.
        config: the settings. The very first sweep waits as long for a camera_info that comes just behind it as
            images wait for sweeps.
    """

    def __init__(self, extrinsics: Extrinsics, report: Report, config: Config) -> None:
        self._extrinsics, self._report = extrinsics, report
        self._rectified = config.projection.rectified
        self._patience_s = config.sync.lidar.timeout_s
        self._max_intensity = config.projection.max_intensity
        self.intensity_note = ""
        """What is odd about the last sweep's intensities."""
        self._info: Any = None
        self._has_info = threading.Event()

    def set_camera_info(self, info: Any) -> None:
        """Use this sensor_msgs/CameraInfo from now on (called by its callback)."""
        self._info = info
        self._has_info.set()

    def build(self, matched: MatchedSet) -> Frame:
        """Convert one set.

        Raises:
            InputError: the camera image cannot be used.
        """
        message = matched.reference
        image = interop.color_image(message)
        parts: dict[str, Any] = {}
        if (thermal := matched.others.get("thermal")) is not None:
            parts |= self._usable("thermal", lambda: {"thermal": interop.thermal_image(thermal)})
        if (sweep := matched.others.get("lidar")) is not None:
            parts |= self._usable("lidar", lambda: self._lidar(sweep, message.header, image.shape[:2]))
        return Frame(image=image, stamp_ns=matched.stamp_ns, frame_id=message.header.frame_id, **parts)

    def _usable(self, name: str, convert_it: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the parts of the frame that one auxiliary input gives: none where its data is bad, which is told."""
        try:
            return convert_it()
        except InputError as error:
            self._report(name, error)
        except Exception as error:  # data that nobody has thought of must not cost the mask
            got = f"{type(error).__name__}: {error}"
            remedy = f"check the {name} driver; masks go on without this input"
            self._report(name, InputError(f"{name} data", expected="data that can be read", got=got, remedy=remedy))
        return {}

    def _lidar(self, message: Any, image_header: Any, size: tuple[int, int]) -> dict[str, Any]:
        points = interop.point_cloud(message)
        if len(points.xyz) and not np.isfinite(points.xyz).all(axis=1).any():
            self._report(
                "lidar",
                InputError(
                    "point cloud",
                    expected="at least one finite point",
                    got=f"{len(points.xyz)} points, all NaN or infinite",
                    remedy="check the LiDAR (covered, or still starting)",
                ),
            )
        self.intensity_note = intensity_note(points, self._max_intensity)
        camera = self._camera(size)
        pose = self._extrinsics.camera_from_lidar(image_header, message.header)
        return {"points": points, "camera": camera, "camera_from_lidar": pose}

    def _camera(self, size: tuple[int, int]) -> Camera:
        if self._info is None:
            self._has_info.wait(self._patience_s)
            self._patience_s = 0.0
        if self._info is None:
            raise InputError(
                "camera_info",
                expected="the camera's intrinsics, to project the LiDAR",
                got="none so far",
                remedy="publish it, or remap ~/input/image/camera_info",
            )
        camera = convert.camera(self._info, self._rectified)
        require_fit(camera, size)
        return camera
