"""Quality of service: what we offer, what we ask for, and why nothing comes."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

OUTPUT = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)
LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
"""Late joiners get the last message."""
FIXED = {"reliable": ReliabilityPolicy.RELIABLE, "best_effort": ReliabilityPolicy.BEST_EFFORT}
"""Values of qos.reliability other than auto."""
MOST_NAMED = 6
"""Topics that a remedy lists."""


def input_qos(reliability: ReliabilityPolicy, depth: int) -> QoSProfile:
    """Return the profile of an input subscription."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability, durability=DurabilityPolicy.VOLATILE
    )


def matching_reliability(node: Node, topic: str) -> ReliabilityPolicy:
    """Reliable if every publisher of ``topic`` offers it (or there is none yet), else best effort."""
    infos = node.get_publishers_info_by_topic(topic)
    weak = any(info.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT for info in infos)
    return ReliabilityPolicy.BEST_EFFORT if weak else ReliabilityPolicy.RELIABLE


def why_nothing(node: Node, topics: dict[str, str], asked: ReliabilityPolicy, remap: str) -> str:
    """Say, from what the graph shows, why nothing arrives.

    Args:
        node: whose graph to look at.
        topics: resolved topic name → the message type that we expect there.
        asked: the reliability that our subscription asks for.
        remap: the topic's private name, to be named in the remedy.
    """
    return "; ".join(f"{problem}; {remedy}" for problem, remedy in problems(node, topics, asked, remap))


def problems(node: Node, topics: dict[str, str], asked: ReliabilityPolicy, remap: str) -> list[tuple[str, str]]:
    """Return what `why_nothing` says as pairs of what is wrong and what to do."""
    pairs = (pair for topic, kind in topics.items() for pair in _problems(node, topic, kind, asked, remap))
    return list(dict.fromkeys(pairs)) or [("nobody publishes there", _where_else(node, topics, remap))]


def offers(node: Node, topics: Iterable[str]) -> str:
    """Say who publishes on any of these topics and how reliably: ``/camera_driver (best effort)``."""
    infos = [info for topic in topics for info in node.get_publishers_info_by_topic(topic)]
    return ", ".join(sorted({f"{_publisher(info)} ({_reliability(info)})" for info in infos})) or "nobody"


def _publisher(info: TopicEndpointInfo) -> str:
    return f"{info.node_namespace.rstrip('/')}/{info.node_name}"


def _reliability(info: TopicEndpointInfo) -> str:
    return str(info.qos_profile.reliability.name).lower().replace("_", " ")


def _problems(node: Node, topic: str, kind: str, asked: ReliabilityPolicy, remap: str) -> Iterator[tuple[str, str]]:
    for info in node.get_publishers_info_by_topic(topic):
        who, offered = _publisher(info), info.qos_profile.reliability
        if info.topic_type != kind:
            yield (
                f"{who} publishes {info.topic_type} on {topic}, expected {kind}",
                f"remap {remap} to a topic of that type",
            )
        elif asked == ReliabilityPolicy.RELIABLE and offered == ReliabilityPolicy.BEST_EFFORT:
            yield (
                f"QoS mismatch: {who} offers best effort, we ask for reliable",
                "set qos.reliability to auto",
            )
        elif offered == ReliabilityPolicy.BEST_EFFORT:
            yield (
                f"{who} is there but nothing comes",
                "large best-effort messages need config/fastdds.xml on its side",
            )
        else:
            yield f"{who} is there but sends nothing", "check that its sensor or bag is running"


def _where_else(node: Node, topics: dict[str, str], remap: str) -> str:
    """Say what to do about a topic without a publisher, with the topics of its type that have one."""
    wanted = set(topics.values())
    offered = dict(node.get_topic_names_and_types())
    others = sorted(
        name
        for name, kinds in offered.items()
        if wanted & set(kinds) and node.count_publishers(name) and not _is_of_a_fusion_node(name, offered)
    )
    choice = f", one of {', '.join(others[:MOST_NAMED])}{', …' * (len(others) > MOST_NAMED)}" if others else ""
    return f"check that the driver runs, or remap {remap} to the right topic{choice}"


def _is_of_a_fusion_node(topic: str, offered: Container[str]) -> bool:
    """Whether a topic is what this package publishes: every node of it says its labels beside its masks."""
    return any(f"{topic.split(part)[0]}/output/label_info" in offered for part in ("/output/", "/debug/"))
