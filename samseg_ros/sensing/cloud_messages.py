"""sensor_msgs/PointCloud2 to arrays and back. Duck-typed: rclpy's and rosbags' messages alike, no ROS import."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samseg_ros.errors import InputError
from samseg_ros.sensing.image_messages import message_bytes
from samseg_ros.types import PointCloud

NUMBER_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
"""PointField.datatype to NumPy."""

PAINTED_FIELDS = (
    ("x", 0, 7),
    ("y", 4, 7),
    ("z", 8, 7),
    ("class_id", 12, 2),
    ("probability", 16, 7),
    ("entropy", 20, 7),
)
"""One painted point: name, offset, datatype. Autoware's consumer accepts exactly these six fields at these places."""
PAINTED_STEP = 24
"""Bytes of a painted point."""


def point_cloud(msg: Any) -> PointCloud:
    """Return the points of a PointCloud2, organised or not, row by row.

    x, y, z may stand anywhere in the point, as float32 or float64 in either byte order; ``intensity`` may be any
    number or absent. The arrays are contiguous copies: the kernels behind are compiled for that, and copying costs
    less than going through the message with its strides.

    Raises:
        InputError: x, y or z is missing or no float, a field reaches over the point's end, or the data's length does
            not fit the sizes.
    """
    stamp_ns, frame_id = msg.header.stamp.sec * 10**9 + msg.header.stamp.nanosec, msg.header.frame_id
    data = message_bytes(msg.data)
    if msg.width * msg.height == 0 and data.size == 0:  # often without fields as well
        return PointCloud(np.empty((0, 3), np.float32), None, frame_id, stamp_ns)
    fields = {f.name: f for f in msg.fields}
    _require_xyz(fields)
    names = [*"xyz", *(["intensity"] if "intensity" in fields else [])]
    order = ">" if msg.is_bigendian else "<"
    formats = [order + _number_type(fields[n], msg.point_step) for n in names]
    rows = _rows(msg, data)  # first, since NumPy takes no point_step of 2^31 and more
    point = np.dtype(
        {
            "names": names,
            "formats": formats,
            "offsets": [fields[n].offset for n in names],
            "itemsize": msg.point_step,
        }
    )
    points = rows.view(point)
    xyz = np.empty((points.size, 3), np.float32)
    for axis, name in enumerate("xyz"):
        xyz[:, axis] = points[name].reshape(-1)
    intensity = points["intensity"].astype(np.float32).reshape(-1) if "intensity" in fields else None
    return PointCloud(xyz, intensity, frame_id, stamp_ns)


def _require_xyz(fields: dict[str, Any]) -> None:
    got = ", ".join(f"{f.name}:{NUMBER_TYPES.get(f.datatype, f.datatype)}" for f in fields.values())
    if any(axis not in fields or NUMBER_TYPES.get(fields[axis].datatype) not in ("f4", "f8") for axis in "xyz"):
        raise InputError(
            "point cloud fields",
            expected="x, y, z as float32 or float64",
            got=got or "none",
            remedy="let the LiDAR driver publish Cartesian points",
        )


def _number_type(field: Any, point_step: int) -> str:
    kind = NUMBER_TYPES.get(field.datatype)
    if kind is None or not 0 <= field.offset <= point_step - np.dtype(kind).itemsize:
        raise InputError(
            f"point cloud field {field.name!r}",
            expected=f"a number of datatype 1..8 inside the {point_step} bytes of a point",
            got=f"datatype {field.datatype} at byte {field.offset}",
            remedy="check point_step and offsets in the LiDAR driver",
        )
    return kind


def _rows(msg: Any, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """View the data as (height, width * point_step) bytes."""
    row = msg.width * msg.point_step
    # Some drivers leave row_step 0 or wrong; data without padding can be read all the same.
    step = row if data.size == row * msg.height else msg.row_step
    if step < row or data.size != step * msg.height or row == 0:
        raise InputError(
            "point cloud data",
            expected=f"{max(row, msg.row_step) * msg.height} bytes "
            f"({msg.height} rows of {msg.width} points of {msg.point_step}, row_step {msg.row_step})",
            got=f"{data.size} bytes",
            remedy="the message is truncated or its sizes are wrong: check the LiDAR driver",
        )
    return data.reshape(msg.height, step)[:, :row]


def painted_cloud_fields(
    xyz: NDArray[np.float32],
    class_id: NDArray[np.uint8],
    probability: NDArray[np.float32],
    entropy: NDArray[np.float32],
) -> dict[str, Any]:
    """Return what a PointCloud2 of painted points holds beside its header.

    Args:
        xyz: (N, 3) metres, in the cloud's own frame.
        class_id: (N,); 255 where nothing is known.
        probability: (N,) of that class, 0..1.
        entropy: (N,) of the posterior, NaN where nothing is known.

    Returns:
        height, width, fields as (name, offset, datatype), is_bigendian, point_step, row_step, is_dense, and data as a
        1-D uint8 array.

    Raises:
        InputError: the arrays are not of one length.
    """
    lengths = [len(xyz), len(class_id), len(probability), len(entropy)]
    if len(set(lengths)) > 1:
        raise InputError(
            "painted cloud",
            expected="one class, probability and entropy a point",
            got=f"lengths {lengths}",
            remedy="give every point its row (255, 0, NaN where the camera does not see it)",
        )
    names, offsets, types = zip(*PAINTED_FIELDS, strict=True)
    formats = [NUMBER_TYPES[t] for t in types]
    layout = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": PAINTED_STEP})
    points = np.zeros(len(xyz), layout)  # zeros: the gap behind class_id is published too
    for axis, name in enumerate("xyz"):
        points[name] = xyz[:, axis]
    points["class_id"], points["probability"], points["entropy"] = class_id, probability, entropy
    return {
        "height": 1,
        "width": len(points),
        "fields": list(PAINTED_FIELDS),
        "is_bigendian": sys.byteorder == "big",
        "point_step": PAINTED_STEP,
        "row_step": PAINTED_STEP * len(points),
        "is_dense": bool(np.isfinite(xyz).all()),
        "data": points.view(np.uint8),
    }
