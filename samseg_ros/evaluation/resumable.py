"""Runs of many jobs that a kill does not undo: finished chunks lie in the output folder until the whole run is done."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np

from samseg_ros import __version__
from samseg_ros.datasets.labelled import LabelledDataset
from samseg_ros.errors import SamsegError
from samseg_ros.evaluation.crews import Crew
from samseg_ros.evaluation.jobs import CHUNK_FRAMES, Chunk, Job, Task, tasks_of
from samseg_ros.evaluation.measures import Measures, concatenate, load, save
from samseg_ros.evaluation.sources import CHUNKS, Source, digest, files_of, open_source
from samseg_ros.models import locate, read_spec
from samseg_ros.models.import_weights import absolute_labels
from samseg_ros.models.weights import sha256
from samseg_ros.provenance import revision

MEASURES_VERSION = 1
"""To be raised where the same frames are counted otherwise."""

Bar = Callable[[int, int], None]
"""Takes (done, in all)."""


@dataclass(frozen=True, eq=False, slots=True)
class Outcome:
    """What came of a job."""

    job: Job
    dataset: LabelledDataset | None = None
    """None: it could not be opened."""
    measures: Measures | None = None
    """None: nothing of it could be scored."""
    errors: dict[str, str] = field(default_factory=dict)
    """Frame to why it could not be scored; it counts as dropped."""
    refused: str = ""
    """Why nothing could be scored."""
    chunks: Path | None = None
    """Folder of what is finished of it."""
    damage: str = ""
    """What could not be read of the outputs that are scored."""
    is_stray: bool = False
    """Whether it was refused since no frame has a mask: the outputs are of another recording."""


def open_all(
    sources: Sequence[Source], progress: Bar | None = None
) -> tuple[dict[Source, LabelledDataset], dict[Source, str]]:
    """Open every source once; return those that are open, and why the others are not."""
    opened: dict[Source, LabelledDataset] = {}
    failed: dict[Source, str] = {}
    unique = list(dict.fromkeys(sources))
    for done, source in enumerate(unique, start=1):
        try:
            opened[source] = open_source(source)
            if not len(opened[source]):
                raise SamsegError(f"{source.shown}: scoring needs at least one sample")
        except (SamsegError, OSError) as error:
            failed[source] = str(error)
        if progress:
            progress(done, len(unique))
    return {source: dataset for source, dataset in opened.items() if source not in failed}, failed


def run_jobs(
    jobs: Sequence[Job],
    opened: dict[Source, LabelledDataset],
    failed: dict[Source, str],
    out: Path,
    crew: Crew,
    progress: Bar | None = None,
) -> list[Outcome]:
    """Score every job, going on where a run with the same output folder was stopped.

    Args:
        jobs: with settled settings, see `samseg_ros.evaluation.jobs.settled`.
        opened: their sources, as `open_all` returns them.
        failed: those that cannot be opened, and why.
        out: held by the caller; what is finished is kept in its folder `CHUNKS`, until `forget` is told that the
            results are written.
        crew: who scores.
        progress: called with (frames done, frames in all).

    Returns:
        An outcome for each job; a failure of one does not touch the others.

    Raises:
        SamsegError: whoever scores was killed.
    """
    store = _Store(jobs, opened, out / CHUNKS)
    total = sum(len(opened[job.source]) for job in jobs if job.source in opened)
    done = total - sum(task.stop - task.start for task in store.left)
    if progress and total:
        progress(done, total)
    if store.left:
        with closing(crew(jobs, opened, store.left)) as scores:
            for task, chunk in scores:
                store.keep(task, chunk)
                done += task.stop - task.start
                if progress:
                    progress(done, total)
    outcomes = [_outcome(store, number, job, opened, failed) for number, job in enumerate(jobs)]
    return [replace(outcome, chunks=store.folders.get(number)) for number, outcome in enumerate(outcomes)]


def forget(outcomes: Sequence[Outcome]) -> None:
    """Remove what these jobs would have gone on from after a stop; what other runs keep beside it stays."""
    for folder in {outcome.chunks for outcome in outcomes if outcome.chunks is not None}:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # others are in it
            folder.parent.rmdir()


class _Store:
    """The chunks of a run, on disk and in memory."""

    def __init__(self, jobs: Sequence[Job], opened: dict[Source, LabelledDataset], folder: Path) -> None:
        self.chunks: dict[Task, Chunk] = {}
        self.left: list[Task] = []
        self._names: dict[int, tuple[str, ...]] = {}
        self.folders: dict[int, Path] = {}
        folder.mkdir(parents=True, exist_ok=True)
        contents = {source: digest(source, dataset) for source, dataset in opened.items()}
        for number, job in enumerate(jobs):
            if job.source in opened:
                self.folders[number] = folder / _key(job, opened[job.source], contents[job.source])
                self._add(number, opened[job.source])

    def _add(self, number: int, dataset: LabelledDataset) -> None:
        self._names[number] = tuple(sample.name for sample in dataset.samples)
        self.folders[number].mkdir(exist_ok=True)
        for task in tasks_of(number, len(dataset)):
            self._find(task)

    def _find(self, task: Task) -> None:
        path = self._path(task)
        try:
            measures: Measures | None = load(path) if path.is_file() else None
        except SamsegError:  # damaged: scored again
            measures = None
        if measures is None or measures.names != self._wanted(task):
            self.left.append(task)
        else:
            self.chunks[task] = Chunk(measures)

    def keep(self, task: Task, chunk: Chunk) -> None:
        """Take a chunk; one with a failure is not kept on disk, so that the next run tries it again."""
        measures = chunk.measures
        if measures is not None and measures.names != self._wanted(task):
            chunk = Chunk(None, refused="whoever scored it found other frames there; give all machines the same files")
        elif measures is not None and not chunk.errors and not chunk.damage:
            save(measures, self._path(task))
        self.chunks[task] = chunk

    def _wanted(self, task: Task) -> tuple[str, ...]:
        return self._names[task.job][task.start : task.stop]

    def _path(self, task: Task) -> Path:
        return self.folders[task.job] / f"{task.start:06d}.npz"


def _outcome(
    store: _Store, number: int, job: Job, opened: dict[Source, LabelledDataset], failed: dict[Source, str]
) -> Outcome:
    if job.source in failed:
        return Outcome(job, refused=failed[job.source])
    dataset, shown = opened[job.source], job.source.shown
    chunks = [store.chunks[task] for task in tasks_of(number, len(dataset))]
    errors = {name: text for chunk in chunks for name, text in chunk.errors.items()}
    damage = next((chunk.damage for chunk in chunks if chunk.damage), "")
    whole = Outcome(job, dataset, errors=errors, damage=damage)
    if refused := next((chunk.refused for chunk in chunks if chunk.refused), ""):
        return replace(whole, errors={}, refused=refused)
    measures = concatenate([chunk.measures for chunk in chunks if chunk.measures is not None])
    if len(errors) == len(dataset) or (errors and measures.dropped.all()):
        every = "frame" if len(errors) == len(dataset) else f"mask with a stamp of {shown}"
        return replace(whole, refused=f"every {every} failed, the first: {next(iter(errors.values()))}")
    if job.outputs and measures.dropped.all():
        told = f"expected masks with the stamps of {shown}, got none of its {len(dataset)} frames"
        text = f"{job.outputs}: {told}; name the outputs of this recording"
        return replace(whole, refused=text, is_stray=True)
    if not np.any(measures.bands):
        return replace(
            whole, refused=f"{shown}: expected some labelled pixels, got none; check the labels and the split"
        )
    return replace(whole, measures=measures)


def _key(job: Job, dataset: LabelledDataset, content: str) -> str:
    """Return a digest of all that a job's numbers depend on, as far as it can be known without reading the frames."""
    place = {"path": str(Path(job.source.path).expanduser().resolve())}
    source = asdict(job.source) | place | {"config": job.source.config.model_dump(mode="json")}
    facts = {
        "version": (MEASURES_VERSION, CHUNK_FRAMES, __version__, revision()),
        "settings": job.config.model_dump(mode="json"),
        "weights": files_of(Path(job.outputs)) if job.outputs else _model_digest(job),
        "source": (source, content),
        "given": (job.sensors, job.corruption, job.severity, job.remap, job.temperatures),
        "tables": [_text(name) for name in _tables(job, dataset)],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _tables(job: Job, dataset: LabelledDataset) -> list[str]:
    """Return what names classes and says which counts as which: shipped names, or paths of CSVs."""
    labels = job.config.labels
    found = [job.remap, dataset.labels, labels.path, labels.remap_path, labels.remap_labels]
    if not job.outputs:
        path, _ = locate(job.config.model)
        found.append(absolute_labels(read_spec(path), path).labels)
    return found


def _text(table: str) -> str:
    """Return what a table of the user's own holds; where there is no such file, whoever scores refuses it."""
    path = Path(table)
    return path.read_bytes().decode(errors="replace") if path.suffix == ".csv" and path.is_file() else table


def _model_digest(job: Job) -> tuple[str, str]:
    path, others = locate(job.config.model)
    spec = read_spec(path)
    weights = others or path.parent / spec.weights
    if not weights.is_file():
        raise SamsegError(f"{weights}: expected the weights that {path} names, got no file; fetch or train them again")
    return spec.model_dump_json(), _sha256(weights, weights.stat().st_mtime_ns)


@cache
def _sha256(path: Path, _changed_ns: int) -> str:
    return sha256(path)
