"""Jobs and their chunks, on a dataset and a predictor that can be counted by hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samseg_ros.config import Config, ModelConfig
from samseg_ros.datasets.labelled import Labelled, Sample
from samseg_ros.errors import SamsegError
from samseg_ros.evaluation.jobs import CHUNK_FRAMES, Job, Worker, score_chunk, settled, tasks_of
from samseg_ros.evaluation.measures import Prediction
from samseg_ros.evaluation.sources import Source
from samseg_ros.types import Frame

JOB = Job(Config(), Source("world", "", "test", 3))


@dataclass
class Streets:
    """Frames of one class each, the number of the frame; the second cannot be read."""

    labels: str = "world"
    modalities: tuple[str, ...] = ("rgb",)
    samples: tuple[Sample, ...] = (Sample("a", "day"), Sample("b"), Sample("c", "fog", "hard"))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Labelled:
        if index == 1:
            raise SamsegError("b.png is damaged")
        return Frame(np.zeros((4, 6, 3), np.uint8), stamp_ns=index), np.full((4, 6), index, np.uint8)


def road(frame: Frame) -> Prediction:
    """Everything is class 0."""
    return Prediction(np.zeros(frame.size, np.uint8), sensors="rgb")


def test_the_chunks_of_a_job_hold_every_frame_once_in_order() -> None:
    tasks = tasks_of(3, 2 * CHUNK_FRAMES + 1)
    assert [(t.job, t.start, t.stop) for t in tasks] == [
        (3, 0, CHUNK_FRAMES),
        (3, CHUNK_FRAMES, 2 * CHUNK_FRAMES),
        (3, 2 * CHUNK_FRAMES, 2 * CHUNK_FRAMES + 1),
    ]
    assert tasks_of(0, 0) == []


def test_a_frame_that_cannot_be_read_is_noted_and_the_others_count() -> None:
    chunk = score_chunk(JOB, Streets(), road, range(3))
    assert chunk.errors == {"b": "b.png is damaged"}
    assert chunk.measures is not None
    assert chunk.measures.names == ("a", "b", "c")
    assert chunk.measures.dropped.tolist() == [False, True, False]
    total = chunk.measures.confusions.sum(0)
    assert (total[0, 0], total[2, 0], total.sum()) == (24, 24, 48)


def test_two_chunks_say_what_one_of_both_says() -> None:
    whole = score_chunk(JOB, Streets(), road, range(3)).measures
    parts = [score_chunk(JOB, Streets(), road, frames).measures for frames in (range(2), range(2, 3))]
    assert whole is not None and all(part is not None for part in parts)
    np.testing.assert_array_equal(whole.confusions, np.concatenate([p.confusions for p in parts if p is not None]))


def test_settings_are_settled_before_the_work_is_dealt_out() -> None:
    model = settled(Config(model=ModelConfig(device="cpu"))).model
    assert (model.device, model.threads) == ("cpu", 1)
    assert model.precision in ("fp32", "bf16")
    assert settled(Config(model=ModelConfig(device="cpu", threads=3, precision="bf16"))).model == ModelConfig(
        device="cpu", threads=3, precision="bf16"
    )


def test_a_worker_tells_why_nothing_of_a_job_can_be_scored() -> None:
    missing = Job(Config(model=ModelConfig(checkpoint="no/such/folder")), Source("world", "", "test", 3))
    worker = Worker([missing], {missing.source: Streets()})
    for task in tasks_of(0, 3):
        chunk = worker.score(task)
        assert chunk.measures is None
        assert "no/such/folder" in chunk.refused


def test_other_classes_than_the_models_are_refused() -> None:
    worker = Worker([JOB], {JOB.source: Streets(labels="camvid")})
    assert "expected a model of the classes of camvid" in worker.score(tasks_of(0, 3)[0]).refused
