"""What goes wrong in a picture: pure functions of (H, W) or (H, W, C), a strength and a random generator.

A random choice (an angle, a side, where the noise falls) is drawn in the same way at every strength, so that one seed
gives the same failure, only stronger.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from kornia.filters import get_motion_kernel2d
from numpy.typing import NDArray

Picture = NDArray[Any]
"""(H, W) or (H, W, C); what is returned has the same shape and type."""
Change = Callable[[Picture, float, np.random.Generator], Picture]
"""(picture, strength, random generator) -> the picture as it fails."""

GAMMA = 2.2
"""Of a camera's picture: level = 255 * light ** (1 / GAMMA)."""


def blackout(picture: Picture, share: float, rng: np.random.Generator) -> Picture:
    """Set the lower ``share`` of the rows to 0, as when the transfer of a picture is cut short; 1: all of it."""
    return _cut_short(picture, share, 0.0)


def thermal_blackout(picture: Picture, share: float, rng: np.random.Generator) -> Picture:
    """Set the lower ``share`` of the rows to the image's lowest count: 0 K would take all contrast from the rest."""
    finite = picture[np.isfinite(picture)]
    return _cut_short(picture, share, float(finite.min()) if finite.size else 0.0)


def _cut_short(picture: Picture, share: float, dark: float) -> Picture:
    kept = len(picture) - round(share * len(picture))
    cut = np.full_like(picture, dark)
    cut[:kept] = picture[:kept]
    return cut


def exposure(picture: Picture, stops: float, rng: np.random.Generator) -> Picture:
    """Multiply the light of a uint8 picture by 2 ** stops; what is too bright is cut off at 255."""
    light = (np.arange(256) / 255) ** GAMMA * 2.0**stops
    table = np.rint(255 * np.clip(light, 0, 1) ** (1 / GAMMA)).astype(np.uint8)
    return np.asarray(cv2.LUT(picture, table))


def motion_blur(picture: Picture, percent: float, rng: np.random.Generator) -> Picture:
    """Smear along a straight line of ``percent`` of the width, in a direction that is drawn."""
    angle = float(rng.uniform(0, 180))
    kernel = get_motion_kernel2d(_odd(percent, picture), angle)[0].numpy()
    return np.asarray(cv2.filter2D(picture, -1, kernel))


def defocus(picture: Picture, percent: float, rng: np.random.Generator) -> Picture:
    """Spread every point over a disk with a diameter of ``percent`` of the width."""
    side = _odd(percent, picture)
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)).astype(np.float32)
    return np.asarray(cv2.filter2D(picture, -1, disk / disk.sum()))


def _odd(percent: float, picture: Picture) -> int:
    """Return an odd number of pixels, at least 3, near ``percent`` of the width."""
    return int(max(3, 2 * round(percent / 100 * picture.shape[1] / 2) + 1))


def gaussian_blur(picture: Picture, percent: float, rng: np.random.Generator) -> Picture:
    """Blur with a Gaussian whose standard deviation is ``percent`` of the width; NaN spreads as far as it reaches."""
    blurred = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), percent / 100 * picture.shape[1])
    return _typed(blurred, picture)


def noise(picture: Picture, levels: float, rng: np.random.Generator) -> Picture:
    """Add Gaussian noise to every value, ``levels`` is its standard deviation in the picture's own units."""
    return _typed(picture + np.float32(levels) * rng.standard_normal(picture.shape, np.float32), picture)


def thermal_noise(picture: Picture, share: float, rng: np.random.Generator) -> Picture:
    """Add noise as uncooled cores have it: half of its variance a pixel's own, half shared by a column.

    Args:
        share: standard deviation, as a share of the span between the 1st and the 99th percentile.
    """
    finite = picture[np.isfinite(picture)]
    low, high = np.percentile(finite, [1, 99]) if finite.size else (0.0, 0.0)
    pixels, columns = rng.standard_normal(picture.shape), rng.standard_normal(picture.shape[1])
    return _typed(picture + share * (high - low) * (pixels + columns) / np.sqrt(2), picture)


def turn(picture: Picture, focal_px: float, yaw_deg: float, points: bool = False) -> Picture:
    """Return what a pinhole camera of that focal length sees when it is turned to the right about its vertical axis.

    That is the homography K R K^-1 (Hartley and Zisserman, Multiple View Geometry, 13.4) about the picture's centre.

    Args:
        points: the picture holds single points among nothing (0): they are moved whole, and nothing comes in at the
            edge. Otherwise values are interpolated, and the last column is repeated.
    """
    height, width = picture.shape[:2]
    k = np.array([[focal_px, 0, (width - 1) / 2], [0, focal_px, (height - 1) / 2], [0, 0, 1]])
    sine, cosine = np.sin(np.deg2rad(yaw_deg)), np.cos(np.deg2rad(yaw_deg))
    turned_from_first = np.array([[cosine, 0, -sine], [0, 1, 0], [sine, 0, cosine]])
    homography = k @ turned_from_first @ np.linalg.inv(k)
    source = picture if picture.dtype in (np.uint8, np.uint16, np.float32) else picture.astype(np.float32)
    how = cv2.INTER_NEAREST if points else cv2.INTER_LINEAR
    border = cv2.BORDER_CONSTANT if points else cv2.BORDER_REPLICATE
    return _typed(cv2.warpPerspective(source, homography, (width, height), flags=how, borderMode=border), picture)


def thin(picture: Picture, keep_one_of: float, rng: np.random.Generator) -> Picture:
    """Keep one of so many non-empty pixels of a picture of points (0: empty), drawn; the rest becomes 0."""
    rows, columns = np.nonzero(picture.reshape(*picture.shape[:2], -1).any(2))
    chosen = rng.permutation(len(rows))[: round(len(rows) / keep_one_of)]
    thinned = np.zeros_like(picture)
    thinned[rows[chosen], columns[chosen]] = picture[rows[chosen], columns[chosen]]
    return thinned


def _typed(values: NDArray[Any], like: Picture) -> Picture:
    """Return values in the type of a picture: whole numbers rounded and kept within what the type can hold."""
    if like.dtype.kind == "f":
        return values.astype(like.dtype)
    limits = np.iinfo(like.dtype)
    return np.asarray(np.clip(np.rint(values), limits.min, limits.max), like.dtype)
