from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from samseg_ros.errors import SamsegError
from samseg_ros.labels import load_labels, shipped

CLASSES = {"cityscapes": 19, "mfnet": 9, "fmb": 14, "deliver": 25, "camvid": 11, "pst900": 5, "world": 12}


@pytest.mark.parametrize("name", CLASSES)
def test_a_shipped_set_has_its_official_number_of_classes_each_with_a_name_and_colour_of_its_own(name: str) -> None:
    labels = load_labels(name)
    assert len(labels) == CLASSES[name]
    assert len(set(labels.names)) == CLASSES[name]
    assert len({tuple(c) for c in labels.colors.tolist()}) == CLASSES[name]


def test_all_shipped_sets_are_known() -> None:
    assert set(shipped()) >= set(CLASSES)


@pytest.mark.parametrize(
    ("name", "index", "label", "color"),
    [
        # Cityscapes' own scripts: trainId, name, colour
        ("cityscapes", 0, "road", (128, 64, 128)),
        ("cityscapes", 5, "pole", (153, 153, 153)),
        ("cityscapes", 7, "traffic sign", (220, 220, 0)),
        ("cityscapes", 10, "sky", (70, 130, 180)),
        ("cityscapes", 13, "car", (0, 0, 142)),
        ("cityscapes", 18, "bicycle", (119, 11, 32)),
        # MFNet (Ha et al. 2017)
        ("mfnet", 0, "unlabeled", (0, 0, 0)),
        ("mfnet", 1, "car", (64, 0, 128)),
        ("mfnet", 5, "car_stop", (128, 128, 0)),
        ("mfnet", 8, "bump", (192, 64, 0)),
        # FMB (Liu et al. 2023)
        # in the files one more, 0 being nothing
        ("fmb", 0, "Road", (228, 228, 179)),
        ("fmb", 6, "Sky", (79, 73, 179)),
        ("fmb", 13, "Pole", (90, 113, 135)),
        # PST900 (Shivakumar et al. 2020)
        ("pst900", 0, "Background", (0, 0, 0)),
        ("pst900", 1, "Fire-Extinguisher", (255, 0, 0)),
        ("pst900", 4, "Survivor", (255, 255, 255)),
        # DeLiVER (Zhang et al. 2023)
        ("deliver", 0, "Building", (70, 70, 70)),
        ("deliver", 9, "Cars", (0, 0, 142)),
        ("deliver", 24, "Truck", (0, 0, 70)),
        # CamVid (Brostow et al. 2009), classes and order of SegNet
        ("camvid", 0, "Sky", (128, 128, 128)),
        ("camvid", 4, "Pavement", (0, 0, 192)),
        ("camvid", 10, "Bicyclist", (0, 128, 192)),
    ],
)
def test_official_ids_names_and_colours(name: str, index: int, label: str, color: tuple[int, int, int]) -> None:
    labels = load_labels(name)
    assert labels.names[index] == label
    assert tuple(labels.colors[index].tolist()) == color


def test_in_real_camvid_images_sky_is_above_buildings_and_buildings_above_road(shared_data: Path) -> None:
    names = load_labels("camvid").names
    files = sorted((shared_data / "camvid" / "label").rglob("*.png"))[::40]
    maps = [cv2.imread(str(f), cv2.IMREAD_UNCHANGED) for f in files]
    height = {n: np.concatenate([np.nonzero(m == i)[0] for m in maps]).mean() for i, n in enumerate(names)}
    assert height["Sky"] < height["Tree"] < height["Car"] < height["Road"]
    assert height["Building"] < height["Pavement"]
    assert max(int(m.max()) for m in maps) == len(names)  # 11 is ignored


def test_the_palette_is_black_beyond_the_classes() -> None:
    labels = load_labels("camvid")
    palette = labels.palette()
    assert palette.shape == (256, 3)
    np.testing.assert_array_equal(palette[:11], labels.colors)
    assert not palette[11:].any()


def test_a_set_of_ones_own_is_read_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("id,name,r,g,b\n0,floor,1,2,3\n1,wall,4,5,6\n")
    labels = load_labels(str(path))
    assert (labels.name, labels.names, labels.colors.tolist()) == ("mine", ("floor", "wall"), [[1, 2, 3], [4, 5, 6]])


def test_a_misspelt_set_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(SamsegError, match=r"no label set 'citiscapes'; did you mean 'cityscapes'\?"):
        load_labels("citiscapes")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,id,r,g,b\nroad,0,1,2,3\n", "expected the header id,name,r,g,b, got"),
        ("", "expected the header id,name,r,g,b, got None"),
        ("id,name,r,g,b\n", "expected ids 0, 1, 2"),
        ("id,name,r,g,b\n1,road,1,2,3\n", r"expected ids 0, 1, 2, \.\.\. below 255, got \[1\]"),
        ("id,name,r,g,b\n0,road,1,2,3\n0,road,1,2,3\n", r"got \[0, 0\]"),
        ("id,name,r,g,b\n0,road,1,2,300\n", "colours have to lie in 0..255"),
        ("id,name,r,g,b\n0,road,1,2,red\n", "whole numbers"),
        ("id,name,r,g,b\n0,road,1,2\n", "whole numbers"),
    ],
)
def test_a_broken_set_is_refused_and_told_why(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.csv"
    path.write_text(text)
    with pytest.raises(SamsegError, match=message):
        load_labels(str(path))


def test_a_set_that_is_not_utf_8_is_refused_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes("id,name,r,g,b\n0,Straße,1,2,3\n".encode("latin-1"))
    with pytest.raises(SamsegError, match=r"latin\.csv: cannot be read as CSV .*; save it as UTF-8"):
        load_labels(str(path))
