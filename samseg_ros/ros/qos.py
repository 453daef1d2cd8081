"""Quality of service: what we offer, what we ask for, and why nothing comes."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

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
    problems = dict.fromkeys(p for topic, kind in topics.items() for p in _problems(node, topic, kind, asked))
    if problems:
        return "; ".join(problems)
    return f"nobody publishes there: check that the driver runs, or remap {remap}"


def _problems(node: Node, topic: str, kind: str, asked: ReliabilityPolicy) -> list[str]:
    found = []
    for info in node.get_publishers_info_by_topic(topic):
        who = f"{info.node_namespace.rstrip('/')}/{info.node_name}"
        offered = info.qos_profile.reliability
        if info.topic_type != kind:
            found.append(f"{who} publishes {info.topic_type} on {topic}, expected {kind}")
        elif asked == ReliabilityPolicy.RELIABLE and offered == ReliabilityPolicy.BEST_EFFORT:
            found.append(f"QoS mismatch: {who} offers best effort, we ask for reliable; set qos.reliability to auto")
        elif offered == ReliabilityPolicy.BEST_EFFORT:
            found.append(
                f"{who} is there but nothing comes; large best-effort messages need config/fastdds.xml on its side"
            )
        else:
            found.append(f"{who} is there but sends nothing: check that its sensor or bag is running")
    return found
