"""Downloads from a server in this process: whole, resumed, refused."""

from __future__ import annotations

import errno
import hashlib
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from samseg_ros.errors import SamsegError
from samseg_ros.models import fetch as module
from samseg_ros.models.fetch import KNOWN, fetch, resolve

CONTENT = bytes(range(256)) * 12_000  # three blocks
DIGEST = hashlib.sha256(CONTENT).hexdigest()
CUT = 1_500_000


class Server(ThreadingHTTPServer):
    """Serves CONTENT at every address."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges = True
        self.cut_at: int | None = None
        """Break the connection after this many bytes of the file."""
        self.status = 0
        self.silent = False
        self.asked: list[str | None] = []
        """The Range of each request."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/weights.pth"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        if self.server.silent:
            threading.Event().wait(1.0)
            return
        if self.server.status:
            self.send_error(self.server.status)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges else 0
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : self.server.cut_at])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_file_comes_whole_with_its_digest_and_progress(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    out = tmp_path / "new" / "weights.pth"
    assert fetch(server.url, out, DIGEST.upper(), lambda done, total: seen.append((done, total))) == DIGEST
    assert out.read_bytes() == CONTENT and list(out.parent.iterdir()) == [out]
    assert seen == [(1 << 20, len(CONTENT)), (2 << 20, len(CONTENT)), (len(CONTENT), len(CONTENT))]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_broke_off_is_completed_by_the_next_call(server: Server, tmp_path: Path, ranges: bool) -> None:
    out, part = tmp_path / "weights.pth", tmp_path / "weights.pth.part"
    server.ranges, server.cut_at = ranges, CUT
    with pytest.raises(
        SamsegError, match=rf"broke at {CUT} of {len(CONTENT)} bytes; run again, it goes on from .*part"
    ):
        fetch(server.url, out, DIGEST)
    assert part.read_bytes() == CONTENT[:CUT] and not out.exists()
    server.cut_at = None
    seen: list[int] = []
    assert fetch(server.url, out, DIGEST, lambda done, _total: seen.append(done)) == DIGEST
    assert server.asked == [None, f"bytes={CUT}-"]
    assert out.read_bytes() == CONTENT and not part.exists()
    assert seen[0] == (CUT if ranges else 0) + (1 << 20)


def test_without_a_digest_nothing_is_resumed_as_nothing_would_prove_the_whole(server: Server, tmp_path: Path) -> None:
    (tmp_path / "weights.pth.part").write_bytes(b"of another file")
    assert fetch(server.url, tmp_path / "weights.pth") == DIGEST
    assert server.asked == [None] and (tmp_path / "weights.pth").read_bytes() == CONTENT


def test_a_part_that_is_whole_already_is_only_checked_and_renamed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "weights.pth.part").write_bytes(CONTENT)
    fetch(server.url, tmp_path / "weights.pth", DIGEST)
    assert server.asked == [f"bytes={len(CONTENT)}-"] and (tmp_path / "weights.pth").read_bytes() == CONTENT


def test_a_part_that_is_longer_than_the_file_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / "weights.pth.part").write_bytes(CONTENT + b"more")
    fetch(server.url, tmp_path / "weights.pth", DIGEST)
    assert server.asked == [f"bytes={len(CONTENT) + 4}-", None] and (tmp_path / "weights.pth").read_bytes() == CONTENT


def test_a_wrong_digest_removes_what_came(server: Server, tmp_path: Path) -> None:
    with pytest.raises(SamsegError) as error:
        fetch(server.url, tmp_path / "weights.pth", "0" * 64)
    assert f"expected sha256 {'0' * 64}, got {DIGEST}; what came was removed" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_another_file_ends_in_a_wrong_digest_and_the_next_call_begins_anew(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "weights.pth.part").write_bytes(b"x" * 100)
    with pytest.raises(SamsegError, match="what came was removed"):
        fetch(server.url, tmp_path / "weights.pth", DIGEST)
    assert fetch(server.url, tmp_path / "weights.pth", DIGEST) == DIGEST


def test_the_right_file_that_is_there_is_not_fetched_and_another_one_not_overwritten(
    server: Server, tmp_path: Path
) -> None:
    out = tmp_path / "weights.pth"
    out.write_bytes(CONTENT)
    assert fetch(server.url, out, DIGEST) == DIGEST
    out.write_bytes(b"mine")
    for digest in (DIGEST, ""):
        with pytest.raises(SamsegError, match="remove it, or choose another --out"):
            fetch(server.url, out, digest)
    assert server.asked == [] and out.read_bytes() == b"mine"


@pytest.mark.parametrize(("status", "advice"), [(404, "check the address"), (503, "try later")])
def test_what_the_server_refuses_is_one_line(server: Server, tmp_path: Path, status: int, advice: str) -> None:
    server.status = status
    with pytest.raises(SamsegError, match=rf"weights\.pth: the server answered {status} .*; {advice}"):
        fetch(server.url, tmp_path / "weights.pth", DIGEST)


def test_a_server_that_falls_silent_is_given_up(server: Server, tmp_path: Path) -> None:
    server.silent = True
    with pytest.raises(SamsegError, match="timed out"):
        fetch(server.url, tmp_path / "weights.pth", DIGEST, timeout_s=0.2)


def test_without_a_network_the_address_and_the_reason_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as reserved:  # bound and not listening: refused
        reserved.bind(("127.0.0.1", 0))
        with pytest.raises(SamsegError, match=r"cannot be reached \(.*refused\); check the address and the network"):
            fetch(f"http://127.0.0.1:{reserved.getsockname()[1]}/a.pth", tmp_path / "a.pth", DIGEST)


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=1 << 20))
    with pytest.raises(SamsegError, match="expected 2 MiB of free space, got 1; make room"):
        fetch(server.url, tmp_path / "weights.pth", DIGEST)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_runs_full_keeps_the_part(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(reply: object, stream: object, *_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "weights.pth.part").write_bytes(CONTENT[:CUT])
    monkeypatch.setattr(module, "_copy", full)
    with pytest.raises(SamsegError, match=r"no space is left for .*part; make room and run again, it goes on from"):
        fetch(server.url, tmp_path / "weights.pth", DIGEST)
    assert (tmp_path / "weights.pth.part").stat().st_size == CUT


def test_a_file_on_a_disk_is_fetched_like_one_on_a_server(tmp_path: Path) -> None:
    source, out = tmp_path / "weights.pth", tmp_path / "out" / "weights.pth"
    source.write_bytes(CONTENT)
    out.parent.mkdir()
    out.with_name("weights.pth.part").write_bytes(CONTENT[:CUT])  # no ranges there: all of it comes again
    assert fetch(source.as_uri(), out, DIGEST) == DIGEST and out.read_bytes() == CONTENT


def test_sams_files_are_known_by_name_and_by_address() -> None:
    assert resolve("sam_vit_b") == (KNOWN["sam_vit_b"].url, KNOWN["sam_vit_b"].sha256)
    assert resolve(KNOWN["sam_vit_h"].url)[1] == KNOWN["sam_vit_h"].sha256
    assert resolve("https://example.org/a.pth") == ("https://example.org/a.pth", "")
    assert all(re.fullmatch("[0-9a-f]{64}", row.sha256) and row.url.startswith("https://") for row in KNOWN.values())


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("sam_vit_x", "did you mean 'sam_vit_"),
        ("http://[bad", "http://[bad: expected a URL, got one that is malformed (Invalid IPv6 URL)"),
        ("ftp://example.org/a", "expected a URL of https | http | file, got ftp"),
    ],
)
def test_other_names_and_schemes_are_refused(what: str, told: str) -> None:
    with pytest.raises(SamsegError) as error:
        resolve(what)
    assert told in str(error.value)
