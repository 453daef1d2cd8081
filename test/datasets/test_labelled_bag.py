"""A rosbag with labels as a dataset: the same frames and ids as reading it directly, in any order."""

from __future__ import annotations

import gc
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from samseg_ros.config import Config
from samseg_ros.datasets.bag import Message, open_bag
from samseg_ros.datasets.bag_frames import bag_calibration, build_frame, steps
from samseg_ros.datasets.bag_topics import guess_topics
from samseg_ros.datasets.labelled import Labelled
from samseg_ros.datasets.labelled_bag import open_labelled_bag
from samseg_ros.datasets.world import write_recording
from samseg_ros.datasets.world.sensors import beside
from samseg_ros.errors import InputError, SamsegError
from samseg_ros.evaluation.recording import IMAGE, OutputBag, image, serialize
from samseg_ros.sensing import convert
from samseg_ros.sensing.modalities import thermal
from samseg_ros.types import Frame

STAMP = 1_700_000_000_000_000_000


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, trees_b: ModuleType) -> Path:
    """Two recordings to train on, one of day and night to test; not to be changed."""
    root = tmp_path_factory.mktemp("world") / "set"
    trees_b.labelled_bag(root)
    return root


def _directly(path: Path) -> list[Labelled]:
    """Frames and labels of a recording, read in order by the path of a replay."""
    labels: dict[int, NDArray[np.uint8]] = {}
    frames: list[Frame] = []
    with open_bag(path) as bag:
        topics = guess_topics(bag)
        calibration = bag_calibration(bag, topics)

        def aside(message: Message) -> None:
            if message.topic == topics.labels:
                labels[message.stamp_ns] = np.asarray(convert.thermal_image(bag.decode(message)), np.uint8)

        for step in steps(bag, topics, Config().sync, aside):
            frames.append(
                build_frame(bag, step, calibration, Config(), lambda name, what: pytest.fail(f"{name}: {what}"))
            )
    return [(frame, labels[frame.stamp_ns]) for frame in frames]


def _same(one: Labelled, other: Labelled) -> None:
    (a, a_ids), (b, b_ids) = one, other
    np.testing.assert_array_equal(a.image, b.image)
    np.testing.assert_array_equal(a.thermal, b.thermal)
    assert a.points is not None and b.points is not None and a.camera is not None and b.camera is not None
    np.testing.assert_array_equal(a.points.xyz, b.points.xyz)
    np.testing.assert_array_equal(a.camera.k, b.camera.k)
    np.testing.assert_array_equal(a.camera_from_lidar, b.camera_from_lidar)
    np.testing.assert_array_equal(a_ids, b_ids)
    assert (a.stamp_ns, a.frame_id) == (b.stamp_ns, b.frame_id)


def test_frames_and_labels_are_those_of_reading_directly_in_any_order(world: Path) -> None:
    dataset = open_labelled_bag(world, "test")
    expected = _directly(world / "test" / "d")
    assert len(dataset) == len(expected) == 4
    for i in (3, 0, 2, 2, 1):
        _same(dataset[i], expected[i])


def test_a_split_joins_its_recordings_with_their_conditions(world: Path) -> None:
    dataset = open_labelled_bag(world, "train")
    assert dataset.labels == "world" and dataset.modalities == ("rgb", "thermal", "lidar")
    names = [f"train/{drive}/{frame.stamp_ns}" for drive in "ab" for frame, _ in _directly(world / "train" / drive)]
    assert len(set(names)) == 4
    assert [s.name for s in dataset.samples] == names
    assert [s.condition for s in dataset.samples] == ["day", "day", "night", "night"]
    assert [s.condition for s in open_labelled_bag(world, "test").samples] == ["day", "day", "night", "night"]
    with pytest.raises(IndexError):
        dataset[4]


def test_a_thermal_camera_to_be_registered_comes_with_its_calibration(tmp_path: Path) -> None:
    write_recording(tmp_path / "val" / "drive", "val", ("day",), 2, size=(48, 64), thermal_offset=(0.3, 2.0))
    (tmp_path / "dataset.yaml").write_text("labels: world\nsettings: {projection.thermal: calibrated}\n")
    frame, _ = open_labelled_bag(tmp_path, "val")[1]
    assert frame.camera is not None and frame.thermal_camera is not None and frame.camera_from_thermal is not None
    assert frame.thermal_camera.frame_id == "thermal_optical"
    np.testing.assert_allclose(frame.camera_from_thermal, beside(0.3, 2.0), atol=1e-12)
    prepared = thermal(frame, (48, 64), Config())
    assert prepared is not None and not prepared[:, :, 0].any()  # turned to the right, it does not see the left border


def test_copies_in_other_processes_read_the_same_samples(world: Path) -> None:
    dataset = open_labelled_bag(world, "val")
    _same(pickle.loads(pickle.dumps(dataset))[1], dataset[1])
    with ProcessPoolExecutor(1) as pool:
        _same(pool.submit(dataset.__getitem__, 1).result(), dataset[1])
    assert dataset.store.exists()


def test_the_temporary_file_goes_with_the_dataset(world: Path) -> None:
    dataset = open_labelled_bag(world, "val")
    store = dataset.store
    copy = pickle.loads(pickle.dumps(dataset))
    assert store.exists()
    del dataset
    gc.collect()
    assert not store.exists()
    with pytest.raises(SamsegError, match=r"the copied messages cannot be read .* open the dataset again"):
        copy[0]


def _camera_only(root: Path, labels: str | None = "world", stamps: tuple[int, ...] = (0, 1), extra: str = "") -> Path:
    """Write a recording of two images 2 x 3, with ids on /gt/labels for ``stamps`` where ``labels`` is not None."""
    (root / "val").mkdir(parents=True)
    (root / "dataset.yaml").write_text(f"labels: {labels or 'world'}\n{extra}")
    with OutputBag(root / "val" / "drive.mcap") as bag:
        for i in range(2):
            stamp = STAMP + i
            picture = image(stamp, "cam", np.full((2, 3, 3), i, np.uint8), "rgb8")
            bag.write("/camera/image_raw", IMAGE, stamp, serialize(IMAGE, picture))
            if labels and i in stamps:
                truth = image(stamp, "cam", np.array([[0, 1, 2], [11, 255, i]], np.uint8), "mono8")
                bag.write("/gt/labels", IMAGE, stamp, serialize(IMAGE, truth))
    return root


def _png(root: Path, trees_b: ModuleType, stamp: int, *rows: list[int]) -> Path:
    path = root / "val" / "drive_labels" / f"{stamp}.png"
    trees_b.save(path, trees_b.ids(*rows))
    return path


def test_only_images_with_labels_are_samples(tmp_path: Path) -> None:
    dataset = open_labelled_bag(_camera_only(tmp_path / "set", stamps=(1,)), "val")
    assert [s.name for s in dataset.samples] == [f"val/drive.mcap/{STAMP + 1}"] and dataset.modalities == ("rgb",)
    frame, ids = dataset[0]
    assert (frame.image == 1).all() and frame.thermal is None and frame.points is None
    np.testing.assert_array_equal(ids, [[0, 1, 2], [11, 255, 1]])


def test_pngs_named_by_stamp_are_the_labels_and_go_before_a_topic(tmp_path: Path, trees_b: ModuleType) -> None:
    root = _camera_only(tmp_path / "set")
    _png(root, trees_b, STAMP + 1, [5, 5, 5], [5, 5, 255])
    dataset = open_labelled_bag(root, "val")
    assert len(dataset) == 1 and (dataset[0][0].image == 1).all()
    np.testing.assert_array_equal(dataset[0][1], [[5, 5, 5], [5, 5, 255]])


def test_a_split_may_be_a_recording_itself_and_bring_its_own_label_set(tmp_path: Path, trees_b: ModuleType) -> None:
    root = tmp_path / "set"
    trees_b.write_recording(root / "val", conditions=("day",), frames_per_condition=1, size=(64, 96))
    (root / "own.csv").write_text("id,name,r,g,b\n" + "".join(f"{i},c{i},{i},0,0\n" for i in range(12)))
    (root / "dataset.yaml").write_text('labels: own.csv\ntopics: {lidar: "", thermal: ""}\n')
    dataset = open_labelled_bag(root, "val")
    assert dataset.labels == str(root / "own.csv") and len(dataset) == 1 and dataset.modalities == ("rgb",)
    assert dataset[0][0].thermal is None and dataset[0][0].points is None


def test_settings_of_the_synchroniser_are_followed(tmp_path: Path, trees_b: ModuleType) -> None:
    root = tmp_path / "set"
    trees_b.write_recording(root / "val", conditions=("day",), frames_per_condition=2, size=(64, 96))
    settings = "{sync.thermal.offset_s: 5.0, sync.thermal.required: false}"
    (root / "dataset.yaml").write_text(f"labels: world\nsettings: {settings}\n")
    frame, _ = open_labelled_bag(root, "val")[0]
    assert frame.thermal is None and frame.points is not None


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (([0, 12, 0], [0, 0, 0]), r"expected the ids 0-11, 255, got 12 as well \(1 pixels\)"),
        (([0, 1], [2, 3]), "labels: expected 3x2, as the camera image, got 2x2"),
    ],
)
def test_labels_that_do_not_fit_are_named_with_their_frame(
    tmp_path: Path, trees_b: ModuleType, rows: tuple[list[int], ...], message: str
) -> None:
    root = _camera_only(tmp_path / "set", labels=None)
    _png(root, trees_b, STAMP, *rows)
    with pytest.raises(SamsegError, match=rf"drive\.mcap, frame {STAMP}: .*{message}"):
        open_labelled_bag(root, "val")[0]


def test_labels_that_belong_to_no_image_are_named(tmp_path: Path, trees_b: ModuleType) -> None:
    root = _camera_only(tmp_path / "set", labels=None)
    _png(root, trees_b, STAMP, [0, 0, 0], [0, 0, 0])
    _png(root, trees_b, STAMP + 9, [0, 0, 0], [0, 0, 0])
    with pytest.raises(SamsegError, match=rf"1 of 2 labels have the stamp of no usable camera image: {STAMP + 9};"):
        open_labelled_bag(root, "val")
    (root / "val" / "drive_labels" / f"{STAMP + 9}.png").rename(root / "val" / "drive_labels" / "first.png")
    with pytest.raises(SamsegError, match=r"first\.png: expected the stamp of a camera image in nanoseconds"):
        open_labelled_bag(root, "val")


def test_a_recording_without_labels_is_answered_with_where_they_may_be(tmp_path: Path) -> None:
    root = _camera_only(tmp_path / "set", labels=None)
    with pytest.raises(SamsegError, match=r"drive\.mcap: no labels, neither on a topic nor in .*/drive_labels"):
        open_labelled_bag(root, "val")


def test_a_lidar_that_cannot_be_projected_is_refused_with_both_ways_out(tmp_path: Path, trees_b: ModuleType) -> None:
    root = tmp_path / "set"
    trees_b.write_recording(root / "val", conditions=("day",), frames_per_condition=1, size=(64, 96))
    (root / "dataset.yaml").write_text('labels: world\ntopics: {tf_static: ""}\n')
    with pytest.raises(InputError, match=r"LiDAR /lidar/points: .* got no extrinsics .* `topics: \{lidar: \"\"\}`"):
        open_labelled_bag(root, "val")
    (root / "dataset.yaml").write_text('labels: world\ntopics: {camera_info: ""}\n')
    with pytest.raises(InputError, match="got no camera_info; add it"):
        open_labelled_bag(root, "val")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labels: wrold", r"no label set 'wrold'; did you mean 'world'\?"),
        ("topics: {}", "dataset.yaml: labels: Field required"),
        ("labels: world\ntopic: {}", r"dataset.yaml: topic: .*; did you mean 'topics'\?"),
        ("labels: world\ntopics: {camera: /a}", r"dataset.yaml: topics\.camera.*: Input should be 'image', 'thermal'"),
        ("labels: world\ntopics: {image: /a}", r"no topic '/a'"),
        ("labels: world\nsettings: {sync.lidar.window: 1}", r"dataset.yaml: unknown setting 'sync.lidar.window'; did"),
        ("- labels", "dataset.yaml: the file: Input should be a valid dictionary"),
        ("labels: [", "dataset.yaml: cannot be read as YAML"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, text: str, message: str) -> None:
    root = _camera_only(tmp_path / "set")
    (root / "dataset.yaml").write_text(text)
    with pytest.raises(SamsegError, match=message):
        open_labelled_bag(root, "val")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    root = _camera_only(tmp_path / "set")
    with pytest.raises(SamsegError, match=r"1 of 2 files are missing .*: train; (.|\n)*labelled_bag expects"):
        open_labelled_bag(root, "train")
    (root / "train").mkdir()
    with pytest.raises(SamsegError, match=r"labelled_bag: no recording in .*/train\n"):
        open_labelled_bag(root, "train")


def test_nothing_is_left_behind_when_opening_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = _camera_only(tmp_path / "set", labels=None)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    with pytest.raises(SamsegError, match="no labels"):
        open_labelled_bag(root, "val")
    assert not list((tmp_path / "tmp").iterdir())


def test_a_real_recording_with_pngs_by_stamp_opens(shared_data: Path, tmp_path: Path, trees_b: ModuleType) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "dataset.yaml").write_text("labels: cityscapes\n")
    recording = tmp_path / "test" / "kitti"
    recording.symlink_to(shared_data / "bags" / "kitti_seq_mcap")
    with open_bag(recording) as bag:
        stamps = [message.stamp_ns for message in bag.messages(["/camera/image_rect/compressed"])]
    for stamp in stamps[5:7]:
        trees_b.save(tmp_path / "test" / "kitti_labels" / f"{stamp}.png", np.full((375, 1242), 10, np.uint8))
    dataset = open_labelled_bag(tmp_path, "test")
    frame, ids = dataset[1]
    assert [s.name for s in dataset.samples] == [f"test/kitti/{stamp}" for stamp in stamps[5:7]]
    assert frame.stamp_ns == stamps[6] and frame.points is not None and frame.camera is not None
    assert frame.size == ids.shape == (375, 1242) and (ids == 10).all()
