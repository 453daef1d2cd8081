"""Frames before a frame, for datasets whose samples follow each other."""

from __future__ import annotations

from samseg_ros.datasets.catalog import Spread
from samseg_ros.datasets.labelled import LabelledDataset
from samseg_ros.datasets.labelled_recording import LabelledBag
from samseg_ros.datasets.world.labelled import LabelledWorld
from samseg_ros.evaluation.frame_failures import Earlier
from samseg_ros.types import Frame


def earlier_of(dataset: LabelledDataset, index: int) -> Earlier | None:
    """Return the way to the frames before a sample, None where a dataset's samples do not follow each other.

    A world's scene is rendered as it was k periods (0.1 s) before; a recording gives its k-th labelled frame before.
    """
    if isinstance(dataset, Spread):
        return earlier_of(*dataset.behind(index))
    if isinstance(dataset, LabelledWorld):
        return lambda k: dataset.scenes.capture(index, earlier=k).frame
    if isinstance(dataset, LabelledBag):
        return lambda k: _recorded(dataset, index - k, index)
    return None


def _recorded(bag: LabelledBag, before: int, index: int) -> Frame | None:
    """Read a frame if it belongs to the recording of another."""
    is_same = before >= 0 and bag.records[before].drive is bag.records[index].drive
    return bag[before][0] if is_same else None
