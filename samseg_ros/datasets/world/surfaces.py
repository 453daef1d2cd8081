# ruff: noqa: RUF046  (in compiled code math.floor gives a float's type)
"""What surfaces are made of: colour, temperature, gloss and the class of the ground, point by point."""

# mypy: disable-error-code="untyped-decorator,no-untyped-call"

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from samseg_ros.datasets.world.casting import CROSS_HALF, CROSS_X, CURB, ROAD_HALF, WALK, hash3, lateral, noise3
from samseg_ros.datasets.world.light import AIR_C, LAMPS, SUN_LOAD_C, WET
from samseg_ros.datasets.world.primitives import (
    BLUE,
    CLASS,
    COS,
    CX,
    CY,
    CZ,
    FAMILY,
    GREEN,
    HX,
    HY,
    HZ,
    KIND,
    MATERIAL,
    RED,
    SEED,
    SIN,
    WARMTH,
)

Floats = NDArray[np.float64]
BODY_C = 33.0
"""Skin temperature, degrees Celsius."""
SURFACE_COLUMNS = 10
# What the functions below write about a point: albedo, normal (world), emission at night, temperature, gloss, and how
# well it returns the headlights' light.
R, G, B, NX, NY, NZ, EMISSION, CELSIUS, GLOSS, RETRO = range(SURFACE_COLUMNS)


@njit(cache=True)
def ground_kind(ground: Floats, x: float, y: float) -> int:
    """Return the class of the ground at (x, y): road 0, lane mark 1, sidewalk 2, grass 4."""
    lat = lateral(ground, x, y)
    away, half, drive, width = abs(lat), ground[ROAD_HALF], ground[16], ground[7]
    into = abs(x - ground[CROSS_X]) - ground[CROSS_HALF]
    if into < 0:
        return 0
    if away > half:
        return 4 if away > half + ground[WALK] and ground[15] > 0 else 2
    if ground[10] > 0 and 0.6 < into < 3.2 and away < half - 0.4:
        return 1 if (lat * 1.0 + 50.0) % 1.0 < 0.5 else 0
    if ground[10] <= 0 and 0.4 < into < 0.8 and x < ground[CROSS_X] and lat < 0:
        return 1  # stop line
    edge = drive if drive < half else half - 0.35
    if ground[9] > 0 and edge - width < away < edge:
        return 1
    lanes = int(ground[6])
    for i in range(1, lanes):
        line = -drive + i * 2 * drive / lanes
        solid = lanes == 4 and i == 2
        if abs(lat - line) < width / 2 and (solid or (x + 1000.0) % ground[8] < ground[8] * 0.5):
            return 1
    return 0


@njit(cache=True)
def ground_kinds(ground: Floats, xy: Floats) -> NDArray[np.uint8]:
    """Return ground_kind for every row of xy (N, 2)."""
    kinds = np.empty(xy.shape[0], np.uint8)
    for i in range(xy.shape[0]):
        kinds[i] = ground_kind(ground, xy[i, 0], xy[i, 1])
    return kinds


@njit(cache=True)
def _ground_look(ground: Floats, kind: int, x: float, y: float, wet: float, out: Floats) -> None:
    """Write the albedo of the ground at (x, y)."""
    s, family = ground[14], ground[13]
    fine = noise3(x * 7.0, y * 7.0, s)
    coarse = noise3(x * 0.45, y * 0.45, s + 9)
    if kind == 4:
        g = 0.6 + 0.8 * fine * noise3(x * 2.1, y * 2.1, s + 4)
        out[R], out[G], out[B] = 0.11 * g + 0.04 * coarse, 0.17 * g, 0.045 * g
        return
    if kind == 2:
        a = ground[12] * (0.8 + 0.25 * fine + 0.2 * coarse)
        size = 0.6 if family < 3 else 0.3
        row = math.floor(x / size)
        shift = 0.5 * size * (row % 2) if family == 1 or family == 4 else 0.0
        if family != 2 and ((x / size) % 1.0 < 0.06 or ((y + shift) / size) % 1.0 < 0.06):
            a *= 0.6
        if family == 4:
            a *= 0.75 + 0.5 * hash3(int(row), int(math.floor((y + shift) / size)), int(s))
    else:
        a = ground[11] * (0.75 + 0.3 * fine + 0.35 * coarse)
        crack = noise3(x * 0.8, y * 0.8, s + 30)
        if abs(crack - 0.5) < 0.012:
            a *= 0.5  # cracks
        if noise3(x * 0.16, y * 0.5, s + 55) > 0.72:
            a *= 0.65 if family < 3 else 1.35  # patches of repair
        if kind == 1:
            wear = noise3(x * 3.0, y * 3.0, s + 77)
            a = a + (0.62 - a) * min(1.0, max(0.0, 1.7 * wear))
    a *= 1 - 0.4 * wet
    out[R], out[G], out[B] = a, a * 0.99, a * 0.96


@njit(cache=True)
def _normal(row: Floats, qx: float, qy: float, qz: float, out: Floats) -> None:
    """Write the outward normal of a primitive at the local point q."""
    kind, hx, hy, hz = row[KIND], row[HX], row[HY], row[HZ]
    nx, ny, nz = 0.0, 0.0, 0.0
    if kind == 0.0:
        ax, ay, az = abs(qx) / hx, abs(qy) / hy, abs(qz) / hz
        if az > 0.999 or (az >= ax and az >= ay and az > 0.98):
            nz = 1.0 if qz > 0 else -1.0
        elif (hx - abs(qx)) < (hy - abs(qy)):
            nx = 1.0 if qx > 0 else -1.0
        else:
            ny = 1.0 if qy > 0 else -1.0
    elif kind == 1.0:
        nx, ny, nz = qx / (hx * hx), qy / (hy * hy), qz / (hz * hz)
    elif kind == 2.0:
        if abs(qz) > 0.999 * hz:
            nz = 1.0 if qz > 0 else -1.0
        else:
            nx, ny = qx, qy
    elif abs(qy) > 0.99 * hy:
        ny = 1.0 if qy > 0 else -1.0
    else:
        nx, nz = qx, qz
    n = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
    c, s = row[COS], row[SIN]
    out[NX], out[NY], out[NZ] = (c * nx - s * ny) / n, (s * nx + c * ny) / n, nz / n


@njit(cache=True)
def _facade(row: Floats, along: float, z: float, out: Floats, lit: float) -> tuple[float, float]:
    """Modulate a wall's albedo; return (emission at night, degrees Celsius against the wall)."""
    family, seed = row[FAMILY], row[SEED]
    s = int(seed)
    storey, bay = 2.7 + (s % 7) * 0.12, 1.8 + (s % 5) * 0.5
    u, v = along / bay, z / storey
    iu, iv = math.floor(u), math.floor(v)
    fu, fv = u - iu, v - iv
    wide, tall = 0.22 + 0.05 * (s % 3), 0.2 + 0.04 * (s % 4)
    glass = abs(fu - 0.5) < wide and abs(fv - 0.52) < tall
    if family == 3.0:
        glass = not (fu < 0.07 or fv < 0.22)
    elif family == 5.0:
        glass = abs(fu - 0.5) < 0.3 and 0.12 < fv < 0.8 and s % 2 == 0
    if glass:
        shine = 0.03 + 0.12 * hash3(int(iu), int(iv), s) + 0.05 * fv
        out[R], out[G], out[B] = shine * 0.8, shine * 0.95, shine * 1.1
        on = hash3(int(iu), int(iv), s + 5) < lit
        return (0.25 * hash3(int(iu), int(iv), s + 8) if on else 0.0), (3.5 if on else -3.0)
    m = 0.85 + 0.3 * noise3(along * 0.7, z * 0.7, seed) * noise3(along * 5.0, z * 5.0, seed + 3)
    if family == 0.0:  # brick
        r = math.floor(z / 0.12)
        if (z / 0.12) % 1.0 < 0.15 or ((along + 0.15 * (r % 2)) / 0.3) % 1.0 < 0.06:
            m *= 1.35
        else:
            m *= 0.85 + 0.3 * hash3(int(r), int(math.floor((along + 0.15 * (r % 2)) / 0.3)), s)
    elif family == 2.0:  # panels
        if fu < 0.03 or fv < 0.04:
            m *= 0.55
    elif family == 4.0:  # stone blocks
        r = math.floor(z / 0.45)
        shift = 0.4 * (r % 2)
        m *= 0.65 + 0.6 * hash3(int(r), int(math.floor((along + shift) / 0.8)), s)
    elif family == 5.0:  # stripes
        m *= 0.6 if (z / 0.9) % 1.0 < 0.4 else 1.15
    if z < 3.0 and family != 4.0 and hash3(int(math.floor(along / 5.0)), 1, s) < 0.4:
        m *= 0.6  # shop fronts
    out[R], out[G], out[B] = row[RED] * m, row[GREEN] * m, row[BLUE] * m
    return 0.0, 0.0


@njit(cache=True)
def _surface(row: Floats, qx: float, qy: float, qz: float, air: float, night: float, out: Floats) -> None:
    """Write everything but the normal of a primitive at the local point q."""
    mat, seed = int(row[MATERIAL]), row[SEED]
    out[R], out[G], out[B] = row[RED], row[GREEN], row[BLUE]
    out[EMISSION], out[CELSIUS], out[GLOSS], out[RETRO] = 0.0, air + row[WARMTH], 0.0, 1.0
    if mat == 1:
        along = qx if abs(abs(qy) - row[HY]) < abs(abs(qx) - row[HX]) else qy
        top = abs(qz) > 0.999 * row[HZ]
        emission, warm = (0.0, -2.0) if top else _facade(row, along + 40.0, qz + row[HZ], out, 0.35 * night)
        out[EMISSION] = emission * night
        out[CELSIUS] = air + 1.5 + 2.0 * night + warm + noise3(along * 0.5, qz * 0.5, seed)
    elif mat == 2:
        m = 0.35 + 1.1 * noise3(qx * 4.0 + seed, qy * 4.0, qz * 4.0) * (
            0.6 + 0.8 * noise3(qx * 14.0, qy * 14.0, qz * 14.0 + seed)
        )
        out[R] *= m
        out[G] *= m
        out[B] *= m
        out[CELSIUS] = air - 0.5 + 1.2 * (m - 0.8)
    elif mat == 0:
        out[CELSIUS], out[GLOSS] = air - 2.5 + row[WARMTH], 0.25
        if row[CLASS] == 3.0:  # roof tiles
            m = 0.7 + 0.5 * hash3(int(math.floor(qx * 3)), int(math.floor(qz * 3)), int(seed))
            out[R], out[G], out[B], out[GLOSS] = out[R] * m, out[G] * m, out[B] * m, 0.0
    elif mat == 3:
        out[CELSIUS], out[GLOSS] = air - 5.0, 0.5
    elif mat == 4:
        out[CELSIUS] = air + 1.0 + row[WARMTH]
        if row[CLASS] == 10.0:  # a bicycle's wheel: rim and spokes only, the rest as dark as its background often is
            out[CELSIUS] = air + 0.5
    elif mat == 5:
        family, ry, rz = row[FAMILY], qy / row[HY], qz / row[HZ]
        rim = max(abs(ry), abs(rz)) > 0.82 if family != 0.0 else ry * ry + rz * rz > 0.62
        mark = noise3(qy * 6.0 + seed, qz * 9.0, seed) > 0.6
        if qx > 0.005:
            out[R], out[G], out[B] = 0.25, 0.25, 0.25  # bare back
        elif rim or mark:
            out[R], out[G], out[B] = 0.7, 0.7, 0.68
        out[CELSIUS], out[RETRO] = air - 1.5, 5.0 if qx <= 0.005 else 1.0
    elif mat == 6:
        m = 0.75 + 0.5 * noise3(qx * 8.0 + seed, qy * 8.0, qz * 6.0)
        out[R], out[G], out[B] = out[R] * m, out[G] * m, out[B] * m
        out[CELSIUS] = air + 0.48 * (BODY_C - air) + row[WARMTH] + 2.0 * (m - 1.0)
    elif mat == 7:
        out[CELSIUS] = BODY_C - 0.08 * (BODY_C - air)
    elif mat == 8:
        out[CELSIUS], out[GLOSS] = air - 1.0, 0.15
    elif mat == 9 or mat == 11 or mat == 12:
        out[EMISSION] = (6.0 if mat == 9 else 5.0 if mat == 11 else 0.7) * night
        out[CELSIUS] = air + 8.0 * night
    elif mat == 10:
        m = 0.6 + 0.8 * noise3(qx * 20.0, qy * 20.0, qz * 3.0 + seed)
        out[R], out[G], out[B] = out[R] * m, out[G] * m, out[B] * m
        out[CELSIUS] = air + 0.5
    elif mat == 13:
        out[CELSIUS], out[GLOSS] = air - 2.0 + row[WARMTH], 0.25
    elif mat == 14:
        f = row[FAMILY]
        m = 1.0
        if f == 0.0:
            m = 0.8 if (qx * 2.2) % 1.0 < 0.12 else 1.0
        elif f == 1.0 and noise3(qx * 0.9 + seed, qz * 1.4, seed) > 0.55:
            out[R], out[G], out[B] = out[G] * 0.6 + 0.3, out[B] * 0.7 + 0.1, out[R] * 0.5 + 0.2
        elif f == 3.0:
            m = 0.75 if (qx * 3.5) % 1.0 < 0.4 else 1.05
        out[R], out[G], out[B] = out[R] * m, out[G] * m, out[B] * m
        out[CELSIUS], out[GLOSS] = air - 2.0, 0.1


@njit(cache=True)
def look_at_ground(ground: Floats, light: Floats, x: float, y: float, z: float, grazing_x: bool, out: Floats) -> int:
    """Write what the ground at (x, y, z) is like; return its class."""
    air, wet = light[AIR_C], light[WET]
    kind = ground_kind(ground, x, y)
    _ground_look(ground, kind, x, y, wet, out)
    out[NX], out[NY], out[NZ] = 0.0, 0.0, 1.0
    if z < ground[CURB] * 0.5 and kind == 2:  # seen under the edge: the curb's face
        out[NX], out[NZ] = -1.0 if grazing_x else 0.0, 0.3
    out[EMISSION], out[GLOSS], out[RETRO] = 0.0, 0.45 * wet, 2.5 if kind == 1 else 1.0
    stored = 2.5 * (1 if light[SUN_LOAD_C] < 3 else 0) * (1 - 0.7 * wet)
    out[CELSIUS] = air + stored + (0.6 * noise3(x * 0.6, y * 0.6, ground[14]) - 0.3)
    if kind == 1:
        out[CELSIUS] -= 1.0
    elif kind == 2:
        out[CELSIUS] -= 0.9
    elif kind == 4:
        out[CELSIUS] = air - 1.5 + noise3(x * 2, y * 2, ground[14])
    return kind


@njit(cache=True)
def look_at_primitive(row: Floats, light: Floats, x: float, y: float, z: float, out: Floats) -> int:
    """Write what a primitive is like at the world point (x, y, z); return its class."""
    night = 1.0 if light[LAMPS] > 0.3 else 0.5 if light[LAMPS] > 0 else 0.0
    c, s = row[COS], row[SIN]
    rx, ry, qz = x - row[CX], y - row[CY], z - row[CZ]
    qx, qy = c * rx + s * ry, -s * rx + c * ry
    _normal(row, qx, qy, qz, out)
    _surface(row, qx, qy, qz, light[AIR_C], night, out)
    return int(row[CLASS])
