"""The active node: subscriptions fill the intake, one thread turns sets into masks."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterable, Set
from functools import partial
from itertools import pairwise
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.time import Time

from samseg_ros.config import Config
from samseg_ros.errors import InputError, SamsegError
from samseg_ros.ros.checks import INFO_OF, Seen, input_checks
from samseg_ros.ros.extrinsics import Extrinsics
from samseg_ros.ros.frames import FrameBuilder
from samseg_ros.ros.health import Check, InputHealth, ModelHealth, Verdict, frame_note
from samseg_ros.ros.inputs import Input
from samseg_ros.ros.intake import Intake
from samseg_ros.ros.outputs import Outputs, Result
from samseg_ros.ros.process import release_gpu_cache
from samseg_ros.sensing import convert
from samseg_ros.sensing.camera import rectified_by_name
from samseg_ros.sensing.synchronize import Collector, MatchedSet

LIVE_NS = 60 * 10**9
"""An image older than that by the node's clock is a recording, and its age says nothing about latency."""


def used_inputs(config: Config, modalities: Iterable[str]) -> tuple[str, ...]:
    """Return the inputs beside the camera that are used and that the user did not switch off.

    Those that the model takes; and the LiDAR, whose depth a thermal camera with a view of its own is registered by, and
    whose cloud may be wanted painted.
    """
    taken = set(modalities)
    if config.publish.pointcloud == "always" or config.autoware.pointcloud:
        taken.add("lidar")
    if "thermal" in taken and config.inputs.thermal and config.projection.thermal == "calibrated":
        taken.add("lidar")
    return tuple(name for name in ("thermal", "lidar") if name in taken and getattr(config.inputs, name))


def needed_infos(config: Config, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return whose camera_info it takes to fuse these inputs; none also means that no extrinsics are needed."""
    if "thermal" in names and config.projection.thermal == "calibrated":
        return "camera_info", "thermal_info"
    return ("camera_info",) if "lidar" in names else ()


class Session:
    """Everything between activate and deactivate.

    Args:
        node: the owner.
        pipeline: Frame, and whether the fused picture is wanted → Segmentation.
        names: auxiliary inputs to subscribe to.
        extrinsics: where the other sensors stand.
        outputs: the publishers.
        config: the settings; `configure` hands in later ones.
        overridden: names of parameters that the user gave.
        model: counters that outlive the session.
    """

    def __init__(
        self,
        node: LifecycleNode,
        pipeline: Any,
        names: tuple[str, ...],
        extrinsics: Extrinsics,
        outputs: Outputs,
        config: Config,
        overridden: Set[str],
        model: ModelHealth,
    ) -> None:
        self._node, self._pipeline, self._outputs, self._model = node, pipeline, outputs, model
        self._names = names
        self._reference_ns = 0
        self._troubled: set[str] = set()  # inputs with bad data in the present frame
        self.health: dict[str, InputHealth] = {}
        self._seen: dict[str, Seen] = {}
        self._extrinsics = extrinsics
        windows = {name: getattr(config.sync, name) for name in names}
        self.collector = Collector(windows, config.sync.time_jump_reset_s, self._report)
        self.intake = Intake(self.collector, keep_all=config.drop_policy == "none")
        callbacks: dict[str, Callable[[Any], None]] = {"image": self._on_image}
        callbacks |= {name: partial(self._on_auxiliary, name) for name in names}
        callbacks |= {name: partial(self._on_camera_info, name) for name in needed_infos(config, names)}
        self._inputs = tuple(Input(node, name, made, config.qos, overridden) for name, made in callbacks.items())
        self.configure(config)
        self._builder = FrameBuilder(extrinsics, self._report, self._config)
        now = time.monotonic()
        for source in self._inputs:
            needed = source.name == "image" or (source.name in names and getattr(config.sync, source.name).required)
            self.health[source.name] = InputHealth(source.name, source.topic, needed, now)
            self._seen[source.name] = Seen()
        try:
            self.refresh()  # subscribes: from here on messages come, in another thread where the node starts by itself
        except Exception:
            for source in self._inputs:
                source.close()
            raise
        self._thread = threading.Thread(target=self._work, name="inference", daemon=True)
        self._thread.start()

    def configure(self, config: Config) -> None:
        """Take over changed settings, all of them with the next frame."""
        topics = {source.name: source.topic for source in self._inputs}
        projection = rectified_by_name(config.projection, topics["image"], topics.get("thermal", ""))
        self._config = config.model_copy(update={"projection": projection})
        self.intake.max_rate_hz = config.max_rate_hz

    def refresh(self) -> None:
        """Follow publishers that came or went (call from the executor's thread)."""
        for source in self._inputs:
            source.refresh()

    def halt(self, timeout_s: float | None = None) -> bool:
        """End the inference thread after the frame that it works on; return whether it has ended."""
        self.intake.close()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def close(self) -> None:
        """End the thread and the subscriptions (call from the executor's thread, or when that has ended)."""
        self.halt()
        for source in self._inputs:
            source.close()

    def verdicts(self) -> dict[str, Verdict]:
        """Judge every input; the model's health learns how the thread and its queue are doing."""
        self._model.is_working, self._model.overflowed = self._thread.is_alive(), self.intake.overflowed
        for info, image in INFO_OF.items():
            if info in self.health:
                self.health[info].note = frame_note(self.health[image].frame_id, self.health[info].frame_id)
        if "lidar" in self.health:
            self.health["lidar"].note = self._builder.deskew_note or self._builder.intensity_note
            self.health["lidar"].details = {"deskew": self._builder.deskew}
        now, timeout = time.monotonic(), self._config.diagnostics.input_timeout_s
        for name, counters in self.collector.counters.items():
            self.health[name].synchronized(counters.matched, counters.missing)
        return {s.name: self.health[s.name].verdict(now, timeout, s.why_nothing) for s in self._inputs}

    def checks(self) -> list[Check]:
        """Look at what came by every input: slower than `verdicts`, for the self-check."""
        return input_checks(self._inputs, self._seen, self._config, self._extrinsics, time.monotonic())

    # The callbacks: in the executor's thread, never slow.

    def _on_image(self, message: Any) -> None:
        stamp = self._arrived("image", message)
        self._reference_ns = stamp or self._reference_ns
        self.intake.add(None, stamp, message)

    def _on_auxiliary(self, name: str, message: Any) -> None:
        self.intake.add(name, self._arrived(name, message), message)

    def _on_camera_info(self, name: str, message: Any) -> None:
        self._arrived(name, message)
        self._builder.infos[name].set(message)
        try:
            self._builder.camera_of(name, message)
            self.health[name].used()
        except InputError as error:  # the sensors that need it tell it too, with every frame
            self.health[name].failed(str(error), time.monotonic())

    def _arrived(self, name: str, message: Any) -> int:
        stamp = convert.stamp_ns(message.header)
        reference = 0 if name == "image" else self._reference_ns
        now = time.monotonic()
        self.health[name].arrived(stamp, reference, now)
        self._seen[name].add(message, now)
        self.health[name].frame_id = message.header.frame_id
        return stamp

    # The inference thread.

    def _work(self) -> None:
        while True:
            try:
                if (matched := self.intake.take()) is None:
                    return
                self._model.frame_since_s = time.monotonic()
                self._process(matched)
            except SamsegError as error:
                self._frame_failed(str(error), str(error))
            except Exception as error:  # whatever it was (GPU memory, say), the next frame gets its chance
                release_gpu_cache()
                self._frame_failed(f"{type(error).__name__}: {error}", traceback.format_exc())
            finally:
                self._model.frame_since_s = None

    def _process(self, matched: MatchedSet) -> None:
        times = [time.perf_counter()]
        config = self._pipeline.config = self._config
        self._troubled.clear()
        try:
            frame = self._builder.build(matched)
        except InputError as error:
            self._report("image", error)
            return
        times.append(time.perf_counter())
        segmentation = self._pipeline(frame, fused=self._outputs.wants_fused())
        for name, problem in segmentation.problems.items():
            self._report(name, problem)
        times.append(time.perf_counter())
        stand_ins = matched.others.keys() & set(matched.missing)
        labels = self._pipeline.labels
        result = Result(matched.reference.header, frame, segmentation, config, labels, stand_ins=stand_ins)
        self._outputs.publish(result)
        times.append(time.perf_counter())
        self._note(matched, dict(segmentation.timings_ms), times)

    def _note(self, matched: MatchedSet, timings_ms: dict[str, float], times: list[float]) -> None:
        convert_ms, _, publish_ms = ((b - a) * 1e3 for a, b in pairwise(times))
        timings = {"convert": convert_ms, **timings_ms, "publish": publish_ms}
        limit = self._config.diagnostics.max_allowed_processing_time_ms
        self._model.done(timings, (times[-1] - times[0]) * 1e3, limit, time.monotonic())
        age = self._node.get_clock().now() - Time.from_msg(
            matched.reference.header.stamp, clock_type=self._node.get_clock().clock_type
        )
        live = 0 <= age.nanoseconds < LIVE_NS
        self._model.latency_ms = age.nanoseconds * 1e-6 if live else None
        for name in ("image", *self._names):
            if name not in matched.missing and name not in self._troubled:
                self.health[name].used(matched.offsets_s.get(name))

    def _report(self, name: str, error: InputError | str) -> None:
        self._troubled.add(name)
        if self.health[name].failed(str(error), time.monotonic()):
            self._node.get_logger().warning(f"{name}: {error}")

    def _frame_failed(self, error: str, details: str) -> None:
        if self._model.failed(error, time.monotonic()):
            self._node.get_logger().error(f"no mask for this frame: {details}")
