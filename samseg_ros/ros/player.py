"""Plays a recording to whatever node is running: real time, nothing recorded. The `replay` executable.

Topics keep the names that they have in the recording (remap them with ``--ros-args -r``), or go straight to the inputs
of a node that is named.
"""

from __future__ import annotations

import time
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

from samseg_ros.datasets.bag import Message
from samseg_ros.evaluation.replay import Replay, ReplayOptions, Watcher, open_replay
from samseg_ros.ros.interop import optional
from samseg_ros.ros.qos import LATCHED
from samseg_ros.ros.replay_wire import DEPTH, NODE_INPUTS, TYPES, input_name, spinning

LISTENER_WAIT_S = 30.0
WORD_EVERY_S = 10.0
"""Of what it is that we wait for."""
TF = "/tf"
"""Transforms that change, played like the sensors (a full ROS 2 installation)."""


def play(
    options: ReplayOptions,
    watcher: Watcher | None = None,
    node_name: str = "",
    loop: bool = False,
    args: list[str] | None = None,
    wait_s: float = LISTENER_WAIT_S,
) -> None:
    """Play a recording once, or for ever.

    Args:
        options: what to play; of the settings only ``inputs`` counts, a rate of 0 means 1.
        watcher: told how many images are out.
        node_name: publish onto this node's inputs instead of the recording's own topics.
        loop: start again at the end.
        args: of ROS (remappings and the like).
        wait_s: longest wait for somebody to subscribe to the images; a node does once it has loaded its model.

    Raises:
        SamsegError: the recording or a topic cannot be used.
    """
    watcher = watcher or Watcher()
    with open_replay(options, makes_folder=False) as replay, spinning("replay", args=args) as node:
        watcher.opened(replay)
        publishers = _publishers(node, replay, node_name)
        _publish_transforms(node, replay)
        _wait_for_listener(node, publishers[replay.topics.image], wait_s)
        while True:
            _once(replay, publishers, options.rate or 1.0, watcher)
            if not loop:
                break
        for publisher in publishers.values():
            publisher.wait_for_all_acked()


def _wait_for_listener(node: Node, image: Any, wait_s: float) -> None:
    start = word = time.monotonic()
    while not image.get_subscription_count():
        now = time.monotonic()
        if now - start >= wait_s:
            node.get_logger().warning(
                f"nobody subscribed to {image.topic_name} within {wait_s:g} s; playing all the same"
            )
            return
        if now - word >= WORD_EVERY_S:
            node.get_logger().info(f"waiting for a node to load its model and subscribe to {image.topic_name}")
            word = now
        time.sleep(0.1)


def _publishers(node: Node, replay: Replay, node_name: str) -> dict[str, Any]:
    qos = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.RELIABLE)
    result = {}
    for field in NODE_INPUTS:
        if topic := getattr(replay.topics, field):
            kind = replay.bag.topics[topic].type
            name = f"{node_name.rstrip('/')}/{input_name(field, kind)}" if node_name else topic
            result[topic] = node.create_publisher(TYPES[kind], name, qos)
    tf2_msgs = optional("tf2_msgs.msg")
    moving = replay.bag.topics.get(TF)
    if tf2_msgs is not None and moving is not None and moving.type == "tf2_msgs/msg/TFMessage":
        result[TF] = node.create_publisher(tf2_msgs.TFMessage, TF, qos)
    return result


def _publish_transforms(node: Node, replay: Replay) -> None:
    """Offer the recording's /tf_static where the type exists (a full ROS 2 installation)."""
    tf2_msgs = optional("tf2_msgs.msg")
    if tf2_msgs is not None and replay.topics.tf_static:
        publisher = node.create_publisher(tf2_msgs.TFMessage, replay.topics.tf_static, LATCHED)
        for message in replay.bag.messages([replay.topics.tf_static]):
            publisher.publish(message.raw)


def _once(replay: Replay, publishers: dict[str, Any], rate: float, watcher: Watcher) -> None:
    start: tuple[float, Message] | None = None
    images = 0
    for message in replay.bag.messages(publishers):
        start = start or (time.monotonic(), message)
        due = start[0] + (message.log_ns - start[1].log_ns) * 1e-9 / rate
        time.sleep(max(0.0, due - time.monotonic()))
        publishers[message.topic].publish(message.raw)
        if message.topic == replay.topics.image:
            images += 1
            watcher.progress(images, replay.frames)
