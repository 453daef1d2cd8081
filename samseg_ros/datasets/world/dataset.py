"""The world as a dataset: independent scenes for training, drives of several frames for recordings."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samseg_ros.datasets.world.scene import make_scene
from samseg_ros.datasets.world.sensors import Capture, Rig, capture, make_rig
from samseg_ros.datasets.world.weather import CONDITIONS, condition, draw_light
from samseg_ros.types import Frame

PERIOD_S = 0.1
"""Seconds between the frames of a drive."""


def drive(
    split: str, condition_name: str, seed: int, frames: int, rig: Rig, start_stamp_ns: int = 0, first: int = 0
) -> Iterator[Capture]:
    """Yield consecutive frames of one drive through one scene, PERIOD_S apart.

    Args:
        start_stamp_ns: of frame 0.
        first: number of the first frame that is yielded; below 0: what went before.

    Raises:
        SamsegError: no such split or condition.
    """
    scene = make_scene(split, seed)
    condition(condition_name)
    rng = np.random.default_rng([seed, zlib.crc32(condition_name.encode()), len(split)])
    start = rng.uniform(0.0, 2.0)
    pose = scene.ego_pose(start)
    light = draw_light(condition_name, rng, float(np.arctan2(pose[1, 0], pose[0, 0])))
    for i in range(first, first + frames):
        yield capture(scene, light, rig, start + i * PERIOD_S, rng, start_stamp_ns + round(i * PERIOD_S * 1e9))


@dataclass(frozen=True)
class WorldDataset:
    """Independent scenes, one frame each, walking through the conditions in turn.

    Attributes:
        split: train, val, or test (which holds back textures, shapes and layouts).
        frames: how many. first: number of the first scene, so that disjoint ranges give disjoint scenes.
        size: camera (height, width), pixels.
    """

    split: str
    frames: int
    first: int = 0
    conditions: Sequence[str] = tuple(CONDITIONS)
    size: tuple[int, int] = (480, 640)

    def __len__(self) -> int:
        return self.frames

    def condition_of(self, i: int) -> str:
        """Name of frame i's condition."""
        return self.conditions[(self.first + i) % len(self.conditions)]

    def capture(self, i: int, earlier: int = 0) -> Capture:
        """Render frame i with everything known about it, or what the same drive saw so many periods earlier."""
        rig = make_rig(self.size, beams=(64, 32)[(self.first + i) // 6 % 4 == 3], full_turn=False)
        return next(drive(self.split, self.condition_of(i), self.first + i, 1, rig, first=-earlier))

    def __getitem__(self, i: int) -> tuple[Frame, NDArray[np.uint8]]:
        if not 0 <= i < self.frames:
            raise IndexError(i)
        shot = self.capture(i)
        return shot.frame, shot.labels
