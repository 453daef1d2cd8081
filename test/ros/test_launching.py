from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from samseg_ros.errors import SamsegError
from samseg_ros.resources import config_dir
from samseg_ros.ros.launching import (
    PATTERNS,
    input_topics,
    is_true,
    network_threads,
    node_path,
    one_per_camera,
    parameter_file,
)
from samseg_ros.ros.outputs import OUTPUTS

ROOT = Path(__file__).resolve().parents[2]


def given(**values: str) -> dict[str, str]:
    blank = dict.fromkeys((*PATTERNS, "cameras", "namespace"), "")
    return {**blank, "threads": "auto", "camera": "/camera/image_raw", "node_name": "fusion_node", **values}


def test_a_switch_is_read_in_the_usual_spellings_and_nothing_else_passes_for_one() -> None:
    assert [is_true({"rviz": v}, "rviz") for v in ("true", "True", "1", "false", "off")] == [True] * 3 + [False] * 2
    with pytest.raises(SamsegError, match="rviz: expected true or false, got 'maybe'"):
        is_true({"rviz": "maybe"}, "rviz")


def test_camera_info_is_looked_for_beside_the_image() -> None:
    assert input_topics(given(thermal="thermal/image_raw/compressed", lidar="/points")) == {
        "~/input/image": "/camera/image_raw",
        "~/input/image/camera_info": "/camera/camera_info",
        "~/input/thermal": "thermal/image_raw",
        "~/input/thermal/camera_info": "thermal/camera_info",
        "~/input/pointcloud": "/points",
    }


def test_camera_info_of_a_topic_without_a_folder_stays_as_relative_as_the_topic() -> None:
    assert input_topics(given(camera="image"))["~/input/image/camera_info"] == "camera_info"
    assert input_topics(given(camera="/image"))["~/input/image/camera_info"] == "/camera_info"


def test_what_is_not_named_is_not_remapped() -> None:
    assert list(input_topics(given())) == ["~/input/image", "~/input/image/camera_info"]


def test_an_empty_camera_is_refused_since_every_frame_starts_from_its_image() -> None:
    with pytest.raises(SamsegError, match="camera is empty"):
        input_topics(given(camera=""))


def test_each_camera_gets_a_namespace_and_its_own_topics() -> None:
    nodes = one_per_camera(
        given(
            cameras="front, left",
            camera="/{camera}/image",
            lidar="/points",
            namespace="car",
            params_file="{camera}.yaml",
        )
    )
    assert [(n["namespace"], n["camera"], n["lidar"], n["params_file"]) for n in nodes] == [
        ("car/front", "/front/image", "/points", "front.yaml"),
        ("car/left", "/left/image", "/points", "left.yaml"),
    ]


def test_the_full_name_of_a_node_has_one_slash_between_its_parts() -> None:
    assert node_path(given()) == "/fusion_node"
    assert [node_path(n) for n in one_per_camera(given(cameras="front"))] == ["/front/fusion_node"]
    assert node_path(given(namespace="/car")) == "/car/fusion_node"


@pytest.mark.parametrize("name", ["camera", "thermal", "camera_info", "thermal_info"])
def test_several_cameras_with_one_topic_are_refused(name: str) -> None:
    topics = {"camera": "/{camera}/image", name: "/x/image"}
    with pytest.raises(SamsegError, match=rf"^{name}: expected a topic with {{camera}} .*{name}:=/{{camera}}/image$"):
        one_per_camera(given(cameras="front,left", **topics))


def test_a_placeholder_without_cameras_is_refused() -> None:
    with pytest.raises(SamsegError, match=r"camera holds \{camera\}, but no camera is named"):
        one_per_camera(given(camera="/{camera}/image"))


@pytest.mark.parametrize("cameras", ["front,front", "1st", "front/left", "front-left"])
def test_names_that_cannot_be_namespaces_of_different_nodes_are_refused(cameras: str) -> None:
    with pytest.raises(SamsegError, match="cameras: expected different names"):
        one_per_camera(given(cameras=cameras, camera="/{camera}/image"))


@pytest.mark.parametrize(("cores", "cameras", "threads"), [(8, 3, 2), (2, 3, 1), (None, 2, 1), (8, 1, None)])
def test_several_cameras_share_the_cores_and_one_is_left_to_its_parameter_file(
    monkeypatch: pytest.MonkeyPatch, cores: int | None, cameras: int, threads: int | None
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert network_threads(given(), cameras) == threads


def test_threads_that_are_named_win_and_a_parameter_file_of_the_users_own_is_not_overruled() -> None:
    assert network_threads(given(threads="5", params_file="mine.yaml"), 3) == 5
    assert network_threads(given(threads="0"), 1) == 0
    assert network_threads(given(params_file="mine.yaml"), 3) is None


@pytest.mark.parametrize("threads", ["", "many", "-1", "1.5"])
def test_threads_that_are_no_number_of_threads_are_refused(threads: str) -> None:
    with pytest.raises(SamsegError, match="threads: expected auto or a number, got"):
        network_threads(given(threads=threads), 2)


def test_a_named_parameter_file_wins_over_that_of_the_model(tmp_path: Path) -> None:
    mine = tmp_path / "mine.param.yaml"
    mine.touch()
    assert parameter_file("ad_sam", str(mine)) == mine
    assert parameter_file("", "") is None


def test_a_parameter_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SamsegError, match="params_file: there is no "):
        parameter_file("", str(tmp_path / "absent.yaml"))
    with pytest.raises(SamsegError, match=r"did you mean 'fusionsam'\?"):
        parameter_file("fusion_sam", "")


def test_launch_files_need_nothing_of_ours_that_the_python_of_the_distribution_lacks() -> None:
    ours = ["ros/launching.py", "resources.py", "errors.py", "__init__.py", "ros/__init__.py"]
    for name in ours:
        tree = ast.parse((ROOT / "samseg_ros" / name).read_text())
        modules = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
        modules |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        foreign = {m for m in modules if m.split(".")[0] not in sys.stdlib_module_names}
        assert foreign <= {"samseg_ros.errors", "samseg_ros.resources", "ament_index_python.packages"}, name


def published() -> set[str]:
    return {f"/fusion_node{topic.removeprefix('~')}" for topic in OUTPUTS} | {"/diagnostics"}


def test_the_foxglove_layout_shows_only_what_the_node_publishes() -> None:
    text = (config_dir() / "foxglove" / "fusion.json").read_text()
    assert set(re.findall(r'"(/[\w/]+)"', text)) - published() == set()


def test_every_panel_of_the_foxglove_layout_has_a_place_and_settings() -> None:
    layout = json.loads((config_dir() / "foxglove" / "fusion.json").read_text())

    def placed(tree: Any) -> set[str]:
        return {tree} if isinstance(tree, str) else placed(tree["first"]) | placed(tree["second"])

    assert placed(layout["layout"]) == set(layout["configById"])
    assert {panel.partition("!")[0] for panel in layout["configById"]} == {"Image", "3D", "DiagnosticSummary"}


@pytest.mark.parametrize("path", sorted((config_dir() / "rviz").glob("*.rviz")), ids=lambda p: p.name)
def test_an_rviz_layout_shows_only_what_the_node_publishes(path: Path) -> None:
    displays = yaml.safe_load(path.read_text())["Visualization Manager"]["Displays"]
    topics = {d["Topic"]["Value"] for d in displays if "Topic" in d}
    assert topics and topics <= published()
