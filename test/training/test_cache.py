"""Prepared samples are kept, prepared again where they were lost, and never taken from damaged files."""

import errno
import json
import os
import pickle
import shutil
from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from samseg_ros.config import Config, ThermalConfig
from samseg_ros.datasets.labelled import Sample
from samseg_ros.datasets.thermal_view import ThermalView
from samseg_ros.datasets.world import WorldDataset
from samseg_ros.datasets.world.labelled import LabelledWorld, open_world
from samseg_ros.errors import SamsegError
from samseg_ros.sensing.modalities import IMAGENET_MEAN, IMAGENET_STD, MODALITIES
from samseg_ros.training import cache
from samseg_ros.training.augmentation import to_tensors
from samseg_ros.training.batches import plain_batches
from samseg_ros.training.cache import DirectSamples, fingerprint, open_cache, prepare
from samseg_ros.types import UNLABELLED, Frame

SENSORS = ("rgb", "thermal", "depth")
SIZE = (24, 32)


def frame(i, size=(48, 64), thermal=True, depth=True):
    rng = np.random.default_rng(i)
    return Frame(
        rng.integers(0, 256, (*size, 3), dtype=np.uint8),
        thermal=rng.integers(0, 4000, size, dtype=np.uint16) if thermal else None,
        images={"depth": rng.integers(0, 256, (*size, 3), dtype=np.uint8)} if depth else {},
    )


@dataclass
class Numbers:
    """Sample i has class i everywhere; every second one has no depth."""

    names: tuple[str, ...] = ("a", "b", "c", "d", "e")
    size: tuple[int, int] = (48, 64)
    labels: str = "world"
    modalities: tuple[str, ...] = SENSORS

    @property
    def samples(self):
        return [Sample(name) for name in self.names]

    def __len__(self):
        return len(self.names)

    def __getitem__(self, i):
        return frame(i, self.size, depth=i % 2 == 0), np.full(self.size, i, np.uint8)


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """Open the cache of a dataset; which samples were prepared is told."""
    prepared = []
    read = cache._read

    def told(i, *rest, **named):
        prepared.append(i)
        return read(i, *rest, **named)

    monkeypatch.setattr(cache, "_read", told)
    folder = tmp_path / "cache"

    def run(dataset=None, sensors=SENSORS, size=SIZE, config=Config()):  # noqa: B008 it cannot change
        prepared.clear()
        known = set(folder.glob("*"))
        data = open_cache(folder, dataset or Numbers(), "numbers_train", sensors, size, config, 1)
        new = [*(set(folder.glob("*")) - known), *known]
        return data, sorted(prepared), new[0]

    return run


def test_a_cache_gives_what_was_prepared(opened):
    data = opened()[0]
    assert len(data) == 5
    for i in range(5):
        want = prepare(*Numbers()[i], SENSORS, SIZE, Config())
        got = data.planes(i)
        assert set(got) == set(want)
        assert ("depth" in got) == (i % 2 == 0)
        assert all(np.array_equal(got[name], want[name]) and got[name].dtype == want[name].dtype for name in want)
    assert [data.name(i) for i in range(5)] == ["a", "b", "c", "d", "e"]
    assert data.present["depth"].tolist() == [True, False, True, False, True]
    assert not data.arrays["depth"][1].any()


def test_what_is_there_is_not_prepared_again_and_what_was_deleted_is(opened):
    assert opened()[1] == [0, 1, 2, 3, 4]
    _, prepared, folder = opened()
    assert prepared == []
    (folder / "thermal.npy").unlink()
    data, prepared, _ = opened()
    assert prepared == [0, 1, 2, 3, 4]
    assert data.arrays["thermal"].any(axis=(1, 2, 3)).all()


def test_a_cache_goes_on_where_a_kill_stopped_it(opened):
    _, _, folder = opened()
    (folder / "done.json").write_text('{"frames": 3}')
    assert opened()[1] == [3, 4]


def test_an_array_that_was_lost_and_made_anew_is_not_taken_for_filled_after_a_kill(opened):
    folder = opened()[2]
    (folder / "thermal.npy").unlink()

    class Killed(Numbers):
        def __getitem__(self, i):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened(Killed())
    assert (folder / "thermal.npy").exists()
    assert opened()[1] == [0, 1, 2, 3, 4]


def test_a_kill_in_between_leaves_a_cache_that_goes_on(opened, monkeypatch):
    monkeypatch.setattr(cache, "SAVE_EVERY", 2)

    class Killed(Numbers):
        def __getitem__(self, i):
            if i == 3:
                raise KeyboardInterrupt
            return super().__getitem__(i)

    with pytest.raises(KeyboardInterrupt):
        opened(Killed())
    data, prepared, _ = opened()
    assert prepared == [2, 3, 4]
    assert data.arrays["labels"][:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ["done.json", "rgb.npy", "present.npy"])
def test_a_damaged_file_is_named(opened, name):
    folder = opened()[2]
    file = folder / name
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(SamsegError, match=f"{name} is damaged"):
        opened()


@pytest.mark.parametrize("frames", [-1, 6])
def test_a_cache_that_is_said_to_hold_more_or_fewer_samples_than_it_can_is_damaged(opened, frames):
    folder = opened()[2]
    (folder / "done.json").write_text(json.dumps({"frames": frames}))
    with pytest.raises(SamsegError, match=rf"done\.json is damaged .expected 0 to 5 samples, got {frames}."):
        opened()


def test_a_cache_has_its_space_on_the_disk_before_it_is_filled(tmp_path):
    cache._make(tmp_path / "a.npy", (1, 1 << 20), np.uint8)
    assert (tmp_path / "a.npy").stat().st_blocks * 512 >= 1 << 20
    assert not np.load(tmp_path / "a.npy").any()


def test_a_disk_that_is_too_small_is_told_with_the_space_needed_and_nothing_is_left(opened, monkeypatch, tmp_path):
    reserve = os.posix_fallocate

    def full(file, start, size):
        if size > 5 * 24 * 32 * 3:  # rgb and what is larger: thermal would still fit
            raise OSError(errno.ENOSPC, "No space left on device")
        reserve(file, start, size)

    monkeypatch.setattr(os, "posix_fallocate", full)
    needed = 5 * 24 * 32 * (1 + 3 + 1)  # bytes: thermal, rgb, labels
    with pytest.raises(SamsegError, match=rf"expected {needed / 1e9:.1f} GB of space .*got No space left on device"):
        opened(sensors=("thermal", "rgb"))
    assert not list((tmp_path / "cache").rglob("*.npy")) and not list((tmp_path / "cache").rglob("*.part"))
    monkeypatch.undo()


def test_another_dataset_size_or_set_of_sensors_has_another_cache(opened):
    folders = {
        opened()[2],
        opened(Numbers(names=("a", "b", "c", "d", "x")))[2],
        opened(size=(12, 16))[2],
        opened(sensors=("rgb",))[2],
    }
    assert len(folders) == 4


def test_recipes_that_scale_thermal_counts_otherwise_share_no_samples(opened):
    kinds = [
        ThermalConfig(),
        ThermalConfig(normalization="minmax"),
        ThermalConfig(normalization="fixed", fixed_low=0, fixed_high=255),
        ThermalConfig(normalization="fixed", fixed_low=0, fixed_high=4000),
    ]
    told = [opened(config=Config(thermal=kind)) for kind in kinds]
    assert all(prepared == [0, 1, 2, 3, 4] for _, prepared, _ in told)
    assert len({folder for _, _, folder in told}) == 4
    counts = cv2.resize(Numbers()[1][0].thermal, SIZE[::-1], interpolation=cv2.INTER_AREA)
    levels = np.round(255 * counts.astype(np.float32) / 4000)
    assert np.abs(told[3][0].planes(1)["thermal"][:, :, 0] - levels).max() <= 1
    assert opened()[1] == []


def test_another_world_has_another_cache(monkeypatch, tmp_path):
    source = tmp_path / "world"
    source.mkdir()
    shutil.copy(cache.world.__file__, source / "__init__.py")
    monkeypatch.setattr(cache.world, "__file__", str(source / "__init__.py"))
    before = fingerprint(open_world("train", 3))
    assert fingerprint(open_world("train", 3)) == before
    assert fingerprint(open_world("val", 3)) != before
    assert fingerprint(LabelledWorld(WorldDataset("train", 3, size=(96, 128)))) != before
    seen_by_thermal = fingerprint(ThermalView(open_world("train", 3)))
    (source / "scene.py").write_text("CARS = 3")
    assert fingerprint(open_world("train", 3)) != before
    assert fingerprint(ThermalView(open_world("train", 3))) != seen_by_thermal


def test_the_world_is_kept_as_it_is_rendered(opened):
    world = LabelledWorld(WorldDataset("train", 2, size=(96, 128)))
    data, _, folder = opened(world, world.modalities, (96, 128))
    assert folder.name.startswith("numbers_train_96x128_rgb-thermal-lidar_")
    direct = DirectSamples(world, world.modalities)
    for i in range(2):
        stored = data.planes(i)
        assert set(stored) == {"rgb", "thermal", "lidar", "labels"}
        assert all(np.array_equal(stored[name], plane) for name, plane in direct.planes(i).items())
        assert stored["lidar"].any()


def test_processes_prepare_and_progress_is_told(tmp_path):
    told = []
    data = open_cache(
        tmp_path / "two", open_world("val", 2), "w", ("rgb",), SIZE, Config(), 2, lambda *done: told.append(done)
    )
    assert told == [(2, 2)]
    alone = open_cache(tmp_path / "one", open_world("val", 2), "w", ("rgb",), SIZE, Config(), 1)
    assert np.array_equal(data.arrays["rgb"], alone.arrays["rgb"])


def test_a_cache_goes_to_other_processes_by_its_files(opened):
    data, _, _ = opened()
    sent = pickle.dumps(data)
    assert len(sent) < 4000  # the maps hold 5 x 24 x 32 x 8 bytes
    there = pickle.loads(sent)
    assert all(np.array_equal(there.arrays[name], array) for name, array in data.arrays.items())
    assert there.names == data.names and np.array_equal(there.present["depth"], data.present["depth"])


def test_a_sample_that_cannot_be_used_is_named(opened):
    class Torn(Numbers):
        def __getitem__(self, i):
            sample = frame(i)
            return Frame(sample.image, thermal=np.zeros((10, 64), np.uint16)), np.zeros((48, 64), np.uint8)

    with pytest.raises(SamsegError, match="sample a: thermal image: expected the aspect"):
        opened(Torn())
    with pytest.raises(SamsegError, match="sample b: thermal image: expected the aspect"):
        DirectSamples(Torn(), SENSORS).planes(1)


def test_prepared_samples_become_the_tensors_that_the_pipeline_makes():
    sample = frame(3)
    planes = prepare(sample, np.zeros((48, 64), np.uint8), SENSORS, SIZE, Config())
    tensors = to_tensors(planes)
    for name in SENSORS:
        want = MODALITIES[name](sample, SIZE, Config())
        step = 1 / 255 / IMAGENET_STD.min() if name == "rgb" else 1 / 255
        assert np.abs(tensors[name].numpy() - want).max() <= 0.51 * step + 1e-3, name


def test_labels_are_taken_from_the_nearest_pixel_and_never_mixed():
    labels = np.random.default_rng(0).choice([0, 3, UNLABELLED], (48, 64)).astype(np.uint8)
    planes = prepare(frame(0), labels, ("rgb",), SIZE, Config())
    assert np.array_equal(planes["labels"][:, :, 0], labels[1::2, 1::2])


def test_direct_samples_keep_the_camera_size_and_lack_what_the_frame_lacks():
    data = DirectSamples(Numbers(size=(30, 50)), SENSORS)
    assert len(data) == 5
    assert data.name(1) == "b"
    planes = data.planes(1)
    assert {name: plane.shape for name, plane in planes.items()} == {
        "rgb": (30, 50, 3),
        "thermal": (30, 50, 1),
        "labels": (30, 50, 1),
    }
    assert np.array_equal(planes["rgb"], frame(1, (30, 50)).image)
    assert "depth" in data.planes(0)


def test_direct_samples_and_a_cache_of_their_own_size_are_the_same_to_training(opened):
    cached, direct = opened(size=(48, 64))[0], DirectSamples(Numbers(), SENSORS)
    for a, b in zip(plain_batches(cached, SENSORS, 2), plain_batches(direct, SENSORS, 2), strict=True):
        assert a.names == b.names
        assert all(np.array_equal(a.inputs[name], b.inputs[name]) for name in SENSORS)
        assert all(np.array_equal(a.present[name], b.present[name]) for name in ("thermal", "depth"))


def test_real_camera_images_are_prepared_at_their_own_size(shared_data):
    folder = shared_data / "camvid"
    name = (folder / "val.txt").read_text().split()[0]
    image = cv2.imread(str(folder / "image" / "val" / f"{name}.jpg"))[:, :, ::-1]
    labels = cv2.imread(str(folder / "label" / "val" / f"{name}.png"), cv2.IMREAD_GRAYSCALE)
    planes = prepare(Frame(np.ascontiguousarray(image)), labels, ("rgb",), None, Config())
    assert np.array_equal(planes["rgb"], image)
    assert np.array_equal(planes["labels"][:, :, 0], labels)
    mean = to_tensors(planes)["rgb"].mean((1, 2)).numpy()
    assert mean == pytest.approx((image.mean((0, 1)) / 255 - IMAGENET_MEAN) / IMAGENET_STD, abs=1e-4)


def test_a_cache_whose_files_say_something_else_is_refused(opened):
    _, _, folder = opened()
    np.save(folder / "labels.npy", np.zeros((0, *SIZE, 1), np.uint8))
    with pytest.raises(SamsegError, match=r"labels\.npy is damaged .expected .5, 24, 32, 1."):
        opened()
