"""From what a user asks for to jobs, and from their outcomes to what was scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from samseg_ros.config import Config
from samseg_ros.datasets.labelled import LabelledDataset
from samseg_ros.errors import SamsegError, nearest
from samseg_ros.evaluation.corruptions import SEVERITIES, applicable, require_applicable, sensor_of
from samseg_ros.evaluation.jobs import Job
from samseg_ros.evaluation.measures import Scored, concatenate
from samseg_ros.evaluation.resumable import Outcome
from samseg_ros.evaluation.sequence import earlier_of
from samseg_ros.evaluation.sources import RECORDING, Source, damage_of, read_by
from samseg_ros.evaluation.world_table import sensor_sets
from samseg_ros.labels import load_labels
from samseg_ros.models import locate, read_spec
from samseg_ros.models.import_weights import absolute_labels
from samseg_ros.sensing.modalities import MODALITIES

EVERYTHING = "all"
"""In the place of names: every one that there is."""


@dataclass(frozen=True, slots=True)
class Entrant:
    """Who is scored."""

    name: str
    """What tables call it."""
    config: Config
    """Settled, see `samseg_ros.evaluation.jobs.settled`."""
    outputs: str = ""
    """A recording of a node's outputs; empty: the model itself is run."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the model can take."""
        return read_spec(locate(self.config.model)[0]).modalities

    @property
    def labels(self) -> str:
        """Label set of the model: a shipped name or the path of a CSV."""
        path, _ = locate(self.config.model)
        return self.config.labels.path or absolute_labels(read_spec(path), path).labels


@dataclass(frozen=True, slots=True)
class Stress:
    """Under what an evaluation is done."""

    sensors: Sequence[str] = ()
    """Sets as "rgb+thermal", or `EVERYTHING`; empty: one, of all that the model can take."""
    corruptions: Sequence[str] = ()
    """Names, or `EVERYTHING`; the frames as they are come first."""
    severities: Sequence[int] = SEVERITIES


@dataclass(frozen=True, eq=False, slots=True)
class Result:
    """A model on a dataset, or on all recordings together."""

    entrant: Entrant
    outcomes: tuple[Outcome, ...]
    """One a source."""
    scored: Scored | None
    """None: nothing could be scored."""

    @property
    def errors(self) -> dict[str, str]:
        """Source, or frame, to why it could not be scored."""
        found: dict[str, str] = {}
        for outcome in self.outcomes:
            source = outcome.job.source
            name = source.path or source.shown
            found |= {name: outcome.refused} if outcome.refused else outcome.errors
            if outcome.dataset is not None and (damage := damage_of(outcome.dataset)):
                found.setdefault(name, damage)
            if outcome.damage:
                found.setdefault(outcome.job.outputs, outcome.damage)
        return found


def jobs_of(
    entrants: Sequence[Entrant],
    opened: Mapping[Source, LabelledDataset],
    stress: Stress,
    sources: Sequence[Source],
    remap: str = "",
    temperatures: Sequence[float] = (),
) -> list[Job]:
    """Return a job for every entrant, source, sensor set and corruption, those of one entrant and source together.

    Raises:
        SamsegError: no such sensor, corruption or severity, or no model is given what is asked for by name, or a
            dataset cannot show it.
    """
    _require_takers(stress, entrants)
    harms = {source: _harms(stress, dataset) for source, dataset in opened.items()}
    jobs = []
    for entrant in entrants:
        for source in [read_by(source, entrant.config) for source in sources]:
            whole = Job(entrant.config, source, remap=remap, outputs=entrant.outputs, temperatures=tuple(temperatures))
            if entrant.outputs:  # what was recorded can be given nothing else
                jobs.append(whole)
                continue
            for kept in _sensor_sets(stress.sensors, entrant.modalities):
                given = replace(whole, sensors=kept)
                seen = kept or entrant.modalities
                jobs.append(given)
                # What cannot be opened is told with the frames as they are, once a set of sensors.
                shown = ((name, degree) for name, degree in harms.get(source, []) if sensor_of(name) in seen)
                jobs += [replace(given, corruption=name, severity=degree) for name, degree in shown]
    if unseen := set(stress.corruptions) - {EVERYTHING, *(job.corruption for job in jobs)} if opened else set():
        raise SamsegError(f"--corrupt {min(unseen)}: no model here is given {sensor_of(min(unseen))}; leave it out")
    return list(dict.fromkeys(jobs))  # what was asked for twice is scored once


def _require_takers(stress: Stress, entrants: Sequence[Entrant]) -> None:
    """Refuse what would change nothing: sensors that no model can take, or anything for recorded outputs alone."""
    models = [entrant for entrant in entrants if not entrant.outputs]
    if not models and (stress.sensors or stress.corruptions):
        raise SamsegError("--sensors, --corrupt: expected a model that is run, got recorded outputs; give --checkpoint")
    taken = {name for entrant in models for name in entrant.modalities}
    for name in {part.strip() for one in stress.sensors for part in one.split("+")}:
        if name in MODALITIES and name not in taken:
            raise SamsegError(f"--sensors: no model here takes {name}; expected some of {', '.join(sorted(taken))}")


def _sensor_sets(wanted: Sequence[str], modalities: Sequence[str]) -> list[tuple[str, ...]]:
    if not wanted:
        return [()]
    if EVERYTHING in wanted:
        return list(sensor_sets(modalities).values())
    sets = [tuple(filter(None, (name.strip() for name in one.split("+")))) for one in wanted]
    for kept in sets:
        for name in kept:
            if name not in MODALITIES:
                raise SamsegError(f"--sensors: no sensor {name!r}; {nearest(name, MODALITIES)}")
        if kept[:1] != ("rgb",):
            raise SamsegError(f"--sensors: expected sets that start with rgb, as rgb+thermal, got {'+'.join(kept)!r}")
    return [tuple(name for name in modalities if name in kept) for kept in sets]


def _harms(stress: Stress, dataset: LabelledDataset) -> list[tuple[str, int]]:
    """Return (corruption, severity) that a dataset can show."""
    if not stress.corruptions:
        return []
    ready_made, is_sequence = _ready_made(dataset), earlier_of(dataset, 0) is not None
    names = tuple(stress.corruptions)
    if EVERYTHING in names:
        names = applicable(dataset.modalities, ready_made, is_sequence)
    for name in names:
        require_applicable(name, dataset.modalities, ready_made, is_sequence)
    if wrong := set(stress.severities) - set(SEVERITIES):
        raise SamsegError(f"--severity: expected numbers of {SEVERITIES[0]} to {SEVERITIES[-1]}, got {min(wrong)}")
    return [(name, severity) for name in names for severity in stress.severities]


def _ready_made(dataset: LabelledDataset) -> tuple[str, ...]:
    """Return the modalities that come as pictures, by the first frame that can be read."""
    for index in range(len(dataset)):
        with suppress(SamsegError):
            return tuple(dataset[index][0].images)
    return ()


def results_of(entrants: Sequence[Entrant], outcomes: Sequence[Outcome]) -> list[Result]:
    """Put recordings of one model under one stress and of one label set together; everything else stands by itself.

    A recording and the outputs of another one make no result, where each of the two has its own.
    """
    outcomes = _paired(outcomes)
    first = next((outcome.dataset.labels for outcome in outcomes if outcome.dataset is not None), "")
    groups: dict[tuple[object, ...], list[Outcome]] = {}
    for outcome in outcomes:
        job = outcome.job
        source = RECORDING if job.source.name == RECORDING else job.source
        labels = outcome.dataset.labels if outcome.dataset is not None else first
        key = (job.config, job.outputs, source, labels, job.sensors, job.corruption, job.severity)
        groups.setdefault(key, []).append(outcome)
    of = {(entrant.config, entrant.outputs): entrant for entrant in entrants}
    places = {(outcome.job.source.shown, outcome.job.source.path) for outcome in outcomes}
    called = Counter(shown for shown, _ in places)
    return [_result(of[group[0].job.config, group[0].job.outputs], group, called) for group in groups.values()]


def _paired(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return all but pairs of a recording and outputs without a common stamp of which each has a partner."""
    pairs = {(one.job.outputs, one.job.source) for one in outcomes if one.dataset is not None and not one.is_stray}
    outputs, sources = ({pair[i] for pair in pairs if pair[0]} for i in range(2))
    return [one for one in outcomes if not (one.is_stray and one.job.outputs in outputs and one.job.source in sources)]


def _result(entrant: Entrant, outcomes: Sequence[Outcome], called: Mapping[str, int]) -> Result:
    job = outcomes[0].job
    whole = [
        (o.job.source, o.measures, o.dataset) for o in outcomes if o.measures is not None and o.dataset is not None
    ]
    if not whole:
        return Result(entrant, tuple(outcomes), None)
    first, _, dataset = whole[0]
    measures, labels = concatenate([measures for _, measures, _ in whole]), load_labels(dataset.labels)
    name = first.shown if called[first.shown] == 1 else f"{first.shown} ({first.path})"  # one dataset from two folders
    if len(whole) > 1:  # what could not be scored has no part in it
        name = f"{len(whole)} recordings"
    sensors = "+".join(job.sensors)
    scored = Scored(entrant.name, name, sensors, job.corruption, job.severity, measures, labels)
    return Result(entrant, tuple(outcomes), scored)
