"""Fog over a camera image by Koschmieder's law (1924), as Foggy Cityscapes was made (Sakaridis et al., IJCV 2018).

``I = J t + A (1 - t)``, ``t = exp(-3 depth / visibility)``: 5 % of a contrast is left at the visibility (the
meteorological optical range). What it assumes: fog of one density, lit as brightly as the image's bright parts (A is
their grey, so that fog at night is dark), levels mixed as they are, without gamma.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from samseg_ros.config import ProjectionConfig
from samseg_ros.sensing.projection import project_frame
from samseg_ros.types import Frame

AIRLIGHT_PERCENTILE = 90.0
"""Of the image's brightness: the fog's own."""
REDUCTION = 4
"""Depth is filled in at this part of the camera's resolution, and interpolated."""
CAMERA_HEIGHT_M = 1.5
WALL_M = 20.0
"""Distance of what stands on the road, where nothing measures it."""
GAP = 0.02
"""Share of the width: a pixel further from any return sees something out of reach, or above the beams."""
AROUND = 0.1
"""Share of the width within which such a pixel looks for the farthest return."""


def fog(frame: Frame, visibility_m: float) -> NDArray[np.uint8]:
    """Return the camera image (H, W, 3) as seen through fog of that visibility."""
    t = np.exp(-3.0 * scene_depth(frame) / visibility_m)[:, :, None]
    airlight = np.percentile(cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY), AIRLIGHT_PERCENTILE)
    return np.asarray(np.rint(frame.image * t + airlight * (1 - t)), np.uint8)


def scene_depth(frame: Frame) -> NDArray[np.float32]:
    """Return (H, W) metres along the optical axis, a value for every pixel.

    From the LiDAR, where there is one that can be projected and sees anything: a pixel without a return takes that of
    the nearest one that has it, and far from any (the sky, the tops of buildings) the farthest thereabouts. Otherwise
    a flat road `CAMERA_HEIGHT_M` below the camera, and a wall `WALL_M` ahead.
    """
    height, width = frame.size
    small = max(1, height // REDUCTION), max(1, width // REDUCTION)
    measured = None
    if frame.points is not None and frame.camera is not None and frame.camera_from_lidar is not None:
        measured = project_frame(frame, small, ProjectionConfig(dilation_px=1)).depth_m
    if measured is None or np.isnan(measured).all():
        return _flat_road(frame)
    return np.asarray(cv2.resize(_filled(measured), (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _filled(depth_m: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a sparse depth image with its gaps filled, and its edges softened."""
    distance, (row, column) = distance_transform_edt(np.isnan(depth_m), return_indices=True)
    nearest, width = depth_m[row, column], depth_m.shape[1]
    side = max(1, round(AROUND * width))
    farthest = cv2.dilate(nearest, np.ones((side, side), np.uint8))
    return np.asarray(cv2.blur(np.where(distance > GAP * width, farthest, nearest), (3, 3)), np.float32)


def _flat_road(frame: Frame) -> NDArray[np.float32]:
    """Return the depth of a road and a wall; without intrinsics the horizon is half-way up and the view 53 degrees."""
    height, width = frame.size
    k = None if frame.camera is None else frame.camera.k
    focal, horizon = (float(width), (height - 1) / 2) if k is None else (float(k[1, 1]), float(k[1, 2]))
    below = np.maximum(np.arange(height) - horizon, 1e-6)
    depth = np.minimum(focal * CAMERA_HEIGHT_M / below, WALL_M).astype(np.float32)
    return np.repeat(depth[:, None], width, axis=1)
