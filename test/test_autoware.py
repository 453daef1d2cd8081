"""Autoware's ids: what each class becomes, and what must never become what its filter deletes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from samseg_ros.autoware import NONE, AutowareIds, load_ids, mask_ids
from samseg_ros.config import AutowareConfig
from samseg_ros.errors import SamsegError
from samseg_ros.labels import LabelSet, load_labels, load_remap, shipped
from samseg_ros.types import Segmentation

# Autoware's own lists.
MASK_IDS = ["unknown", "building", "wall", "obstacle", "traffic_light", "traffic_sign", "person", "vehicle", "bike"]
MASK_IDS += ["road", "sidewalk", "road_paint", "curbstone", "crosswalk", "vegetation", "sky"]
CLOUD_IDS = ["car", "truck", "bus", "motorcycle", "bicycle", "pedestrian", "animal", "hazard", "flat_surface"]
CLOUD_IDS += ["structure", "vegetation", "noise"]
BOTH = AutowareConfig(mask_rle=True, pointcloud=True)
OURS = sorted(set(shipped()) - {"autoware", "autoware_cloud"})

WORDS = {
    # part of a class's name: what it may become in the mask, in the cloud
    r"^road$": ({9}, {8}),
    r"line|mark|curve": ({11}, {8}),
    r"sidewalk|pavement": ({10}, {8}),
    r"building": ({1}, {9}),
    r"^wall$": ({2}, {9}),
    r"fence|pole|guard|groundrail|static|car_stop": ({3}, {9}),
    r"traffic ?light|lamp": ({4}, {9}),
    r"sign": ({5}, {9}),
    r"person|pedestrian|rider|survivor": ({6}, {5}),
    r"^cars?$": ({7}, {0}),
    r"^truck$": ({7}, {1}),
    r"^(bus|train)$": ({7}, {2}),
    r"motorcycle|twowheeler": ({8}, {3}),
    r"bicycle|^bike$|cyclist": ({8}, {4}),
    r"vegetation|tree": ({14}, {10}),
    r"sky": ({15}, {255}),
    r"cone|dynamic|extinguisher|backpack|drill": ({3}, {7}),
    r"terrain|^ground$|railtrack|bump": ({0}, {8}),
    r"bridge": ({0}, {9}),
    r"other|unlabeled|background|water": ({0}, {255}),
}


def ids(labels: LabelSet) -> tuple[np.ndarray, np.ndarray]:
    tables = load_ids(BOTH, labels)
    assert tables.mask is not None and tables.cloud is not None
    return tables.mask, tables.cloud


def segmentation(labels: list[list[int]], confidence: list[list[int]]) -> Segmentation:
    blank = np.zeros(0)
    return Segmentation(
        np.array(labels, np.uint8), np.array(confidence, np.uint8), np.zeros((1, 1, 1), np.float32), blank, blank
    )


def test_the_two_sets_are_autowares_lists_in_its_order() -> None:
    assert list(load_labels("autoware").names) == MASK_IDS
    assert list(load_labels("autoware_cloud").names) == CLOUD_IDS


def test_cityscapes_becomes_what_it_has_to() -> None:
    names = load_labels("cityscapes").names
    expected = (
        "road:9,8 sidewalk:10,8 building:1,9 wall:2,9 fence:3,9 pole:3,9 traffic_light:4,9 traffic_sign:5,9 "
        "vegetation:14,10 terrain:0,8 sky:15,255 person:6,5 rider:6,5 car:7,0 truck:7,1 bus:7,2 train:7,2 "
        "motorcycle:8,3 bicycle:8,4"
    )
    mask, cloud = ids(load_labels("cityscapes"))
    got = " ".join(f"{n.replace(' ', '_')}:{mask[i]},{cloud[i]}" for i, n in enumerate(names))
    assert got == expected


@pytest.mark.parametrize("name", OURS)
def test_every_class_of_every_shipped_set_becomes_what_its_name_says(name: str) -> None:
    labels = load_labels(name)
    mask, cloud = ids(labels)
    for index, class_name in enumerate(labels.names):
        fitting = [allowed for pattern, allowed in WORDS.items() if re.search(pattern, class_name.lower())]
        assert len(fitting) == 1, f"{class_name}: {fitting}"
        assert mask[index] in fitting[0][0], class_name
        assert cloud[index] in fitting[0][1], class_name


@pytest.mark.parametrize("name", OURS)
def test_what_has_no_class_is_unknown_in_the_mask_and_never_a_car_in_the_cloud(name: str) -> None:
    labels = load_labels(name)
    mask, cloud = ids(labels)
    assert (mask[len(labels) :] == 0).all() and (cloud[len(labels) :] == 255).all()
    cars = [labels.names[i].lower() for i in range(len(labels)) if cloud[i] == 0]
    assert all(n.startswith("car") for n in cars)


def test_without_the_preset_no_table_is_needed_and_the_cloud_keeps_its_ids() -> None:
    own = LabelSet("mine", ("a",), np.zeros((1, 3), np.uint8))
    tables = load_ids(AutowareConfig(), own)
    assert (tables.mask, tables.cloud, tables.topics()) == (NONE.mask, NONE.cloud, {}) == (None, None, {})
    np.testing.assert_array_equal(tables.painted(np.array([0, 255], np.uint8)), [0, 255])


def test_topics_with_autowares_ids_are_named_with_their_set() -> None:
    topics = load_ids(BOTH, load_labels("world")).topics()
    assert {t: s.name for t, s in topics.items()} == {
        "output/mask_rle": "autoware",
        "output/pointcloud": "autoware_cloud",
    }
    only = load_ids(AutowareConfig(pointcloud=True), load_labels("world"))
    assert (only.mask, set(only.topics())) == (None, {"output/pointcloud"})


def test_unsure_pixels_and_unlabelled_ones_become_unknown() -> None:
    table = np.zeros(256, np.uint8)
    table[:3] = 9, 2, 7
    seen = segmentation([[0, 1, 2, 255], [0, 0, 1, 2]], [[255, 255, 255, 255], [127, 128, 0, 200]])
    np.testing.assert_array_equal(mask_ids(seen, table, 0.5), [[9, 2, 7, 0], [0, 9, 0, 7]])  # 127.5 of 255
    np.testing.assert_array_equal(mask_ids(seen, table, 0.0), [[9, 2, 7, 0], [9, 9, 2, 7]])
    np.testing.assert_array_equal(mask_ids(seen, table, 1.0), [[9, 2, 7, 0], [0, 0, 0, 0]])


def test_painted_points_get_the_clusterers_ids() -> None:
    _, cloud = ids(load_labels("world"))
    road, car, pedestrian, sky = (load_labels("world").names.index(n) for n in ("road", "car", "pedestrian", "sky"))
    seen = np.array([road, car, pedestrian, sky, 255], np.uint8)
    np.testing.assert_array_equal(AutowareIds(None, cloud).painted(seen), [8, 0, 5, 255, 255])


@pytest.mark.parametrize("setting", ["mask_rle", "pointcloud"])
def test_a_label_set_without_a_table_is_refused_with_what_to_do(setting: str) -> None:
    own = LabelSet("mine", ("a", "b"), np.zeros((2, 3), np.uint8))
    with pytest.raises(SamsegError, match=r"from the classes of mine to Autoware's ids, .* write a CSV \(from,to\)"):
        load_ids(AutowareConfig(**{setting: True}), own)


def test_classes_of_ones_own_under_a_shipped_name_do_not_get_the_shipped_table() -> None:
    world = load_labels("world")
    other = LabelSet("world", world.names[::-1], world.colors)
    with pytest.raises(SamsegError, match="there is none for them"):
        load_ids(BOTH, other)


def test_a_table_of_ones_own_serves_classes_of_ones_own_and_must_name_each(tmp_path: Path) -> None:
    own = LabelSet("mine", ("asphalt", "cow"), np.zeros((2, 3), np.uint8))
    mask, cloud = tmp_path / "mask.csv", tmp_path / "cloud.csv"
    mask.write_text("from,to\n0,9\n1,255\n")
    cloud.write_text("from,to\n0,8\n1,6\n")
    config = BOTH.model_copy(update={"mask_remap_path": str(mask), "pointcloud_remap_path": str(cloud)})
    tables = load_ids(config, own)
    assert tables.mask is not None and tables.mask[:2].tolist() == [9, 0]
    assert tables.cloud is not None and tables.cloud[:2].tolist() == [8, 6]
    cloud.write_text("from,to\n0,8\n")
    with pytest.raises(SamsegError, match=r"expected each of the 2 ids of mine once; missing: \[1\]"):
        load_ids(config, own)


@pytest.mark.parametrize("target", [1, 2, 9, 14])
def test_a_table_that_would_have_a_fence_deleted_is_refused(tmp_path: Path, target: int) -> None:
    own = LabelSet("mine", ("Wire-Fence",), np.zeros((1, 3), np.uint8))
    path = tmp_path / "mask.csv"
    path.write_text(f"from,to\n0,{target}\n")
    with pytest.raises(SamsegError, match=rf"expected Wire-Fence to become an obstacle .*, got {target}, whose points"):
        load_ids(AutowareConfig(mask_rle=True, mask_remap_path=str(path)), own)


@pytest.mark.parametrize(
    "name",
    ["Bicyclist", "pedestrians", "guard rail", "traffic_cone", "parked-car", "TwoWheelers", "SUVPickupTruck", "bus"],
)
def test_a_table_that_would_have_road_users_deleted_is_refused(tmp_path: Path, name: str) -> None:
    own = LabelSet("mine", (name,), np.zeros((1, 3), np.uint8))
    path = tmp_path / "mask.csv"
    path.write_text("from,to\n0,9\n")
    with pytest.raises(SamsegError, match=f"expected {name} to become an obstacle"):
        load_ids(AutowareConfig(mask_rle=True, mask_remap_path=str(path)), own)


@pytest.mark.parametrize(
    "name", ["carpet of leaves", "bike_lane", "pedestrian-area", "tram tracks", "CarPark", "silicone"]
)
def test_ground_may_become_road_whatever_uses_it(tmp_path: Path, name: str) -> None:
    own = LabelSet("mine", (name,), np.zeros((1, 3), np.uint8))
    path = tmp_path / "mask.csv"
    path.write_text("from,to\n0,9\n")
    tables = load_ids(AutowareConfig(mask_rle=True, mask_remap_path=str(path)), own)
    assert tables.mask is not None and tables.mask[0] == 9


def test_a_pole_that_a_remap_hides_behind_a_building_is_refused() -> None:
    world = load_labels("world")
    published = {name: index for index, name in enumerate(world.names)} | {"pole": world.names.index("building")}
    with pytest.raises(SamsegError, match=r"expected pole to become an obstacle .*, got 1, .* or labels\.remap_path"):
        load_ids(BOTH, world, published)


def test_the_guide_shows_the_shipped_tables(project_root: Path) -> None:
    told = re.findall(r"^\| (\w+) \| ([^|]+) \| (\d+) \w+ \| (\d+) \w+ \|$", guide(project_root), re.M)
    held = []
    for name in OURS:
        labels = load_labels(name)
        mask = load_remap(f"{name}_to_autoware", labels, load_labels("autoware"))
        cloud = load_remap(f"{name}_to_autoware_cloud", labels, load_labels("autoware_cloud"))
        held += [(name, n, str(mask[i]), str(cloud[i])) for i, n in enumerate(labels.names)]
    assert sorted(told) == sorted(held)


def test_the_class_names_of_the_guide_are_the_clouds_ids_in_order(project_root: Path) -> None:
    block = guide(project_root).partition("class_names:\n")[2].partition("```")[0]
    assert [line.split(":")[0].strip() for line in block.splitlines() if ":" in line] == CLOUD_IDS


def guide(project_root: Path) -> str:
    return (project_root / "docs" / "autoware.md").read_text()
