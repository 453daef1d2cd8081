"""Matched messages become a frame, whatever an auxiliary input holds (no DDS here)."""

from __future__ import annotations

import numpy as np
import pytest

from samseg_ros.config import Config
from samseg_ros.ros import frames
from samseg_ros.ros.extrinsics import NoExtrinsics
from samseg_ros.sensing.synchronize import MatchedSet
from samseg_ros.types import PointCloud


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
