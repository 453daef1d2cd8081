from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading

import pytest

from samseg_ros.errors import SamsegError
from samseg_ros.training.lock import locked

HOLDER = """
import sys, time
from pathlib import Path
from samseg_ros.training.lock import locked
with locked(Path(sys.argv[1]), ""):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_folder_that_another_process_holds_is_refused_until_it_is_killed(tmp_path, holder):
    refused = pytest.raises(SamsegError, match=rf"is in use .process {holder.pid}.: choose another --out")
    with refused, locked(tmp_path, "choose another --out"):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked(tmp_path, "choose another --out"):
        pass


def test_one_that_waits_says_so_and_goes_on_when_the_other_is_done(tmp_path, holder, caplog):
    threading.Timer(0.3, holder.kill).start()
    with caplog.at_level(logging.WARNING), locked(tmp_path, "waiting for it", wait=True):
        assert f"is in use (process {holder.pid}): waiting for it" in caplog.text
        assert holder.wait() == -signal.SIGKILL


def test_a_folder_is_free_again_after_the_first_holder_and_different_folders_do_not_meet(tmp_path):
    refused = pytest.raises(SamsegError, match="a is in use")
    with locked(tmp_path / "a", ""), locked(tmp_path / "b", ""), refused, locked(tmp_path / "a", ""):
        pass
    with locked(tmp_path / "a", ""):
        pass
