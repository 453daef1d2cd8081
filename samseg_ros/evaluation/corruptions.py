"""Sensor failures by name, each in five severities: what a model is scored under to see how much it loses.

One table, `CORRUPTIONS`; everything else applies it. The camera is the reference of labels and calibration, so it is
never turned or late itself: a wrong extrinsic or clock is that of the other sensor.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from samseg_ros.errors import InputError, SamsegError, nearest
from samseg_ros.evaluation import cloud_failures as cloud
from samseg_ros.evaluation import frame_failures as frames
from samseg_ros.evaluation import picture_failures as picture
from samseg_ros.evaluation.frame_failures import Apply, Earlier
from samseg_ros.types import Frame

SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True, eq=False, slots=True)
class Corruption:
    """One way in which a sensor fails."""

    about: str
    unit: str
    """Of the values."""
    values: tuple[float, float, float, float, float]
    """By severity, 1 first."""
    apply: Apply
    needs: Literal["", "cloud", "sequence"] = ""
    """cloud: points, no ready-made picture of them. sequence: frames of one recording, in order."""


def corrupt(frame: Frame, name: str, severity: int, seed: int = 0, earlier: Earlier | None = None) -> Frame:
    """Return the frame as it would be with a failing sensor; nothing of the given one is changed.

    A frame without that sensor has nothing to lose and comes back as it is; whether a dataset has it at all is what
    `require_applicable` is for.

    Args:
        name: one of `CORRUPTIONS`.
        severity: 1 (slight) to 5.
        seed: of all that is drawn; with one seed, severities differ in strength alone. Give every frame its own.
        earlier: needed for what is late.

    Raises:
        InputError: no such severity, or the failure cannot be shown on what the frame holds.
        SamsegError: no corruption of that name.
    """
    chosen = find(name)
    if severity not in SEVERITIES:
        raise InputError(
            "severity", expected=f"{SEVERITIES[0]} to {SEVERITIES[-1]}", got=str(severity), remedy="choose one of them"
        )
    if sensor_of(name) not in sensors_of(frame):
        return frame
    if problem := _unfit(name, frame.images, earlier is not None):
        raise problem
    return chosen.apply(frame, chosen.values[severity - 1], np.random.default_rng(seed), earlier or (lambda k: None))


def find(name: str) -> Corruption:
    """Return a row of the table.

    Raises:
        SamsegError: there is none of that name.
    """
    if name not in CORRUPTIONS:
        raise SamsegError(f"no corruption {name!r}; {nearest(name, CORRUPTIONS)}")
    return CORRUPTIONS[name]


def sensor_of(name: str) -> str:
    """Return the modality that a corruption harms ("rgb" for image.*)."""
    sensor = name.split(".")[0]
    return "rgb" if sensor == "image" else sensor


def sensors_of(frame: Frame) -> tuple[str, ...]:
    """Return the modalities that a frame holds, "rgb" first."""
    there = {"thermal": frame.thermal is not None, "lidar": frame.points is not None}
    return ("rgb", *dict.fromkeys([*(name for name, is_there in there.items() if is_there), *frame.images]))


def applicable(modalities: Collection[str], ready_made: Collection[str], is_sequence: bool) -> tuple[str, ...]:
    """Return the names of all corruptions that can be shown on a dataset.

    Args:
        modalities: what its frames hold (`LabelledDataset.modalities`).
        ready_made: those of them that are pictures (`Frame.images` of one of its frames).
        is_sequence: whether earlier frames can be had.
    """
    there = (name for name in CORRUPTIONS if sensor_of(name) in modalities)
    return tuple(name for name in there if _unfit(name, ready_made, is_sequence) is None)


def require_applicable(
    name: str, modalities: Collection[str], ready_made: Collection[str], is_sequence: bool
) -> Corruption:
    """Return a row of the table that can be shown on a dataset, see `applicable`.

    Raises:
        SamsegError: no corruption of that name.
        InputError: the dataset lacks what it harms, and what it has.
    """
    chosen = find(name)
    problem = _unfit(name, ready_made, is_sequence)
    if sensor_of(name) not in modalities:
        problem = _refusal(name, f"a dataset with {sensor_of(name)}", f"one of {', '.join(modalities)}")
    if problem:
        raise problem
    return chosen


def _unfit(name: str, ready_made: Collection[str], is_sequence: bool) -> InputError | None:
    needs, sensor = CORRUPTIONS[name].needs, sensor_of(name)
    if needs == "cloud" and sensor in ready_made:
        return _refusal(name, "a point cloud", f"a ready-made picture of {sensor}, in which its distances are lost")
    if needs == "sequence" and not is_sequence:
        return _refusal(name, "frames of one recording, in order", "frames that do not follow each other")
    return None


def _refusal(name: str, expected: str, got: str) -> InputError:
    return InputError(f"corruption {name}", expected=expected, got=got, remedy="leave it out for this dataset")


_BLACK = "share of the view, from below"
_PERCENT = "% of the image width"
_LATE = "frames late"
_SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)

CORRUPTIONS: Mapping[str, Corruption] = {
    "image.blackout": Corruption("black rows", _BLACK, _SHARES, frames.on_image(picture.blackout)),
    "image.overexposure": Corruption(
        "too much light", "stops", (0.7, 1.4, 2.1, 2.8, 3.5), frames.on_image(picture.exposure)
    ),
    "image.underexposure": Corruption(
        "too little light", "stops", (-1.5, -3.0, -4.5, -6.0, -7.5), frames.on_image(picture.exposure)
    ),
    "image.motion_blur": Corruption(
        "smeared", _PERCENT, (1.0, 2.0, 3.0, 4.5, 6.0), frames.on_image(picture.motion_blur)
    ),
    "image.defocus": Corruption("out of focus", _PERCENT, (0.5, 1.0, 1.5, 2.2, 3.0), frames.on_image(picture.defocus)),
    "image.fog": Corruption("fog", "visibility, m", (200.0, 100.0, 60.0, 40.0, 25.0), frames.in_fog),
    "image.noise": Corruption("noise", "levels of 255", (8.0, 16.0, 25.0, 38.0, 55.0), frames.on_image(picture.noise)),
    "thermal.blackout": Corruption("dark rows", _BLACK, _SHARES, frames.on_thermal(picture.thermal_blackout)),
    "thermal.blur": Corruption(
        "out of focus", _PERCENT, (0.2, 0.4, 0.8, 1.4, 2.2), frames.on_thermal(picture.gaussian_blur)
    ),
    "thermal.noise": Corruption(
        "noise", "share of the span", (0.03, 0.06, 0.12, 0.2, 0.3), frames.on_thermal(picture.thermal_noise)
    ),
    "thermal.rotation": Corruption(
        "wrong extrinsics", "degrees of yaw", (0.5, 1.0, 2.0, 3.5, 5.0), frames.turned_thermal
    ),
    "thermal.time": Corruption("late", _LATE, (1.0, 2.0, 3.0, 4.0, 5.0), frames.late_thermal, "sequence"),
    "lidar.blackout": Corruption("no returns", _BLACK, _SHARES, frames.on_lidar(cloud.blackout, picture.blackout)),
    "lidar.sparsity": Corruption(
        "fewer beams", "one of n is kept", (2.0, 4.0, 8.0, 16.0, 32.0), frames.on_lidar(cloud.sparsity, picture.thin)
    ),
    "lidar.range": Corruption(
        "fog: a shorter range", "m", (50.0, 35.0, 25.0, 15.0, 8.0), frames.on_lidar(cloud.shorter_range), "cloud"
    ),
    "lidar.rotation": Corruption("wrong extrinsics", "degrees of yaw", (0.5, 1.0, 2.0, 3.5, 5.0), frames.turned_lidar),
    "lidar.dropped_packets": Corruption(
        "sectors missing",
        "share of the packets",
        (0.1, 0.25, 0.5, 0.75, 0.9),
        frames.on_lidar(cloud.dropped_packets),
        "cloud",
    ),
    "lidar.time": Corruption("late", _LATE, (1.0, 2.0, 3.0, 4.0, 5.0), frames.late_lidar, "sequence"),
    "depth.blackout": Corruption("black rows", _BLACK, _SHARES, frames.on_ready_made("depth", picture.blackout)),
    "event.blackout": Corruption("black rows", _BLACK, _SHARES, frames.on_ready_made("event", picture.blackout)),
}
"""Every corruption, with its unit and its five severities."""
