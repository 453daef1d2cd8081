"""Messages of recordings, copied as they are into one temporary file, to be read in any order and from any process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from samseg_ros.datasets.bag import Message
from samseg_ros.errors import SamsegError


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a message lies in the temporary file."""

    topic: str
    type: str
    log_ns: int
    offset: int
    size: int


class MessageWriter:
    """Appends messages to a file; one that serves several frames in a row (a slow LiDAR) is written once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._end = file, 0
        self._last: dict[str, tuple[Message, Slot]] = {}

    def keep(self, message: Message) -> Slot:
        """Append a message, unless it is the newest of its topic, and return where it lies."""
        last = self._last.get(message.topic)
        if last is not None and last[0] is message:
            return last[1]
        slot = Slot(message.topic, message.type, message.log_ns, self._end, len(message.raw))
        self._file.write(message.raw)
        self._end += slot.size
        self._last[message.topic] = message, slot
        return slot


@contextmanager
def message_file() -> Iterator[tuple[Path, MessageWriter]]:
    """Make a temporary file (TMPDIR says where) to write messages into; after an error it is gone, else it stays.

    Raises:
        SamsegError: there is no space for it.
    """
    descriptor, name = tempfile.mkstemp(prefix="samseg-bag-")
    store = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield store, MessageWriter(file)
    except BaseException as error:
        store.unlink()
        if isinstance(error, OSError):
            raise SamsegError(f"{store}: cannot be written ({error}); set TMPDIR to a larger disk") from None
        raise


def read_message(store: Path, slot: Slot) -> Message:
    """Read a message back.

    Raises:
        SamsegError: the file is gone or cannot be read.
    """
    try:
        with store.open("rb") as file:
            file.seek(slot.offset)
            raw = file.read(slot.size)
    except OSError as error:
        raise SamsegError(f"{store}: the copied messages cannot be read ({error}); open the dataset again") from None
    return Message(slot.topic, slot.type, slot.log_ns, raw)
