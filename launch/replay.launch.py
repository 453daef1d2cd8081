"""Play a recording to `fusion_node`, which takes the recording's own topics; the launch ends with the recording."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_prefix
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    SetLaunchConfiguration,
    Shutdown,
    TimerAction,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription
from samseg_ros.errors import SamsegError
from samseg_ros.ros.launching import is_true

AUTO = "auto"
NONE = "none"
LOAD_S = 600
"""For the node to load, and perhaps to compile, its model: what is played before is lost."""
LAST_FRAME_S = 2.0
"""For the model to finish what came last."""
ARGUMENTS = {
    "bag": (None, "Recording: a rosbag2 folder, .mcap or .db3."),
    "camera": (AUTO, "Topic of the color images in the recording; auto: guessed."),
    "thermal": (AUTO, "Topic of the thermal images in the recording; auto: guessed; none: leave it out."),
    "lidar": (AUTO, "Topic of the LiDAR sweeps in the recording; auto: guessed; none: leave it out."),
    "rate": ("1.0", "Times real time."),
    "loop": ("false", "Start again at the end, until the launch is stopped."),
    "keep": ("false", "Stay when the recording has ended; false: the launch ends too."),
}
"""Name → default (none: it has to be given), description; those of fusion.launch.py come on top."""


def generate_launch_description() -> LaunchDescription:
    """Look into the recording first: its topics become the node's."""
    arguments = [DeclareLaunchArgument(n, default_value=d, description=t) for n, (d, t) in ARGUMENTS.items()]
    # A plain path and no substitution: `--show-args` looks into the file before anything can be substituted.
    fusion = IncludeLaunchDescription(PythonLaunchDescriptionSource(str(Path(__file__).with_name("fusion.launch.py"))))
    return LaunchDescription(
        [*arguments, OpaqueFunction(function=choose_topics), fusion, OpaqueFunction(function=player)]
    )


def choose_topics(context: LaunchContext) -> list[Any]:
    """Set the arguments of fusion.launch.py that name topics."""
    if is_true({"use_sim_time": context.launch_configurations.get("use_sim_time", "false")}, "use_sim_time"):
        raise SamsegError(
            "use_sim_time: the recording is played without a /clock, so leave it out; to test with one, "
            "`ros2 bag play --clock` and fusion.launch.py"
        )
    topics = recorded_topics(given(context))
    names = {"image": "camera"} | {name: name for name in ("thermal", "lidar", "camera_info", "thermal_info")}
    return [SetLaunchConfiguration(argument, topics[field]) for field, argument in names.items()]


def recorded_topics(given: dict[str, str]) -> dict[str, str]:
    """Ask the player, which reads recordings with the python that the nodes run on."""
    command = [str(Path(get_package_prefix("samseg_ros")) / "lib" / "samseg_ros" / "replay")]
    answer = subprocess.run([*command, *topic_arguments(given), "--show-topics"], capture_output=True, text=True)
    if answer.returncode:
        raise SamsegError(f"bag: the recording cannot be used\n{answer.stderr.strip()}")
    return dict(json.loads(answer.stdout))


def player(context: LaunchContext) -> list[Any]:
    """Return the player, and what happens at its end."""
    values = given(context)
    end = TimerAction(period=LAST_FRAME_S, actions=[Shutdown(reason="the recording has ended")])
    flags = ["--loop"] if is_true(values, "loop") else []
    return [
        Node(
            package="samseg_ros",
            executable="replay",
            arguments=[*topic_arguments(values), "--rate", values["rate"], "--wait", str(LOAD_S), *flags],
            output="screen",
            on_exit=[] if is_true(values, "keep") else [end],
        )
    ]


def topic_arguments(given: dict[str, str]) -> list[str]:
    """Return the player's arguments: the recording, and the topics that the user named.

    `ros2 launch` takes no empty value from the command line, hence the word for none.
    """
    named = {"image": given["camera"], "thermal": given["thermal"], "lidar": given["lidar"]}
    chosen = {name: "" if topic == NONE else topic for name, topic in named.items()}
    return [given["bag"], *(f"--{name}-topic={topic}" for name, topic in chosen.items() if topic != AUTO)]


def given(context: LaunchContext) -> dict[str, str]:
    """Return the values of this file's arguments."""
    return {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
