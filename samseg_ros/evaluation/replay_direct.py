"""Replay without ROS: recording → sets → Frames → Pipeline → results. Deterministic: this is the reference."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Protocol

import numpy as np

from samseg_ros import drawing, posterior
from samseg_ros.autoware import AutowareIds, load_ids
from samseg_ros.config import Config
from samseg_ros.datasets.bag_frames import Step, build_frame, steps
from samseg_ros.errors import SamsegError
from samseg_ros.evaluation import recording
from samseg_ros.evaluation.replay import LEFT_OUT, Replay, ReplayOptions, Watcher, open_replay
from samseg_ros.evaluation.replay_output import ReplayOutput
from samseg_ros.labels import LabelSet
from samseg_ros.sensing import convert
from samseg_ros.sensing.projection import project_to_camera
from samseg_ros.types import Frame, Segmentation

MODE = "direct"


class Segmenter(Protocol):
    """What `Pipeline` does."""

    @property
    def labels(self) -> LabelSet:
        """Classes of the masks."""
        ...

    @property
    def own_classes(self) -> Mapping[str, int]:
        """The model's own classes, and the id that each is published as."""
        ...

    def __call__(self, frame: Frame, fused: bool = False) -> Segmentation:
        """Segment one sensor set; ``fused`` asks for the fused picture, where the model makes one."""
        ...

    def warm_up(self, size: tuple[int, int]) -> float:
        """Do once what the first frame of (H, W) would have to wait for."""
        ...


def load_segmenter(config: Config) -> Segmenter:
    """Load the real pipeline (imports torch, which takes seconds: not before it is needed)."""
    from samseg_ros.pipeline import Pipeline

    return Pipeline.from_config(config)


def replay_direct(
    options: ReplayOptions, watcher: Watcher | None = None, segmenter: Segmenter | None = None
) -> dict[str, Any]:
    """Read a recording frame by frame and write all results; return what metrics.json holds.

    Args:
        options: what to replay.
        watcher: told how it gets on.
        segmenter: default: the pipeline that the settings ask for.

    Raises:
        SamsegError: the recording, the settings or the model cannot be used.
    """
    watcher = watcher or Watcher()
    with open_replay(options) as replay:
        watcher.opened(replay)
        watcher.starting("loading the model")
        segment = segmenter or load_segmenter(replay.config)
        with ReplayOutput(replay, MODE, segment.labels) as output:
            ids = load_ids(replay.config.autoware, segment.labels, segment.own_classes)
            info = recording.label_info(segment.labels, ids.topics())
            output.write_label_info(recording.serialize(recording.STRING, info))
            segment.warm_up(_camera_size(replay))
            output.start_clock()
            for done, step in enumerate(steps(replay.bag, replay.topics, replay.config.sync, output.aside), start=1):
                _one(replay, step, segment, ids, output)
                output.draw(but_newest=1)  # labels of the newest may stand behind it
                watcher.progress(done, replay.frames)
            output.extra["peak_memory_mib"] = peak_memory_mib()
            return output.finish()


def _one(replay: Replay, step: Step, segment: Segmenter, ids: AutowareIds, output: ReplayOutput) -> None:
    if step.matched is None:
        output.went_in(step, LEFT_OUT)
        return
    troubles: list[str] = []
    start = time.perf_counter()
    try:
        frame = build_frame(
            replay.bag, step, replay.calibration, replay.config, lambda name, what: troubles.append(f"{name}: {what}")
        )
        converted = time.perf_counter()
        segmentation = segment(frame, fused=True)
    except SamsegError as error:
        output.went_in(step, error=str(error))
        return
    end = time.perf_counter()
    row = output.went_in(step)
    row.troubles = troubles + [f"{name}: {what}" for name, what in segmentation.problems.items()]
    row.latency_ms = (end - start) * 1e3
    row.stages_ms = {"convert": (converted - start) * 1e3, **segmentation.timings_ms}
    for topic, message in _messages(frame, segmentation, segment.labels, ids, replay.config):
        raw = recording.serialize(recording.OUTPUTS[topic], message)
        output.came_out(topic, raw, step.image.stamp_ns)
    row.sensors = segmentation.sensors  # a painted cloud does not say that the network saw it


def peak_memory_mib() -> float:
    """Return the most memory that this process has held at once, loading and warming up included."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _camera_size(replay: Replay) -> tuple[int, int]:
    """Return (H, W) of the first image that can be read."""
    for message in replay.bag.messages([replay.topics.image]):
        with suppress(SamsegError):
            return convert.color_image(replay.bag.decode(message)).shape[:2]
    raise SamsegError(f"{replay.bag.path}: no image on {replay.topics.image} can be read; choose another --image-topic")


def _messages(
    frame: Frame, segmentation: Segmentation, labels: LabelSet, ids: AutowareIds, config: Config
) -> Iterator[tuple[str, Any]]:
    """Yield topic and message of what a node publishes about one frame, in its order."""
    stamp_ns, frame_id = frame.stamp_ns, frame.frame_id
    yield recording.MASK, recording.image(stamp_ns, frame_id, segmentation.labels, "mono8")
    confidence, encoding = segmentation.confidence, config.publish.confidence_encoding
    shown = confidence if encoding == "mono8" else confidence.astype(np.float32) / np.float32(255)
    yield recording.CONFIDENCE, recording.image(stamp_ns, frame_id, shown, encoding)
    yield recording.CLASS_CONFIDENCE, recording.class_confidence(labels, segmentation)
    lidar = project_to_camera(frame, config.projection)
    if lidar is not None and frame.points is not None:
        class_id, *sureness = posterior.at_pixels(segmentation, lidar.pixels)
        yield recording.CLOUD_OUT, recording.painted_cloud(stamp_ns, frame.points, ids.painted(class_id), *sureness)
    if segmentation.fused is not None:
        yield recording.FUSED, recording.image(stamp_ns, frame_id, segmentation.fused, "rgb8")
    overlay = drawing.overlay(frame.image, segmentation.labels, labels.palette(), config.publish.overlay_alpha)
    yield recording.OVERLAY, recording.image(stamp_ns, frame_id, overlay, "rgb8")
    if lidar is not None:
        yield recording.LIDAR_DEPTH, recording.image(stamp_ns, frame_id, lidar.depth_m, "32FC1")
