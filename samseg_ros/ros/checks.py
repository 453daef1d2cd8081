"""What is there and what is missing, told from what came: the same rows for the node's self-check and the doctor."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from statistics import median
from typing import Any

from samseg_ros.config import Config, InputSyncConfig
from samseg_ros.errors import InputError
from samseg_ros.ros import interop
from samseg_ros.ros.extrinsics import Extrinsics, NoExtrinsics
from samseg_ros.ros.frames import intensity_note
from samseg_ros.ros.health import ERROR, OK, WARN, Check, failure, frame_note
from samseg_ros.ros.inputs import Input
from samseg_ros.sensing import convert
from samseg_ros.sensing.camera import require_fit

KEPT = 64
"""Headers of the newest messages of each input."""
TF_DELAY_S = 0.5
"""A moving transform of an image's time is surely there that long after the image."""
INFO_OF = {"camera_info": "image", "thermal_info": "thermal"}
"""camera_info → the image that it describes."""
SENSORS = {"thermal": "thermal camera", "lidar": "LiDAR"}
"""Input → what a message calls its sensor."""


class Seen:
    """What came by one input: its newest message, and when those before it came."""

    def __init__(self) -> None:
        self.message: Any = None
        self._arrivals: deque[tuple[Any, float]] = deque(maxlen=KEPT)

    def add(self, message: Any, now_s: float) -> None:
        """Remember a message that came at ``now_s`` (any monotonic clock)."""
        self.message = message
        self._arrivals.append((message.header, now_s))

    def is_known_since(self, time_s: float) -> bool:
        """Whether a message came by that time."""
        return bool(self._arrivals) and self._arrivals[0][1] <= time_s

    def header(self, now_s: float) -> Any:
        """Return the header to ask TF with: the newest that is not too fresh, else the oldest, None if nothing came."""
        old = [header for header, came_s in self._arrivals if now_s - came_s >= TF_DELAY_S]
        if old:
            return old[-1]
        return self._arrivals[0][0] if self._arrivals else None

    def times_s(self) -> list[tuple[float, float]]:
        """Return (stamp, arrival) of the newest messages that have a stamp, seconds."""
        stamped = ((convert.stamp_ns(header), came_s) for header, came_s in self._arrivals)
        return [(stamp_ns * 1e-9, came_s) for stamp_ns, came_s in stamped if stamp_ns]


def input_checks(
    sources: Iterable[Input], seen: Mapping[str, Seen], config: Config, extrinsics: Extrinsics | None, now_s: float
) -> list[Check]:
    """Judge every input by what came until ``now_s``: topics, data, intrinsics, extrinsics, time.

    Args:
        sources: the subscriptions, of everything that is needed.
        seen: by the sources' names.
        config: the settings.
        extrinsics: where the sensors stand; None: nobody looks.
        now_s: the clock of the arrivals.
    """
    names = [source.name for source in sources]
    rows = [row for source in sources for row in _source_checks(source, seen, config)]
    others = [name for name in names if name in SENSORS]
    if "camera_info" in names and extrinsics is not None:
        placed = [name for name in others if name == "lidar" or config.projection.thermal == "calibrated"]
        rows += [_pose_check(name, seen, extrinsics, now_s) for name in placed]
    for name in others:
        rows += _time_checks(name, seen, getattr(config.sync, name))
    return rows


def _source_checks(source: Input, seen: Mapping[str, Seen], config: Config) -> Iterator[Check]:
    message = seen[source.name].message
    if message is None:
        for problem, remedy in source.problems():
            yield Check(source.name, ERROR, f"nothing comes on {source.topic}: {problem}", remedy)
        return
    where = f"{source.topic} from {source.offers()}, frame {message.header.frame_id!r}"
    try:
        about, note = _about(source.name, message, seen, config)
        yield Check(source.name, WARN if note else OK, f"{where}, {about}", note)
    except Exception as error:  # InputError, or data that nobody has thought of
        yield failure(source.name, error)
    if source.name not in INFO_OF and not convert.stamp_ns(message.header):
        yield Check(source.name, ERROR, "its stamps are zero", "let the driver fill in header.stamp from its clock")


def _about(name: str, message: Any, seen: Mapping[str, Seen], config: Config) -> tuple[str, str]:
    """Describe a message in some words and say what is odd about it.

    Raises:
        InputError: it cannot be used.
    """
    if name in INFO_OF:
        return _about_info(name, message, seen[INFO_OF[name]].message, config)
    if name == "lidar":
        points = interop.point_cloud(message)
        fields = ", ".join(field.name for field in message.fields)
        return f"{len(points.xyz)} points of {fields}", intensity_note(points, config.projection.max_intensity)
    image = interop.color_image(message) if name == "image" else interop.thermal_image(message)
    return f"{image.shape[1]}x{image.shape[0]} {getattr(message, 'encoding', '') or message.format}", ""


def _about_info(name: str, message: Any, image: Any, config: Config) -> tuple[str, str]:
    is_camera = name == "camera_info"
    rectified = config.projection.rectified if is_camera else config.projection.thermal_rectified
    camera = convert.camera(message, rectified)
    about = f"{camera.width}x{camera.height} {camera.distortion_model if camera.is_distorted else 'undistorted'}"
    if image is None:
        return about, ""
    require_fit(camera, _size(name, image), name)
    return about, frame_note(image.header.frame_id, message.header.frame_id)


def _size(info: str, image: Any) -> tuple[int, int]:
    """Return (height, width) of an image message, a compressed one too."""
    if hasattr(image, "height"):
        return image.height, image.width
    pixels = interop.color_image(image) if info == "camera_info" else interop.thermal_image(image)
    return pixels.shape[0], pixels.shape[1]


def _pose_check(name: str, seen: Mapping[str, Seen], extrinsics: Extrinsics, now_s: float) -> Check:
    what = f"{name} → image"
    camera, sensor = seen["image"].header(now_s), seen[name].header(now_s)
    if isinstance(extrinsics, NoExtrinsics):
        return Check(
            what,
            ERROR,
            "no extrinsics: TF is not installed (tf2_ros), and no calibration file is named",
            "name one (projection.calibration_path=FILE), or source a full ROS 2 installation",
        )
    if camera is None or sensor is None:
        return Check(what, WARN, f"extrinsics from {extrinsics.source}: not looked up, for want of a message")
    try:
        extrinsics.camera_from_sensor(camera, sensor, SENSORS[name])
    except InputError as error:
        return failure(what, error)
    return Check(what, OK, f"extrinsics from {extrinsics.source}: {sensor.frame_id!r} to {camera.frame_id!r}")


def _time_checks(name: str, seen: Mapping[str, Seen], sync: InputSyncConfig) -> Iterator[Check]:
    images, others = seen["image"].times_s(), seen[name].times_s()
    if not images or not others:
        return
    offset_s, late_s = offset_and_delay(images, others, sync.offset_s)
    what = f"{name} stamps"
    found = f"{offset_s:+.3f} s from the images'"
    if abs(offset_s - sync.offset_s) > sync.noise_window_s:
        yield Check(
            what,
            ERROR,
            f"{found}, allowed: {sync.offset_s:+.3f} ± {sync.noise_window_s:g}",
            f"synchronise the clocks, or set sync.{name}.offset_s if that is constant",
        )
    elif late_s > sync.timeout_s:
        remedy = f"set sync.{name}.timeout_s (late) or sync.{name}.offset_s (shifted)"
        yield Check(what, ERROR, f"come {late_s:.3f} s behind the image, waited for: {sync.timeout_s:g} s", remedy)
    else:
        yield Check(what, OK, f"{found}, {late_s:+.3f} s behind them")


def offset_and_delay(
    images: list[tuple[float, float]], others: list[tuple[float, float]], expected_s: float
) -> tuple[float, float]:
    """Return how an input's messages stand to the images that they belong to, medians in seconds.

    Args:
        images: (stamp, arrival) of each image, at least one.
        others: of each message of the other input, at least one.
        expected_s: the offset that is set; the message nearest to it belongs to an image.

    Returns:
        Stamp minus the image's, and arrival minus the image's.
    """
    first, last = others[0][0] - expected_s, others[-1][0] - expected_s
    inside = [image for image in images if first <= image[0] <= last]  # beyond, the right message may not be there yet
    pairs = [(image, _nearest(others, image[0] + expected_s)) for image in inside or images]
    return median(o[0] - i[0] for i, o in pairs), median(o[1] - i[1] for i, o in pairs)


def _nearest(messages: list[tuple[float, float]], stamp_s: float) -> tuple[float, float]:
    return min(messages, key=lambda message: abs(message[0] - stamp_s))
