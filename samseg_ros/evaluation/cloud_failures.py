"""What goes wrong in a LiDAR sweep: pure functions of the cloud, a strength and a random generator.

Rows that are no return (NaN, or all 0) are left out of every result. As in `picture_failures`, one seed gives the same
failure at every strength, only stronger.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from samseg_ros.types import PointCloud

Change = Callable[[PointCloud, float, np.random.Generator], PointCloud]
"""(cloud, strength, random generator) -> the cloud as it fails."""

BEAM_DEG = 0.2
"""Elevations closer than this count as one beam: half of what separates the beams of the densest sensors."""
PACKETS = 180
"""Packets in a full turn: 2 degrees each, as Velodyne's."""


def blackout(cloud: PointCloud, share: float, rng: np.random.Generator) -> PointCloud:
    """Lose ``share`` of the returns, the lowest beams first; 1: all of them."""
    cloud = _returns(cloud)
    lost = np.argsort(_elevation(cloud), kind="stable")[: round(share * len(cloud.xyz))]
    kept = np.ones(len(cloud.xyz), np.bool_)
    kept[lost] = False
    return _where(cloud, kept)


def sparsity(cloud: PointCloud, keep_one_of: float, rng: np.random.Generator) -> PointCloud:
    """Keep every n-th beam, counted from the lowest, as a LiDAR with fewer beams.

    Beams are told apart by elevation, for a cloud says no more: exact where they are at least `BEAM_DEG` apart and
    each keeps its elevation, else bands of that width are kept and lost.
    """
    cloud = _returns(cloud)
    if not len(cloud.xyz):
        return cloud
    elevation = _elevation(cloud)
    _, beam = np.unique(np.rint((elevation - elevation.min()) / BEAM_DEG), return_inverse=True)
    return _where(cloud, beam % round(keep_one_of) == 0)


def shorter_range(cloud: PointCloud, reach_m: float, rng: np.random.Generator) -> PointCloud:
    """Lose every return beyond ``reach_m`` from the sensor, as in fog."""
    cloud = _returns(cloud)
    return _where(cloud, np.linalg.norm(cloud.xyz, axis=1) <= reach_m)


def dropped_packets(cloud: PointCloud, share: float, rng: np.random.Generator) -> PointCloud:
    """Lose ``share`` of a turn's packets, drawn: sectors of 360 / `PACKETS` degrees of azimuth are missing."""
    cloud = _returns(cloud)
    azimuth = np.arctan2(cloud.xyz[:, 1], cloud.xyz[:, 0])  # -pi..pi
    packet = np.floor((azimuth / (2 * np.pi) + 0.5) * PACKETS).astype(np.int64) % PACKETS
    lost = rng.permutation(PACKETS)[: round(share * PACKETS)]
    return _where(cloud, ~np.isin(packet, lost))


def turned_pose(camera_from_sensor: NDArray[np.float64], axis: str, degrees: float) -> NDArray[np.float64]:
    """Return (4, 4) extrinsics that are wrong by a turn of the sensor about an axis (x, y or z) of its own frame."""
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler(axis, degrees, degrees=True).as_matrix()
    turned: NDArray[np.float64] = camera_from_sensor @ turn
    return turned


def _elevation(cloud: PointCloud) -> NDArray[np.float64]:
    """Return (N,) degrees above the sensor's horizon."""
    x, y, z = cloud.xyz.T.astype(np.float64)
    return np.asarray(np.rad2deg(np.arctan2(z, np.hypot(x, y))))


def _returns(cloud: PointCloud) -> PointCloud:
    return _where(cloud, np.asarray(np.isfinite(cloud.xyz).all(1) & cloud.xyz.any(1)))


def _where(cloud: PointCloud, kept: NDArray[Any]) -> PointCloud:
    return replace(cloud, xyz=cloud.xyz[kept], intensity=None if cloud.intensity is None else cloud.intensity[kept])
