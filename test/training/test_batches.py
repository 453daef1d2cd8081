"""The stream of samples: every sample once an epoch, shared out evenly, the same after a resume."""

from itertools import chain, count, islice

import numpy as np
import pytest
import torch

from samseg_ros.datasets.mfnet import open_mfnet
from samseg_ros.errors import SamsegError
from samseg_ros.sensing.modalities import IMAGENET_MEAN, IMAGENET_STD
from samseg_ros.training.augmentation import AugmentationSettings, to_tensors
from samseg_ros.training.batches import SampleStream, collate, loader, plain_batches, positions
from samseg_ros.training.cache import Cache, DirectSamples

SENSORS = ("rgb", "thermal", "lidar")
SETTINGS = AugmentationSettings(
    resize=(0.7, 1.5), photometric=1.0, thermal_jitter=1.0, lidar_thinning=0.5, sensor_dropout=0.3
)


def cache(samples=7, size=(24, 32), present=None):
    """Sample i has class i everywhere."""
    rng = np.random.default_rng(0)
    arrays = {
        "rgb": rng.integers(0, 256, (samples, *size, 3), dtype=np.uint8),
        "thermal": rng.integers(0, 256, (samples, *size, 1), dtype=np.uint8),
        "lidar": rng.random((samples, *size, 3)).astype(np.float16),
        "labels": np.arange(samples, dtype=np.uint8)[:, None, None, None] * np.ones((1, *size, 1), np.uint8),
    }
    return Cache(arrays, present or {})


def stream(source=None, seed=0, settings=SETTINGS):
    return SampleStream(source or cache(), settings, (16, 16), SENSORS, seed)


def sample_of(item):
    return int(item.labels[0, 0])


def test_every_epoch_holds_every_sample_once_in_an_order_of_its_own():
    items = stream()
    orders = [[sample_of(items[7 * epoch + k]) for k in range(7)] for epoch in range(4)]
    assert all(sorted(order) == list(range(7)) for order in orders)
    assert len({tuple(order) for order in orders}) > 1
    assert [sample_of(stream(seed=1)[k]) for k in range(7)] != orders[0]


def test_a_sample_is_augmented_anew_in_each_epoch_and_the_same_at_each_position():
    items = stream(cache(1))
    assert torch.equal(items[3].inputs["rgb"], stream(cache(1))[3].inputs["rgb"])
    assert not torch.equal(items[3].inputs["rgb"], items[4].inputs["rgb"])
    assert not torch.equal(items[3].inputs["rgb"], stream(cache(1), seed=1)[3].inputs["rgb"])


def test_a_mixed_sample_shows_another_samples_class_with_its_picture():
    samples = cache()  # of one class each, so that the donor covers everything
    mixed = stream(samples, settings=AugmentationSettings(class_mix=1.0, flip=0.0))
    donors = []
    for position in range(14):
        item = mixed[position]
        donors.append(sample_of(item))
        assert torch.equal(item.inputs["rgb"], mixed[position].inputs["rgb"])  # the seed decides
        stored = samples.planes(donors[-1])["rgb"]
        corner = to_tensors({"rgb": stored, "labels": stored[..., :1]})["rgb"].unfold(1, 16, 1).unfold(2, 16, 1)
        assert (corner == item.inputs["rgb"][:, None, None]).all(-1).all(-1).all(0).any()  # one of its windows
    plain = stream(samples, settings=AugmentationSettings(flip=0.0))
    assert donors != [sample_of(plain[position]) for position in range(14)]
    assert len(set(donors)) > 3


def test_steps_take_consecutive_positions():
    assert positions(0, 0, 1, 4) == [[0, 1, 2, 3]]
    assert positions(3, 0, 1, 4) == [[12, 13, 14, 15]]
    assert positions(1, 0, 1, 4, offset=100) == [[104, 105, 106, 107]]


@pytest.mark.parametrize("step", [0, 5])
def test_two_processes_take_together_what_one_takes_with_the_doubled_batch(step):
    ranks = [positions(step, rank, 2, 3, 2) for rank in range(2)]
    assert [first + second for first, second in zip(*ranks, strict=True)] == positions(step, 0, 1, 6, 2)


def test_accumulation_takes_what_a_larger_batch_takes():
    assert list(chain(*positions(5, 0, 1, 2, 3))) == positions(5, 0, 1, 6)[0]


@pytest.mark.parametrize(("world", "batch", "accumulate"), [(1, 4, 1), (2, 3, 2), (3, 1, 4)])
def test_no_position_is_left_out_or_taken_twice(world, batch, accumulate):
    taken = [
        p
        for step in range(5)
        for rank in range(world)
        for m in positions(step, rank, world, batch, accumulate)
        for p in m
    ]
    assert sorted(taken) == list(range(5 * world * batch * accumulate))


def chunks(first=0, batch=3):
    return (positions(step, 0, 1, batch)[0] for step in count(first))


def same(a, b):
    return (
        a.names == b.names
        and torch.equal(a.labels, b.labels)
        and all(torch.equal(a.inputs[n], b.inputs[n]) for n in SENSORS)
        and all(torch.equal(a.present[n], b.present[n]) for n in ("thermal", "lidar"))
    )


def batches(first=0, workers=0, number=6, source=None):
    parts = islice(chunks(first), number)
    return list(loader(source or cache(), SETTINGS, (16, 16), SENSORS, 0, parts, workers))


def test_a_run_that_goes_on_at_a_later_step_gets_the_same_batches():
    whole, late = batches(), batches(first=4, number=2)
    assert all(same(a, b) for a, b in zip(whole[4:], late, strict=True))
    assert not same(whole[3], whole[4])


def test_batches_are_what_the_stream_holds_at_their_positions():
    items = stream()
    for batch, chunk in zip(batches(), chunks()):  # noqa: B905 the chunks go on for ever
        assert same(batch, collate([items[p] for p in chunk]))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_give_the_same_batches_in_the_same_order(workers):
    assert all(same(a, b) for a, b in zip(batches(), batches(workers=workers), strict=True))


def test_without_workers_an_endless_list_of_steps_is_read_one_by_one():
    asked = []
    steps = (asked.append(step) or positions(step, 0, 1, 2)[0] for step in count())
    endless = loader(cache(), SETTINGS, (16, 16), SENSORS, 0, steps, 0)
    next(endless), next(endless)
    assert asked == [0, 1]


@pytest.mark.parametrize("workers", [0, 1])
def test_global_random_state_stays_as_it_is(workers):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    batches(workers=workers)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_batch_has_images_flags_labels_and_names():
    batch = next(iter(batches(number=1)))
    assert {name: tuple(image.shape) for name, image in batch.inputs.items()} == dict.fromkeys(SENSORS, (3, 3, 16, 16))
    assert {name: flags.dtype for name, flags in batch.present.items()} == dict.fromkeys(SENSORS[1:], torch.bool)
    assert batch.labels.shape == (3, 16, 16)
    assert batch.names == tuple(str(int(labels[0, 0])) for labels in batch.labels)
    moved = batch.to(torch.device("cpu"))
    assert same(moved, batch)
    assert moved.inputs["rgb"].is_contiguous(memory_format=torch.channels_last)


def test_a_sensor_that_is_lacking_or_dropped_is_zero_and_flagged():
    source = cache(present={"thermal": np.array([True, False] * 3 + [True])})
    dropped = set()
    for batch in batches(number=20, source=source):
        for name in ("thermal", "lidar"):
            for k, sample in enumerate(map(int, batch.names)):
                there = bool(batch.present[name][k])
                assert there == bool(batch.inputs[name][k].any())
                if name == "thermal" and sample % 2:
                    assert not there
                elif not there:
                    dropped.add(name)
    assert dropped == {"thermal", "lidar"}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_sample_that_cannot_be_read_is_one_clear_error(workers, tmp_path):
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "00001D.png").write_bytes(b"no picture")
    (tmp_path / "train.txt").write_text("00001D\n")
    torn = DirectSamples(open_mfnet(tmp_path, "train"), ("rgb",))
    with pytest.raises(SamsegError, match=r"^\S+00001D\.png: not a readable image"):
        next(iter(loader(torn, SETTINGS, (16, 16), ("rgb",), 0, [[0]], workers)))


def test_no_sample_at_all_is_refused():
    with pytest.raises(SamsegError, match="at least one sample"):
        SampleStream(cache(0), SETTINGS, (16, 16), SENSORS, 0)


def test_plain_batches_hold_every_sample_in_order_and_unchanged():
    source = cache(5)
    found = list(plain_batches(source, SENSORS, 2))
    assert [batch.names for batch in found] == [("0", "1"), ("2", "3"), ("4",)]
    rgb = torch.cat([batch.inputs["rgb"] for batch in found]).permute(0, 2, 3, 1).numpy()
    assert rgb == pytest.approx((source.arrays["rgb"] / 255 - IMAGENET_MEAN) / IMAGENET_STD, abs=1e-5)
    assert all(flags.all() for batch in found for flags in batch.present.values())


def test_processes_share_out_plain_samples():
    names = [[n for batch in plain_batches(cache(5), ("rgb",), 2, rank, 2) for n in batch.names] for rank in range(2)]
    assert names == [["0", "2", "4"], ["1", "3"]]


class Sizes(Cache):
    """Sample 2 is larger than the others."""

    def planes(self, i):
        planes = super().planes(i)
        return {n: p.repeat(2, 0) for n, p in planes.items()} if i == 2 else planes


def test_plain_batches_end_where_the_size_changes():
    found = [(b.names, tuple(b.labels.shape)) for b in plain_batches(Sizes(cache(5).arrays), SENSORS, 4)]
    assert found == [(("0", "1"), (2, 24, 32)), (("2",), (1, 48, 32)), (("3", "4"), (2, 24, 32))]


def test_samples_of_any_size_go_into_one_training_batch():
    source = Sizes(cache(5).arrays)
    assert {tuple(b.labels.shape) for b in batches(number=4, source=source)} == {(3, 16, 16)}


def test_modalities_that_are_not_asked_for_are_left_out():
    batch = next(plain_batches(cache(2), ("thermal",), 2))
    assert set(batch.inputs) == {"thermal"}
    assert torch.equal(batch.inputs["thermal"][0], to_tensors({"thermal": cache(2).arrays["thermal"][0]})["thermal"])
