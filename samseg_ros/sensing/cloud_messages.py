"""sensor_msgs/PointCloud2 to arrays and back. Duck-typed: rclpy's and rosbags' messages alike, no ROS import."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samseg_ros.errors import InputError
from samseg_ros.sensing.header import stamp_ns
from samseg_ros.sensing.image_messages import message_bytes
from samseg_ros.types import PointCloud

NUMBER_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
"""PointField.datatype to NumPy."""

TIME_FIELDS = ("t", "time", "timestamp", "time_stamp", "offset_time")
"""What drivers call the time of a point (Ouster, Velodyne, Hesai and RoboSense, Nebula, Livox); the first one wins."""
LONGEST_SWEEP_NS = 10**9
"""No point is further from its cloud's stamp."""
SHORTEST_SWEEP_NS, MANY_POINTS = 10**6, 1000
"""No LiDAR measures so many points, at different times, in less."""
_NANOSECONDS_FROM = 1e15
"""A fraction this large can only be nanoseconds since 1970."""

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
    frame_id, time_ns = msg.header.frame_id, stamp_ns(msg.header)
    data = message_bytes(msg.data)
    if msg.width * msg.height == 0 and data.size == 0:  # often without fields as well
        return PointCloud(np.empty((0, 3), np.float32), None, frame_id, time_ns)
    fields = {f.name: f for f in msg.fields}
    _require_xyz(fields)
    points = _columns(msg, data, [*"xyz", *(["intensity"] if "intensity" in fields else [])])
    xyz = np.empty((points.size, 3), np.float32)
    for axis, name in enumerate("xyz"):
        xyz[:, axis] = points[name].reshape(-1)
    intensity = points["intensity"].astype(np.float32).reshape(-1) if "intensity" in fields else None
    return PointCloud(xyz, intensity, frame_id, time_ns)


def require_readable_cloud(msg: Any) -> None:
    """Look at layout and size of a PointCloud2, whoever reads it then.

    Raises:
        InputError: as `point_cloud`.
    """
    _require_xyz({f.name: f for f in msg.fields})
    _columns(msg, message_bytes(msg.data), [*"xyz"])


def point_times(msg: Any) -> NDArray[np.int64] | None:
    """Return (N,) when each point was measured, in nanoseconds after the header's stamp; None where the cloud has none.

    Drivers agree neither on name nor on unit: whole numbers are nanoseconds, others seconds (or nanoseconds, where they
    are too large for that: Livox); both may count from the stamp or from 1970, whichever brings more points near the
    stamp. A point without a return often has no time either: far from the stamp, it counts as measured at the stamp.

    Raises:
        InputError: most returns are more than a second from the stamp, all are within a millisecond (which is no sweep:
            the unit is another), or as `point_cloud`.
    """
    fields = {f.name: f for f in msg.fields}
    name = next((n for n in TIME_FIELDS if n in fields), None)
    if name is None or msg.width * msg.height == 0:
        return None
    axes = [axis for axis in "xyz" if axis in fields]
    points = _columns(msg, message_bytes(msg.data), [name, *axes]).reshape(-1)
    is_return = np.ones(points.size, np.bool_)
    for axis in axes:
        is_return &= np.isfinite(points[axis])
    if axes:
        is_return &= np.any([points[axis] != 0 for axis in axes], axis=0)
    since_stamp = _nanoseconds(points[name])
    readings = (since_stamp, since_stamp - stamp_ns(msg.header))
    times = max(readings, key=lambda t: (np.count_nonzero(_is_near(t) & is_return), -np.abs(t).min()))
    _refuse_another_unit(name, times[is_return])
    return np.where(_is_near(times), times, 0)


def _is_near(times: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.abs(times) <= LONGEST_SWEEP_NS


def _refuse_another_unit(name: str, times: NDArray[np.int64]) -> None:
    """Refuse times of which only a few happen to lie near the stamp, or that lie nearer together than a sweep can."""
    if not times.size:
        return
    span, near = int(np.ptp(times)), np.count_nonzero(_is_near(times))
    if 2 * near < times.size:
        got = f"{times[np.abs(times).argmin()] * 1e-9:+.3f} s at best, {near} of {times.size} that near"
    elif 0 < span < SHORTEST_SWEEP_NS and times.size >= MANY_POINTS:
        got = f"{times.size} points within {span * 1e-6:.4f} ms"
    else:
        return
    raise InputError(
        f"point cloud field {name!r}",
        expected="times within a second of the cloud's stamp, whole numbers in nanoseconds or others in seconds",
        got=got,
        remedy="let the LiDAR driver take stamp and point times from one clock and in one of these units, or set "
        "projection.deskew to off",
    )


def _nanoseconds(values: NDArray[Any]) -> NDArray[np.int64]:
    if values.dtype.kind != "f":
        return values.astype(np.int64)
    finite = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    per_unit = 1 if np.abs(finite).max() > _NANOSECONDS_FROM else 10**9
    return np.rint(np.clip(finite * per_unit, -(2.0**62), 2.0**62)).astype(np.int64)


def _columns(msg: Any, data: NDArray[np.uint8], names: list[str]) -> NDArray[Any]:
    """View the data as (height, width) points of the named fields."""
    fields = {f.name: f for f in msg.fields}
    order = ">" if msg.is_bigendian else "<"
    formats = [order + _number_type(fields[n], msg.point_step) for n in names]
    rows = _rows(msg, data)  # first, since NumPy takes no point_step of 2^31 and more
    offsets = [fields[n].offset for n in names]
    return rows.view(np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": msg.point_step}))


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
