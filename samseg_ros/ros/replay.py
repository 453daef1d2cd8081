"""Live replay: the recording goes over DDS to the real node in another process, and what the node says is recorded.

In lockstep (the default) the next camera set goes out after the mask of the one before, so that every frame is
processed and the masks are those of a direct replay, byte for byte. At a rate it is real time, and what the node could
not keep up with counts as dropped.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from rclpy.logging import get_logger
from rclpy.utilities import remove_ros_args

from samseg_ros.config import Config
from samseg_ros.datasets.bag import Message
from samseg_ros.datasets.bag_frames import Step, steps
from samseg_ros.errors import SamsegError
from samseg_ros.evaluation.recording import FUSED, LIDAR_DEPTH, MASK, OVERLAY
from samseg_ros.evaluation.replay import LEFT_OUT, Replay, ReplayOptions, Watcher, open_replay
from samseg_ros.evaluation.replay_output import ReplayOutput
from samseg_ros.evaluation.results import FrameRow
from samseg_ros.labels import LabelSet, parse_label_info
from samseg_ros.ros.player import LISTENER_WAIT_S, play
from samseg_ros.ros.replay_node import NODE_COMMAND, NodeProcess, private_domain, write_parameters
from samseg_ros.ros.replay_wire import Received, Wire, spinning

START_S = 180.0
"""For the node to load and warm up its model."""
REST_S = 1.0
"""For the outputs that follow a mask."""
ALIVE_S = 0.2
"""How often the node's process is looked at while nothing comes."""


def replay_live(
    options: ReplayOptions, watcher: Watcher | None = None, command: Sequence[str] = NODE_COMMAND
) -> dict[str, Any]:
    """Replay over DDS and write all results; return what metrics.json holds.

    Args:
        options: what to replay.
        watcher: told how it gets on.
        command: starts the node.

    Raises:
        SamsegError: the recording or the settings cannot be used, or the node does not start, or ends early (what it
            had sent by then is written).
    """
    watcher = watcher or Watcher()
    with ExitStack() as stack:
        replay = stack.enter_context(open_replay(options))
        watcher.opened(replay)
        parameter_file = write_parameters(replay, lockstep=not options.rate)
        domain = stack.enter_context(private_domain(options.out / "fastdds.xml"))
        namespace = f"/replay_{os.getpid()}_{secrets.token_hex(3)}"
        process = stack.enter_context(NodeProcess(namespace, parameter_file, options.out / "node.log", command=command))
        node = stack.enter_context(spinning("samseg_replay", domain))
        types = {name: topic.type for name, topic in replay.bag.topics.items()}
        wire = Wire(node, f"{namespace}/fusion_node", types, replay.topics)
        watcher.starting("starting the node and loading the model")
        wire.wait_until_active(process.check, START_S)
        mode = f"live, {'real time' if options.rate else 'lockstep'}"
        output = stack.enter_context(ReplayOutput(replay, mode, label_set(wire.label_info)))
        output.write_label_info(wire.label_info)
        output.start_clock()
        player = (_RealTime if options.rate else _Lockstep)(replay, wire, output, process)
        try:
            player.run(watcher)
        finally:
            output.extra["node"] = wire.status()
            output.extra["stages_ms"] = {stage: median(samples) for stage, samples in wire.stages_ms.items()}
            measured = output.finish()
        return measured


def label_set(raw: bytes) -> LabelSet:
    """Read the node's latched ~/output/label_info."""
    length = int.from_bytes(raw[4:8], "little")
    return parse_label_info(raw[8 : 8 + length].rstrip(b"\0").decode())


class _Player:
    """What both ways of playing share: outputs come in, rows get their latency."""

    def __init__(self, replay: Replay, wire: Wire, output: ReplayOutput, process: NodeProcess) -> None:
        self._replay, self._wire, self._output, self._process = replay, wire, output, process
        self._rows: dict[int, FrameRow] = {}
        self._seen: dict[str, int] = {}
        """Topic → stamp of its newest message."""

    def _went_in(self, step: Step, watcher: Watcher) -> bool:
        """Note an image; return whether a mask can be expected for it."""
        error = "" if step.matched is not None else LEFT_OUT
        row = self._output.went_in(step, error)
        row.sensors = tuple(s for s in row.sensors if s == "rgb" or self._wire.wanted(getattr(self._replay.topics, s)))
        self._rows[step.image.stamp_ns] = row
        watcher.progress(len(self._output.rows), self._replay.frames)
        return step.matched is not None

    def _take(self, received: Received) -> None:
        row = self._rows.get(received.stamp_ns)
        if received.topic == MASK and row is not None:
            row.latency_ms = (received.came_s - self._wire.published_s[received.stamp_ns]) * 1e3
        self._seen[received.topic] = received.stamp_ns
        self._output.came_out(received.topic, received.raw, received.stamp_ns)

    def _receive_until(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Take outputs until ``done`` or the time is over; return whether it is done."""
        deadline = time.monotonic() + timeout_s
        while not done():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            received = self._wire.receive(min(left, ALIVE_S))
            if received is None:
                self._process.check()
            else:
                self._take(received)
        return True

    def _has(self, topic: str, stamp_ns: int) -> bool:
        return self._seen.get(topic) == stamp_ns

    def _has_pictures(self, stamp_ns: int) -> bool:
        return all(self._has(topic, stamp_ns) for topic in (FUSED, OVERLAY) if self._wire.offered(topic))


class _Lockstep(_Player):
    """The next set goes out after the mask of the one before."""

    def run(self, watcher: Watcher) -> None:
        replay, output = self._replay, self._output
        for step in steps(replay.bag, replay.topics, replay.config.sync, output.aside):
            if self._went_in(step, watcher):
                self._play(step)
                output.draw(but_newest=1)  # labels of the newest may stand behind it
        if any("lidar" in row.sensors for row in output.rows[-1:]):
            self._receive_until(lambda: self._has(LIDAR_DEPTH, output.rows[-1].stamp_ns), REST_S)

    def _play(self, step: Step) -> None:
        for message in step.before:
            self._wire.publish(message)
        self._wire.wait_until_delivered()
        self._wire.publish(step.image)
        stamp_ns, timeout_s = step.image.stamp_ns, self._replay.options.timeout_s
        if not self._receive_until(lambda: self._has(MASK, stamp_ns), timeout_s):
            self._rows[stamp_ns].error = f"no mask within {timeout_s:g} s (see node.log)"
            return
        self._receive_until(lambda: self._has_pictures(stamp_ns), REST_S)


class _RealTime(_Player):
    """Messages go out when they were recorded, at a rate; masks come when they come."""

    def run(self, watcher: Watcher) -> None:
        replay, output = self._replay, self._output
        self._held: list[Received] = []
        self._start: tuple[float, int] | None = None
        for step in steps(replay.bag, replay.topics, replay.config.sync, output.aside, self._publish_in_time):
            self._went_in(step, watcher)
            self._release()
        self._receive_until(self._is_complete, self._replay.options.timeout_s)

    def _publish_in_time(self, message: Message) -> None:
        now = time.monotonic()
        if self._start is None:
            self._start = now, message.log_ns
        due = self._start[0] + (message.log_ns - self._start[1]) * 1e-9 / self._replay.options.rate
        while (left := due - time.monotonic()) > 0:
            received = self._wire.receive(min(left, ALIVE_S))
            if received is not None:
                self._hold_or_take(received)
            else:
                self._process.check()
        self._wire.publish(message)

    def _hold_or_take(self, received: Received) -> None:
        """Take it, unless its image is not noted yet: a fast node answers before the walk has closed the set."""
        if received.stamp_ns in self._rows:
            self._take(received)
        else:
            self._held.append(received)

    def _release(self) -> None:
        held, self._held = self._held, []
        for received in held:
            self._hold_or_take(received)

    def _is_complete(self) -> bool:
        """Whether nothing more is to come: the newest frame is out."""
        self._release()
        newest = max(self._wire.published_s, default=0)
        depth = "lidar" not in self._rows[newest].sensors or self._has(LIDAR_DEPTH, newest)
        return self._has(MASK, newest) and self._has_pictures(newest) and depth


def main(args: list[str] | None = None) -> int:
    """Play a recording to the nodes that are running (the `replay` executable of launch files); return the exit code.

    `samseg replay` does more: it starts the node, records and scores.
    """
    arguments = sys.argv if args is None else ["replay", *args]
    parser = argparse.ArgumentParser("replay", description="Play a recording to the nodes that are running.")
    parser.add_argument("bag", type=Path, help="rosbag2 folder, .mcap or .db3")
    parser.add_argument("--rate", type=float, default=1.0, help="times real time")
    parser.add_argument("--loop", action="store_true", help="start again at the end")
    parser.add_argument("--node", default="", help="publish onto this node's inputs, not on the recording's own topics")
    parser.add_argument("--wait", type=float, default=LISTENER_WAIT_S, help="seconds at most until a node listens")
    for name in ("image", "thermal", "lidar"):
        parser.add_argument(f"--{name}-topic", help="topic in the recording; '' switches it off; default: guessed")
    parser.add_argument("--show-topics", action="store_true", help="print the topics as JSON, and play nothing")
    given = parser.parse_args(remove_ros_args(arguments)[1:])
    topics = {name: getattr(given, f"{name}_topic") for name in ("image", "thermal", "lidar")}
    try:
        options = ReplayOptions(given.bag, Path(), Config(), topics, rate=given.rate)
        if given.show_topics:
            return _show_topics(options)
        play(options, node_name=given.node, loop=given.loop, args=arguments, wait_s=given.wait)
    except SamsegError as error:
        get_logger("replay").fatal(str(error))
        return 2
    except KeyboardInterrupt:  # a node that was told to end: `ros2 launch` calls any other code an error
        return 0
    return 0


def _show_topics(options: ReplayOptions) -> int:
    with open_replay(options, makes_folder=False) as replay:
        print(json.dumps(asdict(replay.topics)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
