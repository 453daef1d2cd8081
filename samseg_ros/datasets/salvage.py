"""Reading what is left of a storage file that was cut off.

A recorder that is killed leaves an MCAP without its index and footer, or an sqlite3 file without its last pages.
Records are self-delimiting in both, so everything before the cut is intact: we walk it front to back and stop there.
(MCAP: https://mcap.dev/spec; sqlite3: rosbag2's tables ``topics`` and ``messages``.)
"""

from __future__ import annotations

import itertools
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from lz4.frame import LZ4FrameDecompressor

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MCAP_MAGIC = b"\x89MCAP0\r\n"
SCHEMA, CHANNEL, MESSAGE, CHUNK = 0x03, 0x04, 0x05, 0x06
LARGEST_RECORD = 2**34
"""A longer record is taken as damage, not as a record."""


@dataclass(frozen=True, slots=True)
class Salvaged:
    """One message in the order of the file."""

    topic: str
    type: str
    log_ns: int
    raw: bytes


@dataclass(slots=True)
class _Directory:
    """What the walk has learnt so far."""

    schemas: dict[int, str] = field(default_factory=dict)
    channels: dict[int, tuple[str, str]] = field(default_factory=dict)


def salvage(path: Path) -> Iterator[Salvaged]:
    """Yield every intact message of an ``.mcap`` or ``.db3`` file; ends quietly where the damage begins."""
    return _salvage_sqlite3(path) if path.suffix == ".db3" else _salvage_mcap(path)


def _salvage_mcap(path: Path) -> Iterator[Salvaged]:
    with path.open("rb") as stream:
        if stream.read(len(MCAP_MAGIC)) == MCAP_MAGIC:
            yield from _walk(stream, _Directory())


def _walk(stream: BinaryIO, known: _Directory) -> Iterator[Salvaged]:
    while len(head := stream.read(9)) == 9:
        opcode, size = head[0], int.from_bytes(head[1:], "little")
        if size > LARGEST_RECORD:
            return
        body = stream.read(size)
        if opcode == CHUNK:
            yield from _chunk(body, known)
        if len(body) < size:
            return
        if opcode == SCHEMA:
            known.schemas[_uint(body, 0, 2)] = _text(body, 2)[0]
        elif opcode == CHANNEL:
            known.channels[_uint(body, 0, 2)] = (_text(body, 4)[0], known.schemas.get(_uint(body, 2, 2), ""))
        elif opcode == MESSAGE and _uint(body, 0, 2) in known.channels:
            topic, kind = known.channels[_uint(body, 0, 2)]
            yield Salvaged(topic, kind, _uint(body, 6, 8), body[22:])


def _chunk(body: bytes, known: _Directory) -> Iterator[Salvaged]:
    """Yield the messages of a chunk by log time; of a cut one, those that can still be unpacked."""
    if len(body) < 40:
        return
    compression, offset = _text(body, 28)
    try:
        records = _unpack(compression, body[offset + 8 :])
    except (ValueError, RuntimeError, zstd.ZstdError):
        return
    yield from sorted(_walk(BytesIO(records), known), key=lambda message: message.log_ns)


def _unpack(compression: str, data: bytes) -> bytes:
    """Decompress as much of a (possibly cut) stream as there is."""
    if compression == "zstd":
        return zstd.ZstdDecompressor().decompress(data)
    if compression == "lz4":
        return bytes(LZ4FrameDecompressor().decompress(data))
    return data


def _uint(data: bytes, offset: int, size: int) -> int:
    return int.from_bytes(data[offset : offset + size], "little")


def _text(data: bytes, offset: int) -> tuple[str, int]:
    """Return a length-prefixed string and the offset behind it."""
    end = offset + 4 + _uint(data, offset, 4)
    return data[offset + 4 : end].decode(errors="replace"), end


def _salvage_sqlite3(path: Path) -> Iterator[Salvaged]:
    """Read the rows in the order in which they were written, past the (perhaps lost) index on time."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as database:
        try:
            database.execute("PRAGMA writable_schema=ON")  # else sqlite refuses a file that is shorter than it was
            topics = {key: (name, kind) for key, name, kind in database.execute("SELECT id, name, type FROM topics")}
            rows = database.execute("SELECT topic_id, timestamp, data FROM messages NOT INDEXED ORDER BY id")
        except sqlite3.DatabaseError:
            return
        for _ in itertools.count():
            try:
                row = next(rows, None)
            except sqlite3.DatabaseError:
                return
            if row is None:
                return
            if row[0] in topics:
                yield Salvaged(*topics[row[0]], int(row[1]), bytes(row[2]))
