"""The learning rate of a step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from samseg_ros.training.recipe import ScheduleSettings


@dataclass(frozen=True, slots=True)
class Course:
    """How many samples each step of a run takes."""

    lengths: tuple[int, ...]
    """Steps of each phase."""
    batches: tuple[int, ...]
    """Samples of a step in each phase."""
    samples: int
    """Samples of an epoch."""

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return sum(self.lengths)

    def seen(self, step: int) -> int:
        """Return the samples that the steps before ``step`` take."""
        taken = 0
        for length, batch in zip(self.lengths, self.batches, strict=True):
            taken += min(step, length) * batch
            step -= min(step, length)
        return taken

    def epoch(self, step: int) -> float:
        """Return the epochs done before ``step``: samples seen / samples."""
        return self.seen(step) / self.samples

    def steps_of(self, epochs: float) -> float:
        """Return the steps in which so many epochs are seen; beyond the last phase as in the last phase."""
        wanted, steps = epochs * self.samples, 0.0
        for length, batch in zip(self.lengths[:-1], self.batches[:-1], strict=True):
            taken = min(wanted / batch, length)
            steps, wanted = steps + taken, wanted - taken * batch
        return steps + wanted / self.batches[-1]


def learning_rate(peak: float, schedule: ScheduleSettings, step: int, course: Course) -> float:
    """Return decay(step) x warm-up(step).

    The decay runs from ``peak`` at step 0 to ``final_rate`` at the last one: (1 - progress) ** power, half a cosine, or
    not at all. With ``per: epoch`` it moves once an epoch, as published (MM SAM-adapter: poly 0.9 per epoch). The
    warm-up multiplies that: linear in the step, or exponential, warmup_from ** (1 - step / warm-up steps).

    Args:
        peak: highest rate.
        schedule: the settings.
        step: 0, 1, ...
        course: of the run; epochs are counted by the samples seen, as phases may have unlike batches.
    """
    return _decayed(peak, schedule, step, course) * _warmed(schedule, step, course)


def _decayed(peak: float, schedule: ScheduleSettings, step: int, course: Course) -> float:
    if schedule.decay == "constant":
        return peak
    progress = step / course.steps
    if schedule.per == "epoch":
        done = course.seen(step) // course.samples
        progress = min(1.0, done / max(1.0, course.epoch(course.steps)))
    share = (1 - progress) ** schedule.power if schedule.decay == "poly" else 0.5 * (1 + math.cos(math.pi * progress))
    return schedule.final_rate + (peak - schedule.final_rate) * share


def _warmed(schedule: ScheduleSettings, step: int, course: Course) -> float:
    length = schedule.warmup_steps + course.steps_of(schedule.warmup_epochs)
    if step >= length:
        return 1.0
    start, share = schedule.warmup_from, step / length
    if schedule.warmup == "exponential":
        return float(start ** (1 - share))
    return start + (1 - start) * (step + 1) / math.ceil(length)
