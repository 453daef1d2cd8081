"""A recording → synchronised sets → Frames, by the very collector and conversions that the node uses.

The walk also says what a player has to publish before each image so that a node makes the same sets: everything of the
other inputs up to the moment at which the set was complete (or had waited long enough), and the image last.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samseg_ros.config import Config, ProjectionConfig, SyncConfig
from samseg_ros.datasets.bag import STAMP_END, Bag, Message
from samseg_ros.datasets.bag_topics import BagTopics
from samseg_ros.errors import InputError, SamsegError
from samseg_ros.sensing import convert
from samseg_ros.sensing.calibration import Calibration, load_calibration
from samseg_ros.sensing.camera import rectified_by_name, require_fit
from samseg_ros.sensing.synchronize import Collector, MatchedSet
from samseg_ros.types import Camera, Frame

_log = logging.getLogger(__name__)

Report = Callable[[str, str], None]
"""Takes the name of an input and what is wrong with its data."""


@dataclass(frozen=True, eq=False, slots=True)
class Step:
    """One camera image of a recording, in camera order."""

    image: Message
    matched: MatchedSet | None
    """The set (its items are `Message`s); None for an image that the synchroniser left out."""
    before: tuple[Message, ...]
    """Messages of the other inputs and camera_info since the previous step, in recorded order."""
    camera_info: Message | None
    """The one that holds at this image; the first one of the recording holds from the start."""
    thermal_info: Message | None = None
    """The same of the thermal camera."""


def _ignore(_: Message) -> None:
    """Take a message and do nothing."""


def steps(
    bag: Bag,
    topics: BagTopics,
    sync: SyncConfig,
    aside: Callable[[Message], None] = _ignore,
    passing: Callable[[Message], None] = _ignore,
) -> Iterator[Step]:
    """Walk through a recording once.

    Args:
        bag: the recording.
        topics: which topic is what.
        sync: settings of the collector; times are those at which the messages were recorded.
        aside: takes every message of the labels and condition topics.
        passing: takes every message of the sensors and camera_info as the walk comes to it, in recorded order.
    """
    inputs = {name: topic for name in ("thermal", "lidar") if (topic := getattr(topics, name))}
    names = {topic: name for name, topic in inputs.items()}
    collector = Collector({name: getattr(sync, name) for name in inputs}, sync.time_jump_reset_s)
    walk = _Walk(collector, bag, topics)
    for message in bag.messages(set(filter(None, topics.used())) - {topics.tf_static}):
        now_s = message.log_ns * 1e-9
        if message.topic in (topics.labels, topics.condition):
            aside(message)
            continue
        if len(message.raw) < STAMP_END:  # can neither be matched nor be published
            _log.warning("%s at %d left out: %d bytes hold no stamp", message.topic, message.log_ns, len(message.raw))
            continue
        passing(message)
        yield from walk.hand_out(collector.ready(now_s))  # what had waited long enough before this came
        walk.take(message, names, now_s)
        yield from walk.hand_out(collector.ready(now_s))
    yield from walk.hand_out(collector.flush())
    yield from walk.left_out(None)


class _Walk:
    """What the walk has to remember between messages."""

    def __init__(self, collector: Collector, bag: Bag, topics: BagTopics) -> None:
        self._collector, self._topics = collector, topics
        firsts = (_first(bag, topic) for topic in (topics.camera_info, topics.thermal_info))
        self._infos = {first.topic: first for first in firsts if first is not None}
        self._before = list(self._infos.values())
        self._images: list[Message] = []
        """Images without a step so far."""

    def take(self, message: Message, names: dict[str, str], now_s: float) -> None:
        if message.topic == self._topics.image:
            self._images.append(message)
            self._collector.add_reference(message.stamp_ns, message, now_s)
            return
        self._before.append(message)
        if message.topic in self._infos:
            self._infos[message.topic] = message
        else:
            self._collector.add(names[message.topic], message.stamp_ns, message, now_s)

    def hand_out(self, sets: list[MatchedSet]) -> Iterator[Step]:
        for matched in sets:
            yield from self.left_out(matched.reference)
            self._images.remove(matched.reference)
            yield self._step(matched.reference, matched)

    def left_out(self, until: Message | None) -> Iterator[Step]:
        """Yield the images in front of one that got a set: they got none and never will."""
        stamp_ns = float("inf") if until is None else until.stamp_ns
        early = [image for image in self._images if image is not until and image.stamp_ns <= stamp_ns]
        self._images = [image for image in self._images if all(image is not e for e in early)]
        for image in early:
            yield self._step(image, None)

    def _step(self, image: Message, matched: MatchedSet | None) -> Step:
        before, self._before = tuple(self._before), []
        infos = (self._infos.get(topic) for topic in (self._topics.camera_info, self._topics.thermal_info))
        return Step(image, matched, before, *infos)


def _first(bag: Bag, topic: str) -> Message | None:
    return next(bag.messages([topic]), None) if topic else None


def build_frame(bag: Bag, step: Step, calibration: Calibration | None, config: Config, report: Report) -> Frame:
    """Convert one set. What is wrong with an input beside the camera is reported, and the frame goes on without it.

    Args:
        bag: the recording that the step is from.
        step: one with a set.
        calibration: where LiDAR and thermal camera stand; None: neither can be projected.
        config: the projection section is used.
        report: told what is wrong.

    Raises:
        SamsegError: the camera image cannot be used, or the step has no set.
    """
    if step.matched is None:
        raise InputError("step", expected="a matched set", got="an image without one", remedy="skip such steps")
    message = bag.decode(step.image)
    image = convert.color_image(message)
    parts: dict[str, Any] = {}
    others = step.matched.others
    thermal_topic = others["thermal"].topic if "thermal" in others else ""
    projection = rectified_by_name(config.projection, step.image.topic, thermal_topic)
    reading = _Reading(bag, step, message.header.frame_id, (image.shape[0], image.shape[1]), calibration, projection)
    readers: dict[str, Callable[[Any], dict[str, Any]]] = {"thermal": reading.thermal, "lidar": reading.lidar}
    for name, read in readers.items():
        if name in others:
            try:
                parts |= read(bag.decode(others[name]))
            except SamsegError as error:
                report(name, str(error))
            except Exception as error:  # whatever the data of one sensor does must not take the frame away
                report(name, f"cannot be used ({type(error).__name__}: {error})")
    return Frame(image=image, stamp_ns=step.matched.stamp_ns, frame_id=message.header.frame_id, **parts)


@dataclass(frozen=True, slots=True)
class _Reading:
    """What it takes to turn a message of another sensor into parts of a Frame."""

    bag: Bag
    step: Step
    camera_frame: str
    size: tuple[int, int]
    """Camera (H, W)."""
    calibration: Calibration | None
    projection: ProjectionConfig

    def thermal(self, message: Any) -> dict[str, Any]:
        thermal = convert.thermal_image(message)
        if self.projection.thermal == "aligned":
            return {"thermal": thermal}
        frame, size = message.header.frame_id, (thermal.shape[0], thermal.shape[1])
        purpose = f"to register the thermal image (frame {frame!r}) to the camera's (frame {self.camera_frame!r})"
        camera = self._camera(purpose)
        info, rectified = self.step.thermal_info, self.projection.thermal_rectified
        own = _camera(self.bag, info, size, rectified, "thermal camera_info", purpose)
        pose = _pose(self.calibration, self.camera_frame, frame, "thermal camera")
        return {"thermal": thermal, "camera": camera, "thermal_camera": own, "camera_from_thermal": pose}

    def lidar(self, sweep: Any) -> dict[str, Any]:
        camera = self._camera("to project the LiDAR")
        pose = _pose(self.calibration, self.camera_frame, sweep.header.frame_id, "LiDAR")
        return {"points": convert.point_cloud(sweep), "camera": camera, "camera_from_lidar": pose}

    def _camera(self, purpose: str) -> Camera:
        rectified = self.projection.rectified
        return _camera(self.bag, self.step.camera_info, self.size, rectified, "camera_info", purpose)


def _camera(
    bag: Bag, info: Message | None, size: tuple[int, int], rectified: convert.Rectified, name: str, purpose: str
) -> Camera:
    if info is None:
        raise InputError(
            name,
            expected=f"the camera's intrinsics, {purpose}",
            got="none in the recording",
            remedy="record it, or switch the sensor off (inputs.lidar, inputs.thermal: false)",
        )
    camera = convert.camera(bag.decode(info), rectified)
    require_fit(camera, size, name)
    return camera


def _pose(calibration: Calibration | None, camera_frame: str, frame: str, sensor: str) -> NDArray[np.float64]:
    """Return camera_from_sensor."""
    if calibration is None:
        raise InputError(
            "extrinsics",
            expected=f"a transform between the frames {camera_frame!r} (camera) and {frame!r} ({sensor})",
            got="no /tf_static in the recording",
            remedy="name a file of extrinsics in projection.calibration_path",
        )
    return calibration.lookup(camera_frame, frame)


def require_still(projection: ProjectionConfig) -> None:
    """Refuse settings that a recording cannot follow.

    Raises:
        InputError: motion compensation is asked for.
    """
    if projection.motion_compensation:
        raise InputError(
            "projection.motion_compensation",
            expected="false: of a recording no /tf is read, which says how the vehicle moved",
            got="true",
            remedy="set it to false",
        )


def bag_calibration(bag: Bag, topics: BagTopics, path: str = "") -> Calibration | None:
    """Return the extrinsics: those of a file where one is named, else those of /tf_static, None where it has none.

    Args:
        bag: the recording.
        topics: its topics.
        path: YAML, as `load_calibration` reads it.

    Raises:
        SamsegError: the file cannot be read, or a transform is not finite or no rotation.
    """
    if path:
        return load_calibration(path)
    if not topics.tf_static:
        return None
    messages = [bag.decode(message) for message in bag.messages([topics.tf_static])]
    transforms = [transform for message in messages for transform in message.transforms]
    return Calibration.from_messages(transforms) if transforms else None
