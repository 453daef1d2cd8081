"""Scores small enough to be summed by hand: 4 frames of 24 x 32 pixels, the left half road, the right half car."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samseg_ros.datasets.labelled import Sample
from samseg_ros.evaluation.evaluation_pictures import Shown
from samseg_ros.evaluation.measures import Prediction, Scored, concatenate, measure
from samseg_ros.labels import LabelSet

LABELS = LabelSet("toy", ("road", "<b>car</b>", "ghost"), np.array([[128, 64, 128], [0, 0, 142], [9, 9, 9]], np.uint8))
ROWS, COLUMNS, FRAMES = 24, 32, 4
HALF = ROWS * COLUMNS // 2
TRUTH = np.repeat(np.arange(COLUMNS)[None] >= COLUMNS // 2, ROWS, axis=0).astype(np.uint8)


def eaten(columns: int) -> NDArray[np.uint8]:
    """Return a mask in which the car reaches so many columns into the road: as many times 24 pixels are wrong."""
    mask = TRUTH.copy()
    mask[:, COLUMNS // 2 - columns : COLUMNS // 2] = 1
    return mask


MASKS = [eaten(i) for i in range(FRAMES)]
"""Of the first model: 0, 24, 48, 72 pixels of road taken for car."""


def scored(model: str, masks: Sequence[NDArray[np.uint8] | None] = MASKS, **more: Any) -> Scored:
    """Return what a model scored: 255 confident, 10 ms a frame, day and night in turns."""
    names = more.pop("names", [f"frame {i}" for i in range(len(masks))])
    parts = []
    for i, mask in enumerate(masks):
        said = None if mask is None else Prediction(mask, np.full(TRUTH.shape, 255, np.uint8), "rgb", 10.0 * (i + 1))
        parts.append(measure(said, TRUTH, Sample(names[i], ("day", "night")[i % 2]), 3, more.get("depth")))
    said = {"dataset": "toys", "sensors": "", "corruption": "", "severity": 0, "labels": LABELS} | more
    said.pop("depth", None)
    return Scored(model=model, measures=concatenate(parts), **said)


def picture_of(masks: dict[str, Sequence[NDArray[np.uint8]]]) -> Any:
    """Return a callback that gives the masks of each model over a grey image."""

    def picture(run: Scored, index: int) -> Shown:
        return Shown(np.full((*TRUTH.shape, 3), 90, np.uint8), masks[run.model][index], TRUTH)

    return picture
