"""A dataset seen through its thermal camera alone, as the baseline of what the thermal image is worth by itself."""

from __future__ import annotations

from dataclasses import replace

from samseg_ros.config import Config, ThermalConfig
from samseg_ros.datasets.labelled import Labelled, LabelledDataset
from samseg_ros.drawing import gray
from samseg_ros.errors import SamsegError
from samseg_ros.sensing.modalities import thermal


class ThermalView:
    """The thermal image in the camera's place, grey, and nothing else: fulfils `LabelledDataset`.

    Counts become 0..255 as a network's thermal input becomes 0..1.

    Args:
        whole: the dataset.
        scaling: of the counts; None: the default.

    Raises:
        SamsegError: the dataset has no thermal images.
    """

    def __init__(self, whole: LabelledDataset, scaling: ThermalConfig | None = None) -> None:
        if "thermal" not in whole.modalities:
            raise SamsegError(
                f"view thermal: expected a dataset with thermal images, got {', '.join(whole.modalities)}"
            )
        self.whole = whole
        self._config = Config(thermal=scaling or ThermalConfig())
        self.labels, self.modalities, self.samples = whole.labels, ("rgb",), whole.samples

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, index: int) -> Labelled:
        """Read one sample.

        Raises:
            SamsegError: this sample has no thermal image.
        """
        frame, labels = self.whole[index]
        levels = thermal(frame, frame.size, self._config)
        if levels is None:
            raise SamsegError(f"view thermal: sample {self.samples[index].name} has no thermal image")
        return replace(frame, image=gray(levels[0]), thermal=None, points=None, images={}), labels
