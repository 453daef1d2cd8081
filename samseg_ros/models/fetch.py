"""Weights from the network or a disk: resumed where they broke off, and kept only if their digest is right."""

from __future__ import annotations

import errno
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from samseg_ros import __version__
from samseg_ros.errors import SamsegError, nearest
from samseg_ros.models.weights import sha256

TIMEOUT_S = 30.0
"""Longest wait for the server's next bytes."""
BLOCK = 1 << 20
SCHEMES = ("https", "http", "file")
WHOLE, PARTIAL, BEYOND_END = 200, 206, 416
Progress = Callable[[int, int], None]
"""(bytes here, bytes in all; 0: the server does not say)"""


@dataclass(frozen=True, slots=True)
class Known:
    """A file that can be fetched by name."""

    url: str
    sha256: str
    licence: str
    about: str


_SAM = "https://dl.fbaipublicfiles.com/segment_anything/"
KNOWN: dict[str, Known] = {  # the six digits in SAM's file names begin the MD5, which is no proof against forgery
    "sam_vit_b": Known(
        f"{_SAM}sam_vit_b_01ec64.pth",
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        "Apache-2.0",
        "Segment Anything, ViT-B, 375 MB",
    ),
    "sam_vit_l": Known(
        f"{_SAM}sam_vit_l_0b3195.pth",
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        "Apache-2.0",
        "Segment Anything, ViT-L, 1250 MB",
    ),
    "sam_vit_h": Known(
        f"{_SAM}sam_vit_h_4b8939.pth",
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        "Apache-2.0",
        "Segment Anything, ViT-H, 2565 MB",
    ),
}


def resolve(name_or_url: str) -> tuple[str, str]:
    """Return (URL, expected sha256, empty if none is known) of a row of `KNOWN` or a URL.

    Raises:
        SamsegError: neither a known name nor a URL of a scheme that is read.
    """
    if "://" not in name_or_url:
        if name_or_url not in KNOWN:
            raise SamsegError(f"no known weights {name_or_url!r}; {nearest(name_or_url, KNOWN)}, or give a URL")
        return KNOWN[name_or_url].url, KNOWN[name_or_url].sha256
    try:
        scheme = urllib.parse.urlsplit(name_or_url).scheme
    except ValueError as error:
        raise SamsegError(f"{name_or_url}: expected a URL, got one that is malformed ({error}); correct it") from None
    if scheme not in SCHEMES:
        raise SamsegError(f"{name_or_url}: expected a URL of {' | '.join(SCHEMES)}, got {scheme}")
    return name_or_url, next((row.sha256 for row in KNOWN.values() if row.url == name_or_url), "")


def fetch(url: str, out: Path, digest: str = "", progress: Progress | None = None, timeout_s: float = TIMEOUT_S) -> str:
    """Download a file; ``out`` appears only when it is whole and its digest is right.

    What has come lies in ``out.part``; a later call goes on from there where the digest is given (otherwise nothing
    would tell if the file on the server has changed in between) and the server answers to ranges.

    Args:
        url: http, https or file.
        digest: expected sha256, hex; empty: not checked.
        progress: called with bytes.
        timeout_s: longest wait for the server's next bytes.

    Returns:
        The file's sha256.

    Raises:
        SamsegError: another file is at ``out``, the server cannot be reached or refuses, the connection broke, the
            disk is full, or the digest is wrong (the part is removed then).
    """
    if out.exists():
        return _already_there(out, digest.lower())
    part = out.with_name(out.name + ".part")
    if not digest:
        part.unlink(missing_ok=True)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _download(url, part, progress or (lambda _done, _total: None), timeout_s)
        found = sha256(part)
    except (OSError, HTTPException) as error:  # URLError and timeouts are OSErrors
        raise SamsegError(_why(url, part, error)) from None
    if digest and found != digest.lower():
        part.unlink()
        raise SamsegError(
            f"{url}: expected sha256 {digest.lower()}, got {found}; what came was removed. Either the digest is of "
            "another file, or the download was damaged or tampered with"
        )
    part.replace(out)
    return found


def _already_there(out: Path, digest: str) -> str:
    found = sha256(out)
    if digest and found == digest:
        return found
    expected = f"nothing, or a file of sha256 {digest}" if digest else "nothing there yet"
    raise SamsegError(f"{out}: expected {expected}, got a file of {found}; remove it, or choose another --out")


def _download(url: str, part: Path, progress: Progress, timeout_s: float) -> None:
    """Append to ``part`` what is missing of it, or write it anew where the server sends the whole."""
    start = part.stat().st_size if part.exists() else 0
    try:
        reply = _open(url, start, timeout_s)
    except urllib.error.HTTPError as error:
        if error.code != BEYOND_END or not start:
            raise
        if _total_in_range(error.headers) == start:
            return  # all of it had come already
        part.unlink()
        start, reply = 0, _open(url, 0, timeout_s)
    with reply:
        resumed = reply.status == PARTIAL and _start_in_range(reply.headers) == start
        start = start if resumed else 0
        length = reply.headers.get("Content-Length")
        total = start + int(length) if length else 0
        _require_space(part, total - start)
        with part.open("ab" if resumed else "wb") as stream:
            done = _copy(reply, stream, start, total, progress)
    if total and done != total:
        raise SamsegError(f"{url}: the connection broke at {done} of {total} bytes; run again{_goes_on(part)}")


def _open(url: str, start: int, timeout_s: float) -> Any:
    headers = {"User-Agent": f"samseg_ros/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout_s)


def _copy(reply: Any, stream: Any, done: int, total: int, progress: Progress) -> int:
    while block := reply.read(BLOCK):
        stream.write(block)
        done += len(block)
        progress(done, total)
    return done


def _start_in_range(headers: Any) -> int | None:
    """``bytes 100-199/200`` to 100."""
    first = str(headers.get("Content-Range", "")).removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdigit() else None


def _total_in_range(headers: Any) -> int | None:
    """``bytes */200`` to 200."""
    total = str(headers.get("Content-Range", "")).rpartition("/")[2]
    return int(total) if total.isdigit() else None


def _require_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise SamsegError(f"{part.parent}: expected {needed >> 20} MiB of free space, got {free >> 20}; make room")


def _goes_on(part: Path) -> str:
    return f", it goes on from {part}" if part.exists() and part.stat().st_size else ""


def _why(url: str, part: Path, error: Exception) -> str:
    """Say what stopped a download and what to do."""
    if isinstance(error, urllib.error.HTTPError):
        advice = "check the address" if error.code in (404, 410) else "try later, or fetch it from another place"
        return f"{url}: the server answered {error.code} {error.reason}; {advice}"
    if isinstance(error, urllib.error.URLError):
        return f"{url} cannot be reached ({error.reason}); check the address and the network, or copy the file by hand"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"no space is left for {part}; make room and run again{_goes_on(part)}"
    if isinstance(error, (TimeoutError, HTTPException, ConnectionError)):
        return f"{url}: the connection broke ({error or type(error).__name__}); run again{_goes_on(part)}"
    return f"{part} cannot be written ({error}); choose another --out"
