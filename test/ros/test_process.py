"""The node as a process of its own: exit codes, signals, messages on stderr, the ROS command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest


@pytest.fixture
def start(fake_node_path, project_root):
    """Return a function that starts the node around the fake pipeline, or anything else of python, in a process."""
    processes = []

    def run(*arguments, script=True):
        environment = {**os.environ, "PYTHONPATH": str(project_root), "RCUTILS_COLORIZED_OUTPUT": "0"}
        process = subprocess.Popen(
            [sys.executable, *([str(fake_node_path)] if script else []), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env=environment,
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


class Started:
    """When a node was started; a machine that takes its time to start one may take its time to end it."""

    def __init__(self):
        self.at = time.monotonic()

    def end_s(self):
        """Return the 3 s that a node has to end, more where others hog the processors (it starts within 5 s else)."""
        return 3.0 * max(1.0, (time.monotonic() - self.at) / 5.0)


def read_until(process, word):
    lines = []
    for line in process.stdout:
        lines.append(line)
        if word in line:
            return "".join(lines)
    pytest.fail(f"the node ended without saying {word!r}:\n{''.join(lines)}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_node_within_three_seconds_with_code_zero(start, number):
    started = Started()
    process = start()
    read_until(process, "active: fusing")
    limit_s = started.end_s()
    process.send_signal(number)
    process.wait(limit_s)  # raises when it takes longer
    assert process.returncode == 0


def test_a_signal_ends_the_node_even_while_a_frame_takes_for_ever(start, messages):
    import rclpy
    from rclpy.context import Context
    from sensor_msgs.msg import Image

    started = Started()
    process = start("--frame-seconds", "600")
    read_until(process, "active: fusing")
    limit_s = started.end_s()
    context = Context()
    rclpy.init(context=context)
    try:
        sensor = rclpy.create_node("sensor", context=context)
        publisher = sensor.create_publisher(Image, "/fusion_node/input/image", 10)
        deadline = time.monotonic() + 30
        while not publisher.get_subscription_count() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert publisher.get_subscription_count() == 1
        publisher.publish(messages.image(1.0))
        time.sleep(0.5)  # it waits 0.1 s for the other sensors, then the model starts
    finally:
        context.try_shutdown()
    process.send_signal(signal.SIGINT)
    process.wait(limit_s)
    assert process.returncode == 0
    assert "ended while the model was at work" in process.stdout.read()


def test_an_unknown_parameter_ends_the_node_with_the_nearest_name(start, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("/**:\n  ros__parameters:\n    sync:\n      lidar: {timout_s: 0.2}\n")
    process = start("--ros-args", "--params-file", str(path))
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "unknown setting 'sync.lidar.timout_s'; did you mean 'sync.lidar.timeout_s'?" in output
    assert "Traceback" not in output


def test_a_parameter_file_that_is_not_there_ends_the_node_with_its_name(start):
    process = start("--ros-args", "--params-file", "/nowhere.yaml")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "/nowhere.yaml" in output and "Traceback" not in output


def test_names_namespace_and_topics_can_be_remapped(start):
    process = start("--ros-args", "-r", "__ns:=/car", "-r", "__node:=eyes", "-r", "~/input/image:=/camera/image_raw")
    read_until(process, "[car.eyes]: active: fusing")
    output = read_until(process, "[car.eyes]: image: never received")
    assert "never received on /camera/image_raw" in output


def test_the_help_and_unknown_arguments_start_no_node(start):
    shown = start("--help")
    assert "--ros-args --params-file FILE" in shown.communicate(timeout=120)[0] and shown.returncode == 0
    wrong = start("--modle", "ad_sam")
    assert "unrecognized arguments: --modle ad_sam" in wrong.communicate(timeout=120)[0] and wrong.returncode == 2


def test_a_node_that_ended_is_gone_from_the_graph_at_once(start):
    import rclpy
    from rclpy.context import Context

    context = Context()
    rclpy.init(context=context)
    try:
        watcher = rclpy.create_node("watcher", context=context)

        def seen(is_there):
            deadline = time.monotonic() + (60 if is_there else 10)  # a peer that vanished without a word: after 20 s
            while ("fusion_node" in watcher.get_node_names()) != is_there and time.monotonic() < deadline:
                time.sleep(0.05)
            return "fusion_node" in watcher.get_node_names()

        process = start()
        read_until(process, "active: fusing")
        assert seen(True)
        process.send_signal(signal.SIGINT)
        process.wait(60)
        assert not seen(False)
    finally:
        context.try_shutdown()


STUBBORN = """
import atexit, sys, time
from rclpy.node import Node
from samseg_ros.ros.process import run

class Stubborn(Node):
    def autostart(self):
        print("started", flush=True)

    def end(self, timeout_s):
        time.sleep({end_s})
        return True

atexit.register(time.sleep, 600)
sys.exit(run(lambda: Stubborn("stubborn"), []))
"""


def test_the_end_does_not_wait_for_the_interpreter_to_take_itself_apart(start):
    process = start("-c", STUBBORN.format(end_s=0), script=False)
    read_until(process, "started")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0


def test_an_end_that_hangs_is_cut_off_with_code_one_and_the_place_where_it_hung(start):
    process = start("-c", STUBBORN.format(end_s=600), script=False)
    read_until(process, "started")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 1
    output = process.stdout.read()
    assert "Timeout" in output and "in end" in output
