"""Start `fusion_node` on a robot: name the topics of the sensors it has, leave out those that it has not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription

ARGUMENTS = {
    "camera": ("/camera/image_raw", "Color image (raw; its /compressed variant is taken as well)."),
    "thermal": ("", "Thermal image, aligned to the camera; empty: no thermal camera."),
    "lidar": ("", "LiDAR sweeps (PointCloud2); empty: no LiDAR."),
    "camera_info": ("", "Intrinsics of the camera; empty: camera_info beside the image. Only the LiDAR needs it."),
    "model": ("", "Model, one of `samseg models`; empty: what params_file or the default says."),
    "params_file": ("", "Parameter file; empty: the defaults. The arguments here win over it."),
    "calibration_path": ("", "Extrinsics (YAML); empty: TF."),
    "use_sim_time": ("false", "Take the time from /clock (bags, simulators)."),
    "namespace": ("", "Namespace of the node."),
    "node_name": ("fusion_node", "Name of the node; its outputs are below it: NODE_NAME/output/mask ..."),
    "autostart": ("true", "Configure and activate at once; false: `ros2 lifecycle set` does it."),
    "rviz": ("false", "Start RViz with the overlay and the painted cloud."),
}
"""Name → default, description."""


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; the nodes follow once their values are known."""
    arguments = [DeclareLaunchArgument(n, default_value=d, description=t) for n, (d, t) in ARGUMENTS.items()]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[Any]:
    """Return the nodes for the given arguments."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    nodes = [fusion_node(given)]
    if is_true(given["rviz"]):
        nodes.append(rviz(context, given))
    return nodes


def fusion_node(given: dict[str, str]) -> Node:
    """Return the node, with only those inputs that were named."""
    camera = given["camera"].removesuffix("/compressed")
    topics = {
        "~/input/image": camera,
        "~/input/image/camera_info": given["camera_info"] or f"{camera.rpartition('/')[0]}/camera_info",
        "~/input/thermal": given["thermal"],
        "~/input/pointcloud": given["lidar"],
    }
    settings: dict[str, Any] = {
        "use_sim_time": is_true(given["use_sim_time"]),
        "autostart": is_true(given["autostart"]),
        "inputs.thermal": bool(given["thermal"]),
        "inputs.lidar": bool(given["lidar"]),
    }
    named = {"model.name": given["model"], "projection.calibration_path": given["calibration_path"]}
    settings |= {name: value for name, value in named.items() if value}
    return Node(
        package="samseg_ros",
        executable="fusion_node",
        name=given["node_name"],
        namespace=given["namespace"],
        parameters=[*filter(None, [given["params_file"]]), settings],
        remappings=[(inner, topic) for inner, topic in topics.items() if topic],
        output="screen",
        emulate_tty=True,
    )


def rviz(context: LaunchContext, given: dict[str, str]) -> Node:
    """Return RViz, its displays led to the node's topics."""
    layout = Path(FindPackageShare("samseg_ros").perform(context)) / "config" / "rviz" / "fusion.rviz"
    node = f"{given['namespace']}/{given['node_name']}"
    node = node if node.startswith("/") else f"/{node}"
    outputs = ("debug/overlay", "output/pointcloud")
    return Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", str(layout)],
        parameters=[{"use_sim_time": is_true(given["use_sim_time"])}],
        remappings=[(f"/fusion_node/{output}", f"{node}/{output}") for output in outputs],
    )


def is_true(value: str) -> bool:
    """Read a launch argument as yes or no."""
    return value.strip().lower() in ("true", "1", "yes", "on")
