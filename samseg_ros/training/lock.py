"""One run at a time in a folder. The system lifts the lock when its holder ends, also by ``kill -9``."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from samseg_ros.errors import SamsegError

logger = logging.getLogger(__name__)
LOCK_FILE = ".lock"


@contextmanager
def locked(folder: Path, busy: str, wait: bool = False) -> Iterator[None]:
    """Hold a folder, made where it is not there.

    Args:
        folder: what is held, for all processes that ask with this function.
        busy: what to say where another process holds it: why, and what to do.
        wait: say so and wait until the other is done, in place of an error.

    Raises:
        SamsegError: another process holds the folder, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        opened = (folder / LOCK_FILE).open("a+")
    except OSError as error:
        raise SamsegError(
            f"{folder}: expected a folder that can be written, got {error.strerror!r}; choose another"
        ) from None
    with opened as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            holder = f"{folder} is in use (process {stream.read().strip() or 'unknown'}): {busy}"
            if not wait:
                raise SamsegError(holder) from None
            logger.warning("%s", holder)
            fcntl.flock(stream, fcntl.LOCK_EX)
        except OSError as error:  # some network file systems have no locks
            logger.warning("%s cannot be locked (%s): let no second run write there", folder, error)
        stream.truncate(0)
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        yield
