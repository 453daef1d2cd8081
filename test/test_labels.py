from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from samseg_ros.errors import SamsegError
from samseg_ros.labels import (
    LabelSet,
    format_label_info,
    load_labels,
    load_remap,
    parse_label_info,
    remap_target,
    shipped,
)
from samseg_ros.resources import config_dir

CLASSES = {"cityscapes": 19, "mfnet": 9, "fmb": 14, "deliver": 25, "camvid": 11, "pst900": 5, "world": 12}
CLASSES |= {"autoware": 16, "autoware_cloud": 12}


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
        (f"id,name,r,g,b\n0,road,1,2,{10**30}\n", "whole numbers"),
        ("id,name,r,g,b\n0,road,1,2,3\n1,road,4,5,6\n", "a name of its own for each class, got 'road'"),
        ("id,name,r,g,b\n0, ,1,2,3\n", "a name of its own for each class, got ' '"),
    ],
)
def test_a_broken_set_is_refused_and_told_why(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.csv"
    path.write_text(text)
    with pytest.raises(SamsegError, match=message):
        load_labels(str(path))


def test_a_set_that_a_spreadsheet_saved_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("\ufeffid,name,r,g,b\r\n0,floor,1,2,3\r\n", encoding="utf-8")
    assert load_labels(str(path)).names == ("floor",)


def test_a_shipped_remap_is_refused_for_classes_that_it_does_not_know() -> None:
    world, mfnet = load_labels("world"), load_labels("mfnet")
    with pytest.raises(SamsegError, match="world_to_mfnet: expected the classes of mfnet, got those of world"):
        load_remap("world_to_mfnet", world, world)  # ids 0 to 8 are there, and are other classes
    other = LabelSet("city", tuple(f"class {i}" for i in range(len(world))), world.colors)
    with pytest.raises(SamsegError, match="world_to_mfnet: expected the classes of world, got those of city"):
        load_remap("world_to_mfnet", other, mfnet)


def test_every_shipped_remap_fits_the_two_sets_in_its_name() -> None:
    for path in (config_dir() / "remaps").glob("*.csv"):
        source, _, target = path.stem.partition("_to_")
        table = load_remap(path.stem, load_labels(source), load_labels(target))
        assert (table[len(load_labels(source)) :] == 255).all()


def test_a_remap_says_of_every_class_what_it_becomes(tmp_path: Path) -> None:
    world, mfnet = load_labels("world"), load_labels("mfnet")
    table = load_remap("world_to_mfnet", world, mfnet)
    became = {name: mfnet.names[table[i]] for i, name in enumerate(world.names)}
    assert (became["car"], became["pedestrian"], became["road"]) == ("car", "person", "unlabeled")
    path = tmp_path / "mine.csv"
    for text, told in (
        ("old,new\n0,1\n", "expected a CSV of whole numbers under from,to"),
        ("from,to\n0,1\n", r"expected each of the 12 ids of world once; missing: \[1, 2, 3"),
        ("from,to\n" + "".join(f"{i},9\n" for i in range(12)), r"expected ids of mfnet \(below 9\) or 255, got 9"),
    ):
        path.write_text(text)
        with pytest.raises(SamsegError, match=told):
            load_remap(str(path), world, mfnet)
    path.write_text("\ufefffrom,to\n" + "".join(f"{i},0\n" for i in range(12)), encoding="utf-8")  # as Excel saves it
    assert not load_remap(str(path), world, mfnet)[:12].any()
    with pytest.raises(SamsegError, match=r"no remap 'world_to_mfnett'; did you mean 'world_to_mfnet'\?"):
        load_remap("world_to_mfnett", world, mfnet)


def test_the_set_that_a_remap_leads_to_is_named_or_stands_in_the_name_of_the_table() -> None:
    assert remap_target("world_to_mfnet", "").name == "mfnet"
    assert remap_target("/a/b/mine_to_cityscapes.csv", "").name == "cityscapes"
    assert remap_target("world_to_mfnet", "fmb").name == "fmb"
    with pytest.raises(
        SamsegError, match=r"labels\.remap_labels: expected the label set that mine\.csv leads to, got noth"
    ):
        remap_target("mine.csv", "")
    with pytest.raises(SamsegError, match="no label set 'mars'"):
        remap_target("world_to_mars", "")


def test_topics_of_another_set_are_told_beside_the_masks_classes() -> None:
    text = format_label_info(load_labels("world"), {"output/pointcloud": load_labels("autoware_cloud")})
    assert parse_label_info(text).names == load_labels("world").names
    other = json.loads(text)["topics"]["output/pointcloud"]
    assert (other["name"], other["classes"][8]["name"]) == ("autoware_cloud", "flat_surface")
    assert "topics" not in json.loads(format_label_info(load_labels("world")))


def test_what_a_label_info_says_comes_back_whatever_the_order_of_its_classes() -> None:
    text = format_label_info(load_labels("mfnet"))
    tree = json.loads(text)
    for shown in (text, json.dumps({**tree, "classes": tree["classes"][::-1]})):
        read = parse_label_info(shown)
        assert (read.name, read.names) == ("mfnet", load_labels("mfnet").names)
        np.testing.assert_array_equal(read.colors, load_labels("mfnet").colors)


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        '{"name": "x", "classes": []}',
        '{"name": "x", "classes": [{"id": 3, "name": "a", "color": [0, 0, 0]}]}',
        '{"name": "x", "classes": [{"id": 0, "name": "a", "color": [0, 0, 0, 0]}]}',
        "[" * 100_000,
    ],
)
def test_a_broken_label_info_is_refused(text: str) -> None:
    with pytest.raises(SamsegError, match="label info: expected"):
        parse_label_info(text)


def test_a_set_that_is_not_utf_8_is_refused_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes("id,name,r,g,b\n0,Straße,1,2,3\n".encode("latin-1"))
    with pytest.raises(SamsegError, match=r"latin\.csv: cannot be read as CSV .*; save it as UTF-8"):
        load_labels(str(path))
