# ruff: noqa: RUF046  (in compiled code math.floor gives a float's type)
"""From what a ray hit to what the sensors see: linear RGB radiance, surface temperature and the class, per pixel."""

# mypy: disable-error-code="untyped-decorator,no-untyped-call"

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from samseg_ros.datasets.world.casting import CROSS_HALF, CROSS_X, CURB, ROAD_HALF, WALK, hash3, lateral, noise3
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
    """Write albedo (0..2) of the ground at (x, y)."""
    s, family = ground[14], ground[13]
    fine = noise3(x * 7.0, y * 7.0, s)
    coarse = noise3(x * 0.45, y * 0.45, s + 9)
    if kind == 4:
        g = 0.6 + 0.8 * fine * noise3(x * 2.1, y * 2.1, s + 4)
        out[0], out[1], out[2] = 0.11 * g + 0.04 * coarse, 0.17 * g, 0.045 * g
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
    out[0], out[1], out[2] = a, a * 0.99, a * 0.96


@njit(cache=True)
def _normal(row: Floats, qx: float, qy: float, qz: float, out: Floats) -> None:
    """Write the outward normal (0..2, world frame) of a primitive at the local point q."""
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
    out[3], out[4], out[5] = (c * nx - s * ny) / n, (s * nx + c * ny) / n, nz / n


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
        out[0], out[1], out[2] = shine * 0.8, shine * 0.95, shine * 1.1
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
    out[0], out[1], out[2] = row[RED] * m, row[GREEN] * m, row[BLUE] * m
    return 0.0, 0.0


@njit(cache=True)
def _surface(row: Floats, qx: float, qy: float, qz: float, air: float, night: float, out: Floats) -> None:
    """Write albedo (0..2), emission (6), temperature (7), gloss (8) and how well it returns headlight (9)."""
    mat, seed = int(row[MATERIAL]), row[SEED]
    out[0], out[1], out[2] = row[RED], row[GREEN], row[BLUE]
    out[6], out[7], out[8], out[9] = 0.0, air + row[WARMTH], 0.0, 1.0
    if mat == 1:
        along = qx if abs(abs(qy) - row[HY]) < abs(abs(qx) - row[HX]) else qy
        top = abs(qz) > 0.999 * row[HZ]
        emission, warm = (0.0, -2.0) if top else _facade(row, along + 40.0, qz + row[HZ], out, 0.35 * night)
        out[6] = emission * night
        out[7] = air + 1.5 + 2.0 * night + warm + noise3(along * 0.5, qz * 0.5, seed)
    elif mat == 2:
        m = 0.35 + 1.1 * noise3(qx * 4.0 + seed, qy * 4.0, qz * 4.0) * (
            0.6 + 0.8 * noise3(qx * 14.0, qy * 14.0, qz * 14.0 + seed)
        )
        out[0] *= m
        out[1] *= m
        out[2] *= m
        out[7] = air - 0.5 + 1.2 * (m - 0.8)
    elif mat == 0:
        out[7], out[8] = air - 2.5 + row[WARMTH], 0.25
        if row[CLASS] == 3.0:  # roof tiles
            m = 0.7 + 0.5 * hash3(int(math.floor(qx * 3)), int(math.floor(qz * 3)), int(seed))
            out[0], out[1], out[2], out[8] = out[0] * m, out[1] * m, out[2] * m, 0.0
    elif mat == 3:
        out[7], out[8] = air - 5.0, 0.5
    elif mat == 4:
        out[7] = air + 1.0 + row[WARMTH]
        if row[CLASS] == 10.0:  # a bicycle's wheel: rim and spokes only, the rest as dark as its background often is
            out[7] = air + 0.5
    elif mat == 5:
        family, ry, rz = row[FAMILY], qy / row[HY], qz / row[HZ]
        rim = max(abs(ry), abs(rz)) > 0.82 if family != 0.0 else ry * ry + rz * rz > 0.62
        mark = noise3(qy * 6.0 + seed, qz * 9.0, seed) > 0.6
        if qx > 0.005:
            out[0], out[1], out[2] = 0.25, 0.25, 0.25  # bare back
        elif rim or mark:
            out[0], out[1], out[2] = 0.7, 0.7, 0.68
        out[7], out[9] = air - 1.5, 5.0 if qx <= 0.005 else 1.0
    elif mat == 6:
        m = 0.75 + 0.5 * noise3(qx * 8.0 + seed, qy * 8.0, qz * 6.0)
        out[0], out[1], out[2] = out[0] * m, out[1] * m, out[2] * m
        out[7] = air + 0.48 * (BODY_C - air) + row[WARMTH] + 2.0 * (m - 1.0)
    elif mat == 7:
        out[7] = BODY_C - 0.08 * (BODY_C - air)
    elif mat == 8:
        out[7], out[8] = air - 1.0, 0.15
    elif mat == 9 or mat == 11 or mat == 12:
        out[6] = (6.0 if mat == 9 else 5.0 if mat == 11 else 0.7) * night
        out[7] = air + 8.0 * night
    elif mat == 10:
        m = 0.6 + 0.8 * noise3(qx * 20.0, qy * 20.0, qz * 3.0 + seed)
        out[0], out[1], out[2] = out[0] * m, out[1] * m, out[2] * m
        out[7] = air + 0.5
    elif mat == 13:
        out[7], out[8] = air - 2.0 + row[WARMTH], 0.25
    elif mat == 14:
        f = row[FAMILY]
        m = 1.0
        if f == 0.0:
            m = 0.8 if (qx * 2.2) % 1.0 < 0.12 else 1.0
        elif f == 1.0 and noise3(qx * 0.9 + seed, qz * 1.4, seed) > 0.55:
            out[0], out[1], out[2] = out[1] * 0.6 + 0.3, out[2] * 0.7 + 0.1, out[0] * 0.5 + 0.2
        elif f == 3.0:
            m = 0.75 if (qx * 3.5) % 1.0 < 0.4 else 1.05
        out[0], out[1], out[2] = out[0] * m, out[1] * m, out[2] * m
        out[7], out[8] = air - 2.0, 0.1


@njit(cache=True)
def _sky(dx: float, dy: float, dz: float, light: Floats, out: Floats) -> float:
    """Write the sky's radiance (0..2) and return its temperature, degrees Celsius."""
    up = max(0.0, dz)
    w = min(1.0, up * 2.2)
    x, y = dx / (up + 0.15), dy / (up + 0.15)
    cloud = noise3(x * 0.9, y * 0.9, light[17]) * 0.6 + noise3(x * 2.3, y * 2.3, light[17] + 5) * 0.4
    cloud = min(1.0, max(0.0, (cloud - 0.5) * 3.5)) * min(1.0, up * 8)
    for i in range(3):
        blue = light[6 + i] * (1 - w) + light[9 + i] * w
        out[i] = (blue + (1.15 * light[6] - blue) * cloud) * 1.6
    return float(light[13] - 6.0 - (28.0 - 18.0 * cloud) * math.sqrt(up))


@njit(cache=True, fastmath=True)
def shade(
    depth: NDArray[np.float32],
    index: NDArray[np.int32],
    rows: Floats,
    ground: Floats,
    pose: Floats,
    k: Floats,
    light: Floats,
    shadow: NDArray[np.float32],
    basis: Floats,
    center: Floats,
    half_m: float,
    lamps: Floats,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
    """Shade every pixel.

    Args:
        depth, index: of casting.cast_camera. pose: (4, 4) world_from_camera. light: (32,) of weather.draw_light.
        shadow, basis, center, half_m: of casting.cast_shadow. lamps: (L, 3) positions of street lamps, metres.

    Returns:
        linear radiance (H, W, 3); temperature (H, W) in degrees Celsius; class ids (H, W).
    """
    height, width = depth.shape
    rgb = np.empty((height, width, 3), np.float32)
    heat = np.empty((height, width), np.float32)
    label = np.empty((height, width), np.uint8)
    out = np.zeros(10)
    horizon = np.array([light[6], light[7], light[8]])
    night = 1.0 if light[15] > 0.3 else 0.5 if light[15] > 0 else 0.0
    air, load, fog, wet = light[13], light[14], light[12], light[16]
    ex, ey, ez = pose[0, 3], pose[1, 3], pose[2, 3]
    cells = shadow.shape[0]
    for v in range(height):
        b = (v - k[1, 2]) / k[1, 1]
        for u in range(width):
            a = (u - k[0, 2]) / k[0, 0]
            dx = pose[0, 0] * a + pose[0, 1] * b + pose[0, 2]
            dy = pose[1, 0] * a + pose[1, 1] * b + pose[1, 2]
            dz = pose[2, 0] * a + pose[2, 1] * b + pose[2, 2]
            n = math.sqrt(dx * dx + dy * dy + dz * dz)
            i, t = index[v, u], depth[v, u]
            if i == -2:
                label[v, u] = 11
                heat[v, u] = _sky(dx / n, dy / n, dz / n, light, out)
                veil = 1.0 - math.exp(-fog * 200.0)
                for m in range(3):
                    rgb[v, u, m] = out[m] * (1 - veil) + horizon[m] * 1.5 * veil
                continue
            x, y, z = ex + t * dx, ey + t * dy, ez + t * dz
            if i == -1:
                kind = ground_kind(ground, x, y)
                _ground_look(ground, kind, x, y, wet, out)
                out[3], out[4], out[5] = 0.0, 0.0, 1.0
                if z < ground[CURB] * 0.5 and kind == 2:  # seen under the edge: the curb's face
                    out[3], out[5] = -1.0 if abs(dx) > abs(dy) else 0.0, 0.3
                out[6], out[8], out[9] = 0.0, 0.45 * wet, 2.5 if kind == 1 else 1.0
                stored = 2.5 * (1 if load < 3 else 0) * (1 - 0.7 * wet)
                out[7] = air + stored + (0.6 * noise3(x * 0.6, y * 0.6, ground[14]) - 0.3)
                if kind == 1:
                    out[7] -= 1.0
                elif kind == 2:
                    out[7] -= 0.9
                elif kind == 4:
                    out[7] = air - 1.5 + noise3(x * 2, y * 2, ground[14])
                label[v, u] = kind
            else:
                row = rows[i]
                c, s = row[COS], row[SIN]
                rx, ry, qz = x - row[CX], y - row[CY], z - row[CZ]
                qx, qy = c * rx + s * ry, -s * rx + c * ry
                _normal(row, qx, qy, qz, out)
                _surface(row, qx, qy, qz, air, night, out)
                label[v, u] = int(row[CLASS])
            sunny = out[3] * basis[2, 0] + out[4] * basis[2, 1] + out[5] * basis[2, 2]
            if sunny > 0:
                px, py, pz = x + 0.05 * out[3], y + 0.05 * out[4], z + 0.05 * out[5]
                su = int(
                    (
                        basis[0, 0] * (px - center[0])
                        + basis[0, 1] * (py - center[1])
                        + basis[0, 2] * (pz - center[2])
                        + half_m
                    )
                    * cells
                    / (2 * half_m)
                )
                sv = int(
                    (
                        basis[1, 0] * (px - center[0])
                        + basis[1, 1] * (py - center[1])
                        + basis[1, 2] * (pz - center[2])
                        + half_m
                    )
                    * cells
                    / (2 * half_m)
                )
                if (
                    0 <= su < cells
                    and 0 <= sv < cells
                    and shadow[sv, su] > basis[2, 0] * px + basis[2, 1] * py + basis[2, 2] * pz + 0.12
                ):
                    sunny = 0.0
            else:
                sunny = 0.0
            far = t * n
            # Headlights: a beam that falls off with distance and above the bonnet.
            beam = 0.0
            if light[15] > 0:
                level = math.exp(-max(0.0, z - 0.6) * (0.9 if far < 25 else 0.5)) * math.exp(
                    -(((dx * pose[1, 2] - dy * pose[0, 2]) / n * 2.4) ** 2)
                )
                facing = abs(out[3] * dx + out[4] * dy + out[5] * dz) / n
                beam = light[15] * out[9] * level * (0.25 + 0.75 * facing) * 40.0 / (40.0 + far * far)
            glow = 0.0
            for j in range(lamps.shape[0]):
                lx, ly, lz = lamps[j, 0] - x, lamps[j, 1] - y, lamps[j, 2] - z
                d2 = lx * lx + ly * ly + lz * lz
                if d2 < 400.0 and lz > 0:
                    facing = (lx * out[3] + ly * out[4] + lz * out[5]) / math.sqrt(d2)
                    glow += light[15] * 1.6 * max(0.1, facing) / (4.0 + d2)
            ambient = 0.55 + 0.45 * out[5]
            keep = math.exp(-fog * far)
            fresnel = out[8] * (0.3 + 0.7 * (1 - abs(out[3] * dx + out[4] * dy + out[5] * dz) / n) ** 3)
            for m in range(3):
                warm = 1.0 if m == 0 else 0.85 if m == 1 else 0.62
                lit = light[3 + m] * sunny + light[6 + m] * ambient + beam * 1.4 + glow * 3.0 * warm
                value = out[m] * lit * (1 - fresnel) + fresnel * light[6 + m] * 1.3 + out[6] * warm
                rgb[v, u, m] = value * keep + horizon[m] * 1.5 * (1 - keep)
            clear = math.exp(-(0.3 * fog + 0.0012) * far)
            heat[v, u] = (
                air + (out[7] + load * sunny * (0.6 if label[v, u] == 4 else 1.0) - air) * (1 - 0.35 * wet) * clear
            )
    return rgb, heat, label
