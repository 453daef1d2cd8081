"""Where LiDAR and thermal camera stand relative to the camera: a calibration file, TF, or a clear word of neither."""

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

TF_WAIT, NO_WAIT = Duration(seconds=0.05), Duration()
"""A moving transform may come a little after the message that it belongs to."""
CACHE_NS = 10 * 10**9
"""What tf2 keeps, by its default; it takes nothing that is older than its newest by more."""


class Extrinsics(Protocol):
    """Answers for one camera message and one of another sensor."""

    source: str
    """Where the answers come from, for diagnostics."""

    def camera_from_sensor(
        self, camera: Any, sensor: Any, name: str, sensor_ns: int | None = None
    ) -> NDArray[np.float64]:
        """Return (4, 4), metres, for two std_msgs/Header; ``name`` is what a message calls the sensor.

        ``sensor_ns`` is when the sensor measured by the camera's clock, where that is not its header's stamp: what
        motion compensation starts from.

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

    def camera_from_sensor(
        self, camera: Any, sensor: Any, name: str, sensor_ns: int | None = None
    ) -> NDArray[np.float64]:
        """Look up by the two frame ids."""
        key = camera.frame_id, sensor.frame_id
        if key not in self._known:
            self._known[key] = self._calibration.lookup(*key)
        return self._known[key]

    def close(self) -> None:
        """Nothing to stop."""


class TfExtrinsics:
    """TF at the image's stamp; motion-compensated, from the sensor's time to the image's through a fixed frame."""

    def __init__(self, node: Node, config: ProjectionConfig) -> None:
        tf2_ros: Any = optional("tf2_ros")
        self._fixed_frame = _plain(config.fixed_frame) if config.motion_compensation else ""
        self.source = f"TF, moved through {self._fixed_frame!r}" if self._fixed_frame else "TF"
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node, spin_thread=False)
        self._unconnected: set[tuple[str, str]] = set()  # frames that were waited for in vain
        self._newest_ns = 0

    def camera_from_sensor(
        self, camera: Any, sensor: Any, name: str, sensor_ns: int | None = None
    ) -> NDArray[np.float64]:
        """Ask TF, waiting a moment for a transform that is on its way."""
        image_ns = convert.stamp_ns(camera)
        sensor_ns = convert.stamp_ns(sensor) if sensor_ns is None else sensor_ns
        self._follow(image_ns)
        frames = _plain(camera.frame_id), _plain(sensor.frame_id)
        if _is_same(*frames) and not self._fixed_frame:
            return np.eye(4)
        wait = NO_WAIT if frames in self._unconnected else TF_WAIT
        try:
            answer = self._look_up(*frames, image_ns, sensor_ns, wait)
        except Exception as error:  # tf2 raises several unrelated types
            raise self._missing(camera, sensor, name, str(error)) from None
        self._unconnected.discard(frames)
        return convert.transform_matrix(answer.transform)

    def _look_up(self, target: str, source: str, target_ns: int, source_ns: int, wait: Duration) -> Any:
        target_time, source_time = Time(nanoseconds=target_ns), Time(nanoseconds=source_ns)
        if not self._fixed_frame:
            return self._buffer.lookup_transform(target, source, target_time, wait)
        return self._buffer.lookup_transform_full(target, target_time, source, source_time, self._fixed_frame, wait)

    def _follow(self, image_ns: int) -> None:
        """Forget how things moved when a recording begins again, or tf2 would refuse all that comes now."""
        if image_ns < self._newest_ns - CACHE_NS:
            self._buffer.clear()
            self._newest_ns = 0
        self._newest_ns = max(self._newest_ns, image_ns)

    def _missing(self, camera: Any, sensor: Any, name: str, got: str) -> InputError:
        """Tell a transform that nobody publishes from one that is not there for this moment."""
        frames = _plain(camera.frame_id), _plain(sensor.frame_id)
        nameless = [what for what, frame in zip(("image", name), frames, strict=True) if not frame]
        if nameless:
            return _missing(
                camera, sensor, name, got, f"set frame_id in the driver of the {' and of the '.join(nameless)}"
            )
        pairs = [(frame, self._fixed_frame or frames[0]) for frame in frames]
        apart = [pair for pair in pairs if not self._buffer.can_transform(*pair, Time())]
        if apart:
            self._unconnected.add(frames)
            between = " and ".join(f"{a!r} and {b!r}" for a, b in apart)
            return _missing(camera, sensor, name, got, f"nothing connects {between}: publish it on /tf or /tf_static")
        late = f"let what publishes /tf use the image's clock and be no more than {TF_WAIT.nanoseconds * 1e-9:g} s late"
        return _missing(camera, sensor, name, got, late)

    def close(self) -> None:
        """Stop listening to /tf."""
        self._listener.unregister()


class NoExtrinsics:
    """Neither TF nor a file."""

    source = "none"

    def camera_from_sensor(
        self, camera: Any, sensor: Any, name: str, sensor_ns: int | None = None
    ) -> NDArray[np.float64]:
        """Refuse, unless both are in one frame."""
        if _is_same(_plain(camera.frame_id), _plain(sensor.frame_id)):
            return np.eye(4)
        raise _missing(
            camera,
            sensor,
            name,
            "no TF (tf2_ros is not installed)",
            "name a calibration file in projection.calibration_path",
        )

    def close(self) -> None:
        """Nothing to stop."""


def _plain(frame: str) -> str:
    """Return the name as tf2 wants it."""
    return frame.lstrip("/")


def _is_same(a: str, b: str) -> bool:
    """Whether the two are one frame, as a depth camera's cloud and image are: TF need not know it."""
    return a == b != ""


def _missing(camera: Any, sensor: Any, name: str, got: str, remedy: str) -> InputError:
    return InputError(
        "extrinsics",
        expected=f"a transform between the camera's frame {camera.frame_id!r} and the {name}'s {sensor.frame_id!r}",
        got=got,
        remedy=remedy,
    )
