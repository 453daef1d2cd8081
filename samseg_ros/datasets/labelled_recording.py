"""Recordings with labels, read as samples: ids on a topic or in PNGs named by stamp.

A recording is read in order, but training asks for samples in any. So opening walks through each recording once, by the
very path of a replay (topics, synchroniser, conversions), and copies the messages of the labelled frames, as they are,
into one temporary file. A sample is then read and decoded from its offsets there, at the same cost in any order and
from any process. The file is as large as those messages (TMPDIR says where) and goes with the dataset.
"""

from __future__ import annotations

import logging
import os
import weakref
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from samseg_ros.config import Config
from samseg_ros.datasets.bag import STORAGE, Bag, open_bag
from samseg_ros.datasets.bag_frames import Step, bag_calibration, build_frame, require_still, steps
from samseg_ros.datasets.bag_topics import BagTopics, guess_topics, recorded_labels, used_topics
from samseg_ros.datasets.folders import SHOWN, id_table, read_ids, remap
from samseg_ros.datasets.labelled import Labelled, Sample
from samseg_ros.datasets.message_store import MessageWriter, Slot, message_file, read_message
from samseg_ros.errors import InputError, SamsegError
from samseg_ros.labels import LabelSet, load_labels, shipped
from samseg_ros.sensing import convert
from samseg_ros.sensing.calibration import Calibration
from samseg_ros.sensing.synchronize import MatchedSet
from samseg_ros.types import UNLABELLED

EXPECTS = """\
labels of a recording are ids as mono8, with the camera's stamps, on a topic that is called after them (ground_truth,
labels, semantic ...), or RECORDING_labels/STAMP.png: ids by stamp of the camera image, in nanoseconds"""

_log = logging.getLogger(__name__)

Info: TypeAlias = Literal["camera_info", "thermal_info"]


@dataclass(frozen=True, eq=False, slots=True)
class Reading:
    """How recordings are read."""

    labels: str
    """Label set of the ids: a shipped name or a CSV."""
    config: Config
    """The sections inputs, sync and projection are used."""
    topics: Mapping[str, str | None] = field(default_factory=dict)
    """Fields of `BagTopics` that the user named; see `guess_topics`."""
    expects: str = EXPECTS
    """What a user has to provide, for errors."""
    lidar_remedy: str = ""
    """What to do about a LiDAR that cannot be projected; empty: it is left out, and that is logged."""


@dataclass(frozen=True, eq=False, slots=True)
class Drive:
    """What the frames of one recording share."""

    path: Path
    calibration: Calibration | None
    config: Config
    topics: BagTopics


@dataclass(frozen=True, eq=False, slots=True)
class Record:
    """One labelled frame."""

    drive: Drive
    stamp_ns: int
    image: Slot
    others: Mapping[str, Slot]
    """By input: thermal, lidar, camera_info, thermal_info."""
    labels: Slot | Path


@dataclass(frozen=True, eq=False)
class LabelledBag:
    """One split: fulfils `samseg_ros.datasets.labelled.LabelledDataset`. Copies in other processes read the same file.

    A frame lacks a sensor where the synchroniser found nothing of it.
    """

    labels: str
    modalities: tuple[str, ...]
    samples: tuple[Sample, ...]
    records: tuple[Record, ...]
    store: Path
    """The temporary file; removed with the object that `open_recordings` returned."""
    damage: str = ""
    """Which recordings are damaged or cut off, and what was read of them; empty: none."""

    @property
    def drives(self) -> tuple[Drive, ...]:
        """The recordings, in order."""
        return tuple({id(record.drive): record.drive for record in self.records}.values())

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Labelled:
        """Read one sample.

        Raises:
            IndexError: no such sample.
            SamsegError: a message or label file is damaged, its data cannot be used, holds ids outside the label set,
                or the labels are not of the camera's size.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        return _read(self.records[index], self.store, len(load_labels(self.labels)))


def open_recording(path: Path, labels: str, config: Config) -> LabelledBag:
    """Open one recording by itself: ids on a topic, or in PNGs beside it (`EXPECTS`); everything else is guessed.

    Args:
        path: rosbag2 folder, .mcap or .db3.
        labels: label set (a shipped name or a CSV) of a recording that does not say what its ids mean.
        config: by which its frames are made, as the node would.

    Raises:
        SamsegError: as `open_recordings`; its ids are of a label set that is not known by name.
    """
    path = path.resolve()
    if not _label_files(path):
        with open_bag(path) as bag:
            labels = _known(path, recorded_labels(bag, guess_topics(bag)), labels)
    return open_recordings([path], Reading(labels, config))


def _known(path: Path, recorded: LabelSet | None, labels: str) -> str:
    """Return the name of a recorded label set, ``labels`` where nothing is recorded."""
    if recorded is None and not labels:
        raise SamsegError(f"{path}: does not say what its labels mean (label_info); name a model of its classes")
    if recorded is None:
        return labels
    for name in filter(None, (labels, *shipped())):
        if load_labels(name).names == recorded.names:
            return name
    raise SamsegError(
        f"{path}: its labels are of {recorded.name} ({len(recorded)} classes), which is no shipped label set; make it "
        "a labelled_bag, whose dataset.yaml names a CSV (samseg datasets labelled_bag)"
    )


def open_recordings(recordings: Sequence[Path], reading: Reading) -> LabelledBag:
    """Open recordings as one: one walk through each.

    Raises:
        SamsegError: a recording or its labels are missing or cannot be used, or settings that no recording can follow.
    """
    load_labels(reading.labels)  # a wrong name is told before the long walk
    require_still(reading.config.projection)
    with message_file() as (store, writer):
        found = [_index(path, reading, writer) for path in recordings]
    modalities = tuple(m for m in ("rgb", "thermal", "lidar") if any(m in has for has, _, _ in found))
    samples, records = zip(*(pair for _, pairs, _ in found for pair in pairs), strict=True)
    damage = "; ".join(filter(None, (damage for _, _, damage in found)))
    dataset = LabelledBag(reading.labels, modalities, samples, records, store, damage)
    weakref.finalize(dataset, _remove, store, os.getpid())
    return dataset


def _remove(store: Path, owner: int) -> None:
    if os.getpid() == owner:  # a process forked from it holds the same object
        store.unlink(missing_ok=True)


def _index(
    path: Path, reading: Reading, writer: MessageWriter
) -> tuple[tuple[str, ...], list[tuple[Sample, Record]], str]:
    """Return the sensors of a recording, its labelled frames in camera order, and what of it is damaged."""
    files = _label_files(path)
    with open_bag(path) as bag:
        drive = _drive(bag, reading, {**reading.topics, **({"labels": ""} if files else {})})
        topics = drive.topics
        slots, conditions = _asides(bag, topics, writer)
        labels: Mapping[int, Slot | Path] = files or slots
        if not labels:
            raise SamsegError(f"{path}: no labels, neither on a topic nor in {labels_folder(path)}\n{reading.expects}")
        pairs: dict[int, tuple[Sample, Record]] = {}
        left_out: set[int] = set()
        for step in steps(bag, replace(topics, labels="", condition=""), drive.config.sync):
            stamp_ns = step.image.stamp_ns
            if step.matched is None:
                left_out.add(stamp_ns)
            elif stamp_ns in labels and stamp_ns not in pairs:
                sample = Sample(f"{path.parent.name}/{path.name}/{stamp_ns}", _at(conditions, step.image.log_ns))
                pairs[stamp_ns] = sample, _record(drive, step, labels[stamp_ns], writer)
        if bag.damage:
            _log.warning(bag.damage)
        unused = set(labels) - set(pairs)
        # Files of images behind a cut, or that the settings leave out, are nobody's mistake.
        _check_use(path, unused, len(labels), strict=bool(files) and bool(unused - left_out) and not bag.damage)
    sensors = ("rgb", *(name for name in ("thermal", "lidar") if getattr(topics, name)))
    return sensors, list(pairs.values()), bag.damage


def _drive(bag: Bag, reading: Reading, chosen: Mapping[str, str | None]) -> Drive:
    """Choose topics and extrinsics; a LiDAR that cannot be projected is refused or left out, as the reading says."""
    topics = used_topics(bag, reading.config, chosen)
    calibration = bag_calibration(bag, topics, reading.config.projection.calibration_path)
    if topics.lidar and (calibration is None or not topics.camera_info):
        lacking = InputError(
            f"{bag.path}: LiDAR {topics.lidar}",
            expected="what it takes to project it into the camera",
            got="no camera_info" if calibration else "no extrinsics (/tf_static, or projection.calibration_path)",
            remedy=reading.lidar_remedy or "it is left out",
        )
        if reading.lidar_remedy:
            raise lacking
        _log.warning(str(lacking))
        topics = replace(topics, lidar="")
    return Drive(bag.path, calibration, reading.config, topics)


def labels_folder(path: Path) -> Path:
    """Return where the PNGs of a recording lie, if there are any."""
    name = path.stem if path.suffix in STORAGE else path.name
    return path.with_name(f"{name}_labels")


def _label_files(path: Path) -> dict[int, Path]:
    """Return stamp -> PNG of a recording; empty where it has no folder of them."""
    found: dict[int, Path] = {}
    for file in sorted(labels_folder(path).glob("[!.]*.png")):
        if not file.stem.isdecimal():
            raise SamsegError(f"{file}: expected the stamp of a camera image in nanoseconds as its name")
        found[int(file.stem)] = file
    return found


def _asides(bag: Bag, topics: BagTopics, writer: MessageWriter) -> tuple[dict[int, Slot], list[tuple[int, str]]]:
    """Return stamp -> labels, and the conditions with the times at which they were recorded."""
    labels: dict[int, Slot] = {}
    conditions: list[tuple[int, str]] = []
    for message in bag.messages({topics.labels, topics.condition} - {""}):
        if message.topic == topics.condition:
            conditions.append((message.log_ns, str(bag.decode(message).data).strip()))
        else:
            labels[message.stamp_ns] = writer.keep(message)
    return labels, conditions


def _at(conditions: list[tuple[int, str]], time_ns: int) -> str:
    """Return the last condition told up to a time; images in front of the first one belong to it too."""
    place = bisect_right(conditions, time_ns, key=lambda entry: entry[0])
    return conditions[max(place, 1) - 1][1] if conditions else ""


def _check_use(path: Path, unused: Collection[int], count: int, strict: bool) -> None:
    """Refuse or report labels that belong to no frame: files are chosen, a topic merely starts before the camera."""
    if not unused:
        return
    stamps = ", ".join(map(str, sorted(unused)[:SHOWN]))
    text = f"{path}: {len(unused)} of {count} labels have the stamp of no usable camera image: {stamps}"
    if strict or len(unused) == count:
        raise SamsegError(f"{text}; labels need the very stamps (header, ns) of the images that they belong to")
    _log.warning(text)


def _record(drive: Drive, step: Step, labels: Slot | Path, writer: MessageWriter) -> Record:
    messages = {} if step.matched is None else {**step.matched.others}
    infos = {name: message for name in get_args(Info) if (message := getattr(step, name)) is not None}
    others = {name: writer.keep(message) for name, message in (messages | infos).items()}
    return Record(drive, step.image.stamp_ns, writer.keep(step.image), others, labels)


def _read(record: Record, store: Path, classes: int) -> Labelled:
    drive, where = record.drive, f"{record.drive.path}, frame {record.stamp_ns}"

    def refuse(name: str, what: str) -> None:
        raise SamsegError(f"{name}: {what}")

    try:
        image = read_message(store, record.image)
        others = {name: read_message(store, slot) for name, slot in record.others.items()}
        infos = {name: others.pop(name, None) for name in get_args(Info)}
        step = Step(image, MatchedSet(record.stamp_ns, image, others, dict.fromkeys(others, 0.0), ()), (), **infos)
        bag = Bag(drive.path, {}, lambda _: iter(()), _types())  # it only decodes
        frame = build_frame(bag, step, drive.calibration, drive.config, refuse)
        ids = _ids(record, store, bag, classes)
    except SamsegError as error:
        raise SamsegError(f"{where}: {error}") from None
    if ids.shape != frame.size:
        got = f"{ids.shape[1]}x{ids.shape[0]}"
        size = f"{frame.size[1]}x{frame.size[0]}, as the camera image"
        raise InputError(f"{where}: labels", expected=size, got=got, remedy="label the image at its own size")
    return frame, ids


def _ids(record: Record, store: Path, bag: Bag, classes: int) -> NDArray[np.uint8]:
    table = id_table({**{i: i for i in range(classes)}, UNLABELLED: UNLABELLED})
    if isinstance(record.labels, Path):
        return remap(read_ids(record.labels), table, record.labels)
    content = bag.decode(read_message(store, record.labels))
    ids = convert.thermal_image(content)  # any image of one channel
    if ids.dtype.kind != "u":
        got = getattr(content, "encoding", str(ids.dtype))
        raise InputError(record.labels.topic, expected="ids as mono8", got=got, remedy="record them so")
    return remap(ids, table, Path(record.labels.topic))


@lru_cache(maxsize=1)
def _types() -> Typestore:
    """Definitions of the standard messages, once a process: a recording's own cannot go to other processes."""
    return get_typestore(Stores.ROS2_JAZZY)
