"""Which topic of a recording is the camera, the thermal camera, the LiDAR, the ground truth: guessed, or told."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from samseg_ros.config import Config
from samseg_ros.datasets.bag import Bag
from samseg_ros.errors import InputError, SamsegError, nearest
from samseg_ros.labels import LabelSet, parse_label_info

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CAMERA_INFO, CLOUD = "sensor_msgs/msg/CameraInfo", "sensor_msgs/msg/PointCloud2"
LABEL_INFO = "label_info"
"""Topic beside the labels that says what they mean, as the node publishes it."""
STRING, TF = "std_msgs/msg/String", "tf2_msgs/msg/TFMessage"

THERMAL_WORDS = {"thermal", "ir", "infra", "infrared", "infra1", "infra2", "lwir", "flir", "boson", "lepton"}
TRUTH_WORDS = {"ground", "truth", "gt", "label", "labels", "semantic", "segmentation", "annotation", "annotations"}
DERIVED_WORDS = TRUTH_WORDS | {"mask", "masks", "depth", "disparity", "overlay", "confidence", "debug", "heatmap"}
COLOR_WORDS = {"color", "colour", "rgb", "visible", "front"}
THERMAL_ENCODINGS = ("16UC1", "mono16")
LABEL_ENCODINGS = ("mono8", "8UC1")


@dataclass(frozen=True, slots=True)
class BagTopics:
    """The topics that a replay uses; empty where the recording has none or it is switched off."""

    image: str
    thermal: str = ""
    lidar: str = ""
    camera_info: str = ""
    thermal_info: str = ""
    """camera_info of the thermal camera; only for one that has to be registered."""
    labels: str = ""
    """Class ids per pixel, with the stamps of the camera images."""
    condition: str = ""
    """std_msgs/String that names the condition (day, night, ...) from there on."""
    tf_static: str = ""

    def used(self) -> tuple[str, ...]:
        """Names of all topics in use."""
        return tuple(name for field in fields(self) if (name := getattr(self, field.name)))


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An image topic with what its first message says."""

    name: str
    count: int
    encoding: str
    words: frozenset[str]
    """Of the topic's name and of the frame."""


def guess_topics(bag: Bag, chosen: Mapping[str, str | None] | None = None) -> BagTopics:
    """Guess every topic by type, name, frame and encoding.

    Ground truth, masks and depth are never taken for a camera. Of several cameras the one with a colour-like name,
    then the one with most messages, then the first by name is taken.

    Args:
        bag: the recording.
        chosen: names of fields of `BagTopics` to topics that the user named; an empty name switches the input off,
            None leaves the guess.

    Raises:
        InputError: no camera topic.
        SamsegError: a topic that was named is not in the recording.
    """
    told = {field: name for field, name in (chosen or {}).items() if name is not None}
    for field, name in told.items():
        _check(bag, field, name)
    images = list(_images(bag))
    image = told.get("image") or _camera(images)
    if not image:
        kinds = sorted({topic.type for topic in bag.topics.values()})
        raise InputError(
            str(bag.path),
            expected="a camera topic (sensor_msgs Image or CompressedImage)",
            got=f"topics of type {', '.join(kinds)}" if kinds else "no topics",
            remedy="name it: `samseg replay --image-topic`, or `topics` in the dataset.yaml of a labelled_bag",
        )
    thermal, camera_info = (
        told.get("thermal", _thermal(images, image)),
        told.get("camera_info", _camera_info(bag, image)),
    )
    guess = {
        "thermal": thermal,
        "lidar": _most(bag, CLOUD),
        "camera_info": camera_info,
        "thermal_info": _thermal_info(bag, thermal, camera_info),
        "labels": _labels(images),
        "condition": next((n for n in sorted(bag.topics) if _is(bag, n, STRING) and n.endswith("condition")), ""),
        "tf_static": "/tf_static" if _is(bag, "/tf_static", TF) else "",
    }
    return BagTopics(**{**guess, **told, "image": image})


def used_topics(bag: Bag, config: Config, chosen: Mapping[str, str | None] | None = None) -> BagTopics:
    """Guess every topic as `guess_topics` does, without the inputs that the settings switch off; raises as it does."""
    off = {name: "" for name in ("thermal", "lidar") if not getattr(config.inputs, name)}
    return guess_topics(bag, {**(chosen or {}), **off})


TYPES: Mapping[str, tuple[str, ...]] = {
    "image": (IMAGE, COMPRESSED),
    "thermal": (IMAGE, COMPRESSED),
    "lidar": (CLOUD,),
    "camera_info": (CAMERA_INFO,),
    "thermal_info": (CAMERA_INFO,),
    "labels": (IMAGE, COMPRESSED),
    "condition": (STRING,),
    "tf_static": (TF,),
}
"""What each topic may be."""


def _check(bag: Bag, field: str, name: str) -> None:
    """Refuse a topic that the user named and that cannot serve."""
    if not name:
        return
    if name not in bag.topics:
        raise SamsegError(f"{bag.path}: no topic {name!r}; {nearest(name, bag.topics)}")
    topic = bag.topics[name]
    if topic.type not in TYPES[field] or not topic.count:
        raise InputError(
            f"{field} topic {name}",
            expected=f"messages of {' or '.join(TYPES[field])}",
            got=f"{topic.count} of {topic.type}",
            remedy="name another topic",
        )


def recorded_labels(bag: Bag, topics: BagTopics) -> LabelSet | None:
    """Return what the ids of the labels topic mean, where the recording says so: ``label_info`` beside that topic.

    Raises:
        SamsegError: it says something else.
    """
    name = f"{_base(topics.labels).rpartition('/')[0]}/{LABEL_INFO}"
    first = bag.first(name) if topics.labels and _is(bag, name, STRING) else None
    return parse_label_info(str(first.data)) if first is not None else None


def other_cameras(bag: Bag, topics: BagTopics) -> tuple[str, ...]:
    """Name camera topics that were not chosen, for the note to the user."""
    used = {_base(name) for name in topics.used()}
    return tuple(c.name for c in _images(bag) if _base(c.name) not in used and not c.words & DERIVED_WORDS)


def _is(bag: Bag, name: str, kind: str) -> bool:
    return name in bag.topics and bag.topics[name].type == kind


def _words(text: str) -> frozenset[str]:
    return frozenset(re.split(r"[^a-z0-9]+", text.lower()))


def _images(bag: Bag) -> Iterator[_Candidate]:
    for topic in sorted(bag.topics.values(), key=lambda t: t.name):
        if topic.type in (IMAGE, COMPRESSED) and topic.count:
            first = _first_readable(bag, topic.name)
            encoding = getattr(first, "encoding", None) or str(getattr(first, "format", "")).partition(";")[0]
            words = _words(topic.name) | _words(first.header.frame_id if first is not None else "")
            yield _Candidate(topic.name, topic.count, encoding, words)


def _first_readable(bag: Bag, name: str) -> Any | None:
    """Return the first message, None where it is damaged: an image that is not used must not end a replay."""
    try:
        return bag.first(name)
    except SamsegError:
        return None


def _is_thermal(candidate: _Candidate) -> bool:
    return bool(candidate.words & THERMAL_WORDS) or candidate.encoding in THERMAL_ENCODINGS


def _camera(images: list[_Candidate]) -> str:
    def rank(c: _Candidate) -> tuple[bool, bool, int, bool, str]:
        return (not c.words & COLOR_WORDS, c.encoding == "mono8", -c.count, "compressed" in c.words, c.name)

    usable = [c for c in images if not c.words & DERIVED_WORDS and not _is_thermal(c) and c.encoding != "32FC1"]
    return min(usable, key=rank).name if usable else ""


def _thermal(images: list[_Candidate], camera: str) -> str:
    usable = [c for c in images if _is_thermal(c) and not c.words & DERIVED_WORDS and c.name != camera]
    return (
        min(usable, key=lambda c: (not c.words & THERMAL_WORDS, -c.count, "compressed" in c.words, c.name)).name
        if usable
        else ""
    )


def _labels(images: list[_Candidate]) -> str:
    usable = [c for c in images if c.words & TRUTH_WORDS and c.encoding in LABEL_ENCODINGS]
    return max(usable, key=lambda c: (bool(c.words & {"ground", "truth", "gt"}), c.count)).name if usable else ""


def _most(bag: Bag, kind: str) -> str:
    usable = [t for t in bag.topics.values() if t.type == kind and t.count and not _words(t.name) & TRUTH_WORDS]
    return min(usable, key=lambda t: (-t.count, t.name)).name if usable else ""


def _base(topic: str) -> str:
    """Return the topic without its transport (``…/compressed``)."""
    return topic.removesuffix("/compressed")


def _camera_info(bag: Bag, image: str) -> str:
    """Return the camera_info beside the image, else above it, else the only one there is."""
    infos = _infos(bag)
    rest = [name for name in infos if not _words(name) & (THERMAL_WORDS | DERIVED_WORDS)]
    return _nearest_info(infos, image) or (rest[0] if len(rest) == 1 else "")


def _thermal_info(bag: Bag, thermal: str, camera_info: str) -> str:
    """Return the camera_info beside the thermal image, else above it, else the only thermal one; never the camera's."""
    infos = [name for name in _infos(bag) if thermal and name != camera_info]
    rest = [name for name in infos if _words(name) & THERMAL_WORDS]
    return _nearest_info(infos, thermal) or (rest[0] if len(rest) == 1 else "")


def _infos(bag: Bag) -> list[str]:
    return [t.name for t in bag.topics.values() if t.type == CAMERA_INFO and t.count]


def _nearest_info(infos: list[str], image: str) -> str:
    """Return the camera_info beside the image, else above it, else nothing."""
    parent = _base(image)
    while parent:
        parent = parent.rpartition("/")[0]
        if f"{parent}/camera_info" in infos:
            return f"{parent}/camera_info"
    return ""
