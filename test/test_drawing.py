from __future__ import annotations

import numpy as np
import pytest

from samseg_ros.drawing import color_mask, contact_sheet, depth_overlay, gray, legend, overlay
from samseg_ros.errors import InputError
from samseg_ros.labels import LabelSet, load_labels

CITYSCAPES = load_labels("cityscapes")


def test_a_color_mask_is_the_palette_looked_up() -> None:
    labels = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
    np.testing.assert_array_equal(color_mask(labels, CITYSCAPES.palette()), CITYSCAPES.palette()[labels])


def test_a_color_mask_takes_a_view_of_labels() -> None:
    labels = np.arange(64, dtype=np.uint8).reshape(8, 8)[::2, 1:7]
    np.testing.assert_array_equal(color_mask(labels, CITYSCAPES.palette()), CITYSCAPES.palette()[labels])


def test_a_blend_computed_by_hand() -> None:
    # road is (128, 64, 128); a quarter of it and three quarters of (200, 100, 0)
    image = np.full((2, 2, 3), [200, 100, 0], np.uint8)
    blended = overlay(image, np.zeros((2, 2), np.uint8), CITYSCAPES.palette(), 0.25)
    assert (blended == [182, 91, 32]).all()


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.55, 1.0])
def test_a_blend_is_the_weighted_mean_to_one_level(alpha: float) -> None:
    rng = np.random.default_rng(0)
    image, labels = rng.integers(0, 256, (30, 40, 3), np.uint8), rng.integers(0, 19, (30, 40), np.uint8)
    expected = image * (1 - alpha) + CITYSCAPES.colors[labels] * alpha
    assert np.abs(overlay(image, labels, CITYSCAPES.palette(), alpha) - expected).max() <= 1


def test_unlabelled_pixels_and_classes_drawn_black_show_the_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    labels = np.full((4, 4), 255, np.uint8)
    labels[0] = 0  # MFNet's "unlabeled" is black
    np.testing.assert_array_equal(overlay(image, labels, load_labels("mfnet").palette(), 0.7), image)


def test_labels_of_another_size_are_refused() -> None:
    with pytest.raises(InputError, match=r"labels: expected the image's size \(4, 4\), got \(4, 5\)"):
        overlay(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8), CITYSCAPES.palette(), 0.5)


def test_depth_is_painted_as_squares_and_the_rest_of_the_image_stays() -> None:
    image = np.full((60, 80, 3), 77, np.uint8)
    depth = np.full((60, 80), np.nan, np.float32)
    depth[20, 30] = 10
    changed = (depth_overlay(image, depth, 80) != image).any(2)
    assert np.argwhere(changed).tolist() == [[r, c] for r in (19, 20, 21) for c in (29, 30, 31)]


def test_near_is_red_and_far_is_blue() -> None:
    depth = np.full((9, 27), np.nan, np.float32)
    depth[4, [4, 13, 22]] = [2, 20, 79]
    painted = depth_overlay(np.zeros((9, 27, 3), np.uint8), depth, 80).astype(int)
    near, _, far = painted[4, 4], painted[4, 13], painted[4, 22]
    assert near[0] > near[2] + 50
    assert far[2] > far[0]
    assert len({tuple(c) for c in painted[4, [4, 13, 22]]}) == 3


def test_the_nearer_of_two_squares_is_on_top() -> None:
    depth = np.full((9, 9), np.nan, np.float32)
    depth[4, 3], depth[4, 5] = 50, 5
    alone = depth.copy()
    alone[4, 3] = np.nan
    image = np.zeros((9, 9, 3), np.uint8)
    np.testing.assert_array_equal(depth_overlay(image, depth, 80)[3:6, 4:7], depth_overlay(image, alone, 80)[3:6, 4:7])


def test_depth_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="depth: expected the image's size"):
        depth_overlay(np.zeros((4, 4, 3), np.uint8), np.zeros((2, 2), np.float32), 80)


def test_values_become_grey_levels() -> None:
    values = np.array([[0, 5, 10, 20, -3, np.nan, np.inf]])
    assert gray(values, 0, 10)[0, :, 0].tolist() == [0, 128, 255, 255, 0, 0, 255]
    assert gray(values, 0, 10).shape == (1, 7, 3)


@pytest.mark.parametrize("width", [120, 400, 2000])
def test_a_legend_shows_every_colour_whatever_its_width(width: int) -> None:
    strip = legend(CITYSCAPES, width)
    assert strip.shape[1] == width
    shown = {tuple(c) for c in strip.reshape(-1, 3).tolist()}
    assert {tuple(c) for c in CITYSCAPES.colors.tolist()} <= shown


def test_a_narrow_legend_is_taller() -> None:
    assert legend(CITYSCAPES, 200).shape[0] > legend(CITYSCAPES, 2000).shape[0]


def test_a_legend_of_one_class_has_one_row() -> None:
    assert legend(LabelSet("one", ("road",), np.array([[1, 200, 3]], np.uint8)), 30).shape[0] < 30


def test_a_contact_sheet_has_its_images_in_rows_under_their_captions() -> None:
    images = [np.full((40, 60, 3), level, np.uint8) for level in (50, 100, 150)]
    sheet = contact_sheet(images, ["a", "b", "c"], columns=2)
    caption = sheet.shape[0] // 2 - 40
    assert sheet.shape == (2 * (40 + caption), 120, 3)
    assert (sheet[caption : caption + 40, :60] == 50).all()
    assert (sheet[caption : caption + 40, 60:] == 100).all()
    assert (sheet[-40:, :60] == 150).all()
    assert len(np.unique(sheet[:caption, :60])) > 1, "the caption is written"


@pytest.mark.parametrize("width", [640, 1280, 1920, 3840])
@pytest.mark.parametrize("length", [30, 52, 80])
def test_a_caption_ends_within_its_picture(width: int, length: int) -> None:
    caption = ("mm_sam_adapter rgb thermal lidar 45.3 % mIoU at night, " * 2)[: length - 1] + "W"
    sheet = contact_sheet([np.zeros((8, width, 3), np.uint8)], [caption], columns=1)[:-8]
    assert (sheet[:, -3:] == sheet[0, 0]).all()
    assert (sheet[:, 6:60] != sheet[0, 0]).any()


def test_images_of_other_sizes_are_fitted_into_the_cell_with_their_aspect() -> None:
    wide = np.full((20, 120, 3), 200, np.uint8)
    sheet = contact_sheet([np.zeros((40, 60, 3), np.uint8), wide], ["a", "b"], columns=2)
    cell = sheet[-40:, 60:]
    rows = np.flatnonzero((cell == 200).all((1, 2)))
    assert len(rows) == 10  # 60 wide, a sixth as high
    assert rows[0] == 15


def test_a_contact_sheet_is_no_wider_than_its_images() -> None:
    assert contact_sheet([np.zeros((40, 60, 3), np.uint8)], ["a"], columns=5).shape[1] == 60


@pytest.mark.parametrize(("images", "captions"), [(0, 0), (2, 1)])
def test_a_contact_sheet_needs_images_and_a_caption_for_each(images: int, captions: int) -> None:
    with pytest.raises(InputError, match=f"got {images} images and {captions} captions"):
        contact_sheet([np.zeros((4, 4, 3), np.uint8)] * images, ["x"] * captions, 2)
