"""Evaluation as jobs: one model on one source of frames, under one stress. Chunks of frames are the unit of work.

Whoever scores a chunk (this process, one of many, another machine), the counts are the same: arithmetic and threads are
settled before the work is dealt out, and chunks are put together in the order of their frames.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from samseg_ros.config import Config
from samseg_ros.datasets.labelled import LabelledDataset
from samseg_ros.errors import SamsegError
from samseg_ros.evaluation.corruptions import corrupt
from samseg_ros.evaluation.distance import Ranged, read_sample
from samseg_ros.evaluation.measures import Measures, Prediction, concatenate, measure
from samseg_ros.evaluation.predictors import PipelinePredictor, Predictor, RecordedPredictor
from samseg_ros.evaluation.sequence import earlier_of
from samseg_ros.evaluation.sources import Source, open_source
from samseg_ros.labels import load_labels
from samseg_ros.models import locate, read_spec
from samseg_ros.pipeline import Pipeline
from samseg_ros.runtime import choose_device, choose_dtype
from samseg_ros.types import Frame

CHUNK_FRAMES = 8
THREADS = 1
"""Of a model on the CPU where the settings leave it open: what a sum is rounded to depends on it."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is scored, and how."""

    config: Config
    """Names the model; see `settled`."""
    source: Source
    sensors: tuple[str, ...] = ()
    """What the model is given of each frame; empty: everything."""
    corruption: str = ""
    """A row of `corruptions.CORRUPTIONS`; empty: none."""
    severity: int = 0
    """1 to 5; 0: no corruption."""
    remap: str = ""
    """Which class counts as which, see `samseg_ros.labels.load_remap`."""
    outputs: str = ""
    """A recording of a node's outputs, scored in the place of the model."""
    temperatures: tuple[float, ...] = ()
    """At which the likelihood of the labels is measured."""


@dataclass(frozen=True, slots=True)
class Task:
    """Frames ``start`` to ``stop`` (without it) of a job, which is named by its number."""

    job: int
    start: int
    stop: int


@dataclass(frozen=True, eq=False, slots=True)
class Chunk:
    """What came of a task."""

    measures: Measures | None
    """None: nothing of the job can be scored."""
    errors: Mapping[str, str] = field(default_factory=dict)
    """Frame to why it could not be scored; its measures are those of a dropped frame."""
    refused: str = ""
    """Why nothing of the job can be scored."""
    damage: str = ""
    """What could not be read of the outputs that are scored; empty: nothing, or a model is run."""


def settled(config: Config) -> Config:
    """Return settings in which nothing is left to the machine or to how many processes there are.

    Raises:
        SamsegError: the device is not there.
    """
    chosen = config.model
    changes: dict[str, object] = {"threads": chosen.threads or THREADS}
    if chosen.device == "auto":
        changes["device"] = str(choose_device("auto"))
    if chosen.precision == "auto" and not read_spec(locate(chosen)[0]).artefact:  # an export has its own
        kind = choose_dtype("auto", choose_device(chosen.device))
        changes["precision"] = "bf16" if kind == torch.bfloat16 else "fp32"
    return config.model_copy(update={"model": chosen.model_copy(update=changes)})


def tasks_of(job: int, frames: int) -> list[Task]:
    """Cut a job of so many frames into chunks."""
    return [Task(job, start, min(start + CHUNK_FRAMES, frames)) for start in range(0, frames, CHUNK_FRAMES)]


class Worker:
    """What one process keeps between chunks: the sources that are open, and the model of the last job.

    Args:
        jobs: all of them; a task names one by its number.
        datasets: sources that are open already; others are opened when they are needed.
    """

    def __init__(self, jobs: Sequence[Job], datasets: Mapping[Source, LabelledDataset]) -> None:
        self._jobs, self._datasets = jobs, dict(datasets)
        self._refused: dict[int, str] = {}
        self._pipeline: tuple[Config, Pipeline] | None = None
        self._predictor: tuple[int, Predictor] | None = None

    def score(self, task: Task) -> Chunk:
        """Score a chunk; what a user can act on is told in the result, so that it comes back from any machine."""
        if task.job not in self._refused:
            try:
                return self._scored(task)
            except (SamsegError, OSError) as error:
                self._refused[task.job] = str(error)
        return Chunk(None, refused=self._refused[task.job])

    def close(self) -> None:
        """Let go of the sources and their temporary files."""
        self._datasets.clear()

    def look(self, job: int, index: int) -> tuple[Frame, NDArray[np.uint8], Prediction | None]:
        """Return a frame as the model is given it, its labels, and what the model says.

        Raises:
            SamsegError: the frame or the model cannot be used.
        """
        dataset, predict = self._ready(job)
        frame, truth, _ = read_frame(self._jobs[job], dataset, index)
        return frame, truth, predict(frame)

    def _scored(self, task: Task) -> Chunk:
        dataset, predict = self._ready(task.job)
        chunk = score_chunk(self._jobs[task.job], dataset, predict, range(task.start, task.stop))
        return replace(chunk, damage=predict.damage)

    def _ready(self, number: int) -> tuple[LabelledDataset, Predictor]:
        job = self._jobs[number]
        if job.source not in self._datasets:
            self._datasets[job.source] = open_source(job.source)
        dataset = self._datasets[job.source]
        if self._predictor is None or self._predictor[0] != number:
            self._predictor = number, self._new_predictor(job, dataset)
        return dataset, self._predictor[1]

    def _new_predictor(self, job: Job, dataset: LabelledDataset) -> Predictor:
        labels = load_labels(dataset.labels)
        if job.outputs:
            return RecordedPredictor(Path(job.outputs), labels)
        if self._pipeline is None or self._pipeline[0] != job.config:
            self._pipeline = None  # two large models at once may not fit
            self._pipeline = job.config, Pipeline.from_config(job.config)
        return PipelinePredictor(self._pipeline[1], labels, job.sensors, job.remap)


def read_frame(job: Job, dataset: LabelledDataset, index: int) -> Ranged:
    """Read a frame as a job gives it to its model.

    Raises:
        SamsegError: a file is missing or damaged, or the corruption cannot be shown on the frame.
    """
    frame, truth, depth_m = read_sample(dataset, index, job.config.projection)
    if job.corruption:
        seed = zlib.crc32(dataset.samples[index].name.encode())  # the same in every chunk and on every machine
        frame = corrupt(frame, job.corruption, job.severity, seed, earlier_of(dataset, index))
    return frame, truth, depth_m


def score_chunk(job: Job, dataset: LabelledDataset, predict: Predictor, frames: range) -> Chunk:
    """Score some frames of a job. A frame that cannot be scored is noted, and counts as dropped."""
    classes = len(load_labels(dataset.labels))
    parts: list[Measures] = []
    errors: dict[str, str] = {}
    for index in frames:
        sample = dataset.samples[index]
        try:
            frame, truth, depth_m = read_frame(job, dataset, index)
            part = measure(predict(frame), truth, sample, classes, depth_m, job.temperatures)
        except (SamsegError, OSError) as error:
            errors[sample.name] = str(error)
            part = measure(None, np.zeros((0, 0), np.uint8), sample, classes, temperatures=job.temperatures)
        parts.append(part)
    return Chunk(concatenate(parts), errors)
