"""What metrics.json and the tables say, against torchmetrics, scikit-learn and counting by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from samseg_ros.datasets.labelled import Sample
from samseg_ros.evaluation.boundary import boundary_f
from samseg_ros.evaluation.calibration import expected_calibration_error
from samseg_ros.evaluation.measures import Measures, Prediction, concatenate, measure, select
from samseg_ros.evaluation.metrics import accuracy, bootstrap_miou, iou, miou
from samseg_ros.evaluation.summary import frame_rows, summarize, write_scores
from samseg_ros.labels import LabelSet

LABELS = LabelSet("four", ("road", "car", "sky", "cow"), np.zeros((4, 3), np.uint8))
PLACES = (("rain", "easy", "rgb"), ("rain", "hard", "rgb+lidar"), ("", "hard", ""), ("dry", "easy", "rgb"))


def _frame(seed: int, dropped: bool = False) -> Measures:
    rng = np.random.default_rng(seed)
    truth = rng.choice([0, 1, 2, 255], (20, 30)).astype(np.uint8)
    predicted = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, 3, truth.shape)).astype(np.uint8) % 255
    condition, difficulty, sensors = PLACES[seed % 4]
    said = Prediction(predicted, rng.integers(60, 256, truth.shape).astype(np.uint8), sensors, 10.0 * seed)
    depth_m = rng.choice([5.0, 30.0, np.nan], truth.shape).astype(np.float32)
    return measure(None if dropped else said, truth, Sample(f"{seed}", condition, difficulty), 4, depth_m)


FRAMES = [_frame(seed) for seed in range(8)]


def test_all_frames_and_each_group_are_summed_up() -> None:
    found = summarize(concatenate(FRAMES), LABELS)
    total = sum(frame.confusions[0] for frame in FRAMES)
    assert (found["frames"], found["dropped"]) == (8, 0)
    assert found["miou"] == pytest.approx(np.nanmean(iou(total)))
    assert found["miou_absent_zero"] == pytest.approx(np.nansum(iou(total)) / 4)
    assert found["accuracy"] == pytest.approx(float(accuracy(total)))
    assert list(found["iou"]) == list(LABELS.names) and found["iou"]["cow"] is None
    assert found["boundary"]["car"] == pytest.approx(float(boundary_f(sum(f.boundary[0] for f in FRAMES))[1]))
    calibration = sum(frame.calibration[0] for frame in FRAMES)
    assert found["ece"] == pytest.approx(float(expected_calibration_error(calibration)))
    assert sum(row["pixels"] for row in found["reliability"]) == calibration[:, 0].sum()
    assert found["latency_ms"]["p50"] == 35.0 and found["latency_ms"]["max"] == 70.0
    assert list(found["conditions"]) == ["rain", "dry"]  # frames 2 and 6 name none
    rain = [FRAMES[i] for i in (0, 1, 4, 5)]
    assert found["conditions"]["rain"]["frames"] == 4
    assert found["conditions"]["rain"]["miou"] == pytest.approx(float(miou(sum(f.confusions[0] for f in rain))))
    assert {name: part["frames"] for name, part in found["difficulties"].items()} == {"easy": 4, "hard": 4}
    assert {name: part["frames"] for name, part in found["sensors"].items()} == {"rgb": 4, "rgb+lidar": 2}
    assert found["bands"]["10-20 m"] == {
        "pixels": 0,
        "miou": None,
        "miou_interval": [None, None],
        "miou_absent_zero": None,
        "accuracy": None,
        "iou": dict.fromkeys(LABELS.names),
    }
    near = sum(frame.bands[0, 0] for frame in FRAMES)
    assert found["bands"]["0-10 m"]["pixels"] == near.sum()
    assert found["bands"]["0-10 m"]["iou"]["road"] == pytest.approx(float(iou(near)[0]))


def test_intervals_are_those_of_the_bootstrap_over_frames_and_hold_the_value() -> None:
    measures = concatenate(FRAMES)
    found = summarize(measures, LABELS)
    interval = bootstrap_miou(measures.confusions)
    assert found["miou_interval"] == [interval.low, interval.high]
    for name in ("miou", "miou_absent_zero", "accuracy", "boundary_f", "boundary_f_absent_zero"):
        low, high = found[f"{name}_interval"]
        assert low < found[name] < high
    # A difference of sums within bins is not an average over frames: its draws need not lie around it.
    assert 0 <= found["ece_interval"][0] <= found["ece_interval"][1] <= 1


def test_a_dropped_frame_is_counted_and_changes_no_score() -> None:
    with_it = summarize(concatenate([*FRAMES, _frame(8, dropped=True)]), LABELS)
    without = summarize(concatenate(FRAMES), LABELS)
    assert (with_it["frames"], with_it.pop("dropped"), without.pop("dropped")) == (8, 1, 0)
    for kind, group in (("conditions", "rain"), ("difficulties", "easy")):
        assert (with_it[kind][group].pop("dropped"), without[kind][group].pop("dropped")) == (1, 0)
    assert with_it == without


def test_nothing_but_dropped_frames_has_no_scores_and_fits_into_json() -> None:
    found = summarize(concatenate([_frame(seed, dropped=True) for seed in range(2)]), LABELS)
    assert (found["frames"], found["dropped"], found["miou"], found["miou_interval"]) == (0, 2, None, [None, None])
    assert found["latency_ms"] == dict.fromkeys(("p50", "p95", "p99", "mean", "max"))
    json.dumps(found, allow_nan=False)


def test_the_tables_hold_the_counts(tmp_path: Path) -> None:
    measures = concatenate([*FRAMES, _frame(8, dropped=True)])
    write_scores(tmp_path, measures, LABELS)
    total = measures.confusions.sum(0)
    confusion = list(csv.reader((tmp_path / "confusion.csv").open()))
    assert confusion[0] == ["true \\ predicted", *LABELS.names, "unlabelled"]
    assert [[int(v) for v in row[1:]] for row in confusion[1:]] == total.tolist()
    classes = list(csv.DictReader((tmp_path / "per_class.csv").open()))
    assert [row["name"] for row in classes] == list(LABELS.names)
    assert float(classes[0]["iou"]) == pytest.approx(iou(total)[0], abs=1e-6)
    assert float(classes[1]["boundary_f"]) == pytest.approx(boundary_f(measures.boundary.sum(0))[1], abs=1e-6)
    assert classes[3] == {"id": "3", "name": "cow"} | dict.fromkeys(
        ("iou", "recall", "precision", "boundary_f"), ""
    ) | {
        "true_pixels": "0",
        "predicted_pixels": "0",
    }
    rows = [json.loads(line) for line in (tmp_path / "result.jsonl").read_text().splitlines()]
    assert rows == list(frame_rows(measures))
    assert rows[8]["dropped"] and rows[8]["miou"] is None
    assert rows[1]["miou"] == pytest.approx(float(miou(FRAMES[1].confusions[0])))
    assert (rows[1]["index"], rows[1]["name"], rows[1]["condition"], rows[1]["sensors"]) == (
        1,
        "1",
        "rain",
        "rgb+lidar",
    )


def test_a_frame_keeps_its_row_when_others_are_left_out() -> None:
    measures = concatenate(FRAMES)
    rows = list(frame_rows(measures))
    part = list(frame_rows(select(measures, [6, 2])))
    assert [row | {"index": 0} for row in part] == [rows[i] | {"index": 0} for i in (6, 2)]
