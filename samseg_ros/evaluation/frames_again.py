"""Frames as they were scored, for the pictures of a report: segmented once more, which gives the same mask."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from samseg_ros.errors import SamsegError
from samseg_ros.evaluation.evaluation_pictures import Shown
from samseg_ros.evaluation.jobs import Worker
from samseg_ros.evaluation.measures import Scored
from samseg_ros.evaluation.plan import Result

_log = logging.getLogger(__name__)


def frames_again(results: Sequence[Result]) -> Callable[[Scored, int], Shown | None]:
    """Return what shows a frame of a result, by its number there; None: it was dropped, or cannot be segmented here."""
    found = {id(result.scored): result for result in results}
    outcomes = [outcome for result in results for outcome in result.outcomes]
    opened = {outcome.job.source: outcome.dataset for outcome in outcomes if outcome.dataset is not None}
    worker = Worker([outcome.job for outcome in outcomes], opened)

    def show(scored: Scored, index: int) -> Shown | None:
        try:
            frame, truth, prediction = worker.look(*_place(outcomes, found[id(scored)], index))
        except SamsegError as error:  # a GPU that only the cluster has
            _log.warning("no picture of frame %s: %s", scored.measures.names[index], error)
            return None
        return None if prediction is None else Shown(frame.image, prediction.labels, truth)

    return show


def _place(outcomes: Sequence[object], result: Result, index: int) -> tuple[int, int]:
    """Return the number of the job that frame ``index`` of a result is of, and its number there."""
    for outcome in result.outcomes:
        frames = 0 if outcome.measures is None else len(outcome.measures)
        if index < frames:
            return next(i for i, one in enumerate(outcomes) if one is outcome), index
        index -= frames
    raise IndexError(index)
