"""The launch files under a real launch_ros: a full ROS 2 installation is needed, the skip says so."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip(
    "launch_ros", reason="launch_ros is absent: it comes with a ROS 2 distribution, not with the wheels"
)

from launch.actions import IncludeLaunchDescription, SetLaunchConfiguration
from launch_ros.actions import Node
from launch_ros.utilities import evaluate_parameters

from launch import LaunchContext, LaunchDescription
from samseg_ros.config import load
from samseg_ros.errors import SamsegError

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
TOPICS = {
    "image": "/cam/image/compressed",
    "thermal": "",
    "lidar": "/points",
    "camera_info": "/info",
    "thermal_info": "",
}


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name.replace(".", "_"), LAUNCH / name)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def fusion() -> ModuleType:
    return module("fusion.launch.py")


@pytest.fixture
def replay(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    loaded = module("replay.launch.py")
    monkeypatch.setattr(loaded, "recorded_topics", lambda given: TOPICS)
    return loaded


def context(file: ModuleType, **arguments: str) -> LaunchContext:
    made = LaunchContext()
    made.launch_configurations.update({name: default or "" for name, (default, _) in file.ARGUMENTS.items()})
    made.launch_configurations.update(arguments)
    return made


def started(file: ModuleType, **arguments: str) -> list[dict[str, Any]]:
    return [facts(node, context(file)) for node in file.start(context(file, **arguments))]


def facts(node: Node, where: LaunchContext) -> dict[str, Any]:
    node._perform_substitutions(where)
    parameters: dict[str, Any] = {}
    for part in evaluate_parameters(where, node._Node__parameters):
        parameters |= dict(part) if isinstance(part, dict) else {"file": Path(str(part)).name}
    return {
        "executable": node.node_executable,
        "name": node.node_name,
        "parameters": parameters,
        "remaps": dict(node.expanded_remapping_rules or []),
    }


@pytest.mark.parametrize("name", sorted(f.name for f in LAUNCH.glob("*.launch.py")))
def test_every_argument_says_what_it_is(name: str) -> None:
    description: LaunchDescription = module(name).generate_launch_description()
    arguments = description.get_launch_arguments()
    assert len(arguments) >= 15, "those of fusion.launch.py are among them"
    assert [a.name for a in arguments if len(a.description) < 15] == []


def test_the_defaults_start_one_node_with_the_camera_alone(fusion: ModuleType) -> None:
    (node,) = started(fusion)
    assert (node["executable"], node["name"]) == ("fusion_node", "/fusion_node")
    assert node["parameters"] == {
        "use_sim_time": False,
        "autostart": True,
        "inputs.thermal": False,
        "inputs.lidar": False,
    }
    assert set(node["remaps"]) == {"~/input/image", "~/input/image/camera_info"}


def test_a_topic_switches_its_input_on_and_an_empty_one_off(fusion: ModuleType) -> None:
    (node,) = started(fusion, thermal="/thermal/image_raw", lidar="")
    assert (node["parameters"]["inputs.thermal"], node["parameters"]["inputs.lidar"]) == (True, False)
    assert node["remaps"]["~/input/thermal"] == "/thermal/image_raw"
    assert "~/input/pointcloud" not in node["remaps"]


def test_a_model_brings_its_parameter_file_and_the_arguments_win_over_it(fusion: ModuleType) -> None:
    (node,) = started(fusion, model="fusionsam", autostart="false", checkpoint="/weights")
    assert next(iter(node["parameters"])) == "file", "what comes later wins"
    assert node["parameters"]["file"] == "fusionsam.param.yaml"
    assert node["parameters"]["model.name"] == "fusionsam"
    assert node["parameters"]["model.checkpoint"] == "/weights"
    assert node["parameters"]["autostart"] is False


def test_three_cameras_are_three_nodes_with_topics_of_their_own_and_one_lidar(fusion: ModuleType) -> None:
    nodes = started(fusion, cameras="front,left,right", camera="/{camera}/image_raw", lidar="/points")
    assert [n["name"] for n in nodes] == ["/front/fusion_node", "/left/fusion_node", "/right/fusion_node"]
    assert [n["remaps"]["~/input/image"] for n in nodes] == ["/front/image_raw", "/left/image_raw", "/right/image_raw"]
    assert {n["remaps"]["~/input/pointcloud"] for n in nodes} == {"/points"}


def test_the_networks_of_several_cameras_get_a_share_of_the_cores_and_that_of_one_what_its_file_says(
    fusion: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    several = {"cameras": "front,left", "camera": "/{camera}/image_raw", "model": "mm_sam_adapter"}
    assert [n["parameters"]["model.threads"] for n in started(fusion, **several)] == [4, 4]
    assert [n["parameters"]["model.threads"] for n in started(fusion, **several, threads="1")] == [1, 1]
    (node,) = started(fusion, model="mm_sam_adapter")
    assert "model.threads" not in node["parameters"]


@pytest.mark.parametrize(("argument", "executable"), [("rviz", "rviz2"), ("foxglove", "foxglove_bridge")])
def test_a_viewer_comes_on_demand(
    fusion: ModuleType, monkeypatch: pytest.MonkeyPatch, argument: str, executable: str
) -> None:
    monkeypatch.setattr(fusion, "get_package_prefix", lambda package: "/opt/ros")
    assert [n["executable"] for n in started(fusion, **{argument: "true"})] == ["fusion_node", executable]


def test_rviz_shows_the_node_where_it_really_is(fusion: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusion, "get_package_prefix", lambda package: "/opt/ros")
    _, viewer = started(fusion, rviz="true", namespace="car", node_name="eyes")
    assert viewer["remaps"]["/fusion_node/debug/overlay"] == "/car/eyes/debug/overlay"


@pytest.mark.parametrize("argument", ["rviz", "foxglove"])
def test_a_viewer_that_is_not_installed_is_named_with_its_remedy(
    fusion: ModuleType, monkeypatch: pytest.MonkeyPatch, argument: str
) -> None:
    def absent(package: str) -> str:
        raise fusion.PackageNotFoundError(package)

    monkeypatch.setattr(fusion, "get_package_prefix", absent)
    with pytest.raises(SamsegError, match=rf"{argument}:=true needs the package \w+, .*apt install ros-"):
        fusion.start(context(fusion, **{argument: "true"}))


def test_a_replay_hands_the_topics_of_the_recording_to_the_node(replay: ModuleType) -> None:
    where = context(replay, bag="rec")
    for action in replay.choose_topics(where):
        assert isinstance(action, SetLaunchConfiguration)
        action.execute(where)
    chosen = {name: where.launch_configurations[name] for name in ("camera", "thermal", "lidar", "camera_info")}
    assert chosen == {"camera": "/cam/image/compressed", "thermal": "", "lidar": "/points", "camera_info": "/info"}
    assert replay.topic_arguments(replay.given(where)) == [
        "rec",
        "--image-topic=/cam/image/compressed",
        "--thermal-topic=",
        "--lidar-topic=/points",
    ]


def test_topics_are_guessed_unless_the_user_names_them(replay: ModuleType) -> None:
    values = replay.given(context(replay, bag="rec", thermal=""))
    assert replay.topic_arguments(values) == ["rec", "--thermal-topic="]
    assert replay.topic_arguments(values | {"thermal": "none"}) == ["rec", "--thermal-topic="]


def test_a_replay_includes_the_launch_file_beside_it(replay: ModuleType) -> None:
    entities = replay.generate_launch_description().entities
    assert sum(isinstance(e, IncludeLaunchDescription) for e in entities) == 1


@pytest.mark.parametrize(("keep", "actions"), [("false", 1), ("true", 0)])
def test_the_launch_ends_with_the_recording_unless_it_is_kept(replay: ModuleType, keep: str, actions: int) -> None:
    (node,) = replay.player(context(replay, bag="rec", keep=keep))
    on_exit: list[Any] | Callable[..., Any] = node._ExecuteLocal__on_exit
    assert isinstance(on_exit, list)
    assert len(on_exit) == actions


def test_simulated_time_is_refused_in_a_replay_since_nothing_publishes_the_clock(replay: ModuleType) -> None:
    with pytest.raises(SamsegError, match="use_sim_time"):
        replay.choose_topics(context(replay, bag="rec", use_sim_time="true"))


def test_the_parameter_file_that_a_launch_chooses_is_readable_by_the_node(fusion: ModuleType) -> None:
    file = fusion.parameter_file("ad_sam", "")
    assert load(file).model.name == "ad_sam"
