"""Writes a drive through the world as a genuine rosbag2 (MCAP), ground truth included."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from scipy.spatial.transform import Rotation

from samseg_ros.datasets.world.dataset import PERIOD_S, drive
from samseg_ros.datasets.world.scene import SPLITS
from samseg_ros.datasets.world.sensors import (
    BASE_FRAME,
    CAMERA_FRAME,
    LIDAR_FRAME,
    THERMAL_FRAME,
    Capture,
    Rig,
    beside,
    make_rig,
)
from samseg_ros.datasets.world.weather import CONDITIONS, condition
from samseg_ros.errors import SamsegError, nearest
from samseg_ros.labels import format_label_info, load_labels
from samseg_ros.types import Camera, PointCloud

STORE = get_typestore(Stores.ROS2_JAZZY)
EARLIEST_S, SPREAD_S = 1_700_000_000, 10_000_000
"""Recordings begin at some second of these, since 1970."""
TOPICS = {
    "/camera/image_raw": "sensor_msgs/msg/Image",
    "/camera/camera_info": "sensor_msgs/msg/CameraInfo",
    "/thermal/image_raw": "sensor_msgs/msg/Image",
    "/thermal/camera_info": "sensor_msgs/msg/CameraInfo",
    "/lidar/points": "sensor_msgs/msg/PointCloud2",
    "/ground_truth/labels": "sensor_msgs/msg/Image",
    "/ground_truth/label_info": "std_msgs/msg/String",
    "/ground_truth/depth": "sensor_msgs/msg/Image",
    "/ground_truth/condition": "std_msgs/msg/String",
    "/tf_static": "tf2_msgs/msg/TFMessage",
}


def write_recording(
    path: str | Path,
    split: str = "test",
    conditions: Sequence[str] = tuple(CONDITIONS),
    frames_per_condition: int = 10,
    seed: int = 0,
    size: tuple[int, int] = (480, 640),
    progress: Callable[[int, int], None] | None = None,
    thermal_offset: tuple[float, float] = (0.0, 0.0),
) -> Path:
    """Write one drive per condition, one after the other at 10 Hz, into a new bag.

    Args:
        path: folder of the bag; must not exist. size: camera (height, width).
        progress: called with (frames done, frames in all).
        thermal_offset: metres to the right of the camera and degrees of turn to the right; (0, 0): the same view.

    Raises:
        SamsegError: the folder exists, or no such split or condition.
    """
    path = Path(path)
    if path.exists():
        raise SamsegError(f"{path} exists already; choose another folder or remove it")
    if split not in SPLITS:
        raise SamsegError(f"no world split {split!r}; {nearest(split, SPLITS)}")
    for name in conditions:
        condition(name)  # raises before anything is written
    path.parent.mkdir(parents=True, exist_ok=True)
    rig, done = make_rig(size, camera_from_thermal=beside(*thermal_offset) if any(thermal_offset) else None), 0
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        links = {topic: writer.add_connection(topic, kind, typestore=STORE) for topic, kind in TOPICS.items()}

        def write(topic: str, stamp_ns: int, message: Any) -> None:
            writer.write(links[topic], stamp_ns, STORE.serialize_cdr(message, TOPICS[topic]))

        begin = first_stamp_ns(split, conditions, frames_per_condition, seed, size, thermal_offset)
        write("/tf_static", begin, _transforms(rig, begin))
        meanings = format_label_info(load_labels("world"))
        write("/ground_truth/label_info", begin, _type("std_msgs/msg/String")(data=meanings))
        for part, name in enumerate(conditions):
            start = begin + round(part * frames_per_condition * PERIOD_S * 1e9)
            for shot in drive(split, name, 100_000 + 1000 * seed + part, frames_per_condition, rig, start):
                for topic, message in _messages(shot, rig).items():
                    write(topic, shot.frame.stamp_ns, message)
                done += 1
                if progress:
                    progress(done, frames_per_condition * len(conditions))
    return path


def first_stamp_ns(*content: Any) -> int:
    """Return a stamp that depends on what is recorded: a node's outputs are told from another recording's by stamps."""
    return (EARLIEST_S + zlib.crc32(repr(content).encode()) % SPREAD_S) * 10**9


def _type(name: str) -> Any:
    return STORE.types[name]


def _header(stamp_ns: int, frame_id: str) -> Any:
    stamp = _type("builtin_interfaces/msg/Time")(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return _type("std_msgs/msg/Header")(stamp=stamp, frame_id=frame_id)


def _messages(shot: Capture, rig: Rig) -> dict[str, Any]:
    frame = shot.frame
    if frame.thermal is None or frame.points is None:
        raise SamsegError("a capture without thermal image or point cloud cannot be recorded")
    optical, lidar = _header(frame.stamp_ns, CAMERA_FRAME), _header(frame.stamp_ns, LIDAR_FRAME)
    thermal = _header(frame.stamp_ns, CAMERA_FRAME if rig.thermal_camera is None else THERMAL_FRAME)
    return {
        "/camera/camera_info": _camera_info(optical, rig.camera),
        "/camera/image_raw": _image(optical, frame.image, "rgb8"),
        "/thermal/camera_info": _camera_info(thermal, rig.thermal_camera or rig.camera),
        "/thermal/image_raw": _image(thermal, frame.thermal, "16UC1"),
        "/lidar/points": _cloud(lidar, frame.points),
        "/ground_truth/labels": _image(optical, shot.labels, "mono8"),
        "/ground_truth/depth": _image(optical, np.where(np.isfinite(shot.depth), shot.depth, np.nan), "32FC1"),
        "/ground_truth/condition": _type("std_msgs/msg/String")(data=shot.condition),
    }


def _image(header: Any, array: NDArray[Any], encoding: str) -> Any:
    array = np.ascontiguousarray(array)
    return _type("sensor_msgs/msg/Image")(
        header=header,
        height=array.shape[0],
        width=array.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=array.strides[0],
        data=array.reshape(-1).view(np.uint8),
    )


def _camera_info(header: Any, camera: Camera) -> Any:
    roi = _type("sensor_msgs/msg/RegionOfInterest")(x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return _type("sensor_msgs/msg/CameraInfo")(
        header=header,
        height=camera.height,
        width=camera.width,
        distortion_model=camera.distortion_model,
        d=camera.distortion,
        k=camera.k.ravel(),
        r=np.eye(3).ravel(),
        p=np.hstack([camera.k, np.zeros((3, 1))]).ravel(),
        binning_x=0,
        binning_y=0,
        roi=roi,
    )


def _cloud(header: Any, points: PointCloud) -> Any:
    field = _type("sensor_msgs/msg/PointField")
    data = np.hstack([points.xyz, np.asarray(points.intensity)[:, None]]).astype(np.float32)
    return _type("sensor_msgs/msg/PointCloud2")(
        header=header,
        height=1,
        width=len(data),
        fields=[field(name=n, offset=4 * i, datatype=7, count=1) for i, n in enumerate(("x", "y", "z", "intensity"))],
        is_bigendian=False,
        point_step=16,
        row_step=16 * len(data),
        data=data.reshape(-1).view(np.uint8),
        is_dense=True,
    )


def _transforms(rig: Rig, stamp_ns: int) -> Any:
    """base_from_sensor for each sensor, as /tf_static gives them: parent base_link, child the sensor."""
    poses = {CAMERA_FRAME: rig.base_from_camera, LIDAR_FRAME: rig.base_from_lidar}
    if rig.camera_from_thermal is not None:
        poses[THERMAL_FRAME] = rig.base_from_camera @ rig.camera_from_thermal
    transforms = [_transform(child, pose, stamp_ns) for child, pose in poses.items()]
    return _type("tf2_msgs/msg/TFMessage")(transforms=transforms)


def _transform(child: str, pose: NDArray[np.float64], stamp_ns: int) -> Any:
    x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat()
    geometry = "geometry_msgs/msg/"
    return _type(geometry + "TransformStamped")(
        header=_header(stamp_ns, BASE_FRAME),
        child_frame_id=child,
        transform=_type(geometry + "Transform")(
            translation=_type(geometry + "Vector3")(*(float(v) for v in pose[:3, 3])),
            rotation=_type(geometry + "Quaternion")(x=float(x), y=float(y), z=float(z), w=float(w)),
        ),
    )
