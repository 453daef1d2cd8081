"""Where the LiDAR stands relative to the camera: a calibration file, TF, or a clear word that neither is there."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time

from samseg_ros.config import ProjectionConfig
from samseg_ros.errors import InputError, SamsegError
from samseg_ros.ros.interop import optional
from samseg_ros.sensing import convert
from samseg_ros.sensing.calibration import Calibration, load_calibration

TF_WAIT = Duration(seconds=0.05)
"""A moving transform may come a little after the message that it belongs to."""


class Extrinsics(Protocol):
    """Answers for one camera and one LiDAR message."""

    source: str
    """Where the answers come from, for diagnostics."""

    def camera_from_lidar(self, camera: Any, lidar: Any) -> NDArray[np.float64]:
        """Return (4, 4), metres, for two std_msgs/Header.

        Raises:
            InputError: no such transform; names both frames.
        """
        ...

    def close(self) -> None:
        """Stop listening."""
        ...


def make_extrinsics(node: Node, config: ProjectionConfig) -> Extrinsics:
    """Choose: the calibration file where one is named, else TF where it is installed, else none.

    Raises:
        SamsegError: the calibration file cannot be used, or motion compensation is asked for without TF.
    """
    has_tf = optional("tf2_ros") is not None
    if config.motion_compensation and (config.calibration_path or not has_tf):
        why = "a calibration file does not say how the vehicle moved" if has_tf else "tf2_ros is not installed"
        raise SamsegError(
            f"projection.motion_compensation needs TF, but {why}; "
            "set it to false, or source a full ROS 2 installation and leave projection.calibration_path empty"
        )
    if config.calibration_path:
        return CalibrationExtrinsics(load_calibration(config.calibration_path), config.calibration_path)
    return TfExtrinsics(node, config) if has_tf else NoExtrinsics()


class CalibrationExtrinsics:
    """Extrinsics that never change, from a file."""

    def __init__(self, calibration: Calibration, path: str) -> None:
        self.source = path
        self._calibration = calibration
        self._known: dict[tuple[str, str], NDArray[np.float64]] = {}

    def camera_from_lidar(self, camera: Any, lidar: Any) -> NDArray[np.float64]:
        """Look up by the two frame ids."""
        key = camera.frame_id, lidar.frame_id
        if key not in self._known:
            self._known[key] = self._calibration.lookup(*key)
        return self._known[key]

    def close(self) -> None:
        """Nothing to stop."""


class TfExtrinsics:
    """TF at the image's stamp; motion-compensated, from the sweep's stamp to the image's through a fixed frame."""

    source = "TF"

    def __init__(self, node: Node, config: ProjectionConfig) -> None:
        tf2_ros: Any = optional("tf2_ros")
        self._fixed_frame = config.fixed_frame if config.motion_compensation else None
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node, spin_thread=False)

    def camera_from_lidar(self, camera: Any, lidar: Any) -> NDArray[np.float64]:
        """Ask TF, waiting a moment for a transform that is on its way."""
        image_time, sweep_time = Time.from_msg(camera.stamp), Time.from_msg(lidar.stamp)
        frames = camera.frame_id.lstrip("/"), lidar.frame_id.lstrip("/")  # tf2 refuses names with a slash
        try:
            if self._fixed_frame is None:
                answer = self._buffer.lookup_transform(*frames, image_time, TF_WAIT)
            else:
                answer = self._buffer.lookup_transform_full(
                    frames[0], image_time, frames[1], sweep_time, self._fixed_frame, TF_WAIT
                )
        except Exception as error:  # tf2 raises several unrelated types
            raise _missing(camera.frame_id, lidar.frame_id, str(error), "publish it on /tf or /tf_static") from None
        return convert.transform_matrix(answer.transform)

    def close(self) -> None:
        """Stop listening to /tf."""
        self._listener.unregister()


class NoExtrinsics:
    """Neither TF nor a file."""

    source = "none"

    def camera_from_lidar(self, camera: Any, lidar: Any) -> NDArray[np.float64]:
        """Always refuse."""
        raise _missing(
            camera.frame_id,
            lidar.frame_id,
            "no TF (tf2_ros is not installed)",
            "name a calibration file in projection.calibration_path",
        )

    def close(self) -> None:
        """Nothing to stop."""


def _missing(camera: str, lidar: str, got: str, remedy: str) -> InputError:
    return InputError(
        "extrinsics",
        expected=f"a transform between the camera's frame {camera!r} and the LiDAR's frame {lidar!r}",
        got=got,
        remedy=remedy,
    )
