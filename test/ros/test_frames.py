"""Matched messages become a frame, whatever an auxiliary input holds (no DDS here)."""

from __future__ import annotations

import numpy as np
import pytest

from samseg_ros.config import Config, from_flat
from samseg_ros.errors import InputError
from samseg_ros.labels import LabelSet
from samseg_ros.ros import frames
from samseg_ros.ros.extrinsics import NoExtrinsics
from samseg_ros.ros.outputs import OUTPUTS, Result
from samseg_ros.sensing.synchronize import MatchedSet
from samseg_ros.types import PointCloud, Segmentation


@pytest.mark.parametrize(("name", "reader"), [("thermal", "thermal_image"), ("lidar", "point_cloud")])
def test_an_unforeseen_fault_in_an_auxiliary_input_is_reported_and_the_frame_goes_on(
    messages, monkeypatch, name, reader
):
    def fail(message):
        raise np.linalg.LinAlgError("no such luck")

    monkeypatch.setattr(frames.interop, reader, fail)
    reports = []
    builder = frames.FrameBuilder(NoExtrinsics(), lambda *report: reports.append(report), Config())
    frame = builder.build(MatchedSet(10**9, messages.image(1.0), {name: messages.image(1.0)}, {}, ()))
    assert frame.image.shape == (48, 64, 3) and frame.thermal is None and frame.points is None
    [(reported, error)] = reports
    assert reported == name and "LinAlgError: no such luck" in str(error)


@pytest.mark.parametrize(
    ("intensity", "is_noted"), [(None, False), ([], False), ([0.5] * 99, False), ([80.0] * 99, True), ([np.nan], False)]
)
def test_intensities_that_are_mostly_above_the_largest_are_noted(intensity, is_noted):
    count = 0 if intensity is None else len(intensity)
    values = None if intensity is None else np.array(intensity, np.float32)
    note = frames.intensity_note(PointCloud(np.ones((count, 3), np.float32), values), max_intensity=1.0)
    assert bool(note) == is_noted
    assert not is_noted or ("80" in note and "projection.max_intensity" in note)


class Sideways:
    """A LiDAR in the place of the camera, on a vehicle that moves 10 m/s to the right."""

    def __init__(self, known_until_ns=10**18):
        self.known_until_ns, self.asked_ns = known_until_ns, []

    def camera_from_sensor(self, camera, sensor, name, sensor_ns=None):
        self.asked_ns.append(sensor_ns)
        if sensor_ns > self.known_until_ns:
            raise InputError("extrinsics", expected="a transform", got="extrapolation", remedy="wait")
        pose = np.eye(4)
        pose[0, 3] = 10 * (sensor_ns - camera.stamp.sec * 10**9) * 1e-9
        return pose


def build(messages, sweep, extrinsics, **settings):
    """Build a frame with an image of 1.0 s; return it, its builder, and what was reported."""
    names = {"motion_compensation": True} | settings
    config = from_flat({f"{'' if '.' in k else 'projection.'}{k}": v for k, v in names.items()})
    reports = []
    builder = frames.FrameBuilder(extrinsics, lambda *report: reports.append(report), config)
    builder.infos["camera_info"].set(messages.camera_info(1.0))
    frame = builder.build(MatchedSet(10**9, messages.image(1.0), {"lidar": sweep}, {}, ()))
    return frame, builder, reports


def a_sweep(messages, stamp_s=0.9):
    """Points seen 0, 60 and 100 ms after the stamp, all straight ahead and 5 m away."""
    return messages.cloud(stamp_s, [[0, 0, 5, 0.0], [0, 0, 5, 0.06], [0, 0, 5, 0.1]], ["x", "y", "z", "time"])


def test_every_point_is_projected_from_where_it_was_and_published_as_measured(messages):
    frame, builder, reports = build(messages, a_sweep(messages), Sideways())
    assert reports == [] and (builder.deskew, builder.deskew_note) == ("0.100 s", "")
    # What was straight ahead 100 ms before the image is 1 m to the left now.
    np.testing.assert_allclose(frame.points.deskewed, [[0, 0, 5], [0.6, 0, 5], [1, 0, 5]], atol=5e-4)
    np.testing.assert_allclose(frame.camera_from_lidar[:3, 3], [-1, 0, 0])
    labels = np.zeros(frame.size, np.uint8)
    labels[:, 27:31], labels[:, 31:] = 1, 2
    share, cells = np.zeros(3), np.zeros((3, 2, 2), np.float32)
    segmentation = Segmentation(labels, np.full(frame.size, 255, np.uint8), cells, share, share)
    names = LabelSet("three", ("a", "b", "c"), np.zeros((3, 3), np.uint8))
    result = Result(messages.header(1.0, "camera"), frame, segmentation, Config(), names)
    painted = OUTPUTS["~/output/pointcloud"][1](result)
    rows = np.frombuffer(painted.data, np.uint8).reshape(3, 24)
    np.testing.assert_array_equal(rows[:, :12].copy().view(np.float32), [[0, 0, 5]] * 3)
    # f = 50 px and 5 m: columns 32 - 10, 32 - 4 and 32.
    assert rows[:, 12].tolist() == [0, 1, 2] and painted.header.frame_id == "lidar"


def test_the_offset_between_the_clocks_is_taken_out_before_motion_is_compensated(messages):
    where = Sideways()
    settings = {"sync.lidar.offset_s": 0.2}
    frame, _, _ = build(messages, a_sweep(messages, stamp_s=1.1), where, **settings)
    np.testing.assert_allclose(frame.camera_from_lidar[0, 3], -1.0)
    np.testing.assert_allclose(frame.points.deskewed[:, 0], [0, 0.6, 1], atol=5e-4)  # 0.05 ms at 10 m/s
    assert where.asked_ns[:2] == [900_000_000] * 2 and where.asked_ns[-1] == pytest.approx(1_000_000_000, abs=10)


def test_a_sweep_without_times_moves_as_one_and_diagnostics_say_so(messages):
    frame, builder, reports = build(messages, messages.cloud(0.9), Sideways())
    assert frame.points.deskewed is None and frame.camera_from_lidar[0, 3] == pytest.approx(-1)
    assert builder.deskew == "the cloud has no times of its points" and builder.deskew_note == "" and reports == []


@pytest.mark.parametrize("settings", [{"deskew": "off"}, {"motion_compensation": False}])
def test_nothing_is_deskewed_unless_it_is_asked_for(messages, settings):
    where = Sideways()
    frame, builder, _ = build(messages, a_sweep(messages), where, **settings)
    assert frame.points.deskewed is None and builder.deskew == "off" and len(where.asked_ns) == 1


@pytest.mark.parametrize(
    ("until_ns", "times", "why"),
    [(950_000_000, [0.0, 0.06, 0.1], "extrapolation"), (10**18, [3e5, 3e5, 3e5], "within a second of the cloud's")],
)
def test_a_sweep_that_cannot_be_deskewed_is_used_as_one_and_the_reason_is_noted(messages, until_ns, times, why):
    points = [[0, 0, 5, t] for t in times]
    frame, builder, _ = build(messages, messages.cloud(0.9, points, ["x", "y", "z", "time"]), Sideways(until_ns))
    assert frame.points is not None and frame.points.deskewed is None
    assert builder.deskew == "impossible" and why in builder.deskew_note
