"""launch/autoware.launch.xml and the files that it takes."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from samseg_ros.config import Config, flatten, load
from samseg_ros.resources import config_dir
from samseg_ros.schema import json_schema

FILES = sorted((config_dir() / "autoware").glob("*.param.yaml"))


@pytest.fixture(scope="module")
def launch_file() -> Path:
    return config_dir().parent / "launch" / "autoware.launch.xml"


@pytest.fixture(scope="module")
def tree(launch_file: Path) -> ElementTree.Element:
    return ElementTree.parse(launch_file).getroot()


def test_every_argument_is_described(tree: ElementTree.Element) -> None:
    assert [a.get("name") for a in tree.iter("arg") if not a.get("description")] == []


def test_every_argument_is_used_and_every_one_that_is_used_is_there(tree: ElementTree.Element) -> None:
    declared = {a.get("name") for a in tree.iter("arg")}
    texts = [v for e in tree.iter() for k, v in e.attrib.items() if k != "description"]
    assert {name for text in texts for name in re.findall(r"\$\(var ([^)]+)\)", text)} == declared


def test_topics_have_autowares_names(tree: ElementTree.Element) -> None:
    defaults = {a.get("name"): a.get("default", "").replace("$(var camera_id)", "3") for a in tree.iter("arg")}
    image = defaults["input/image"].replace("$(var image_topic_name)", defaults["image_topic_name"])
    assert image == "/sensing/camera/camera3/image_rect_color"
    assert defaults["input/camera_info"] == "/sensing/camera/camera3/camera_info"
    assert defaults["input/pointcloud"] == "/sensing/lidar/concatenated/pointcloud"
    assert defaults["input/thermal"] == "/sensing/camera/thermal0/image_raw"
    assert defaults["output/mask"] == "/perception/object_recognition/detection/mask3"


def test_parameters_and_topics_exist(tree: ElementTree.Element) -> None:
    outputs = pytest.importorskip("samseg_ros.ros.outputs", reason="rclpy is not installed").OUTPUTS
    inputs = pytest.importorskip("samseg_ros.ros.inputs", reason="rclpy is not installed").INPUTS
    topics = {name for name, *_ in inputs.values()} | set(outputs)
    assert {r.get("from") for r in tree.iter("remap")} <= topics
    assert {p.get("name") for p in tree.iter("param")} - {None} <= set(flatten(Config()))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_the_parameter_file_loads_and_switches_the_preset_on(path: Path) -> None:
    config = load(path)
    assert config.autoware.mask_rle and config.autoware.pointcloud
    assert config.projection.rectified == "yes"


def test_the_parameter_file_is_there() -> None:
    assert [p.name for p in FILES] == ["fusion_node.param.yaml"]


def test_the_schema_beside_it_is_that_of_the_settings(project_root: Path) -> None:
    told = (project_root / "schema" / "fusion_node.schema.json").read_text()
    assert json.loads(told) == json_schema(), "samseg schema > schema/fusion_node.schema.json"


def test_launch_reads_the_file(launch_file: Path) -> None:
    pytest.importorskip("launch_xml", reason="launch is not installed: this is a part of a ROS 2 distribution")
    pytest.importorskip("launch_ros", reason="launch_ros is not installed: this is a part of a ROS 2 distribution")
    from launch.frontend import Parser

    from launch import LaunchDescription

    entity, parser = Parser.load(str(launch_file))
    description = parser.parse_description(entity)
    assert isinstance(description, LaunchDescription)
    assert {a.name for a in description.get_launch_arguments()} >= {"camera_id", "output/mask"}
