"""The benchmark row that needs ROS: from a published sensor set to its mask on the wire, through the real node."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from samseg_ros.config import Config
from samseg_ros.datasets.world import write_recording
from samseg_ros.errors import SamsegError
from samseg_ros.evaluation.benchmark_row import VGA, Row, Timing
from samseg_ros.evaluation.replay import ReplayOptions
from samseg_ros.models import load_model
from samseg_ros.pipeline import network_size
from samseg_ros.ros.replay import replay_live
from samseg_ros.runtime import Runner

NODE_ROW = "node"


def node_timing(frames: int = 30, report: Callable[[str], None] = lambda text: None) -> Timing:
    """Replay a generated drive in lockstep through the node in another process; medians over its frames.

    Ours is the time from publishing the camera image to receiving its mask; the peer is the network alone in eager
    fp32, the limit the network alone inside the node.

    Args:
        report: told what is going on.

    Raises:
        SamsegError: no mask came.
    """
    config = Config()
    with tempfile.TemporaryDirectory() as folder:
        report("generating a drive")
        bag = write_recording(Path(folder) / "bag", conditions=("day",), frames_per_condition=frames, size=VGA)
        report("replaying it through the node")
        measured = replay_live(ReplayOptions(bag, Path(folder) / "out", config, pictures=0))
    latency, model_ms = measured["latency_ms"]["p50"], measured["stages_ms"].get("model")
    if latency is None or model_ms is None:
        raise SamsegError(f"the node published no mask; {measured['errors'] or measured['notes']}")
    row = Row(
        f"node, 640×480 camera + thermal + LiDAR: set published → mask received ({1e3 / latency:.1f} frames/s)",
        "the network alone in eager fp32",
        "the network alone in the node",
        "≥ 5 frames/s",
        lambda: None,
        lambda: None,
        lambda: model_ms,
    )
    return Timing(NODE_ROW, row, latency, _eager_ms(config), model_ms)


def _eager_ms(config: Config, repeats: int = 10) -> float:
    loaded = load_model(config.model)
    size = network_size(VGA, loaded.spec.input_pixels, loaded.spec.squash_to)
    eager = Runner(loaded.network, config.model.model_copy(update={"precision": "fp32", "compile": False}))
    inputs = {name: np.zeros((3, *size), np.float32) for name in loaded.spec.modalities}
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        eager(inputs)
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[1:])
