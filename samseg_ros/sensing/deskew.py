"""LiDAR deskew: a sensor that moves while it turns measures every point from another place; move them all to one.

Poses come at a few moments of the sweep; between them the rotation follows the shortest arc at constant speed (slerp)
and the origin a straight line, as TF itself interpolates.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

KNOT_NS = 20_000_000
"""Poses are asked for no further apart than this: odometry seldom comes faster than 50 Hz."""
GRID_NS = 100_000
"""Points share a pose with those this close in time: at 30 m/s and 1 rad/s 1.5 mm off, and at 50 m 2.5 mm."""


def sweep_knots(times_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the moments at which poses are needed: first and last point, and evenly between them.

    Args:
        times_ns: (N,) of the points, N > 0.

    Returns:
        (M,) increasing; M is 1 where all points are of one moment.
    """
    first, last = int(times_ns.min()), int(times_ns.max())
    gaps = -(-(last - first) // KNOT_NS)
    return first + np.arange(gaps + 1, dtype=np.int64) * (last - first) // max(gaps, 1)


def deskew(
    xyz: NDArray[np.float32],
    times_ns: NDArray[np.int64],
    knots_ns: NDArray[np.int64],
    target_from_sensor: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Move every point from the sensor as it stood at the point's time into one frame.

    Args:
        xyz: (N, 3) metres, each in the sensor's frame at its own time. NaN rows and rows of zeros are *no return* and
            stay as they are.
        times_ns: (N,) when each point was measured, not outside the knots.
        knots_ns: (M,) increasing, see `sweep_knots`.
        target_from_sensor: (M, 4, 4) where the sensor stood at the knots, metres.

    Returns:
        (N, 3) in the target frame.
    """
    first, span = int(knots_ns[0]), int(knots_ns[-1] - knots_ns[0])
    steps = -(-span // GRID_NS)
    grid_ns = np.linspace(0, span, steps + 1)
    poses = _interpolated(grid_ns, (knots_ns - first).astype(np.float64), target_from_sensor)
    return _moved(xyz, times_ns - first, steps / max(span, 1), poses)  # type: ignore[no-any-return]


def _interpolated(
    grid: NDArray[np.float64], knots: NDArray[np.float64], poses: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (G, 3, 4) poses at the grid's times."""
    if len(knots) == 1:
        return np.ascontiguousarray(poses[:, :3])
    turned = Slerp(knots, Rotation.from_matrix(poses[:, :3, :3]))(grid).as_matrix()
    origin = np.stack([np.interp(grid, knots, poses[:, axis, 3]) for axis in range(3)], axis=-1)
    return np.concatenate([turned, origin[:, :, None]], axis=2)


@njit(cache=True, nogil=True)
def _moved(xyz, times, per_ns, poses):  # type: ignore[no-untyped-def]
    """Apply to each point the pose of its time (in ns since the first pose)."""
    result = np.empty((len(xyz), 3), np.float32)
    for i in range(len(xyz)):
        x, y, z = xyz[i, 0], xyz[i, 1], xyz[i, 2]
        if x == 0 and y == 0 and z == 0:
            result[i] = np.float32(0)
            continue
        p = poses[min(max(int(times[i] * per_ns + 0.5), 0), len(poses) - 1)]
        for k in range(3):
            result[i, k] = p[k, 0] * x + p[k, 1] * y + p[k, 2] * z + p[k, 3]
    return result
