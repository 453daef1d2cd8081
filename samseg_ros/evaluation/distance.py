"""How far away each pixel is, where anything says so: the world's own depth, else the projected LiDAR."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from samseg_ros.config import ProjectionConfig
from samseg_ros.datasets.labelled import LabelledDataset
from samseg_ros.sensing.projection import project_to_camera
from samseg_ros.types import Frame

Ranged = tuple[Frame, NDArray[np.uint8], NDArray[np.float32] | None]
"""A sensor set; its class ids (H, W); depth (H, W) in metres along the optical axis, NaN where unknown; None: nowhere
known."""


@runtime_checkable
class KnowsDepth(Protocol):
    """A dataset that knows the depth of every pixel."""

    def with_depth(self, index: int) -> tuple[Frame, NDArray[np.uint8], NDArray[np.float32]]:
        """Read one sample with its depth (H, W): metres, infinity for sky, NaN where unknown."""
        ...


def read_sample(dataset: LabelledDataset, index: int, projection: ProjectionConfig) -> Ranged:
    """Read one sample with what is known of its depth.

    A LiDAR's depth is known at the pixels that it hit and nowhere else.

    Raises:
        SamsegError: a file is missing or damaged.
    """
    if isinstance(dataset, KnowsDepth):
        return dataset.with_depth(index)
    frame, truth = dataset[index]
    image = project_to_camera(frame, projection)
    return frame, truth, None if image is None else image.depth_m
