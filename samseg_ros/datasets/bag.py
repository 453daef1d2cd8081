"""Reading rosbag2 recordings (MCAP and sqlite3, with rosbags): messages in recorded order, raw or decoded.

No ROS installation is needed. A recording that was cut off is read up to the cut, and `Bag.damage` says so.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from samseg_ros.datasets.salvage import salvage
from samseg_ros.errors import InputError, SamsegError

STORAGE = (".mcap", ".db3")
STAMP_END = 12
"""Bytes of the encapsulation header (4) and the stamp (8)."""
REPAIR = {".mcap": "`mcap recover FILE`", ".db3": "`sqlite3 FILE .recover`"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic of a recording."""

    name: str
    type: str
    """Such as ``sensor_msgs/msg/Image``."""
    count: int


@dataclass(frozen=True, eq=False, slots=True)
class Message:
    """One recorded message, still serialised."""

    topic: str
    type: str
    log_ns: int
    """When it was recorded."""
    raw: bytes
    """CDR, with its encapsulation header: what goes over the wire as it is."""

    @property
    def stamp_ns(self) -> int:
        """Stamp of a message that starts with a std_msgs/Header, without decoding the rest."""
        return raw_stamp_ns(self.raw)


def raw_stamp_ns(raw: bytes | memoryview) -> int:
    """Read the stamp of a serialised message that starts with a std_msgs/Header.

    Raises:
        InputError: the message is too short to hold a stamp.
    """
    if len(raw) < STAMP_END:
        raise InputError(
            "a recorded message",
            expected=f"at least {STAMP_END} bytes, with the stamp of its header",
            got=f"{len(raw)} bytes",
            remedy="record it again",
        )
    order: Literal["little", "big"] = "little" if raw[1] & 1 else "big"
    return int.from_bytes(raw[4:8], order, signed=True) * 10**9 + int.from_bytes(raw[8:12], order)


class Bag:
    """An open recording; use it as a context manager."""

    def __init__(
        self,
        path: Path,
        topics: Mapping[str, Topic],
        source: Callable[[Collection[str]], Iterator[Message]],
        types: Typestore,
        damage: str = "",
        resources: ExitStack | None = None,
    ) -> None:
        self.path, self.topics, self.damage = path, topics, damage
        self._source, self._types, self._resources = source, types, resources or ExitStack()

    def __enter__(self) -> Bag:
        """Return the bag itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files."""
        self._resources.close()

    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        """Yield the messages of ``topics`` by the time at which they were recorded; stops early at damage."""
        iterator = self._source(topics)
        while True:
            try:
                message = next(iterator, None)
            except Exception as error:  # a reader fed with damaged bytes may raise anything
                self.damage = f"{self.path}: damaged, stopped there ({error}); repair it with {_repair(self.path)}"
                _log.warning(self.damage)
                return
            if message is None:
                return
            yield message

    def decode(self, message: Message) -> Any:
        """Return the message as an object with the fields of its type.

        Raises:
            SamsegError: the bytes do not hold a message of that type.
        """
        try:
            return self._types.deserialize_cdr(message.raw, message.type)
        except Exception as error:  # as above
            what = f"the {message.type} on {message.topic} recorded at {message.log_ns}"
            raise SamsegError(f"{self.path}: {what} cannot be decoded ({error})") from None

    def first(self, topic: str) -> Any | None:
        """Return the first message of a topic, decoded; None where there is none."""
        message = next(self.messages([topic]), None)
        return None if message is None else self.decode(message)


def open_bag(path: str | Path) -> Bag:
    """Open a rosbag2 folder, an ``.mcap`` or a ``.db3`` file.

    Raises:
        InputError: nothing there, not a rosbag2 recording, or one without messages.
    """
    path = Path(path)
    files = _storage_files(path)
    whole = [path] if path.is_file() or (path / "metadata.yaml").is_file() else files
    resources = ExitStack()
    try:
        reader = AnyReader(whole, default_typestore=get_typestore(Stores.ROS2_JAZZY))
        bag = _intact(path, resources.enter_context(reader), resources)
    except Exception as error:  # the same again: anything, among it AnyReaderError, TypeError, apsw.Error
        resources.close()
        bag = _salvaged(path, files, error)
    if not any(topic.count for topic in bag.topics.values()):
        resources.close()
        raise InputError(
            str(path),
            expected="recorded messages",
            got="none",
            remedy="check that the topics were published while recording",
        )
    return bag


def _storage_files(path: Path) -> list[Path]:
    if not path.exists():
        raise InputError(str(path), expected="a rosbag2 folder, .mcap or .db3", got="nothing", remedy="check the path")
    if path.suffix == ".bag":
        raise InputError(
            str(path),
            expected="a rosbag2 recording",
            got="a ROS 1 bag",
            remedy=f"convert it: rosbags-convert --src {path} --dst {path.stem} --dst-storage mcap",
        )
    inside = path.iterdir() if path.is_dir() else [path]
    files = sorted((f for f in inside if f.suffix in STORAGE), key=lambda f: (len(f.name), f.name))  # _2 before _10
    if not files and not (path / "metadata.yaml").is_file():
        raise InputError(
            str(path),
            expected="a rosbag2 recording (a folder with metadata.yaml, an .mcap or a .db3)",
            got="a folder without any of them" if path.is_dir() else f"a {path.suffix or 'nameless'} file",
            remedy="give the folder that `ros2 bag record` made",
        )
    return files


def _intact(path: Path, reader: AnyReader, resources: ExitStack) -> Bag:
    topics = {c.topic: Topic(c.topic, c.msgtype, 0) for c in reader.connections}
    counts: Counter[str] = Counter()
    for connection in reader.connections:
        counts[connection.topic] += connection.msgcount
    topics = {name: Topic(name, topic.type, counts[name]) for name, topic in topics.items()}

    def source(names: Collection[str]) -> Iterator[Message]:
        wanted = [c for c in reader.connections if c.topic in names]
        if wanted:  # rosbags takes an empty list for "everything"
            for connection, log_ns, raw in reader.messages(wanted):
                yield Message(connection.topic, connection.msgtype, log_ns, bytes(raw))

    return Bag(path, topics, source, reader.typestore, resources=resources)


def _salvaged(path: Path, files: list[Path], error: Exception) -> Bag:
    """Make a bag of what can still be read in front of the damage."""
    counts = Counter((message.topic, message.type) for file in files for message in salvage(file))
    if not counts:
        raise InputError(
            str(path),
            expected="a readable rosbag2 recording",
            got=str(error) or type(error).__name__,
            remedy=f"try `ros2 bag reindex {path}` or {_repair(*files)}",
        ) from None
    topics = {name: Topic(name, kind, count) for (name, kind), count in counts.items()}
    damage = (
        f"{path}: damaged or cut off ({error}); reading the {counts.total()} messages before the damage. "
        f"Repair it with `ros2 bag reindex {path}` or {_repair(*files)}"
    )

    def source(names: Collection[str]) -> Iterator[Message]:
        for file in files:
            for message in salvage(file):
                if message.topic in names:
                    yield Message(message.topic, message.type, message.log_ns, message.raw)

    return Bag(path, topics, source, get_typestore(Stores.ROS2_JAZZY), damage)


def _repair(*files: Path) -> str:
    suffix = next((f.suffix for f in files if f.suffix in REPAIR), ".mcap")
    return REPAIR[suffix]
