"""Scores on a dataset, on label maps that can be counted by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from samseg_ros.datasets.labelled import Labelled, Sample
from samseg_ros.errors import SamsegError
from samseg_ros.evaluation.dataset_table import ALL, class_table, only, retention, score_dataset
from samseg_ros.evaluation.metrics import accuracy, iou, miou
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
    total = scores.confusions.sum(0)
    assert miou(total) == pytest.approx((sky + road + car) / 3)
    assert miou(total, absent="zero") == pytest.approx((sky + road + car) / 11)
    assert accuracy(total) == pytest.approx(12 / 14)
    assert iou(total)[CAR] == pytest.approx(car)
    assert scores.groups("condition") == ["day", "night", ALL]
    by = {group: float(miou(scores.part("condition", group).sum(0))) for group in ("day", "night")}
    assert by == pytest.approx({"day": 1.0, "night": (1 + 3 / 5 + 0) / 3})


def test_a_model_of_other_classes_is_refused() -> None:
    with pytest.raises(SamsegError, match=r"expected a model of the classes of camvid \(11\), got one of mfnet \(9\)"):
        score_dataset(_pipeline("mfnet"), Streets())


def test_classes_of_another_set_count_as_the_table_says(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    meant = {SKY: SKY, ROAD: ROAD, CAR: ROAD}
    table.write_text("from,to\n" + "".join(f"{i},{meant.get(i, 255)}\n" for i in range(9)))
    counts_as = class_table(load_labels("mfnet"), load_labels("camvid"), str(table))
    assert counts_as[:9].tolist() == [meant.get(i, 255) for i in range(9)]
    assert counts_as[255] == 255


def test_a_frame_keeps_the_sensors_that_are_named_and_the_camera() -> None:
    frame, _ = Streets()[0]
    assert only(frame, ("rgb",)).thermal is None
    assert only(frame, ("rgb", "thermal")).thermal is not None


def test_retention_is_the_ratio_to_the_first_dataset() -> None:
    assert retention([("cityscapes", 68.1), ("bdd100k", 59.5)]) == [
        "retained of cityscapes's mIoU on bdd100k: 0.87 (59.5 / 68.1)"
    ]
    assert retention([("cityscapes", 68.1)]) == []
