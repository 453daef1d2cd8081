"""`samseg doctor`: looks at an installation, a model and the topics of a robot without starting the node.

It subscribes as the node would, by the node's own code, and publishes nothing beside what rclpy itself does for every
node (its parameter events).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import LoggingSeverity
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from samseg_ros.config import NODE_NAME, Config
from samseg_ros.errors import SamsegError
from samseg_ros.ros.checks import SENSORS, Seen, input_checks
from samseg_ros.ros.extrinsics import Extrinsics, make_extrinsics
from samseg_ros.ros.health import OK, WARN, Check, failure
from samseg_ros.ros.inputs import INPUTS, Input
from samseg_ros.ros.installation import model_checks
from samseg_ros.ros.session import needed_infos, used_inputs
from samseg_ros.sensing.camera import rectified_by_name

REFRESH_S = 0.25
"""How often publishers are looked at, to follow their QoS."""
ENOUGH_S = 1.0
"""Of messages of every input, to judge their times."""
UNKNOWN_MODEL_TAKES = ("rgb", "thermal", "lidar")
"""What is looked for when the model cannot be loaded, and so cannot say."""


def examine(config: Config, topics: Mapping[str, str], seconds: float, load: Callable[[Config], Any]) -> list[Check]:
    """Load the model, listen to its inputs and judge everything.

    Args:
        config: the settings that the node would get.
        topics: name of an input (`INPUTS`) → topic; of those that are not named it is the one that the node has by
            itself.
        seconds: how long to listen at most; less, where every input has been heard for `ENOUGH_S`.
        load: makes the pipeline.

    Raises:
        SamsegError: a name that no topic can have.
    """
    with _listener(topics) as (node, executor):
        row, pipeline = model_checks(config, load)
        taken = UNKNOWN_MODEL_TAKES if pipeline is None else pipeline.modalities
        del pipeline  # its memory
        names = used_inputs(config, taken)
        infos = needed_infos(config, names)
        rows = [row, *_unused(config, topics, names, taken)]
        extrinsics: Extrinsics | None = None
        try:
            extrinsics = make_extrinsics(node, config.projection) if infos else None
        except SamsegError as error:
            rows.append(failure("extrinsics", error))
        seen = {name: Seen() for name in ("image", *names, *infos)}
        sources = [_source(node, name, seen[name], config) for name in seen]
        _listen(executor, sources, seen, seconds)
        listened = {source.name: source.topic for source in sources}
        projection = rectified_by_name(config.projection, listened["image"], listened.get("thermal", ""))
        config = config.model_copy(update={"projection": projection})
        rows += [_network(node), *input_checks(sources, seen, config, extrinsics, time.monotonic())]
        if extrinsics is not None:
            extrinsics.close()
        return rows


@contextmanager
def _listener(topics: Mapping[str, str]) -> Iterator[tuple[Node, SingleThreadedExecutor]]:
    """Make a quiet node whose private inputs lie where they are wanted, and what spins it."""
    context = Context()
    args = ["--ros-args"]
    for name, (private, _) in INPUTS.items():
        args += ["-r", f"{private}:={topics.get(name) or private.replace('~', f'/{NODE_NAME}')}"]
    try:
        rclpy.init(args=args, context=context, signal_handler_options=SignalHandlerOptions.NO)
        node = Node("samseg_doctor", context=context, enable_rosout=False, start_parameter_services=False)
    except Exception as error:  # rcl has an exception of its own for every kind of wrong name
        context.try_shutdown()
        raise SamsegError(
            f"cannot listen to {', '.join(topics.values()) or 'ROS'} ({error}); name topics as /a/b"
        ) from None
    node.get_logger().set_level(LoggingSeverity.FATAL)  # what it would say stands in the rows
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        yield node, executor
    finally:
        executor.shutdown(timeout_sec=1.0)
        node.destroy_node()
        context.try_shutdown()


def _unused(config: Config, topics: Mapping[str, str], names: Sequence[str], taken: Sequence[str]) -> Iterator[Check]:
    """Tell of sensors that were named and that the model has no use for."""
    for name in SENSORS:
        if name in topics and name not in names and getattr(config.inputs, name):
            found = f"{topics[name]} is not listened to: the model takes {', '.join(taken)}"
            yield Check(name, WARN, found, "leave it out, or name weights that take it")


def _source(node: Node, name: str, seen: Seen, config: Config) -> Input:
    source = Input(node, name, lambda message: seen.add(message, time.monotonic()), config.qos, frozenset())
    source.refresh()
    return source


def _listen(executor: SingleThreadedExecutor, sources: list[Input], seen: Mapping[str, Seen], seconds: float) -> None:
    now = time.monotonic()
    end_s, refresh_s = now + seconds, now
    while now < end_s and not all(one.is_known_since(now - ENOUGH_S) for one in seen.values()):
        executor.spin_once(timeout_sec=min(REFRESH_S, end_s - now))
        now = time.monotonic()
        if now >= refresh_s:
            refresh_s = now + REFRESH_S
            for source in sources:
                source.refresh()


def _network(node: Node) -> Check:
    """Say whether anybody is there at all."""
    own = node.get_fully_qualified_name()
    others = [f"{ns.rstrip('/')}/{name}" for name, ns in node.get_node_names_and_namespaces()]
    number = len([name for name in others if name != own])
    if number:
        return Check("other nodes", OK, f"{number} seen")
    remedy = (
        "start the drivers; if they run, compare ROS_DOMAIN_ID, the discovery range and RMW_IMPLEMENTATION with theirs"
    )
    return Check("other nodes", WARN, "none seen", remedy)
