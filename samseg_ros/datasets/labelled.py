"""What every labelled dataset is to training and evaluation: named samples that yield ``(Frame, labels)``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from samseg_ros.types import Frame

Labelled = tuple[Frame, NDArray[np.uint8]]
"""A sensor set, and its class ids (H, W) at camera size, 255 = ignore."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What is known of a sample without reading it."""

    name: str
    """Unique in its dataset and split."""
    condition: str = ""
    """Weather, light or sensor failure, as the dataset calls it; empty: it does not say."""
    difficulty: str = ""
    """easy | hard by the dataset's published rule or list; empty: it has none."""


class LabelledDataset(Protocol):
    """One split of a dataset."""

    @property
    def labels(self) -> str:
        """Label set: a shipped name or the path of a CSV."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """What its frames hold, "rgb" first."""

    @property
    def samples(self) -> Sequence[Sample]:
        """Every sample, in a fixed order."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Labelled:
        """Read one sample.

        Raises:
            SamsegError: a file is missing or damaged, or holds ids outside the label set (named with its path).
        """
