"""The learning rate of a step."""

from __future__ import annotations

import math

from samseg_ros.training.recipe import ScheduleSettings


def learning_rate(peak: float, schedule: ScheduleSettings, step: int, steps: int, steps_per_epoch: float) -> float:
    """Return decay(step) x warm-up(step).

    The decay runs from ``peak`` at step 0 to ``final_rate`` at the last one: (1 - progress) ** power, half a cosine, or
    not at all. With ``per: epoch`` it moves once an epoch, as published (MM SAM-adapter: poly 0.9 per epoch). The
    warm-up multiplies that: linear in the step, or exponential, warmup_from ** (1 - step / warm-up steps).

    Args:
        peak: highest rate.
        step: 0, 1, ...
        steps: of the whole run.
        steps_per_epoch: may be fractional.
    """
    return _decayed(peak, schedule, step, steps, steps_per_epoch) * _warmed(schedule, step, steps_per_epoch)


def _decayed(peak: float, schedule: ScheduleSettings, step: int, steps: int, steps_per_epoch: float) -> float:
    if schedule.decay == "constant":
        return peak
    progress = step / steps
    if schedule.per == "epoch":
        epochs = max(1.0, steps / steps_per_epoch)
        progress = min(1.0, int(step / steps_per_epoch + 1e-9) / epochs)
    share = (1 - progress) ** schedule.power if schedule.decay == "poly" else 0.5 * (1 + math.cos(math.pi * progress))
    return schedule.final_rate + (peak - schedule.final_rate) * share


def _warmed(schedule: ScheduleSettings, step: int, steps_per_epoch: float) -> float:
    length = schedule.warmup_steps + schedule.warmup_epochs * steps_per_epoch
    if step >= length:
        return 1.0
    start, share = schedule.warmup_from, step / length
    if schedule.warmup == "exponential":
        return float(start ** (1 - share))
    return start + (1 - start) * (step + 1) / math.ceil(length)
