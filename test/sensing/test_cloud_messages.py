"""Point clouds with any layout, and the painted cloud parsed back as its consumer does it."""

from __future__ import annotations

import array
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from samseg_ros.errors import InputError
from samseg_ros.sensing.convert import painted_cloud_fields, point_cloud, point_times

DATATYPES = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}
HEADER = SimpleNamespace(stamp=SimpleNamespace(sec=3, nanosec=5), frame_id="lidar")
XYZ = np.array([[1.5, -2.25, 0.5], [np.nan, np.nan, np.nan], [30.0, 0.125, -1.0], [4, 5, 6], [7, 8, 9], [10, 11, 12]])
INTENSITY = np.array([0, 100, 7, 55, 20, 127])


def cloud(
    fields: list[tuple[str, int, str]],
    step: int,
    /,
    *,
    big: bool = False,
    rows: int = 1,
    padding: int = 0,
    **changes: Any,
) -> Any:
    """PointCloud2 of XYZ and INTENSITY with (name, offset, number type) fields, each row followed by rubbish."""
    order = ">" if big else "<"
    names, offsets, kinds = zip(*fields, strict=True)
    layout = {"names": names, "formats": [order + k for k in kinds], "offsets": offsets, "itemsize": step}
    points = np.zeros(len(XYZ), np.dtype(layout))
    for name in names:
        points[name] = XYZ[:, "xyz".index(name)] if name in "xyz" else INTENSITY
    raw = np.frombuffer(points.tobytes(), np.uint8).reshape(rows, -1)
    raw = np.hstack([raw, np.full((rows, padding), 0xEE, np.uint8)])
    values = {
        "header": HEADER,
        "height": rows,
        "width": len(XYZ) // rows,
        "fields": [SimpleNamespace(name=n, offset=o, datatype=DATATYPES[k], count=1) for n, o, k in fields],
        "is_bigendian": big,
        "point_step": step,
        "row_step": raw.shape[1],
        "data": array.array("B", raw.tobytes()),
    }
    return SimpleNamespace(**{**values, **changes})


XYZI = [("x", 0, "f4"), ("y", 4, "f4"), ("z", 8, "f4"), ("intensity", 12, "f4")]


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(("rows", "padding"), [(1, 0), (2, 0), (3, 7)])
@pytest.mark.parametrize(
    ("fields", "step"),
    [
        (XYZI, 16),
        (XYZI, 32),
        ([("intensity", 0, "u2"), ("z", 2, "f4"), ("x", 6, "f4"), ("y", 13, "f4")], 18),
        ([("x", 0, "f8"), ("y", 8, "f8"), ("z", 16, "f8"), ("intensity", 24, "u1"), ("ring", 25, "u2")], 27),
        ([("y", 0, "f8"), ("x", 8, "f4"), ("z", 12, "f4"), ("intensity", 16, "f8")], 24),
    ],
)
def test_points_are_found_wherever_they_stand(
    fields: list[tuple[str, int, str]], step: int, rows: int, padding: int, big: bool
) -> None:
    points = point_cloud(cloud(fields, step, big=big, rows=rows, padding=padding))
    np.testing.assert_array_equal(points.xyz, XYZ.astype(np.float32))
    np.testing.assert_array_equal(points.intensity, INTENSITY.astype(np.float32))
    assert points.xyz.dtype == np.float32
    assert points.xyz.flags.c_contiguous
    assert (points.frame_id, points.stamp_ns) == ("lidar", 3_000_000_005)


@pytest.mark.parametrize("kind", DATATYPES)
def test_intensity_may_be_any_number(kind: str) -> None:
    points = point_cloud(cloud([("x", 0, "f4"), ("y", 4, "f4"), ("z", 8, "f4"), ("intensity", 12, kind)], 20))
    assert points.intensity is not None
    assert points.intensity.dtype == np.float32
    np.testing.assert_array_equal(points.intensity, INTENSITY)


def test_a_cloud_without_intensity_has_none() -> None:
    assert point_cloud(cloud(XYZI[:3], 12)).intensity is None


def test_a_wrong_row_step_does_not_matter_where_nothing_is_padded() -> None:
    points = point_cloud(cloud(XYZI, 16, row_step=0))
    np.testing.assert_array_equal(points.xyz, XYZ.astype(np.float32))


@pytest.mark.parametrize("fields", [[], cloud(XYZI, 16).fields])
@pytest.mark.parametrize("size", [(0, 0), (1, 0), (0, 5)])
def test_an_empty_cloud_has_no_points(fields: list[Any], size: tuple[int, int]) -> None:
    msg = cloud(XYZI, 16, fields=fields, height=size[0], width=size[1], row_step=0, data=array.array("B"))
    assert point_cloud(msg).xyz.shape == (0, 3)


@pytest.mark.parametrize(
    ("fields", "got"),
    [
        ([("x", 0, "f4"), ("y", 4, "f4"), ("intensity", 8, "u2")], "x:f4, y:f4, intensity:u2"),
        ([("intensity", 0, "f4"), ("range", 4, "f4")], "intensity:f4, range:f4"),
    ],
)
def test_a_cloud_without_usable_x_y_z_is_refused_and_its_fields_are_named(
    fields: list[tuple[str, int, str]], got: str
) -> None:
    with pytest.raises(InputError) as caught:
        point_cloud(cloud(fields, 16))
    assert str(caught.value) == (
        f"point cloud fields: expected x, y, z as float32 or float64, got {got}; "
        "let the LiDAR driver publish Cartesian points"
    )


def test_points_without_any_field_are_refused() -> None:
    with pytest.raises(InputError, match="got none;"):
        point_cloud(cloud(XYZI, 16, fields=[]))


@pytest.mark.parametrize(
    "changes",
    [
        {"data": array.array("B", bytes(95))},
        {"data": array.array("B", bytes(97))},
        {"data": array.array("B")},
        {"width": 7},
        {"width": 5, "row_step": 80},
        {"height": 2},
        {"width": 0},
        {"height": 0},
        {"row_step": 97, "data": array.array("B", bytes(95))},
        {"point_step": 17},
        {"point_step": 2**31},
        {"point_step": 2**32 - 1, "height": 0, "width": 0},
    ],
)
def test_data_that_does_not_fit_the_sizes_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(
        InputError, match=r"point cloud data: expected \d+ bytes .*, got \d+ bytes; the message is trunc"
    ):
        point_cloud(cloud(XYZI, 16, **changes))


def test_a_field_beyond_the_end_of_a_point_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"'intensity': expected a number of datatype 1\.\.8 inside the 15 bytes of a point"
    ):
        point_cloud(cloud(XYZI, 16, point_step=15))


def test_an_unknown_datatype_is_refused() -> None:
    msg = cloud(XYZI, 16)
    msg.fields[3].datatype = 9
    with pytest.raises(InputError, match="got datatype 9 at byte 12"):
        point_cloud(msg)


def test_the_painted_cloud_has_the_layout_that_its_consumer_demands() -> None:
    xyz = XYZ.astype(np.float32)
    class_id = np.array([0, 255, 7, 1, 2, 3], np.uint8)
    probability = np.array([1, 0, 0.5, 0.25, 0.75, 0.125], np.float32)
    entropy = np.array([0, np.nan, 0.5, 1, 2, 0.25], np.float32)
    fields = painted_cloud_fields(xyz, class_id, probability, entropy)
    expected = {
        "height": 1,
        "width": 6,
        "fields": [
            ("x", 0, 7),
            ("y", 4, 7),
            ("z", 8, 7),
            ("class_id", 12, 2),
            ("probability", 16, 7),
            ("entropy", 20, 7),
        ],
        "is_bigendian": False,
        "point_step": 24,
        "row_step": 144,
        "is_dense": False,
    }
    assert {k: v for k, v in fields.items() if k != "data"} == expected
    consumer = np.dtype(
        {
            "names": ["x", "y", "z", "class_id", "gap", "probability", "entropy"],
            "formats": ["<f4", "<f4", "<f4", "u1", "3u1", "<f4", "<f4"],
            "offsets": [0, 4, 8, 12, 13, 16, 20],
            "itemsize": 24,
        }
    )
    points = np.frombuffer(fields["data"].tobytes(), consumer)
    np.testing.assert_array_equal(np.stack([points[a] for a in "xyz"], -1), xyz)
    np.testing.assert_array_equal(points["class_id"], class_id)
    np.testing.assert_array_equal(points["probability"], probability)
    np.testing.assert_array_equal(points["entropy"], entropy)
    assert not points["gap"].any()


def test_a_painted_cloud_can_be_read_again_and_may_be_empty() -> None:
    for n in (0, 5):
        xyz = np.arange(3 * n, dtype=np.float32).reshape(n, 3)
        zeros = np.zeros(n, np.float32)
        fields = painted_cloud_fields(xyz, zeros.astype(np.uint8), zeros, zeros)
        fields["fields"] = [SimpleNamespace(name=a, offset=o, datatype=t, count=1) for a, o, t in fields["fields"]]
        assert fields["is_dense"] is True
        np.testing.assert_array_equal(point_cloud(SimpleNamespace(header=HEADER, **fields)).xyz, xyz)


def test_paint_of_another_length_than_the_points_is_refused() -> None:
    with pytest.raises(InputError, match=r"painted cloud: expected one .* a point, got lengths \[4, 3, 4, 4\]"):
        painted_cloud_fields(*(np.zeros(s, np.float32) for s in ((4, 3), 3, 4, 4)))  # type: ignore[arg-type]


STAMP_NS = 1_700_000_000 * 10**9 + 250_000_000
OFFSETS_MS = np.array([0, 20, 40, 60, 80, 100])


def timed(name: str, kind: str, times: Any, *, big: bool = False, stamp_ns: int = STAMP_NS) -> Any:
    """PointCloud2 whose only field is a time, behind 16 bytes of something else."""
    layout = {"names": [name], "formats": [(">" if big else "<") + kind], "offsets": [16], "itemsize": 24}
    points = np.zeros(len(times), np.dtype(layout))
    points[name] = times
    sec, nanosec = divmod(stamp_ns, 10**9)
    return SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id="lidar"),
        height=1,
        width=len(times),
        fields=[SimpleNamespace(name=name, offset=16, datatype=DATATYPES[kind], count=1)],
        is_bigendian=big,
        point_step=24,
        row_step=24 * len(times),
        data=array.array("B", points.tobytes()),
    )


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(
    ("name", "kind", "times", "tolerance_ns"),
    [
        ("t", "u4", OFFSETS_MS * 1_000_000, 0),  # Ouster
        ("time", "f4", OFFSETS_MS * 1e-3, 10),  # Velodyne
        ("timestamp", "f8", STAMP_NS * 1e-9 + OFFSETS_MS * 1e-3, 500),  # Hesai, RoboSense
        ("timestamp", "f8", STAMP_NS + OFFSETS_MS * 1e6, 300),  # Livox' own driver: nanoseconds as a fraction
        ("time_stamp", "u4", OFFSETS_MS * 1_000_000, 0),  # Nebula
        ("offset_time", "u4", OFFSETS_MS * 1_000_000, 0),  # Livox
    ],
)
def test_times_of_points_are_understood_as_drivers_write_them(
    name: str, kind: str, times: Any, tolerance_ns: int, big: bool
) -> None:
    found = point_times(timed(name, kind, times, big=big))
    assert found is not None and found.dtype == np.int64
    np.testing.assert_allclose(found, OFFSETS_MS * 1_000_000, rtol=0, atol=tolerance_ns)


def test_times_before_the_stamp_are_negative() -> None:
    found = point_times(timed("time", "f4", -OFFSETS_MS[::-1] * 1e-3))
    assert found is not None
    np.testing.assert_allclose(found, -OFFSETS_MS[::-1] * 1_000_000, rtol=0, atol=10)


def test_a_simulated_clock_that_began_a_minute_ago_is_understood() -> None:
    found = point_times(timed("timestamp", "f8", 60.0 + OFFSETS_MS * 1e-3, stamp_ns=60 * 10**9))
    assert found is not None
    np.testing.assert_allclose(found, OFFSETS_MS * 1_000_000, rtol=0, atol=10)


def test_a_point_without_a_time_counts_as_measured_at_the_stamp() -> None:
    times = STAMP_NS * 1e-9 + OFFSETS_MS * 1e-3
    times[1], times[2] = np.nan, 0
    found = point_times(timed("timestamp", "f8", times))
    assert found is not None
    np.testing.assert_allclose(found, np.array([0, 0, 0, 60, 80, 100]) * 1_000_000, rtol=0, atol=500)


def test_times_of_another_clock_are_refused_with_how_far_they_are_off() -> None:
    with pytest.raises(
        InputError, match=r"'timestamp'.*within a second.*\+37\.000 s at best.*one clock.*deskew to off"
    ):
        point_times(timed("timestamp", "f8", STAMP_NS * 1e-9 + 37 + OFFSETS_MS * 1e-3))


def test_a_cloud_without_times_or_without_points_has_none() -> None:
    assert point_times(cloud(XYZI, 16)) is None
    assert point_times(timed("t", "u4", np.zeros(0))) is None


SWEEP = np.linspace(0.0, 0.1, 1000)
"""Seconds."""


@pytest.mark.parametrize(
    ("kind", "times", "got"),
    [
        ("f4", SWEEP * 1e6, "1 of 1000 that near"),  # microseconds
        ("f4", SWEEP * 1e3, "10 of 1000 that near"),  # milliseconds: 0 to 1 of 0 to 100
        ("u4", SWEEP * 1e6, "1000 points within 0.1000 ms"),  # microseconds taken for nanoseconds
    ],
)
def test_times_in_another_unit_are_refused(kind: str, times: Any, got: str) -> None:
    with pytest.raises(InputError, match=rf"nanoseconds or others in seconds, got .*{got}.*deskew to off"):
        point_times(timed("time", kind, times))


def test_points_of_one_flash_have_one_time() -> None:
    found = point_times(timed("t", "u4", np.full(1000, 7)))
    assert found is not None and (found == 7).all()


def test_points_without_a_return_do_not_decide_about_the_unit() -> None:
    names = ["x", "y", "z", "timestamp"]
    layout = {"names": names, "formats": ["<f4"] * 3 + ["<f8"], "offsets": [0, 4, 8, 16], "itemsize": 24}
    points = np.zeros(10, np.dtype(layout))
    points["x"][:3], points["timestamp"][:3] = 5.0, STAMP_NS * 1e-9 + np.array([0.0, 0.05, 0.1])  # the others have none
    message = timed("timestamp", "f8", np.zeros(10))
    message.data = array.array("B", points.tobytes())
    message.fields += [SimpleNamespace(name=n, offset=4 * i, datatype=7, count=1) for i, n in enumerate("xyz")]
    found = point_times(message)
    assert found is not None
    np.testing.assert_allclose(found, [0, 50_000_000, 100_000_000, *[0] * 7], rtol=0, atol=500)
