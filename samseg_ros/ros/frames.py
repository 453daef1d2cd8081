"""Matched messages → Frame. What is wrong with an auxiliary input is reported, and the frame goes on without it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samseg_ros.config import Config
from samseg_ros.errors import InputError
from samseg_ros.ros import interop
from samseg_ros.ros.extrinsics import Extrinsics
from samseg_ros.ros.inputs import INPUTS
from samseg_ros.sensing import convert
from samseg_ros.sensing.calibration import inverse
from samseg_ros.sensing.camera import require_fit
from samseg_ros.sensing.deskew import deskew, sweep_knots
from samseg_ros.sensing.stream import ns
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


class Info:
    """The newest camera_info of one camera.

    Args:
        patience_s: how long, once, a message waits for the very first one that comes just behind it.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._message: Any = None
        self._came = threading.Event()

    def set(self, message: Any) -> None:
        """Use this sensor_msgs/CameraInfo from now on (called by its callback)."""
        self._message = message
        self._came.set()

    def get(self) -> Any:
        """Return it, None if none came in time."""
        if self._message is None:
            self._came.wait(self._patience_s)
            self._patience_s = 0.0
        return self._message


class FrameBuilder:
    """Converts sets in the inference thread.

    Args:
        extrinsics: where LiDAR and thermal camera stand.
        report: told what is wrong with an auxiliary input.
        config: the settings. The first message waits as long for a camera_info as images wait for such messages.
    """

    def __init__(self, extrinsics: Extrinsics, report: Report, config: Config) -> None:
        self._extrinsics, self._report = extrinsics, report
        self._projection = config.projection
        self.infos = {
            "camera_info": Info(config.sync.lidar.timeout_s),
            "thermal_info": Info(config.sync.thermal.timeout_s),
        }
        """Whose callbacks hand them in."""
        self.intensity_note = ""
        """What is odd about the last sweep's intensities."""
        self._offsets_ns = {name: ns(getattr(config.sync, name).offset_s) for name in ("thermal", "lidar")}
        self._deskews = config.projection.motion_compensation and config.projection.deskew == "auto"
        self.deskew_note = ""
        """Why the last sweep could not be deskewed although it has times."""
        self.deskew = "off"
        """What became of the last sweep."""

    def build(self, matched: MatchedSet) -> Frame:
        """Convert one set.

        Raises:
            InputError: the camera image cannot be used.
        """
        message = matched.reference
        image = interop.color_image(message)
        parts: dict[str, Any] = {}
        if (thermal := matched.others.get("thermal")) is not None:
            parts |= self._usable("thermal", lambda: self._thermal(thermal, message.header, image.shape[:2]))
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

    def _thermal(self, message: Any, image_header: Any, size: tuple[int, int]) -> dict[str, Any]:
        thermal = interop.thermal_image(message)
        if self._projection.thermal == "aligned":
            return {"thermal": thermal}
        frame, own_size = message.header.frame_id, (thermal.shape[0], thermal.shape[1])
        purpose = f"to register the thermal image (frame {frame!r}) to the camera's (frame {image_header.frame_id!r})"
        camera = self._camera("camera_info", size, purpose)
        own = self._camera("thermal_info", own_size, purpose)
        time_ns = self._time_ns("thermal", message)
        pose = self._extrinsics.camera_from_sensor(image_header, message.header, "thermal camera", time_ns)
        return {"thermal": thermal, "camera": camera, "thermal_camera": own, "camera_from_thermal": pose}

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
        self.intensity_note = intensity_note(points, self._projection.max_intensity)
        camera = self._camera("camera_info", size, "to project the LiDAR")
        pose = self._extrinsics.camera_from_sensor(
            image_header, message.header, "LiDAR", self._time_ns("lidar", message)
        )
        if self._deskews:
            points = self._deskewed(points, message, image_header, pose)
        return {"points": points, "camera": camera, "camera_from_lidar": pose}

    def _time_ns(self, name: str, message: Any) -> int:
        """Return when a sensor measured, by the camera's clock."""
        return convert.stamp_ns(message.header) - self._offsets_ns[name]

    def _deskewed(
        self, points: PointCloud, message: Any, image_header: Any, camera_from_lidar: NDArray[np.float64]
    ) -> PointCloud:
        """Return the points with where each was at the sweep's stamp; without, and with a word, where it cannot be."""
        try:
            since_stamp = convert.point_times(message)
            if since_stamp is None:
                self.deskew, self.deskew_note = "the cloud has no times of its points", ""
                return points
            times = since_stamp + self._time_ns("lidar", message)
            knots = sweep_knots(times)
            poses = [self._extrinsics.camera_from_sensor(image_header, message.header, "LiDAR", int(k)) for k in knots]
        except InputError as error:
            self.deskew, self.deskew_note = "impossible", f"not deskewed: {error}"
            return points
        self.deskew, self.deskew_note = f"{(knots[-1] - knots[0]) * 1e-9:.3f} s", ""
        return replace(points, deskewed=deskew(points.xyz, times, knots, inverse(camera_from_lidar) @ np.stack(poses)))

    def camera_of(self, name: str, info: Any) -> Camera:
        """Read a camera_info, of the camera or of the thermal camera.

        Raises:
            InputError: it cannot be used.
        """
        projection = self._projection
        return convert.camera(info, projection.rectified if name == "camera_info" else projection.thermal_rectified)

    def _camera(self, name: str, size: tuple[int, int], purpose: str) -> Camera:
        info = self.infos[name].get()
        if info is None:
            raise InputError(
                name,
                expected=f"the camera's intrinsics, {purpose}",
                got="none so far",
                remedy=f"publish it, or remap {INPUTS[name][0]}",
            )
        camera = self.camera_of(name, info)
        require_fit(camera, size, name)
        return camera
