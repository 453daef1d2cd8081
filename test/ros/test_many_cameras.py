"""Several cameras on one machine: a node each, in processes of their own, and none goes without."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter

import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

CAMERAS = ("front", "left", "right")


@pytest.fixture
def nodes(fake_node_path, project_root, tmp_path):
    """Start a node for each camera, each frame of which takes 0.05 s; return the domain they are in."""
    domain = os.getpid() % 100 + 101
    environment = {**os.environ, "PYTHONPATH": str(project_root), "ROS_DOMAIN_ID": str(domain)}
    processes = []
    for camera in CAMERAS:
        command = [sys.executable, str(fake_node_path), "--frame-seconds", "0.05", "--ros-args"]
        command += ["-r", f"__ns:=/{camera}", "-p", "inputs.thermal:=false", "-p", "inputs.lidar:=false"]
        with (tmp_path / camera).open("wb") as log:
            processes.append(
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
            )
    yield domain
    for process in processes:
        process.kill()
        process.wait()


class Street:
    """Publishes images onto each camera and notes the masks that come back."""

    def __init__(self, domain, messages):
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        node = rclpy.create_node("street", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(node)
        self.messages, self.masks, self.newest = messages, Counter(), {}
        self.images = {c: node.create_publisher(Image, f"/{c}/fusion_node/input/image", 1) for c in CAMERAS}
        for camera in CAMERAS:
            topic = f"/{camera}/fusion_node/output/mask"
            node.create_subscription(Image, topic, lambda m, c=camera: self._came(c, m), QoSProfile(depth=10))

    def _came(self, camera, message):
        self.masks[camera] += 1
        self.newest[camera] = message.header.stamp.sec

    def send(self, camera, stamp_s):
        self.images[camera].publish(self.messages.image(float(stamp_s)))

    def wait(self, condition, timeout_s=120.0):
        """Wait for it; return whether it came true."""
        deadline = time.monotonic() + timeout_s
        while not condition() and time.monotonic() < deadline:
            self.executor.spin_once(timeout_sec=0.05)
        return condition()

    def greet(self, camera):
        """Send images until a mask comes: the first may go out before all ends have found each other."""
        for stamp_s in range(1, 60):
            self.send(camera, stamp_s)
            if self.wait(lambda: self.masks[camera], timeout_s=1.0):
                return True
        return False


@pytest.mark.slow
def test_beside_a_camera_that_floods_its_node_the_others_get_the_mask_of_every_image(nodes, messages):
    street = Street(nodes, messages)
    try:
        assert street.wait(lambda: all(p.get_subscription_count() for p in street.images.values()))
        assert all(street.greet(camera) for camera in CAMERAS)
        street.masks.clear()
        for stamp_s in range(101, 121):
            for part in range(5):
                street.send("front", 10 * stamp_s + part)
            for camera in ("left", "right"):
                street.send(camera, stamp_s)
            assert street.wait(lambda s=stamp_s: street.newest["left"] == street.newest["right"] == s), street.newest
        assert street.masks["left"] == street.masks["right"] == 20
        assert street.wait(lambda: street.newest["front"] == 1204), street.newest  # whatever else was dropped
    finally:
        street.context.try_shutdown()
