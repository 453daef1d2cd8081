"""Takes what goes into and comes out of a replay, live or direct, and writes everything under the output folder."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from samseg_ros.config import Config, as_trained
from samseg_ros.datasets.bag import Message
from samseg_ros.datasets.bag_frames import Step, build_frame
from samseg_ros.datasets.bag_topics import recorded_labels
from samseg_ros.errors import InputError, SamsegError
from samseg_ros.evaluation import recording
from samseg_ros.evaluation.fusion_metrics import fusion_metrics, mean_metrics
from samseg_ros.evaluation.pictures import Panels, thermal_seen, tile
from samseg_ros.evaluation.recording import CLOUD_OUT, FUSED, LIDAR_DEPTH, MASK, OUTPUTS, OutputBag
from samseg_ros.evaluation.replay import Replay
from samseg_ros.evaluation.report import write_report
from samseg_ros.evaluation.results import FrameRow, metrics, write_results
from samseg_ros.evaluation.scoring import Scorer
from samseg_ros.labels import LabelSet
from samseg_ros.sensing import convert

MAX_JOBS = 16
"""Pictures that wait to be written at most."""
FAST_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1]


@dataclass(slots=True)
class _Picture:
    """What a picture of one frame will be made of."""

    step: Step
    outputs: dict[str, bytes] = field(default_factory=dict)
    truth: NDArray[np.uint8] | None = None


class ReplayOutput:
    """Use it as a context manager; `finish` at the end of the run.

    Args:
        replay: the recording and the options.
        mode: what the results call it.
        labels: of the masks.
    """

    def __init__(self, replay: Replay, mode: str, labels: LabelSet) -> None:
        self.rows: list[FrameRow] = []
        """One a camera image, in camera order."""
        self.labels = labels
        self.extra: dict[str, Any] = {}
        """More for metrics.json."""
        self._of_stamp: dict[int, FrameRow] = {}
        self._recorded_ns: dict[int, int] = {}
        """When the image of a stamp was recorded: another clock than the stamps', where those are simulated time."""
        self._replay, self._mode = replay, mode
        self._out = replay.options.out
        self._bag = OutputBag(self._out / "outputs.mcap")
        self._scorer = Scorer(labels)
        self._unscored = _unlike(replay, labels)
        """Why there are no scores, although there are labels."""
        self._waiting: dict[int, _Picture] = {}
        self._drawn: list[tuple[int, Path]] = []
        self._fusion: list[dict[str, float]] = []
        """Metrics of the fused pictures, one a frame that was drawn."""
        self._pool = ThreadPoolExecutor(1, "pictures")
        self._jobs: deque[Future[Any]] = deque()
        self._started_s = time.monotonic()

    def __enter__(self) -> ReplayOutput:
        """Open the recording of the outputs; the recording's own /tf_static goes into it."""
        self._bag.__enter__()
        if self._replay.topics.tf_static:
            for message in self._replay.bag.messages([self._replay.topics.tf_static]):
                self._bag.write(message.topic, message.type, message.log_ns, message.raw)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the recording of the outputs."""
        self._pool.shutdown()
        self._bag.__exit__(kind, error, trace)

    def start_clock(self) -> None:
        """Say that frames start now: what came before (loading a model) is not part of the measured time."""
        self._started_s = time.monotonic()

    def went_in(self, step: Step, error: str = "") -> FrameRow:
        """Note a camera image of the recording; ``error`` says why no mask will come."""
        stamp_ns, index = step.image.stamp_ns, len(self.rows)
        row = FrameRow(index, stamp_ns, error=error)
        if step.matched is not None:
            row.offsets_s = {name: round(offset, 9) for name, offset in step.matched.offsets_s.items()}
            row.sensors = ("rgb", *(name for name in ("thermal",) if name in step.matched.others))
        self.rows.append(row)
        self._recorded_ns[stamp_ns] = step.image.log_ns
        if not error:
            self._of_stamp[stamp_ns] = row
        if self._is_pictured(index) and not error:
            self._waiting[stamp_ns] = _Picture(step)
        return row

    def aside(self, message: Message) -> None:
        """Take a message of the labels or the condition topic; labels that cannot be used end the scoring only."""
        if message.topic == self._replay.topics.condition:
            self._scorer.add_condition(message.log_ns, str(self._replay.bag.decode(message).data).strip())
        elif not self._unscored:
            self._score(lambda: self._take_truth(message))

    def _take_truth(self, message: Message) -> None:
        content = self._replay.bag.decode(message)
        ids = convert.thermal_image(content)  # any image of one channel
        if ids.dtype != np.uint8:
            raise InputError(
                f"{message.topic} encoding",
                expected="class ids as mono8 or 8UC1",
                got=content.encoding,
                remedy="record them so, or switch scoring off with --labels-topic ''",
            )
        truth = np.asarray(ids, np.uint8)
        if message.stamp_ns in self._waiting:
            self._waiting[message.stamp_ns].truth = truth
        self._scorer.add_truth(message.stamp_ns, truth)

    def _score(self, work: Callable[[], None]) -> None:
        try:
            work()
        except SamsegError as error:
            self._unscored = f"not scored: {error}"
            self._scorer = Scorer(self.labels)

    def came_out(self, topic: str, raw: bytes, stamp_ns: int) -> None:
        """Take a serialised output (`recording.OUTPUTS`), whose header holds the image's stamp ``stamp_ns``."""
        self._bag.write(topic, OUTPUTS[topic], stamp_ns, raw)
        row = self._of_stamp.get(stamp_ns)
        if row is None:
            return
        if topic == MASK:
            self._take_mask(row, decoded(topic, raw))
        elif topic == FUSED:
            row.fused = f"fused/{row.index:06d}.png"
            self._later(_write_picture, self._out / row.fused, decoded(topic, raw))
        elif topic == CLOUD_OUT and "lidar" not in row.sensors:
            row.sensors = (*row.sensors, "lidar")
        if stamp_ns in self._waiting:
            self._waiting[stamp_ns].outputs[topic] = raw

    def write_label_info(self, raw: bytes) -> None:
        """Store the label set in front of the other outputs."""
        bag, topic = self._replay.bag, self._replay.topics.image
        first = next(bag.messages([topic]), None)
        if first is None:
            raise SamsegError(f"no image on {topic} can be read: {bag.damage or f'{bag.path} holds none'}")
        self._bag.write(recording.LABEL_INFO, recording.STRING, first.log_ns, raw)

    def _take_mask(self, row: FrameRow, mask: NDArray[np.uint8]) -> None:
        row.published, row.error = True, ""
        row.mask = f"masks/{row.index:06d}.png"
        self._later(cv2.imwrite, str(self._out / row.mask), mask, FAST_PNG)
        if self._replay.topics.labels and not self._unscored:
            self._score(lambda: self._scorer.add_mask(row.stamp_ns, mask))

    def draw(self, but_newest: int = 0) -> None:
        """Draw the frames that have their mask, all but the newest few: the rest of their outputs may be on its way."""
        ready = [stamp_ns for stamp_ns, picture in self._waiting.items() if MASK in picture.outputs]
        for stamp_ns in ready[: len(ready) - but_newest]:
            self._draw(stamp_ns, self._waiting.pop(stamp_ns))

    def _draw(self, stamp_ns: int, picture: _Picture) -> None:
        replay, row = self._replay, self._of_stamp[stamp_ns]
        depth, fused = picture.outputs.get(LIDAR_DEPTH), picture.outputs.get(FUSED)
        try:
            panels = Panels(
                frame=build_frame(replay.bag, picture.step, replay.calibration, replay.config, lambda *_: None),
                mask=decoded(MASK, picture.outputs[MASK]),
                depth_m=None if depth is None else decoded(LIDAR_DEPTH, depth),
                truth=picture.truth,
                fused=None if fused is None else decoded(FUSED, fused),
            )
        except SamsegError:
            return  # the row says what was wrong with the frame
        path = self._out / "overlays" / f"{row.index:06d}.png"
        self._drawn.append((row.index, path))
        self._later(_write_tile, path, panels, self.labels, replay.config)
        if panels.fused is not None:  # here, between two frames, and not beside one whose time is taken
            thermal_as_seen = thermal_seen(panels.frame, panels.frame.size, _scaled_by_weights(replay.config))
            self._fusion.append(fusion_metrics(panels.fused, panels.frame.image, thermal_as_seen))

    def _later(self, work: Callable[..., Any], *arguments: Any) -> None:
        """Do it beside the frames; when too much has piled up, wait."""
        self._jobs.append(self._pool.submit(work, *arguments))
        while len(self._jobs) > MAX_JOBS:
            self._jobs.popleft().result()

    def _is_pictured(self, index: int) -> bool:
        most, frames = self._replay.options.pictures, max(self._replay.frames, 1)
        return (index == 0 and most > 0) or index * most // frames != (index - 1) * most // frames

    def finish(self) -> dict[str, Any]:
        """Draw what is left, write all results and the report; return what metrics.json holds."""
        wall_s = time.monotonic() - self._started_s
        self.draw()
        while self._jobs:
            self._jobs.popleft().result()
        rows, scores = self.rows, self._scorer.frames(self._recorded_ns)
        self._drawn.sort()
        if self._scorer.truths and not scores:
            self._unscored = f"not scored: {self._scorer.truths} labels, 0 matched a mask of equal stamp"
        run = self._replay.run(self._mode, self._unscored)
        measured = metrics(run, rows, scores, self.labels, wall_s) | self.extra
        if self._fusion:
            measured["fusion"] = mean_metrics(self._fusion)
        write_results(self._out, run, measured, rows, scores, self.labels)
        conditions = {score.stamp_ns: score.condition for score in scores}
        captions = [
            " · ".join(filter(None, (f"frame {i}", conditions.get(rows[i].stamp_ns, ""), " + ".join(rows[i].sensors))))
            for i, _ in self._drawn
        ]
        write_report(
            self._out / "report.html",
            self._replay.options.title or f"Replay of {self._replay.bag.path.name}",
            measured,
            rows,
            self.labels,
            [(caption, path) for caption, (_, path) in zip(captions, self._drawn, strict=True)],
            np.sum([score.confusion for score in scores], axis=0) if scores else None,
            (self._out / "config.yaml").read_text(),
        )
        return measured


def _unlike(replay: Replay, labels: LabelSet) -> str:
    """Say why the recording's labels cannot be held against the masks; empty where nothing speaks against it."""
    try:
        recorded = recorded_labels(replay.bag, replay.topics)
    except SamsegError as error:
        return f"not scored: {error}"
    if recorded is None or recorded.names == labels.names:
        return ""
    return (
        f"not scored: the recording's labels are of {recorded.name} ({len(recorded)} classes), the masks of "
        f"{labels.name} ({len(labels)})"
    )


def _scaled_by_weights(config: Config) -> Config:
    """Return the settings by which the network saw the thermal image."""
    from samseg_ros.models import locate, read_spec  # imports torch, as the measures of a fused picture do

    return as_trained(config, read_spec(locate(config.model)[0]).thermal)


def _write_tile(path: Path, panels: Panels, labels: LabelSet, config: Config) -> None:
    _write_picture(path, tile(panels, labels, config))


def _write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write (H, W, 3) RGB."""
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), FAST_PNG)


def decoded(topic: str, raw: bytes) -> NDArray[Any]:
    """Return the array of a recorded mask, confidence, depth or fused image."""
    message: Any = recording.STORE.deserialize_cdr(raw, OUTPUTS[topic])
    return np.asarray(convert.color_image(message) if topic == FUSED else convert.thermal_image(message))
