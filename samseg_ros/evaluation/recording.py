"""The recording of what came out: one MCAP file that Foxglove, RViz and `ros2 bag` open.

A live replay stores the node's own bytes. A direct replay builds the same messages on the same topics here, without
ROS, so that both recordings look alike.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from samseg_ros.labels import LabelSet, format_label_info
from samseg_ros.sensing import convert
from samseg_ros.types import PointCloud, Segmentation

STORE = get_typestore(Stores.ROS2_JAZZY)
NODE = "/fusion_node"
IMAGE, CLOUD, STRING = "sensor_msgs/msg/Image", "sensor_msgs/msg/PointCloud2", "std_msgs/msg/String"
ARRAY, TF = "diagnostic_msgs/msg/DiagnosticArray", "tf2_msgs/msg/TFMessage"

MASK, CONFIDENCE, CLOUD_OUT = f"{NODE}/output/mask", f"{NODE}/output/confidence", f"{NODE}/output/pointcloud"
CLASS_CONFIDENCE, LABEL_INFO = f"{NODE}/output/class_confidence", f"{NODE}/output/label_info"
FUSED, OVERLAY, LIDAR_DEPTH = (f"{NODE}/debug/{name}" for name in ("fused", "overlay", "lidar_depth"))
OUTPUTS: Mapping[str, str] = {
    MASK: IMAGE,
    CONFIDENCE: IMAGE,
    CLASS_CONFIDENCE: ARRAY,
    LABEL_INFO: STRING,
    CLOUD_OUT: CLOUD,
    FUSED: IMAGE,
    OVERLAY: IMAGE,
    LIDAR_DEPTH: IMAGE,
}
"""Topic → type of everything that is recorded; the node's own names."""
NOT_ALWAYS_OFFERED = (FUSED,)
"""Topics that a node has only where its model makes them."""

FOREVER = QosTime(9223372036, 854775807)
LATCHED = Qos(
    QosHistory.KEEP_LAST,
    1,
    QosReliability.RELIABLE,
    QosDurability.TRANSIENT_LOCAL,
    FOREVER,
    FOREVER,
    QosLiveliness.AUTOMATIC,
    FOREVER,
    False,
)


class OutputBag:
    """Writes one ``.mcap`` file; use it as a context manager. An older file of that name is replaced."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder = path.with_suffix(".partial")  # rosbags writes a folder; the file inside is all that is needed
        shutil.rmtree(self._folder, ignore_errors=True)
        self._writer = Writer(self._folder, version=8, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._links: dict[str, Any] = {}

    def __enter__(self) -> OutputBag:
        """Open the file."""
        self._writer.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file: also after an error, what came before it is kept."""
        self._writer.close()
        (self._folder / f"{self._folder.name}.mcap").replace(self.path)
        shutil.rmtree(self._folder)

    def write(self, topic: str, kind: str, time_ns: int, raw: bytes | memoryview) -> None:
        """Store a serialised message."""
        if topic not in self._links:
            latched = (LATCHED,) if topic in (LABEL_INFO, "/tf_static") else ()
            self._links[topic] = self._writer.add_connection(topic, kind, typestore=STORE, offered_qos_profiles=latched)
        self._writer.write(self._links[topic], time_ns, raw)


def serialize(kind: str, message: Any) -> bytes:
    """Return a message as it goes over the wire."""
    return bytes(STORE.serialize_cdr(message, kind))


def image(stamp_ns: int, frame_id: str, array: NDArray[Any], encoding: str) -> Any:
    """Make a sensor_msgs/Image of (H, W) or (H, W, C)."""
    return _type("sensor_msgs/msg/Image")(header=_header(stamp_ns, frame_id), **convert.image_fields(array, encoding))


def painted_cloud(
    stamp_ns: int,
    points: PointCloud,
    class_id: NDArray[np.uint8],
    probability: NDArray[np.float32],
    entropy: NDArray[np.float32],
) -> Any:
    """Make the sensor_msgs/PointCloud2 of painted points, (N,) each: stamp of the image, the cloud's own frame."""
    content = convert.painted_cloud_fields(points.xyz, class_id, probability, entropy)
    field = _type("sensor_msgs/msg/PointField")
    content["fields"] = [field(name=n, offset=o, datatype=t, count=1) for n, o, t in content["fields"]]
    content["data"] = np.ascontiguousarray(content["data"]).reshape(-1)
    return _type(CLOUD)(header=_header(stamp_ns, points.frame_id), **content)


def class_confidence(labels: LabelSet, segmentation: Segmentation) -> Any:
    """Make the diagnostic_msgs/DiagnosticArray that says what share each class takes and how sure the model is."""
    status, pair = _type("diagnostic_msgs/msg/DiagnosticStatus"), _type("diagnostic_msgs/msg/KeyValue")
    rows = zip(labels.names, segmentation.pixel_share, segmentation.mean_posterior, strict=True)
    return _type(ARRAY)(
        header=_header(segmentation.stamp_ns, segmentation.frame_id),
        status=[
            status(
                level=0,
                name=f"class/{name}",
                message=f"{share:.1%} of the image",
                hardware_id="",
                values=[
                    pair(key="id", value=str(index)),
                    pair(key="name", value=name),
                    pair(key="pixel_share", value=f"{share:.6f}"),
                    pair(key="mean_posterior", value=f"{mean:.6f}"),
                ],
            )
            for index, (name, share, mean) in enumerate(rows)
        ],
    )


def label_info(labels: LabelSet, others: Mapping[str, LabelSet] | None = None) -> Any:
    """Make the std_msgs/String with the JSON of ids, names and colours (`format_label_info`)."""
    return _type(STRING)(data=format_label_info(labels, others))


def _type(name: str) -> Any:
    return STORE.types[name]


def _header(stamp_ns: int, frame_id: str) -> Any:
    stamp = _type("builtin_interfaces/msg/Time")(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return _type("std_msgs/msg/Header")(stamp=stamp, frame_id=frame_id)
