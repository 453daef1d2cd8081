"""Primitives of the world: one row of numbers each, so that compiled kernels can walk over them.

World frame (REP-103): x along the road, y left, z up, metres; the road's surface is z = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Shape(IntEnum):
    """How a ray meets the primitive; half extents are (hx, hy, hz) in its own frame."""

    BOX = 0  # may taper towards its top along x and y
    ELLIPSOID = 1
    CYLINDER = 2  # axis z, radius hx
    WHEEL = 3  # axis y, radius hx


class Material(IntEnum):
    """What the surface looks like in colour and in thermal."""

    PAINT = 0
    FACADE = 1
    FOLIAGE = 2
    GLASS = 3
    TYRE = 4
    SIGN = 5
    CLOTH = 6
    SKIN = 7
    METAL = 8
    LAMP = 9
    BARK = 10
    HEADLIGHT = 11
    TAILLIGHT = 12
    ENGINE = 13
    CARGO = 14


class World(IntEnum):
    """Class ids of config/labels/world.csv."""

    ROAD = 0
    LANE_MARK = 1
    SIDEWALK = 2
    BUILDING = 3
    VEGETATION = 4
    POLE = 5
    SIGN = 6
    CAR = 7
    TRUCK = 8
    PEDESTRIAN = 9
    CYCLIST = 10
    SKY = 11


# Columns of a primitive's row.
KIND, CX, CY, CZ, HX, HY, HZ, COS, SIN, TAPER_X, TAPER_Y, CLASS, MATERIAL, RED, GREEN, BLUE, SEED, WARMTH, FAMILY = (
    range(19)
)
COLUMNS = 19

Row = list[float]
Color = Sequence[float]


def primitive(
    shape: Shape,
    center: Sequence[float],
    half: Sequence[float],
    label: World,
    material: Material,
    color: Color,
    *,
    yaw: float = 0.0,
    taper: tuple[float, float] = (0.0, 0.0),
    seed: float = 0.0,
    warmth: float = 0.0,
    family: float = 0.0,
) -> Row:
    """Return one row.

    Args:
        center: metres, in the frame of the object that holds the primitive.
        half: half extents, metres.
        color: linear RGB albedo, 0..1.
        yaw: radians about z.
        taper: share by which the box narrows at its top along x and y (1 = a ridge).
        warmth: degrees Celsius above (below) what its material would have.
        family: which variant of the material's texture.
    """
    return [
        float(shape),
        *center,
        *half,
        np.cos(yaw),
        np.sin(yaw),
        *taper,
        float(label),
        float(material),
        *color,
        seed,
        warmth,
        family,
    ]


def place(rows: Sequence[Row], x: float, y: float, yaw: float, z: float = 0.0) -> NDArray[np.float64]:
    """Return (P, COLUMNS) rows of an object moved to (x, y, z) and turned by yaw (radians)."""
    table = np.array(rows, np.float64).reshape(-1, COLUMNS)
    c, s = np.cos(yaw), np.sin(yaw)
    px, py = table[:, CX].copy(), table[:, CY].copy()
    table[:, CX], table[:, CY], table[:, CZ] = x + c * px - s * py, y + s * px + c * py, table[:, CZ] + z
    cos, sin = table[:, COS].copy(), table[:, SIN].copy()
    table[:, COS], table[:, SIN] = c * cos - s * sin, s * cos + c * sin
    return table
