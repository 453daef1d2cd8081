"""Runs that are stopped and go on: with a crew that counts what it is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samseg_ros.config import Config
from samseg_ros.datasets.labelled import Labelled, Sample
from samseg_ros.errors import SamsegError
from samseg_ros.evaluation.crews import Datasets
from samseg_ros.evaluation.jobs import CHUNK_FRAMES, Chunk, Job, Task, score_chunk
from samseg_ros.evaluation.measures import Prediction
from samseg_ros.evaluation.resumable import Outcome, forget, open_all, run_jobs
from samseg_ros.evaluation.sources import CHUNKS, RECORDING, Source
from samseg_ros.types import Frame

FRAMES = 3 * CHUNK_FRAMES - 2
SOURCE = Source("world", "", "test", FRAMES)
JOB = Job(Config(), SOURCE)


@dataclass
class Streets:
    """Frames of class 0, the last row of which is of class 1; one may be damaged."""

    labels: str = "world"
    modalities: tuple[str, ...] = ("rgb",)
    damaged: int = -1

    @property
    def samples(self) -> tuple[Sample, ...]:
        return tuple(Sample(f"{i:03d}", ("day", "night")[i % 2]) for i in range(FRAMES))

    def __len__(self) -> int:
        return FRAMES

    def __getitem__(self, index: int) -> Labelled:
        if index == self.damaged:
            raise SamsegError("damaged")
        truth = np.zeros((4, 6), np.uint8)
        truth[3] = 1
        return Frame(np.zeros((4, 6, 3), np.uint8), stamp_ns=index), truth


@dataclass
class Crew:
    """Says that all is class 0; ends as if killed after so many chunks."""

    lives: int = 1000
    asked: list[Task] = field(default_factory=list)

    def __call__(self, jobs: Sequence[Job], datasets: Datasets, tasks: Sequence[Task]) -> Iterator[tuple[Task, Chunk]]:
        for task in reversed(tasks):  # any order will do
            if len(self.asked) == self.lives:
                raise KeyboardInterrupt
            self.asked.append(task)
            job = jobs[task.job]
            yield task, score_chunk(job, datasets[job.source], _road, range(task.start, task.stop))


def _road(frame: Frame) -> Prediction:
    return Prediction(np.zeros(frame.size, np.uint8))


def run(out: Path, crew: Crew, job: Job = JOB, dataset: Streets | None = None) -> Outcome:
    (outcome,) = run_jobs([job], {job.source: dataset or Streets()}, {}, out, crew)
    return outcome


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """The folder of a run that was stopped after two of its three chunks."""
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Crew(lives=2))
    return tmp_path


def test_a_run_that_was_stopped_scores_the_rest_and_says_the_same(stopped: Path, tmp_path: Path) -> None:
    crew = Crew()
    again = run(stopped, crew).measures
    assert [(task.start, task.stop) for task in crew.asked] == [(0, CHUNK_FRAMES)]  # the last of those in reverse order
    whole = run(tmp_path / "other", Crew()).measures
    assert again is not None and whole is not None
    assert again.names == whole.names == tuple(f"{i:03d}" for i in range(FRAMES))
    np.testing.assert_array_equal(again.bands, whole.bands)
    assert again.confusions.sum(0)[:2, 0].tolist() == [18 * FRAMES, 6 * FRAMES]


def test_chunks_are_there_until_they_are_forgotten_and_the_next_run_starts_anew(tmp_path: Path) -> None:
    run(tmp_path, Crew())
    crew = Crew()
    outcome = run(tmp_path, crew)  # as after a kill while the results were written
    assert crew.asked == []
    forget([outcome])
    assert not (tmp_path / CHUNKS).exists()
    run(tmp_path, crew)
    assert len(crew.asked) == 3


def test_what_other_runs_have_finished_there_stays_and_so_does_a_folder_called_chunks(stopped: Path) -> None:
    (stopped / "chunks").mkdir()
    (stopped / "chunks" / "mine.txt").write_text("mine")
    forget([run(stopped, Crew(), replace(JOB, sensors=("rgb",)))])
    assert len(list(stopped.glob(f"{CHUNKS}/*/*.npz"))) == 2  # of the run that was stopped
    assert (stopped / "chunks" / "mine.txt").is_file()


@pytest.mark.parametrize(
    "other",
    [
        replace(JOB, sensors=("rgb",)),
        replace(JOB, corruption="image.blur", severity=1),
        replace(JOB, temperatures=(1.0, 2.0)),
        replace(JOB, config=Config(model=JOB.config.model.model_copy(update={"threads": 2}))),
    ],
)
def test_chunks_of_other_settings_are_not_taken(stopped: Path, other: Job) -> None:
    crew = Crew()
    run(stopped, crew, other)
    assert len(crew.asked) == 3


def test_chunks_of_other_weights_are_not_taken(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samseg_ros.evaluation.resumable._sha256", lambda path, changed: "other")
    crew = Crew()
    run(stopped, crew)
    assert len(crew.asked) == 3


@pytest.mark.parametrize("where", ["remap", "labels"])
def test_chunks_of_a_table_that_was_changed_since_are_not_taken(tmp_path: Path, where: str) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("from,to\n0,1\n")
    labels = Config().labels.model_copy(update={"remap_path": str(table)})
    job = replace(JOB, remap=str(table)) if where == "remap" else replace(JOB, config=Config(labels=labels))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", Crew(lives=2), job)
    crew = Crew()
    table.write_text("from,to\n0,2\n")
    run(tmp_path / "out", crew, job)
    assert len(crew.asked) == 3


def test_outputs_of_another_recording_are_told_so(tmp_path: Path) -> None:
    class Nobody(Crew):
        def __call__(self, jobs: Any, datasets: Any, tasks: Any) -> Iterator[tuple[Task, Chunk]]:
            for task in tasks:
                job = jobs[task.job]
                yield task, score_chunk(job, datasets[job.source], lambda frame: None, range(task.start, task.stop))

    (tmp_path / "outputs.mcap").touch()
    outcome = run(tmp_path / "out", Nobody(), replace(JOB, outputs=str(tmp_path / "outputs.mcap")))
    assert f"expected masks with the stamps of world test, got none of its {FRAMES} frames" in outcome.refused


def test_masks_that_do_not_fit_are_told_so_and_not_as_outputs_of_another_recording(tmp_path: Path) -> None:
    class Small(Crew):
        def __call__(self, jobs: Any, datasets: Any, tasks: Any) -> Iterator[tuple[Task, Chunk]]:
            def first_only(frame: Frame) -> Prediction | None:
                return Prediction(np.zeros((2, 3), np.uint8)) if frame.stamp_ns == 0 else None

            for task in tasks:
                job = jobs[task.job]
                yield task, score_chunk(job, datasets[job.source], first_only, range(task.start, task.stop))

    (tmp_path / "outputs.mcap").touch()
    outcome = run(tmp_path / "out", Small(), replace(JOB, outputs=str(tmp_path / "outputs.mcap")))
    assert "every mask with a stamp of world test failed, the first: predicted mask: expected" in outcome.refused
    assert "(2, 3)" in outcome.refused and not outcome.is_stray


def test_labels_that_were_mended_in_place_are_scored_again(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "labels").mkdir(parents=True)
    (folder / "labels" / "a.png").write_bytes(b"old")
    job = replace(JOB, source=replace(SOURCE, name="mfnet", path=str(folder)))
    with pytest.raises(KeyboardInterrupt):
        run(folder / "out", Crew(lives=2), job)  # below the dataset, and yet no part of it
    same, other = Crew(), Crew()
    run(folder / "out", same, job)
    assert len(same.asked) == 1
    (folder / "labels" / "a.png").write_bytes(b"new")
    os.utime(folder / "labels" / "a.png", ns=(1, 1))
    run(folder / "out", other, job)
    assert len(other.asked) == 3


@pytest.mark.parametrize("damage", ["cut", "other", "part"])
def test_a_chunk_that_is_not_whole_is_scored_again(stopped: Path, damage: str) -> None:
    first, second = sorted(stopped.glob(f"{CHUNKS}/*/*.npz"))
    if damage == "cut":
        first.write_bytes(first.read_bytes()[:100])
    elif damage == "other":  # frames that are not those of its name
        first.write_bytes(second.read_bytes())
    else:  # killed while it was written
        first.rename(first.with_name(f"{first.name}.part"))
    crew = Crew()
    again = run(stopped, crew).measures
    assert sorted(task.start for task in crew.asked) == [0, CHUNK_FRAMES]
    assert again is not None and len(again) == FRAMES


def test_frames_that_failed_are_tried_again_by_the_next_run(tmp_path: Path) -> None:
    failed = run(tmp_path, Crew(), dataset=Streets(damaged=CHUNK_FRAMES))
    assert failed.errors == {f"{CHUNK_FRAMES:03d}": "damaged"}
    assert failed.measures is not None and failed.measures.dropped.sum() == 1
    crew = Crew()
    mended = run(tmp_path, crew)
    assert [task.start for task in crew.asked] == [CHUNK_FRAMES]
    assert mended.errors == {} and mended.measures is not None and not mended.measures.dropped.any()


def test_a_source_that_cannot_be_opened_leaves_the_others(tmp_path: Path) -> None:
    bad = Source(RECORDING, str(tmp_path / "gone.mcap"), labels="world")
    opened, failed = open_all([bad])
    assert opened == {} and "gone.mcap" in failed[bad]
    outcomes = run_jobs([replace(JOB, source=bad), JOB], {SOURCE: Streets()}, failed, tmp_path, Crew())
    assert outcomes[0].measures is None and "gone.mcap" in outcomes[0].refused
    assert outcomes[1].measures is not None and len(outcomes[1].measures) == FRAMES


def test_a_worker_that_found_other_frames_is_not_believed(tmp_path: Path) -> None:
    def crew(jobs: Sequence[Job], datasets: Datasets, tasks: Sequence[Task]) -> Iterator[tuple[Task, Chunk]]:
        for task in tasks:
            yield task, score_chunk(jobs[0], datasets[SOURCE], _road, range(1, 1 + task.stop - task.start))

    (outcome,) = run_jobs([JOB], {SOURCE: Streets()}, {}, tmp_path, crew)
    assert "other frames" in outcome.refused
