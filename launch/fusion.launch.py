"""Start `fusion_node` on a robot: name the topics of the sensors it has, leave out those that it has not."""

from __future__ import annotations

from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription
from samseg_ros.errors import SamsegError
from samseg_ros.resources import config_dir
from samseg_ros.ros.launching import (
    input_topics,
    is_true,
    network_threads,
    node_path,
    one_per_camera,
    parameter_file,
)

ARGUMENTS = {
    "camera": ("/camera/image_raw", "Color image (raw; its /compressed variant is taken as well)."),
    "thermal": ("", "Thermal image, aligned to the camera or to be registered; empty: no thermal camera."),
    "lidar": ("", "LiDAR sweeps (PointCloud2); empty: no LiDAR."),
    "camera_info": ("", "Intrinsics of the camera; empty: camera_info beside the image. Only the projection needs it."),
    "thermal_info": ("", "camera_info of the thermal camera; empty: the one beside its image. Only to register it."),
    "cameras": (
        "",
        "Several cameras, as in front,left,right: one node each, in a namespace of that name. {camera} in the topics, "
        "in calibration_path and in params_file stands for the name; empty: one node.",
    ),
    "model": ("", "Model, one of `samseg models`; empty: what params_file or the default says."),
    "checkpoint": ("", "Weights of your own (.safetensors, or a folder with model.yaml); empty: as params_file says."),
    "params_file": ("", "Parameter file; empty: the one shipped for the model. The arguments here win over it."),
    "threads": (
        "auto",
        "CPU threads of each camera's network (model.threads); auto: the cores divided by the cameras, where there are "
        "several and params_file is empty; else as params_file says.",
    ),
    "calibration_path": ("", "Extrinsics (YAML); empty: TF."),
    "use_sim_time": ("false", "Take the time from /clock (`ros2 bag play --clock`, simulators)."),
    "namespace": ("", "Namespace of the nodes."),
    "node_name": ("fusion_node", "Name of the node; its outputs are below it: NODE_NAME/output/mask ..."),
    "autostart": ("true", "Configure and activate at once; false: `ros2 lifecycle set`, or a lifecycle manager, does."),
    "rviz": ("false", "Start RViz with the overlay and the painted cloud, a window a camera."),
    "rviz_frame": ("base_link", "Fixed frame of RViz: one that TF joins to the LiDAR's, or the LiDAR's own."),
    "foxglove": ("false", "Start foxglove_bridge; config/foxglove/fusion.json is a layout for it."),
    "foxglove_port": ("8765", "Port of foxglove_bridge."),
}
"""Name → default, description."""


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; the nodes follow once their values are known."""
    arguments = [DeclareLaunchArgument(n, default_value=d, description=t) for n, (d, t) in ARGUMENTS.items()]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[Any]:
    """Return the nodes for the given arguments."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    cameras = one_per_camera(given)
    threads = network_threads(given, len(cameras))
    nodes = [fusion_node(camera, threads) for camera in cameras]
    if is_true(given, "rviz"):
        nodes += [rviz(camera) for camera in cameras]
    if is_true(given, "foxglove"):
        nodes.append(foxglove(given))
    return nodes


def fusion_node(given: dict[str, str], threads: int | None) -> Node:
    """Return the node, with only those inputs that were named."""
    settings: dict[str, Any] = {
        "use_sim_time": is_true(given, "use_sim_time"),
        "autostart": is_true(given, "autostart"),
        "inputs.thermal": bool(given["thermal"]),
        "inputs.lidar": bool(given["lidar"]),
    }
    named = {"model.name": "model", "model.checkpoint": "checkpoint", "projection.calibration_path": "calibration_path"}
    settings |= {parameter: given[name] for parameter, name in named.items() if given[name]}
    settings |= {} if threads is None else {"model.threads": threads}
    file = parameter_file(given["model"], given["params_file"])
    return Node(
        package="samseg_ros",
        executable="fusion_node",
        name=given["node_name"],
        namespace=given["namespace"],
        parameters=[*([str(file)] if file else []), settings],
        remappings=list(input_topics(given).items()),
        output="screen",
        emulate_tty=True,
    )


def rviz(given: dict[str, str]) -> Node:
    """Return RViz, its displays led to the node's topics."""
    outputs = ("debug/overlay", "output/pointcloud")
    return Node(
        package=installed("rviz2", "rviz"),
        executable="rviz2",
        namespace=given["namespace"],
        arguments=["-d", str(config_dir() / "rviz" / "fusion.rviz"), "-f", given["rviz_frame"]],
        parameters=[{"use_sim_time": is_true(given, "use_sim_time")}],
        remappings=[(f"/fusion_node/{output}", f"{node_path(given)}/{output}") for output in outputs],
    )


def foxglove(given: dict[str, str]) -> Node:
    """Return the bridge that Foxglove connects to."""
    return Node(
        package=installed("foxglove_bridge", "foxglove"),
        executable="foxglove_bridge",
        parameters=[{"use_sim_time": is_true(given, "use_sim_time"), "port": int(given["foxglove_port"])}],
    )


def installed(package: str, argument: str) -> str:
    """Return the package's name, if it is there."""
    try:
        get_package_prefix(package)
    except PackageNotFoundError:
        name = package.replace("_", "-")
        raise SamsegError(
            f"{argument}:=true needs the package {package}, which is not installed; "
            f"apt install ros-$ROS_DISTRO-{name}, or leave {argument} out"
        ) from None
    return package
