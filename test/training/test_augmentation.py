"""Augmented samples: labels stay under their pixels, light touches RGB alone, and a seed decides everything."""

import random

import cv2
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from samseg_ros.training.augmentation import AugmentationSettings, augment, mix_classes, present_flags, to_tensors

CELL, ROWS, COLUMNS = 20, 8, 12
PALETTE = np.random.default_rng(5).permutation(200)[: ROWS * COLUMNS]
GEOMETRIES = [
    {"flip": 0.0},
    {"flip": 1.0},
    {"resize": (0.5, 0.5)},
    {"resize": (0.5, 0.9)},
    {"resize": (1.7, 2.0)},
    {"rotation": 20.0},
    {"resize": (0.6, 2.0), "rotation": 10.0, "flip": 0.5, "category_max": 0.2},
]


def grid(**more):
    """A grid of cells, each with an id of its own, which every plane carries in its own way."""
    ids = np.arange(ROWS * COLUMNS, dtype=np.uint8).reshape(ROWS, COLUMNS)
    labels = ids.repeat(CELL, 0).repeat(CELL, 1)[:, :, None]
    levels = PALETTE[labels].astype(np.uint8)
    picture = (PALETTE[labels] / 256).astype(np.float16).repeat(3, 2)
    return {"rgb": levels.repeat(3, 2), "thermal": levels, "lidar": picture, "depth": picture, "labels": labels, **more}


def inside_cells(labels):
    """Pixels with their own label all around them, so that no mixing with others or with the filling reaches them."""
    around = np.ones((7, 7), np.uint8)
    framed = cv2.copyMakeBorder(labels, 3, 3, 3, 3, cv2.BORDER_CONSTANT, value=255)
    same = (cv2.erode(framed, around) == cv2.dilate(framed, around))[3:-3, 3:-3]
    return same & (labels != 255)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_every_plane_shows_at_each_pixel_what_its_label_says(geometry, seed):
    out = augment(grid(), (64, 96), AugmentationSettings(**geometry), seed)
    assert {name: plane.shape for name, plane in out.items()} == {
        "rgb": (64, 96, 3),
        "thermal": (64, 96, 1),
        "lidar": (64, 96, 3),
        "depth": (64, 96, 3),
        "labels": (64, 96, 1),
    }
    labels = out["labels"][:, :, 0]
    inside = inside_cells(labels)
    assert inside.sum() > 100
    expected = PALETTE[labels[inside]]
    for channel in range(3):
        assert np.abs(out["rgb"][inside][:, channel].astype(int) - expected).max() <= 1
        assert np.abs(out["depth"][inside][:, channel] * 256 - expected).max() < 0.5
        assert np.array_equal(out["lidar"][inside][:, channel] * 256, expected)
    assert np.abs(out["thermal"][inside][:, 0].astype(int) - expected).max() <= 1


def test_labels_and_lidar_are_never_mixed():
    out = augment(grid(), (64, 96), AugmentationSettings(resize=(0.37, 1.9), rotation=15.0), 3)
    assert set(np.unique(out["labels"])) <= {*range(ROWS * COLUMNS), 255}
    assert set(np.unique(out["lidar"] * 256)) <= {0.0, *PALETTE.astype(float)}


@pytest.mark.parametrize("seed", range(3))
def test_scale_two_shows_every_stored_pixel_as_two_by_two(seed):
    labels = np.random.default_rng(0).integers(0, 250, (20, 30, 1), dtype=np.uint8)
    out = augment({"labels": labels}, (16, 20), AugmentationSettings(resize=(2.0, 2.0), flip=0.0), seed)["labels"]
    windows = [labels[y : y + 8, x : x + 10, 0] for y in range(13) for x in range(21)]
    assert any(np.array_equal(out[:, :, 0], w.repeat(2, 0).repeat(2, 1)) for w in windows)


def test_a_sample_as_large_as_the_crop_and_not_mirrored_is_left_as_it_is():
    planes = grid()
    out = augment(planes, (160, 240), AugmentationSettings(flip=0.0), 0)
    for name in planes:
        assert np.array_equal(out[name], planes[name])


def test_mirroring_turns_left_and_right_around():
    planes = grid()
    out = augment(planes, (160, 240), AugmentationSettings(flip=1.0), 0)
    for name in planes:
        assert np.array_equal(out[name], planes[name][:, ::-1])


def test_shrinking_averages_areas():
    stripes = np.zeros((40, 40, 3), np.uint8)
    stripes[:, ::2] = 200
    planes = {"rgb": stripes, "labels": np.zeros((40, 40, 1), np.uint8)}
    out = augment(planes, (20, 20), AugmentationSettings(resize=(0.5, 0.5), flip=0.0), 0)["rgb"]
    assert np.abs(out[:, 2:-2].astype(int) - 100).max() <= 26  # plain bilinear sampling would alias to 0 or 200
    assert abs(float(out.mean()) - 100) < 1


def test_around_an_image_smaller_than_the_crop_there_is_nothing_to_see_and_nothing_to_learn():
    out = augment(grid(), (100, 150), AugmentationSettings(resize=(0.5, 0.5), flip=0.0, photometric=1.0), 1)
    for name, nothing in {"rgb": [124, 116, 104], "thermal": [0], "lidar": [0] * 3, "depth": [0] * 3}.items():
        for beyond in (out[name][80:], out[name][:, 120:]):
            assert np.array_equal(beyond, np.broadcast_to(nothing, beyond.shape))
    assert (out["labels"][80:] == 255).all()
    assert (out["labels"][:, 120:] == 255).all()
    assert (out["labels"][:80, :120] != 255).all()
    assert to_tensors({"rgb": out["rgb"]})["rgb"][:, 99, 149].abs().max() < 0.01


def test_an_image_smaller_in_one_direction_alone_is_padded_there_alone():
    labels = np.zeros((10, 100, 1), np.uint8)
    out = augment({"labels": labels}, (20, 50), AugmentationSettings(), 0)["labels"]
    assert (out[:10] == 0).all()
    assert (out[10:] == 255).all()


def one_class_but_for_a_corner():
    labels = np.zeros((100, 100, 1), np.uint8)
    labels[60:, 60:] = 1
    return {"labels": labels}


def share_of_class_0(settings, seed):
    labels = augment(one_class_but_for_a_corner(), (40, 40), settings, seed)["labels"]
    return float((labels == 0).mean())


def test_crops_in_which_one_class_takes_up_too_much_are_drawn_again():
    free = [share_of_class_0(AugmentationSettings(), seed) for seed in range(100)]
    limited = [share_of_class_0(AugmentationSettings(category_max=0.9), seed) for seed in range(100)]
    assert sum(share > 0.92 for share in free) > 50
    # A drawn place passes with probability > 0.3, so that ten tries fail in less than 3 % of the samples.
    assert sum(share > 0.92 for share in limited) <= 8


def test_where_no_crop_is_mixed_enough_one_is_taken_all_the_same():
    planes = {"labels": np.full((50, 50, 1), 3, np.uint8)}
    out = augment(planes, (20, 20), AugmentationSettings(category_max=0.5), 0)
    assert (out["labels"] == 3).all()


def test_unlabelled_pixels_do_not_count_as_a_class():
    labels = np.full((64, 64, 1), 255, np.uint8)
    labels[:8, :32], labels[:8, 32:] = 1, 2  # half of what is labelled each, wherever the window stands
    counted = augment({"labels": labels}, (64, 64), AugmentationSettings(category_max=0.6), 0)["labels"]
    assert sorted(np.unique(counted)) == [1, 2, 255]
    blank = {"labels": np.full((200, 200, 1), 255, np.uint8)}
    blank["labels"][:100, :100] = (np.arange(100) // 10 % 2)[:, None, None]
    found = [
        (augment(blank, (60, 60), AugmentationSettings(category_max=0.75), seed)["labels"] != 255).any()
        for seed in range(50)
    ]
    assert all(found)  # a crop with nothing in it is refused; ten in a row happen once in 1000 samples


@pytest.mark.parametrize(
    "change", [{"photometric": 1.0}, {"color_jitter": 1.0}, {"blur": 1.0}, {"tone": 1.0}, {"shade": 1.0}]
)
def test_light_is_changed_for_rgb_alone(change):
    planes = grid()
    out = augment(planes, (160, 240), AugmentationSettings(flip=0.0, **change), 11)
    assert not np.array_equal(out.pop("rgb"), planes["rgb"])
    for name in out:
        assert np.array_equal(out[name], planes[name])


def drawn(rgb, count, **settings):
    planes = {"rgb": rgb, "labels": np.zeros((*rgb.shape[:2], 1), np.uint8)}
    return [augment(planes, rgb.shape[:2], AugmentationSettings(flip=0.0, **settings), s)["rgb"] for s in range(count)]


def test_photometric_distortion_stays_within_the_papers_ranges():
    grey = np.full((2, 2, 3), 100, np.uint8)  # without colour, saturation and hue do nothing
    levels = np.array([out[0, 0] for out in drawn(grey, 2000, photometric=1.0)]).astype(int)
    assert (levels == levels[:, :1]).all()
    assert levels.min() >= round(0.5 * (100 - 32))
    assert levels.max() <= round(1.5 * (100 + 32))
    assert levels.min() < 45
    assert levels.max() > 180
    assert abs((levels == 100).all(1).mean() - 0.25) < 0.04  # neither brightness nor contrast: 0.5 x 0.5


def test_hue_turns_by_at_most_36_degrees_and_keeps_the_value():
    red = np.full((2, 2, 3), (200, 20, 20), np.uint8)
    outs = np.stack([out[0, 0] for out in drawn(red, 500, photometric=1.0)])
    hue = cv2.cvtColor(outs[None].astype(np.float32) / 255, cv2.COLOR_RGB2HSV)[0, :, 0]
    turned = (hue + 180) % 360 - 180
    assert np.abs(turned).max() <= 36 + 2  # hue is kept in steps of two degrees
    assert turned.min() < -25
    assert turned.max() > 25


def test_strength_zero_and_probability_zero_do_nothing():
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert all(np.array_equal(out, picture) for out in drawn(picture, 5))


def test_color_jitter_equals_its_four_steps_one_after_the_other():
    picture = np.random.default_rng(0).integers(60, 140, (20, 30, 3), dtype=np.uint8)
    out = drawn(picture, 1, color_jitter=1.0)[0]
    rng = np.random.default_rng(0)
    rng.random(4)  # scale, mirroring, angle, blur; a window with one place takes nothing from the generator
    exposure, balance = 1 + rng.uniform(-0.25, 0.3), 1 + rng.uniform(-0.08, 0.08, 3)
    contrast, saturation = 1 + rng.uniform(-0.25, 0.25), 1 + rng.uniform(-0.5, 0.4)
    image = picture * exposure * balance
    image = (image - image.mean()) * contrast + image.mean()
    grey = image.mean(2, keepdims=True)
    image = grey + (image - grey) * saturation
    assert np.abs(out - np.clip(image, 0, 255)).max() <= 1


def test_a_tone_curve_keeps_the_order_of_levels_and_clips_as_much_as_it_says():
    picture = np.random.default_rng(0).permutation(np.repeat(np.arange(40, 200), 30)).reshape(60, 80)
    picture = picture.astype(np.uint8)[:, :, None].repeat(3, 2)
    outs = drawn(picture, 200, tone=1.0)
    for out in outs:
        curve = np.array([np.unique(out[picture == level]) for level in range(40, 200)])  # ragged if a level became two
        assert (np.diff(curve[:, 0].astype(int)) >= 0).all()
        assert (out == 0).mean() < 0.09  # 5 % of 300 pixels, which are what is looked at
        assert (out == 255).mean() < 0.15
    middles = np.array([np.median(out) for out in outs])
    assert middles.min() < 90 < 150 < middles.max()  # darker and brighter than 119
    assert max((out == 0).mean() for out in outs) > 0.02


def test_shade_takes_the_same_part_of_the_light_of_every_channel_and_nothing_elsewhere():
    picture = np.full((60, 80, 3), (240, 160, 80), np.uint8)
    left = np.stack(drawn(picture, 200, shade=1.0)) / picture
    assert np.abs(left - left[..., :1]).max() < 0.01  # rounded levels
    assert 0.24 < left.min() < 0.3
    assert left.max() == 1
    deepest = left.min((1, 2, 3))
    assert (deepest < 0.76).mean() > 0.8  # small ones are soft all over, some lie outside
    assert 0.2 < (left == 1).mean() < 0.8
    shaded = [not np.array_equal(out, picture) for out in drawn(picture, 400, shade=0.5)]
    assert 0.4 < np.mean(shaded) < 0.6


def test_thermal_jitter_is_a_gain_and_an_offset():
    ramp = np.tile(np.arange(60, 160, dtype=np.uint8), (10, 1))[:, :, None]
    planes = {"thermal": ramp, "labels": np.zeros((10, 100, 1), np.uint8)}
    for seed in range(20):
        out = augment(planes, (10, 100), AugmentationSettings(flip=0.0, thermal_jitter=1.0), seed)["thermal"]
        gain, offset = np.polyfit(np.arange(60, 160), out[0, :, 0].astype(float), 1)
        assert 0.79 <= gain <= 1.21
        assert -26 <= offset <= 26
        assert np.abs(out[0, :, 0] - (gain * np.arange(60, 160) + offset)).max() < 1


def test_thinned_lidar_loses_whole_points_and_gains_none():
    planes = grid(lidar=np.full((160, 240, 3), 0.5, np.float16))
    for seed in range(10):
        lidar = augment(planes, (160, 240), AugmentationSettings(lidar_thinning=1.0), seed)["lidar"]
        kept = lidar.any(2)
        assert 0.39 <= kept.mean() <= 0.96
        assert (lidar[kept] == 0.5).all()


EVERYTHING = AugmentationSettings(
    resize=(0.5, 2.0),
    category_max=0.75,
    rotation=10.0,
    blur=0.5,
    photometric=1.0,
    color_jitter=1.0,
    tone=1.0,
    shade=0.5,
    thermal_jitter=1.0,
    lidar_thinning=0.5,
    sensor_dropout=0.5,
)


def test_a_seed_decides_everything_and_global_random_states_stay_as_they_are():
    before = augment(grid(), (64, 96), EVERYTHING, 7)
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    again = augment(grid(), (64, 96), EVERYTHING, 7)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]
    assert all(np.array_equal(before[name], again[name]) for name in before)
    other = augment(grid(), (64, 96), EVERYTHING, 8)
    assert not np.array_equal(before["rgb"], other["rgb"])


def test_what_is_stored_is_not_changed():
    planes, kept = grid(), grid()
    for plane in planes.values():
        plane.setflags(write=False)
    for seed in range(5):
        augment(planes, (64, 96), EVERYTHING, seed)
        augment(planes, (160, 240), AugmentationSettings(flip=0.0), seed)["rgb"][:] = 0
    assert all(np.array_equal(planes[name], kept[name]) for name in planes)


def test_rgb_is_augmented_the_same_with_and_without_other_sensors():
    alone = {name: plane for name, plane in grid().items() if name in ("rgb", "labels")}
    assert np.array_equal(
        augment(alone, (64, 96), EVERYTHING, 4)["rgb"], augment(grid(), (64, 96), EVERYTHING, 4)["rgb"]
    )


def test_sensors_are_dropped_each_on_its_own_and_rgb_never():
    flags = [
        present_flags(("rgb", "thermal", "lidar"), AugmentationSettings(sensor_dropout=0.2), s) for s in range(4000)
    ]
    assert set(flags[0]) == {"thermal", "lidar"}
    thermal, lidar = np.array([f["thermal"] for f in flags]), np.array([f["lidar"] for f in flags])
    assert abs(thermal.mean() - 0.8) < 0.02
    assert abs(lidar.mean() - 0.8) < 0.02
    assert abs((thermal & lidar).mean() - 0.64) < 0.025
    assert all(all(present_flags(("thermal",), AugmentationSettings(), s).values()) for s in range(50))


def test_tensors_hold_the_values_that_a_network_sees():
    tensors = to_tensors(
        {
            "rgb": np.array([[[255, 0, 51]]], np.uint8),
            "thermal": np.array([[[51]]], np.uint8),
            "lidar": np.array([[[0.5, -1.0, 2.0]]], np.float16),
            "labels": np.array([[[255]]], np.uint8),
        }
    )
    rgb = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    assert tensors["rgb"][:, 0, 0].tolist() == pytest.approx(rgb, abs=1e-6)
    assert tensors["thermal"][:, 0, 0].tolist() == pytest.approx([0.2] * 3, abs=1e-7)
    assert tensors["lidar"][:, 0, 0].tolist() == [0.5, -1.0, 2.0]
    assert tensors["labels"].tolist() == [[255]]
    assert {name: t.dtype for name, t in tensors.items()} == {
        "rgb": torch.float32,
        "thermal": torch.float32,
        "lidar": torch.float32,
        "labels": torch.int64,
    }


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"resize": (2.0, 0.5)}, "0 < low <= high"),
        ({"resize": (0.0, 1.0)}, "0 < low <= high"),
        ({"flip": 1.5}, "less than or equal to 1"),
        ({"sensor_dropout": 1.0}, "less than 1"),
        ({"hue": 0.1}, "Extra inputs"),
    ],
)
def test_settings_out_of_range_or_unknown_are_refused(settings, said):
    with pytest.raises(ValidationError, match=said):
        AugmentationSettings(**settings)


def mixable(labels, level, **more):
    labels = np.array(labels, np.uint8)[..., None]
    return {"rgb": np.full((*labels.shape[:2], 3), level, np.uint8), "labels": labels, **more}


def test_half_of_the_donors_classes_are_pasted_with_their_pixels():
    own, donor = mixable([[0, 0, 255], [0, 0, 0]], 10), mixable([[1, 2, 1], [3, 255, 2]], 20)
    seen = set()
    for seed in range(30):
        mixed = mix_classes(own, donor, seed)
        pasted = set(np.unique(mixed["labels"])) - {0, 255}
        assert len(pasted) == 2  # of three, rounded up
        where = np.isin(donor["labels"], list(pasted))[..., 0]
        np.testing.assert_array_equal(
            mixed["labels"][..., 0], np.where(where, donor["labels"][..., 0], own["labels"][..., 0])
        )
        np.testing.assert_array_equal(mixed["rgb"][..., 1], np.where(where, 20, 10))
        assert not where[1, 1]  # what nobody labelled is no class
        seen.add(frozenset(pasted))
    assert seen == {frozenset({1, 2}), frozenset({1, 3}), frozenset({2, 3})}


def test_a_donor_with_other_sensors_gives_nothing():
    own = mixable([[0, 0]], 10)
    thermal = np.zeros((1, 2, 1), np.uint8)
    assert mix_classes(own, mixable([[1, 2]], 20, thermal=thermal), 0) is own
