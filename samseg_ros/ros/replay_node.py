"""The node that a live replay talks to: a process of its own, with its parameters and its log beside the results."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from samseg_ros.errors import SamsegError
from samseg_ros.evaluation.replay import Replay
from samseg_ros.sensing.calibration import save_calibration
from samseg_ros.sensing.camera import rectified_by_name

NODE_COMMAND = (sys.executable, "-m", "samseg_ros.ros.fusion_node")
LOCKSTEP_WAIT_S = 5.0
"""In lockstep the node waits at least this long for an input of a set: the wire must never change what is fused."""
LOCKSTEP_DEPTH = 64
"""History of the node's inputs in lockstep: a slow camera may have many messages of the others in front of it."""
SAMPLE_S = 0.2
"""Between the node's /diagnostics, from which the times of its stages are taken."""
QUIET_S = 60.0
"""In lockstep inputs pause while the mask is awaited: no reason to report them missing."""
HIGHEST_DOMAIN = 100
"""DDS takes ports from the domain's number; above this they collide with those that Linux hands out by itself."""
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
LARGEST_SEGMENT, SMALLEST_SEGMENT = 64 << 20, 4 << 20
"""Of shared memory, bytes; each process makes one."""
SEGMENTS = 8
"""So many have to fit into the free shared memory."""
HEARTBEAT_S = 0.02
TRANSPORT = """<?xml version="1.0" encoding="UTF-8"?>
<profiles xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles">
{shared_memory}  <data_writer profile_name="replay" is_default_profile="true">
    <times><heartbeatPeriod><sec>0</sec><nanosec>{heartbeat_ns}</nanosec></heartbeatPeriod></times>
  </data_writer>
</profiles>
"""
SHARED_MEMORY = """  <transport_descriptors>
    <transport_descriptor>
      <transport_id>large</transport_id>
      <type>SHM</type>
      <segment_size>{segment}</segment_size>
      <maxMessageSize>{segment}</maxMessageSize>
    </transport_descriptor>
    <transport_descriptor><transport_id>udp</transport_id><type>UDPv4</type></transport_descriptor>
  </transport_descriptors>
  <participant profile_name="replay" is_default_profile="true">
    <rtps>
      <userTransports><transport_id>large</transport_id><transport_id>udp</transport_id></userTransports>
      <useBuiltinTransports>false</useBuiltinTransports>
    </rtps>
  </participant>
"""
END_S = 5.0
LOG_LINES = 12


def parameters(replay: Replay, calibration: Path | None, lockstep: bool) -> dict[str, Any]:
    """Return the node's parameters: the user's settings, and what the way of replaying needs."""
    config, topics = replay.config, replay.topics  # the node's own topics have other names than these
    projection = rectified_by_name(config.projection, topics.image, topics.thermal)
    tree = config.model_copy(update={"projection": projection}).model_dump()
    tree["autostart"] = True
    tree["projection"]["calibration_path"] = "" if calibration is None else str(calibration.resolve())
    if lockstep:
        tree["drop_policy"] = "none"
        tree["max_rate_hz"] = 0.0
        tree["diagnostics"]["period_s"] = min(tree["diagnostics"]["period_s"], SAMPLE_S)
        tree["diagnostics"]["input_timeout_s"] = max(tree["diagnostics"]["input_timeout_s"], QUIET_S)
        tree["qos"] = {"reliability": "reliable", "depth": LOCKSTEP_DEPTH}
        for name in ("thermal", "lidar"):
            tree["sync"][name]["timeout_s"] = max(tree["sync"][name]["timeout_s"], LOCKSTEP_WAIT_S)
    return tree


def write_parameters(replay: Replay, lockstep: bool) -> Path:
    """Write OUT/node.param.yaml, and OUT/calibration.yaml where the extrinsics are known; return the first."""
    out, calibration = replay.options.out, None
    if replay.calibration is not None:
        calibration = out / "calibration.yaml"
        save_calibration(calibration, replay.calibration)
    path = out / "node.param.yaml"
    tree = {"/**": {"ros__parameters": parameters(replay, calibration, lockstep)}}
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


def write_transport(path: Path) -> None:
    """Write the Fast DDS profile of a replay: large messages pass through shared memory, and lost parts come quickly.

    Without it, a reliable writer notices after up to 3 s that a part of a large message was lost.
    """
    path.write_text(TRANSPORT.format(shared_memory=_shared_memory(), heartbeat_ns=round(HEARTBEAT_S * 1e9)))


def _shared_memory() -> str:
    """Return the part of the profile that enlarges the segments; empty where /dev/shm has no room for it."""
    try:
        free = os.statvfs("/dev/shm")
    except OSError:
        return ""
    segment = min(LARGEST_SEGMENT, free.f_bavail * free.f_frsize // SEGMENTS)
    return SHARED_MEMORY.format(segment=segment) if segment >= SMALLEST_SEGMENT else ""


@contextmanager
def private_domain(transport: Path) -> Iterator[int]:
    """Give this process and its children a ROS domain of their own, on this machine only.

    Programs of the domain that is set now neither hear the replay nor disturb it; those of another can by chance (one
    in a hundred). A transport profile that the user has set is kept.
    """
    domain = secrets.choice([d for d in range(1, HIGHEST_DOMAIN + 1) if str(d) != os.environ.get("ROS_DOMAIN_ID")])
    ours = {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    if not any(name in os.environ for name in PROFILE_VARIABLES):
        write_transport(transport)
        ours[PROFILE_VARIABLES[0]] = str(transport.resolve())
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield domain
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class NodeProcess:
    """Runs the node while the context is open.

    Args:
        namespace: of the node.
        parameter_file: its settings.
        log: takes everything that it says.
        remappings: ROS names to names.
        command: starts it.
    """

    def __init__(
        self,
        namespace: str,
        parameter_file: Path,
        log: Path,
        remappings: Mapping[str, str] | None = None,
        command: Sequence[str] = NODE_COMMAND,
    ) -> None:
        self.log = log
        renames = [part for pair in (remappings or {}).items() for part in ("-r", ":=".join(pair))]
        self._command = [
            *command,
            *("--ros-args", "--params-file", str(parameter_file), "-r", f"__ns:={namespace}", *renames),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> NodeProcess:
        """Start it; it is in a session of its own, so that Ctrl-C ends the replay first and the node by its hand."""
        environment = {**os.environ, "RCUTILS_COLORIZED_OUTPUT": "0", "PYTHONUNBUFFERED": "1"}
        environment.setdefault("ROS_LOG_DIR", str(self.log.parent / "log"))
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it: SIGINT, then harder."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        for send in (lambda: process.send_signal(signal.SIGINT), process.terminate, process.kill):
            send()
            try:
                process.wait(END_S)
                return
            except subprocess.TimeoutExpired:
                continue

    def check(self) -> None:
        """Raise if it has ended.

        Raises:
            SamsegError: with its exit code and the last lines that it said.
        """
        code = None if self._process is None else self._process.poll()
        if code is not None:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise SamsegError(f"the node {how}; its last lines ({self.log}):\n{self.tail()}")

    def tail(self) -> str:
        """Return the last lines of its log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-LOG_LINES:]) or "  (nothing)"
