# ruff: noqa: RUF046  (in compiled code math.floor gives a float's type)
"""Ray casting against the primitives and the ground: camera, LiDAR and the sun's shadow map use one intersection.

Each primitive is drawn only where its bounding box falls in the view (a rasteriser's culling with a ray caster's
exactness), so the cost follows the pixels an object covers.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-call"

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from samseg_ros.datasets.world.primitives import (
    COS,
    CX,
    CY,
    CZ,
    HX,
    HY,
    HZ,
    KIND,
    MATERIAL,
    SEED,
    SIN,
    TAPER_X,
    TAPER_Y,
)

Floats = NDArray[np.float64]
GROUND, SKY = -1, -2
"""Indices that stand for the ground and for no hit at all."""
FOLIAGE = 2.0
MAX_DISTANCE_M = 250.0

# Columns of the ground's description.
CURVE, ROAD_HALF, WALK, CURB, CROSS_X, CROSS_HALF = range(6)


@njit(cache=True, inline="always")
def hash3(x: int, y: int, z: int) -> float:
    """Return a pseudo-random number in 0..1 for an integer lattice point."""
    h = (x * 374761393 + y * 668265263 + z * 2147483647) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    h = ((h ^ (h >> 16)) * 2246822519) & 0xFFFFFFFF
    return ((h ^ (h >> 15)) & 0xFFFFFF) / 16777216.0


@njit(cache=True)
def noise3(x: float, y: float, z: float) -> float:
    """Return smooth value noise in 0..1."""
    ix, iy, iz = math.floor(x), math.floor(y), math.floor(z)
    fx, fy, fz = x - ix, y - iy, z - iz
    fx, fy, fz = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy), fz * fz * (3 - 2 * fz)
    jx, jy, jz = int(ix), int(iy), int(iz)
    total = 0.0
    for k in range(2):
        wz = fz if k else 1 - fz
        for j in range(2):
            wy = fy if j else 1 - fy
            total += wz * wy * (hash3(jx, jy + j, jz + k) * (1 - fx) + hash3(jx + 1, jy + j, jz + k) * fx)
    return total


@njit(cache=True, inline="always")
def lateral(ground: Floats, x: float, y: float) -> float:
    """Return metres left of the road's centre line."""
    return float(y - ground[CURVE] * x * x)


@njit(cache=True)
def on_sidewalk(ground: Floats, x: float, y: float) -> bool:
    """Whether (x, y) lies on the raised strip beside the road."""
    away = abs(lateral(ground, x, y))
    if abs(x - ground[CROSS_X]) < ground[CROSS_HALF]:
        return False
    return bool(away > ground[ROAD_HALF])


@njit(cache=True)
def hit_ground(ground: Floats, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float) -> float:
    """Return the ray parameter of the ground (road at 0, everything beside it raised by the curb), or infinity."""
    if dz >= -1e-6:
        return math.inf
    upper = (ground[CURB] - oz) / dz
    if upper > 0 and on_sidewalk(ground, ox + upper * dx, oy + upper * dy):
        return float(upper)
    return -oz / dz


@njit(cache=True)
def _halfspace(n_p: float, n_d: float, limit: float, near: float, far: float) -> tuple[float, float]:
    if abs(n_d) < 1e-12:
        return (near, far) if n_p <= limit else (math.inf, -math.inf)
    t = (limit - n_p) / n_d
    if n_d > 0:
        return near, min(far, t)
    return max(near, t), far


@njit(cache=True)
def _quadratic(a: float, b: float, c: float) -> tuple[float, float]:
    disc = b * b - a * c
    if a < 1e-12 or disc < 0:
        return math.inf, -math.inf
    root = math.sqrt(disc)
    return (-b - root) / a, (-b + root) / a


@njit(cache=True)
def _interval(row: Floats, px: float, py: float, pz: float, dx: float, dy: float, dz: float) -> tuple[float, float]:
    """Return where the local ray p + t d enters and leaves the primitive."""
    kind, hx, hy, hz = row[KIND], row[HX], row[HY], row[HZ]
    if kind == 0.0:
        kx, ky = row[TAPER_X] * hx / (2 * hz), row[TAPER_Y] * hy / (2 * hz)
        near, far = _halfspace(pz, dz, hz, -math.inf, math.inf)
        near, far = _halfspace(-pz, -dz, hz, near, far)
        near, far = _halfspace(px + kx * pz, dx + kx * dz, hx - kx * hz, near, far)
        near, far = _halfspace(-px + kx * pz, -dx + kx * dz, hx - kx * hz, near, far)
        near, far = _halfspace(py + ky * pz, dy + ky * dz, hy - ky * hz, near, far)
        return _halfspace(-py + ky * pz, -dy + ky * dz, hy - ky * hz, near, far)
    if kind == 1.0:
        ax, ay, az, bx, by, bz = px / hx, py / hy, pz / hz, dx / hx, dy / hy, dz / hz
        return _quadratic(bx * bx + by * by + bz * bz, ax * bx + ay * by + az * bz, ax * ax + ay * ay + az * az - 1)
    if kind == 2.0:
        near, far = _quadratic(dx * dx + dy * dy, px * dx + py * dy, px * px + py * py - hx * hx)
        near, far = _halfspace(pz, dz, hz, near, far)
        return _halfspace(-pz, -dz, hz, near, far)
    near, far = _quadratic(dx * dx + dz * dz, px * dx + pz * dz, px * px + pz * pz - hx * hx)
    near, far = _halfspace(py, dy, hy, near, far)
    return _halfspace(-py, -dy, hy, near, far)


@njit(cache=True)
def _leaf(row: Floats, x: float, y: float, z: float) -> bool:
    """Whether foliage has a leaf at this point of its shell: the outline is ragged, and there are gaps."""
    s = row[SEED]
    return noise3(x * 2.6 + s, y * 2.6, z * 2.6) * 0.6 + noise3(x * 9.0, y * 9.0 + s, z * 9.0) * 0.4 > 0.36


@njit(cache=True)
def hit(row: Floats, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float) -> float:
    """Return the ray parameter at which the ray o + t d (world) meets the primitive, or infinity."""
    c, s = row[COS], row[SIN]
    rx, ry, pz = ox - row[CX], oy - row[CY], oz - row[CZ]
    px, py, ex, ey = c * rx + s * ry, -s * rx + c * ry, c * dx + s * dy, -s * dx + c * dy
    near, far = _interval(row, px, py, pz, ex, ey, dz)
    if near > far or far <= 0:
        return math.inf
    if row[MATERIAL] != FOLIAGE:
        return near if near > 0 else math.inf
    if near > 0 and _leaf(row, px + near * ex, py + near * ey, pz + near * dz):
        return near
    return far if _leaf(row, px + far * ex, py + far * ey, pz + far * dz) else math.inf


@njit(cache=True)
def _corner(row: Floats, i: int) -> tuple[float, float, float]:
    hx, hy, hz = row[HX], row[HY], row[HZ]
    if row[KIND] == 2.0:
        hy = hx
    elif row[KIND] == 3.0:
        hz = hx
    x, y, z = hx if i & 1 else -hx, hy if i & 2 else -hy, hz if i & 4 else -hz
    return row[CX] + row[COS] * x - row[SIN] * y, row[CY] + row[SIN] * x + row[COS] * y, row[CZ] + z


@njit(cache=True)
def cast_camera(
    rows: Floats, ground: Floats, world_from_camera: Floats, k: Floats, height: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Cast one ray per pixel centre.

    Args:
        rows: (P, COLUMNS) primitives. world_from_camera: (4, 4), camera optical frame. k: (3, 3) without skew.

    Returns:
        depth along the optical axis (H, W) metres, infinity for sky; index of what was hit (H, W), GROUND or SKY.
    """
    r, ox, oy, oz = world_from_camera, world_from_camera[0, 3], world_from_camera[1, 3], world_from_camera[2, 3]
    fx, fy, cx, cy = k[0, 0], k[1, 1], k[0, 2], k[1, 2]
    depth = np.full((height, width), np.inf, np.float32)
    index = np.full((height, width), SKY, np.int32)
    for v in range(height):
        b = (v - cy) / fy
        for u in range(width):
            a = (u - cx) / fx
            dx, dy, dz = (
                r[0, 0] * a + r[0, 1] * b + r[0, 2],
                r[1, 0] * a + r[1, 1] * b + r[1, 2],
                r[2, 0] * a + r[2, 1] * b + r[2, 2],
            )
            t = hit_ground(ground, ox, oy, oz, dx, dy, dz)
            if t < MAX_DISTANCE_M:
                depth[v, u], index[v, u] = t, GROUND
    for i in range(rows.shape[0]):
        row = rows[i]
        left, right, top, bottom, behind = 1e9, -1e9, 1e9, -1e9, 0
        for j in range(8):
            x, y, z = _corner(row, j)
            x, y, z = x - ox, y - oy, z - oz
            w = r[0, 2] * x + r[1, 2] * y + r[2, 2] * z
            if w < 0.1:
                behind += 1
                continue
            u, v = (
                fx * (r[0, 0] * x + r[1, 0] * y + r[2, 0] * z) / w + cx,
                fy * (r[0, 1] * x + r[1, 1] * y + r[2, 1] * z) / w + cy,
            )
            left, right, top, bottom = min(left, u), max(right, u), min(top, v), max(bottom, v)
        if behind == 8:
            continue
        if behind:
            left, right, top, bottom = 0.0, width, 0.0, height
        for v in range(max(0, int(math.floor(top))), min(height, int(math.ceil(bottom)) + 1)):
            b = (v - cy) / fy
            for u in range(max(0, int(math.floor(left))), min(width, int(math.ceil(right)) + 1)):
                a = (u - cx) / fx
                dx, dy, dz = (
                    r[0, 0] * a + r[0, 1] * b + r[0, 2],
                    r[1, 0] * a + r[1, 1] * b + r[1, 2],
                    r[2, 0] * a + r[2, 1] * b + r[2, 2],
                )
                t = hit(row, ox, oy, oz, dx, dy, dz)
                if t < depth[v, u]:
                    depth[v, u], index[v, u] = t, i
    return depth, index


@njit(cache=True)
def cast_lidar(
    rows: Floats, ground: Floats, world_from_lidar: Floats, azimuth: Floats, elevation: Floats
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Cast one ray per (elevation, azimuth), radians in the LiDAR's frame; azimuth ascending.

    Returns:
        range (E, A) metres, infinity where nothing was hit; index (E, A) as for the camera.
    """
    r, ox, oy, oz = world_from_lidar, world_from_lidar[0, 3], world_from_lidar[1, 3], world_from_lidar[2, 3]
    n_el, n_az = elevation.shape[0], azimuth.shape[0]
    reach = np.full((n_el, n_az), np.inf, np.float32)
    index = np.full((n_el, n_az), SKY, np.int32)
    rays = np.empty((n_el, n_az, 3))
    for e in range(n_el):
        ce, se = math.cos(elevation[e]), math.sin(elevation[e])
        for a in range(n_az):
            x, y = ce * math.cos(azimuth[a]), ce * math.sin(azimuth[a])
            for m in range(3):
                rays[e, a, m] = r[m, 0] * x + r[m, 1] * y + r[m, 2] * se
            t = hit_ground(ground, ox, oy, oz, rays[e, a, 0], rays[e, a, 1], rays[e, a, 2])
            if t < MAX_DISTANCE_M:
                reach[e, a], index[e, a] = t, GROUND
    step = (azimuth[-1] - azimuth[0]) / max(1, n_az - 1)
    for i in range(rows.shape[0]):
        row = rows[i]
        x, y = row[CX] - ox, row[CY] - oy
        middle = math.atan2(r[0, 1] * x + r[1, 1] * y, r[0, 0] * x + r[1, 0] * y)
        low, high = 0.0, 0.0
        for j in range(8):
            x, y, _ = _corner(row, j)
            x, y = x - ox, y - oy
            turn = math.atan2(r[0, 1] * x + r[1, 1] * y, r[0, 0] * x + r[1, 0] * y) - middle
            turn -= 2 * math.pi * math.floor((turn + math.pi) / (2 * math.pi))
            low, high = min(low, turn), max(high, turn)
        if high - low > 2.5:  # the sensor stands within or beside it: its corners do not bound it
            low, high = -math.pi, math.pi
        for wrap in range(-1, 2):
            first = int(math.floor((middle + low + wrap * 2 * math.pi - azimuth[0]) / step))
            last = int(math.ceil((middle + high + wrap * 2 * math.pi - azimuth[0]) / step))
            for a in range(max(0, first), min(n_az, last + 1)):
                for e in range(n_el):
                    t = hit(row, ox, oy, oz, rays[e, a, 0], rays[e, a, 1], rays[e, a, 2])
                    if t < reach[e, a]:
                        reach[e, a], index[e, a] = t, i
    return reach, index


@njit(cache=True)
def sun_basis(sun: Floats) -> Floats:
    """Return (3, 3) rows: two axes across the sunlight, then the direction towards the sun."""
    ux, uy = -sun[1], sun[0]
    n = math.sqrt(ux * ux + uy * uy) + 1e-9
    ux, uy = ux / n, uy / n
    basis = np.empty((3, 3))
    basis[0] = np.array([ux, uy, 0.0])
    basis[1] = np.array([sun[1] * 0.0 - sun[2] * uy, sun[2] * ux - sun[0] * 0.0, sun[0] * uy - sun[1] * ux])
    basis[2] = sun
    return basis


@njit(cache=True)
def cast_shadow(rows: Floats, basis: Floats, center: Floats, half_m: float, cells: int) -> NDArray[np.float32]:
    """Return (cells, cells): how far towards the sun (metres from the world's origin) the outermost surface lies."""
    far = np.full((cells, cells), -np.inf, np.float32)
    scale = cells / (2 * half_m)
    cu = basis[0, 0] * center[0] + basis[0, 1] * center[1] + basis[0, 2] * center[2]
    cv = basis[1, 0] * center[0] + basis[1, 1] * center[1] + basis[1, 2] * center[2]
    for i in range(rows.shape[0]):
        row = rows[i]
        left, right, top, bottom = 1e9, -1e9, 1e9, -1e9
        for j in range(8):
            x, y, z = _corner(row, j)
            u = (basis[0, 0] * x + basis[0, 1] * y + basis[0, 2] * z - cu + half_m) * scale
            v = (basis[1, 0] * x + basis[1, 1] * y + basis[1, 2] * z - cv + half_m) * scale
            left, right, top, bottom = min(left, u), max(right, u), min(top, v), max(bottom, v)
        for v in range(max(0, int(top)), min(cells, int(bottom) + 1)):
            for u in range(max(0, int(left)), min(cells, int(right) + 1)):
                a, b = cu + (u + 0.5) / scale - half_m, cv + (v + 0.5) / scale - half_m
                ox = basis[0, 0] * a + basis[1, 0] * b + basis[2, 0] * 500
                oy = basis[0, 1] * a + basis[1, 1] * b + basis[2, 1] * 500
                oz = basis[0, 2] * a + basis[1, 2] * b + basis[2, 2] * 500
                t = hit(row, ox, oy, oz, -basis[2, 0], -basis[2, 1], -basis[2, 2])
                if 500 - t > far[v, u]:
                    far[v, u] = 500 - t
    return far
