"""The world as one of the labelled datasets: scenes by number, rendered when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from samseg_ros.datasets.labelled import Labelled, Sample
from samseg_ros.datasets.world.dataset import WorldDataset
from samseg_ros.types import Frame

SCENES: Mapping[str, int] = {"train": 4500, "val": 60, "test": 360}
"""Scenes of each split where nobody says how many."""


@dataclass(frozen=True)
class LabelledWorld:
    """One split: fulfils `samseg_ros.datasets.labelled.LabelledDataset`."""

    scenes: WorldDataset
    labels: str = "world"
    modalities: tuple[str, ...] = ("rgb", "thermal", "lidar")

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """Every scene by its number, with the light and weather that it is seen in."""
        scenes = self.scenes
        return tuple(Sample(f"{scenes.first + i:06d}", scenes.condition_of(i)) for i in range(len(scenes)))

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> Labelled:
        """Render one scene."""
        return self.scenes[index]

    def with_depth(self, index: int) -> tuple[Frame, NDArray[np.uint8], NDArray[np.float32]]:
        """Render one scene; beside it the depth (H, W), metres along the optical axis, infinity for sky."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        shot = self.scenes.capture(index)
        return shot.frame, shot.labels, shot.depth


def open_world(split: str, scenes: int | None = None) -> LabelledWorld:
    """Open a split of ``scenes`` scenes, by default as many as `SCENES` says."""
    return LabelledWorld(WorldDataset(split, SCENES[split] if scenes is None else scenes))
