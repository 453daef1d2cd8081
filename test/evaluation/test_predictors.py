"""A model and the recording of its outputs say the same, and the numbers are those of other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samseg_ros.config import Config, from_flat
from samseg_ros.datasets.camvid import open_camvid
from samseg_ros.datasets.labelled import LabelledDataset, Sample
from samseg_ros.datasets.labelled_bag import open_labelled_bag
from samseg_ros.datasets.world import write_recording
from samseg_ros.datasets.world.dataset import WorldDataset
from samseg_ros.datasets.world.labelled import LabelledWorld
from samseg_ros.errors import InputError, SamsegError
from samseg_ros.evaluation.distance import read_sample
from samseg_ros.evaluation.measures import Measures, concatenate, measure
from samseg_ros.evaluation.metrics import accuracy, iou, miou
from samseg_ros.evaluation.predictors import PipelinePredictor, Predictor, RecordedPredictor
from samseg_ros.evaluation.recording import (
    CONFIDENCE,
    IMAGE,
    LABEL_INFO,
    MASK,
    STRING,
    OutputBag,
    image,
    label_info,
    serialize,
)
from samseg_ros.evaluation.replay import ReplayOptions
from samseg_ros.evaluation.replay_direct import replay_direct
from samseg_ros.labels import LabelSet, load_labels
from samseg_ros.models.random_weights import random_weights
from samseg_ros.pipeline import Pipeline
from samseg_ros.sensing.projection import project_to_camera
from samseg_ros.types import Frame

ABC = LabelSet("abc", ("a", "b", "c"), np.zeros((3, 3), np.uint8))
STAMP = 1_700_000_000 * 10**9


def _random_pipeline(folder: Path, labels: str, modalities: tuple[str, ...]) -> Pipeline:
    name = "mm_sam_adapter" if len(modalities) > 1 else "ad_sam"
    given = {"name": name, "preset": "compact", "labels": labels, "modalities": modalities, "input_pixels": 64 * 96}
    random_weights(given, folder)
    return Pipeline.from_config(from_flat({"model.name": name, "model.checkpoint": str(folder), "model.threads": 1}))


def _measured(predict: Predictor, dataset: LabelledDataset, frames: int) -> tuple[Measures, list[Any], list[Any]]:
    """Measure some frames; return the masks and truths beside."""
    parts, masks, truths = [], [], []
    for i in range(frames):
        frame, truth, depth_m = read_sample(dataset, i, Config().projection)
        said = predict(frame)
        parts.append(measure(said, truth, dataset.samples[i], len(load_labels(dataset.labels)), depth_m))
        masks.append(None if said is None else said.labels)
        truths.append(truth)
    return concatenate(parts), masks, truths


def _equals_other_libraries(measures: Measures, masks: list[Any], truths: list[Any], classes: int) -> None:
    torch = pytest.importorskip("torch")
    classification = pytest.importorskip("torchmetrics.classification")
    metrics = pytest.importorskip("sklearn.metrics")
    total = measures.confusions.sum(0)
    truth, mask = (np.concatenate([image.ravel() for image in images]).astype(np.int64) for images in (truths, masks))
    kept = truth != 255
    expected = metrics.confusion_matrix(truth[kept], mask[kept], labels=list(range(classes)))
    np.testing.assert_array_equal(total[:, :classes], expected)
    assert float(accuracy(total)) == metrics.accuracy_score(truth[kept], mask[kept])
    jaccard = classification.MulticlassJaccardIndex(num_classes=classes, average="none", ignore_index=255)
    for one, other in zip(masks, truths, strict=True):
        jaccard.update(torch.from_numpy(one.astype(np.int64)), torch.from_numpy(other.astype(np.int64)))
    np.testing.assert_array_equal(jaccard.confmat.numpy(), expected)
    # torchmetrics divides in float32: one unit in the last place
    np.testing.assert_allclose(jaccard.compute().numpy(), np.nan_to_num(iou(total)), rtol=0, atol=1.2e-7)
    assert np.nanmean(iou(total)) == pytest.approx(float(miou(total)), abs=1e-12)


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labelled recording of the world in a split of its own: three frames."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "dataset.yaml").write_text("labels: world\n")
    write_recording(folder / "test" / "drive", "test", ("night",), 3, size=(96, 128))
    return folder


def test_on_a_recording_of_the_world_a_model_and_its_recorded_outputs_score_alike(drive: Path, tmp_path: Path) -> None:
    pipeline = _random_pipeline(tmp_path / "weights", "world", ("rgb", "thermal", "lidar"))
    dataset, labels = open_labelled_bag(drive, "test"), load_labels("world")
    run, masks, truths = _measured(PipelinePredictor(pipeline, labels), dataset, 3)
    _equals_other_libraries(run, masks, truths, len(labels))
    assert set(run.sensors) == {"rgb+thermal+lidar"} and set(run.conditions) == {"night"}
    assert (run.latency_ms > 0).all()
    assert 0 < run.bands[:, :-1].sum() < run.bands.sum()  # the LiDAR knows some pixels
    replay_direct(ReplayOptions(drive / "test" / "drive", tmp_path / "out", pipeline.config), segmenter=pipeline)
    recorded, _, _ = _measured(RecordedPredictor(tmp_path / "out" / "outputs.mcap", labels), dataset, 3)
    for name in ("bands", "boundary", "calibration"):
        np.testing.assert_array_equal(getattr(recorded, name), getattr(run, name))
    assert recorded.sensors == run.sensors and (recorded.latency_ms > 0).all()  # from result.jsonl beside it


def test_on_camvid_the_numbers_equal_other_libraries(shared_data: Path, tmp_path: Path) -> None:
    pipeline = _random_pipeline(tmp_path / "weights", "camvid", ("rgb",))
    dataset, labels = open_camvid(shared_data / "camvid", "val"), load_labels("camvid")
    measures, masks, truths = _measured(PipelinePredictor(pipeline, labels), dataset, 3)
    assert any((truth == 255).any() for truth in truths)
    _equals_other_libraries(measures, masks, truths, len(labels))


def test_the_world_knows_the_depth_of_every_pixel_and_other_datasets_that_of_the_lidar(drive: Path) -> None:
    world = LabelledWorld(WorldDataset("test", 1, size=(96, 128)))
    frame, truth, depth_m = read_sample(world, 0, Config().projection)
    assert depth_m is not None and not np.isnan(depth_m).any() and np.isinf(depth_m).any()
    np.testing.assert_array_equal(truth, world[0][1])
    lidar = project_to_camera(frame, Config().projection)
    assert lidar is not None
    hit = np.isfinite(lidar.depth_m) & np.isfinite(depth_m)
    assert np.median(np.abs(lidar.depth_m - depth_m)[hit] / depth_m[hit]) < 0.05  # both are along the optical axis
    bag = open_labelled_bag(drive, "test")
    known = read_sample(bag, 0, Config().projection)[2]
    assert known is not None and np.isnan(known).any() and np.isfinite(known).any()
    with pytest.raises(IndexError):
        world.with_depth(1)


def test_sensors_that_are_left_out_and_classes_that_count_as_others(tmp_path: Path) -> None:
    pipeline = _random_pipeline(tmp_path / "weights", "world", ("rgb", "thermal", "lidar"))
    frame = WorldDataset("test", 1, size=(96, 128))[0][0]
    world, camvid = load_labels("world"), load_labels("camvid")
    said = PipelinePredictor(pipeline, world, sensors=("rgb", "lidar"))(frame)
    assert said.sensors == "rgb+lidar" and said.logits is not None
    with pytest.raises(SamsegError, match="expected a model of the classes of camvid"):
        PipelinePredictor(pipeline, camvid)
    table = tmp_path / "table.csv"
    table.write_text("from,to\n" + "".join(f"{i},{255 if i == 0 else i % 3}\n" for i in range(len(world))))
    other = PipelinePredictor(pipeline, camvid, ("rgb", "lidar"), str(table))(frame)
    np.testing.assert_array_equal(other.labels, np.where(said.labels == 0, 255, said.labels % 3))
    assert other.logits is None  # of the world's classes


def _bag(path: Path, *messages: tuple[str, int, np.ndarray, str], delay_ns: int = 0, labels: LabelSet = ABC) -> Path:
    with OutputBag(path) as bag:
        bag.write(LABEL_INFO, STRING, STAMP, serialize(STRING, label_info(labels)))
        for topic, stamp_ns, array, encoding in messages:
            bag.write(topic, IMAGE, stamp_ns + delay_ns, serialize(IMAGE, image(stamp_ns, "camera", array, encoding)))
    return path


def _frame(stamp_ns: int) -> Frame:
    return Frame(np.zeros((2, 3, 3), np.uint8), stamp_ns)


MASKS = np.array([[[0, 1, 2], [0, 255, 2]], [[2, 2, 2], [1, 1, 1]]], np.uint8)


def test_masks_are_found_by_stamp_and_a_frame_without_one_was_dropped(tmp_path: Path) -> None:
    shares = np.array([[0, 0.5, 1], [np.nan, 0.2, 0.999]], np.float32)
    messages = (
        (MASK, STAMP, MASKS[0], "mono8"),
        (CONFIDENCE, STAMP, shares, "32FC1"),
        (MASK, STAMP + 5, MASKS[1], "mono8"),
    )
    recorded = RecordedPredictor(_bag(tmp_path / "live.mcap", *messages, delay_ns=30_000_000), ABC)
    assert recorded.stamps_ns == {STAMP, STAMP + 5}
    later, said, none = (recorded(_frame(stamp_ns)) for stamp_ns in (STAMP + 5, STAMP, STAMP + 1))
    assert none is None and said is not None and later is not None
    np.testing.assert_array_equal(said.labels, MASKS[0])
    np.testing.assert_array_equal(later.labels, MASKS[1])
    assert said.confidence is not None and said.confidence.tolist() == [[0, 128, 255], [0, 51, 255]]
    assert later.confidence is None and said.sensors == "" and said.logits is None
    assert said.latency_ms == pytest.approx(30.0)  # from stamp to recording
    dropped = measure(none, MASKS[0] % 3, Sample("gone"), 3)
    assert dropped.dropped.tolist() == [True]


def test_a_time_that_is_none_is_not_taken_for_one(tmp_path: Path) -> None:
    message = (MASK, STAMP, MASKS[0], "mono8")
    for delay_ns in (0, 3600 * 10**9):  # a recording on the stamps' own clock, and one of old data
        said = RecordedPredictor(_bag(tmp_path / f"{delay_ns}.mcap", message, delay_ns=delay_ns), ABC)(_frame(STAMP))
        assert said is not None and np.isnan(said.latency_ms)


def test_of_a_looped_recording_the_last_mask_counts(tmp_path: Path) -> None:
    messages = ((MASK, STAMP, MASKS[0], "mono8"), (MASK, STAMP, MASKS[1], "mono8"))
    said = RecordedPredictor(_bag(tmp_path / "twice.mcap", *messages), ABC)(_frame(STAMP))
    assert said is not None
    np.testing.assert_array_equal(said.labels, MASKS[1])


def test_recordings_that_cannot_be_scored_are_refused(tmp_path: Path) -> None:
    good = (MASK, STAMP, MASKS[0], "mono8")
    with pytest.raises(InputError, match=r"one topic of images that ends in output/mask.* got none"):
        RecordedPredictor(_bag(tmp_path / "none.mcap", ("/camera", STAMP, MASKS[0], "mono8")), ABC)
    two = _bag(tmp_path / "two.mcap", good, ("/left/output/mask", STAMP, MASKS[1], "mono8"))
    with pytest.raises(InputError, match="got /fusion_node/output/mask, /left/output/mask"):
        RecordedPredictor(two, ABC)
    with pytest.raises(SamsegError, match=r"no topic '/left/output/task'; did you mean '/left/output/mask'\?"):
        RecordedPredictor(two, ABC, "/left/output/task")
    said = RecordedPredictor(two, ABC, "/left/output/mask")(_frame(STAMP))
    assert said is not None and said.labels.tolist() == MASKS[1].tolist()
    with pytest.raises(SamsegError, match="expected a model of the classes of camvid"):
        RecordedPredictor(_bag(tmp_path / "other.mcap", good), load_labels("camvid"))
    wrong = _bag(tmp_path / "wrong.mcap", (MASK, STAMP, MASKS[0].astype(np.uint16), "mono16"))
    with pytest.raises(InputError, match="recorded mask: expected mono8, got uint16"):
        RecordedPredictor(wrong, ABC)(_frame(STAMP))
    with pytest.raises(InputError, match="expected a rosbag2 folder"):
        RecordedPredictor(tmp_path / "nothing.mcap", ABC)
    (tmp_path / "result.jsonl").write_text("{}\n")
    with pytest.raises(SamsegError, match=r"result\.jsonl: expected a line a frame"):
        RecordedPredictor(tmp_path / "two.mcap", ABC, MASK)
