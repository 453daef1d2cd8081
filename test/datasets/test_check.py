from __future__ import annotations

from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from samseg_ros.datasets.check import WIDTH, check_split, class_shares, draw_page
from samseg_ros.errors import SamsegError
from samseg_ros.labels import load_labels

HEADING = 24
"""Height of a caption, pixels."""


def _silent(done: int, total: int) -> None:
    pass


def test_samples_conditions_and_pixels_are_counted(tmp_path: Path, trees: ModuleType) -> None:
    trees.mfnet(tmp_path)
    found = check_split("mfnet", tmp_path, "test", True, _silent)
    assert (found.samples, found.opened, found.expected) == (2, 2, 393)
    assert found.conditions == {"day": 1, "night": 1} and not found.difficulties
    # twice [[0, 1, 2], [8, 0, 3]]
    assert {i: int(n) for i, n in enumerate(found.pixels) if n} == {0: 4, 1: 2, 2: 2, 3: 2, 8: 2}


def test_fewer_samples_than_the_dataset_has_are_a_problem(tmp_path: Path, trees: ModuleType) -> None:
    trees.mfnet(tmp_path)
    found = check_split("mfnet", tmp_path, "test", True, _silent)
    assert found.problems == ["mfnet test: expected 393 samples, got 2; download or unpack it again"]


def test_shares_are_of_the_labelled_pixels_and_ignored_of_all(tmp_path: Path, trees: ModuleType) -> None:
    trees.fmb(tmp_path)
    found = check_split("fmb", tmp_path, "test", True, _silent)
    # a sample has [[ignored, 0, 13], [8, ignored, 7]]
    shares = class_shares([check_split("fmb", tmp_path / "nowhere", "train", True, _silent), found])
    assert {name: share for name, (_, share) in shares.items() if share} == {
        "Road": 0.25,
        "Person": 0.25,
        "Car": 0.25,
        "Pole": 0.25,
        "ignored": pytest.approx(1 / 3),
    }
    assert not any(first for first, _ in shares.values())


def test_damaged_files_are_told_one_by_one_and_the_rest_is_counted(tmp_path: Path, trees: ModuleType) -> None:
    trees.fmb(tmp_path)
    damaged = tmp_path / "train" / "Visible" / "00001.png"
    damaged.write_bytes(damaged.read_bytes()[:40])
    trees.save(tmp_path / "train" / "Label" / "00003.png", trees.ids([0, 99, 0], [0, 0, 0]))
    found = check_split("fmb", tmp_path, "train", True, _silent)
    assert (found.samples, found.opened) == (3, 1)
    assert "Visible/00001.png: not a readable image" in found.problems[0]
    assert "Label/00003.png: expected the ids 0-14, got 99 as well" in found.problems[1]


def test_a_split_that_does_not_open_is_one_problem(tmp_path: Path) -> None:
    found = check_split("msrs", tmp_path, "train", False, _silent)
    assert found.samples == 0 and len(found.problems) == 1 and "msrs: 3 of 3 files are missing" in found.problems[0]


def test_some_samples_are_opened_or_all(tmp_path: Path, trees: ModuleType) -> None:
    for i in range(90):
        for part, pixels in (("rgb", trees.picture(i)), ("thermal", trees.picture(i, 1)), ("labels", trees.ids([0]))):
            trees.save(tmp_path / "train" / part / f"{i:02d}.png", np.resize(pixels, (1, 1, *pixels.shape[2:])))
    steps: list[tuple[int, int]] = []
    some = check_split("pst900", tmp_path, "train", False, lambda *step: steps.append(step))
    assert some.opened == 40 and steps[0] == (1, 40) and steps[-1] == (40, 40)
    assert check_split("pst900", tmp_path, "train", True, _silent).opened == 90


def test_a_page_has_a_row_a_sample_a_column_a_sensor_and_the_labels_in_their_colours(
    tmp_path: Path, trees: ModuleType
) -> None:
    trees.mfnet(tmp_path)
    page = tmp_path / "out" / "page.png"
    draw_page("mfnet", tmp_path, ["val"], page)
    image = cv2.imread(str(page))[:, :, ::-1]
    height = round(WIDTH * 2 / 3)
    assert image.shape[1] == 3 * WIDTH
    assert image.shape[0] > HEADING + height  # and the legend
    labels = image[HEADING : HEADING + height, 2 * WIDTH :]
    expected = load_labels("mfnet").colors[[[0, 1, 2], [8, 0, 3]]]
    centres = labels[np.ix_([height // 4, 3 * height // 4], [WIDTH // 6, WIDTH // 2, 5 * WIDTH // 6])]
    np.testing.assert_array_equal(centres, expected)


def test_a_page_shows_each_condition(tmp_path: Path, trees: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(30):
        name = f"{i:05d}{'N' if i == 17 else 'D'}"
        for part, pixels in (("vi", trees.picture(i)), ("ir", trees.picture(i, 1))):
            trees.save(tmp_path / "train" / part / f"{name}.png", pixels)
        trees.save(tmp_path / "train" / "Segmentation_labels" / f"{name}.png", trees.ids([0, 1, 2], [8, 0, 3]))
    captions: list[str] = []

    def sheet(images: list[np.ndarray], texts: list[str], columns: int) -> np.ndarray:
        captions.extend(text for text in texts if text.startswith("train"))
        return np.zeros((9, 99, 3), np.uint8)

    monkeypatch.setattr("samseg_ros.datasets.check.contact_sheet", sheet)
    draw_page("msrs", tmp_path, ["train"], tmp_path / "page.png")
    # three rows for each condition: first, middle and last by day, and the only one by night
    assert captions == ["train 00000D day", "train 00014D day", "train 00017N night", "train 00029D day"]


def test_a_page_of_the_world_shows_lidar_points(tmp_path: Path) -> None:
    draw_page("world", None, ["val"], tmp_path / "page.png")
    image = cv2.imread(str(tmp_path / "page.png"))
    assert image.shape[1] == 4 * WIDTH
    lidar = image[HEADING : HEADING + 240, 2 * WIDTH : 3 * WIDTH].astype(int)
    saturated = lidar.max(2) - lidar.min(2) > 120  # the colours of depth, on a darkened picture
    assert 0.05 < saturated.mean() < 0.95


def test_nothing_that_can_be_drawn_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SamsegError, match="msrs: no sample could be read"):
        draw_page("msrs", tmp_path, ["train"], tmp_path / "page.png")


def test_a_page_is_a_png(tmp_path: Path, trees: ModuleType) -> None:
    trees.mfnet(tmp_path)
    with pytest.raises(SamsegError, match=r"page\.pdf: expected a name that ends in \.png"):
        draw_page("mfnet", tmp_path, ["val"], tmp_path / "page.pdf")
