"""From outcomes to results: which recordings are put together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samseg_ros.config import Config
from samseg_ros.datasets.labelled import Labelled, Sample
from samseg_ros.evaluation.jobs import Job, score_chunk
from samseg_ros.evaluation.measures import Prediction
from samseg_ros.evaluation.plan import Entrant, results_of
from samseg_ros.evaluation.resumable import Outcome
from samseg_ros.evaluation.sources import RECORDING, Source
from samseg_ros.types import Frame

ENTRANT = Entrant("outputs", Config(), "outputs.mcap")


@dataclass
class Drive:
    """One frame of class 0."""

    labels: str
    modalities: tuple[str, ...] = ("rgb",)
    samples: tuple[Sample, ...] = (Sample("a"),)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Labelled:
        return Frame(np.zeros((4, 6, 3), np.uint8)), np.zeros((4, 6), np.uint8)


def outcome(name: str, labels: str) -> Outcome:
    """A recording of these labels; without any: one that cannot be opened."""
    job = Job(ENTRANT.config, Source(RECORDING, name), outputs=ENTRANT.outputs)
    if not labels:
        return Outcome(job, refused="gone")
    chunk = score_chunk(job, Drive(labels), lambda frame: Prediction(np.zeros(frame.size, np.uint8)), range(1))
    return Outcome(job, Drive(labels), chunk.measures)


def test_recordings_of_other_classes_are_a_result_of_their_own() -> None:
    outcomes = [outcome("gone", ""), outcome("a", "world"), outcome("b", "camvid"), outcome("c", "world")]
    found = [
        (r.scored.labels.name, r.scored.dataset, len(r.scored.measures))
        for r in results_of([ENTRANT], outcomes)
        if r.scored
    ]
    assert found == [("world", "2 recordings", 2), ("camvid", "b", 1)]


def test_a_recording_that_cannot_be_opened_is_told_with_the_others_and_has_no_part_in_their_name() -> None:
    (result,) = results_of([ENTRANT], [outcome("gone", ""), outcome("a", "world")])
    assert result.errors == {"gone": "gone"}
    assert result.scored is not None and result.scored.dataset == "a"
