"""Scores on a dataset, on label maps that can be counted by hand."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from samseg_ros.datasets.labelled import Labelled, Sample
from samseg_ros.errors import SamsegError
from samseg_ros.evaluation.dataset_table import only, retention, score_dataset
from samseg_ros.labels import load_labels
from samseg_ros.pipeline import Pipeline
from samseg_ros.types import Frame

LABELS = load_labels("camvid")
ROAD, SKY, CAR = (LABELS.names.index(name) for name in ("Road", "Sky", "Car"))
TRUTH = np.array([[SKY, SKY, 255, CAR], [ROAD, ROAD, ROAD, CAR]], np.uint8)


@dataclass
class Streets:
    """Two frames of one truth, by day and by night."""

    labels: str = "camvid"
    modalities: tuple[str, ...] = ("rgb", "thermal")
    samples: tuple[Sample, ...] = (Sample("0", "day"), Sample("1", "night"))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Labelled:
        image = np.full((2, 4, 3), index, np.uint8)
        return Frame(image=image, thermal=np.zeros((2, 4), np.float32)), TRUTH


def _pipeline(labels: str = "camvid") -> Pipeline:
    """Right by day; by night all that is not sky is called road."""

    def segment(frame: Frame) -> Any:
        night = np.where(TRUTH == SKY, SKY, ROAD)
        return SimpleNamespace(labels=(TRUTH, night)[frame.image[0, 0, 0]] % 255)

    segment.labels = load_labels(labels)  # type: ignore[attr-defined]
    return cast(Pipeline, segment)


def test_iou_is_summed_over_frames_and_conditions_stand_apart() -> None:
    scores = score_dataset(_pipeline(), Streets())
    # Sky 4 of 4; road 6 hits, 2 false alarms (the cars by night); cars 2 hits of 4. Unlabelled: not counted.
    sky, road, car = 1.0, 6 / 8, 2 / 4
    measured = scores.summary()
    assert measured["miou"] == pytest.approx(100 * (sky + road + car) / 3)
    assert measured["miou_absent_0"] == pytest.approx(100 * (sky + road + car) / 11)
    assert measured["accuracy"] == pytest.approx(100 * 12 / 14)
    assert measured["groups"]["condition"] == pytest.approx({"day": 100.0, "night": 100 * (1 + 3 / 5 + 0) / 3})
    assert "| Car | 50.0 |" in scores.markdown()


def test_a_model_of_other_classes_is_refused() -> None:
    with pytest.raises(SamsegError, match=r"expected a model of the classes of camvid \(11\), got one of mfnet \(9\)"):
        score_dataset(_pipeline("mfnet"), Streets())


def test_a_frame_keeps_the_sensors_that_are_named_and_the_camera() -> None:
    frame, _ = Streets()[0]
    assert only(frame, ("rgb",)).thermal is None
    assert only(frame, ("rgb", "thermal")).thermal is not None


def test_retention_is_the_ratio_to_the_first_dataset() -> None:
    assert retention([("cityscapes", 68.1), ("bdd100k", 59.5)]) == [
        "retained of cityscapes's mIoU on bdd100k: 0.87 (59.5 / 68.1)"
    ]
    assert retention([("cityscapes", 68.1)]) == []
