"""From what a ray hit to what the sensors see: linear RGB radiance, surface temperature and the class, per pixel."""

# mypy: disable-error-code="untyped-decorator,no-untyped-call"

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from samseg_ros.datasets.world.casting import GROUND, SKY, noise3
from samseg_ros.datasets.world.light import (
    AIR_C,
    CLOUD_SEED,
    FOG_PER_M,
    HORIZON_RGB,
    LAMPS,
    SUN_LOAD_C,
    SUN_RGB,
    WET,
    ZENITH_RGB,
)
from samseg_ros.datasets.world.surfaces import (
    CELSIUS,
    EMISSION,
    GLOSS,
    NX,
    NY,
    NZ,
    RETRO,
    SURFACE_COLUMNS,
    look_at_ground,
    look_at_primitive,
)

Floats = NDArray[np.float64]
SKY_CLASS, VEGETATION_CLASS = 11, 4
SHADOW_BIAS_M = 0.12


@njit(cache=True)
def _sky(dx: float, dy: float, dz: float, light: Floats, out: Floats) -> float:
    """Write the sky's radiance (0..2) and return its temperature, degrees Celsius."""
    up = max(0.0, dz)
    w = min(1.0, up * 2.2)
    x, y = dx / (up + 0.15), dy / (up + 0.15)
    cloud = noise3(x * 0.9, y * 0.9, light[CLOUD_SEED]) * 0.6 + noise3(x * 2.3, y * 2.3, light[CLOUD_SEED] + 5) * 0.4
    cloud = min(1.0, max(0.0, (cloud - 0.5) * 3.5)) * min(1.0, up * 8)
    for i in range(3):
        blue = light[HORIZON_RGB + i] * (1 - w) + light[ZENITH_RGB + i] * w
        out[i] = (blue + (1.15 * light[HORIZON_RGB] - blue) * cloud) * 1.6
    return float(light[AIR_C] - 6.0 - (28.0 - 18.0 * cloud) * math.sqrt(up))


@njit(cache=True)
def _sunlight(
    x: float, y: float, z: float, out: Floats, shadow: NDArray[np.float32], basis: Floats, center: Floats, half_m: float
) -> float:
    """Return the cosine between normal and sun, 0 in shadow."""
    sunny = out[NX] * basis[2, 0] + out[NY] * basis[2, 1] + out[NZ] * basis[2, 2]
    if sunny <= 0:
        return 0.0
    px, py, pz = x + 0.05 * out[NX], y + 0.05 * out[NY], z + 0.05 * out[NZ]
    rx, ry, rz, cells = px - center[0], py - center[1], pz - center[2], shadow.shape[0]
    u = int((basis[0, 0] * rx + basis[0, 1] * ry + basis[0, 2] * rz + half_m) * cells / (2 * half_m))
    v = int((basis[1, 0] * rx + basis[1, 1] * ry + basis[1, 2] * rz + half_m) * cells / (2 * half_m))
    if not (0 <= u < cells and 0 <= v < cells):
        return float(sunny)
    own = basis[2, 0] * px + basis[2, 1] * py + basis[2, 2] * pz
    return 0.0 if shadow[v, u] > own + SHADOW_BIAS_M else float(sunny)


@njit(cache=True)
def _headlight(z: float, far: float, aside: float, facing: float, strength: float) -> float:
    """Return a beam's radiance: it falls off with distance, to the sides (sine ``aside``) and above the bonnet."""
    level = math.exp(-max(0.0, z - 0.6) * (0.9 if far < 25 else 0.5)) * math.exp(-((aside * 2.4) ** 2))
    return strength * level * (0.25 + 0.75 * facing) * 40.0 / (40.0 + far * far)


@njit(cache=True)
def _street_light(x: float, y: float, z: float, out: Floats, lamps: Floats, strength: float) -> float:
    """Return the radiance of the lamps within 20 m above the point."""
    glow = 0.0
    for j in range(lamps.shape[0]):
        lx, ly, lz = lamps[j, 0] - x, lamps[j, 1] - y, lamps[j, 2] - z
        d2 = lx * lx + ly * ly + lz * lz
        if d2 < 400.0 and lz > 0:
            facing = (lx * out[NX] + ly * out[NY] + lz * out[NZ]) / math.sqrt(d2)
            glow += strength * 1.6 * max(0.1, facing) / (4.0 + d2)
    return glow


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
        depth, index: of casting.cast_camera. pose: (4, 4) world_from_camera. light: see light.py.
        shadow, basis, center, half_m: of casting.cast_shadow. lamps: (L, 3) positions of street lamps, metres.

    Returns:
        linear radiance (H, W, 3); temperature (H, W) in degrees Celsius; class ids (H, W).
    """
    height, width = depth.shape
    rgb, heat = np.empty((height, width, 3), np.float32), np.empty((height, width), np.float32)
    label, out = np.empty((height, width), np.uint8), np.zeros(SURFACE_COLUMNS)
    air, fog = light[AIR_C], light[FOG_PER_M]
    for v in range(height):
        b = (v - k[1, 2]) / k[1, 1]
        for u in range(width):
            a = (u - k[0, 2]) / k[0, 0]
            dx = pose[0, 0] * a + pose[0, 1] * b + pose[0, 2]
            dy = pose[1, 0] * a + pose[1, 1] * b + pose[1, 2]
            dz = pose[2, 0] * a + pose[2, 1] * b + pose[2, 2]
            n = math.sqrt(dx * dx + dy * dy + dz * dz)
            i, t = index[v, u], depth[v, u]
            if i == SKY:
                label[v, u] = SKY_CLASS
                heat[v, u] = _sky(dx / n, dy / n, dz / n, light, out)
                veil = 1.0 - math.exp(-fog * 200.0)
                for m in range(3):
                    rgb[v, u, m] = out[m] * (1 - veil) + light[HORIZON_RGB + m] * 1.5 * veil
                continue
            x, y, z, far = pose[0, 3] + t * dx, pose[1, 3] + t * dy, pose[2, 3] + t * dz, t * n
            if i == GROUND:
                label[v, u] = look_at_ground(ground, light, x, y, z, abs(dx) > abs(dy), out)
            else:
                label[v, u] = look_at_primitive(rows[i], light, x, y, z, out)
            sunny = _sunlight(x, y, z, out, shadow, basis, center, half_m)
            facing = abs(out[NX] * dx + out[NY] * dy + out[NZ] * dz) / n
            beam, glow = 0.0, 0.0
            if light[LAMPS] > 0:
                aside = (dx * pose[1, 2] - dy * pose[0, 2]) / n
                beam = _headlight(z, far, aside, facing, light[LAMPS] * out[RETRO])
                glow = _street_light(x, y, z, out, lamps, light[LAMPS])
            keep, ambient = math.exp(-fog * far), 0.55 + 0.45 * out[NZ]
            fresnel = out[GLOSS] * (0.3 + 0.7 * (1 - facing) ** 3)
            for m in range(3):
                warm = 1.0 if m == 0 else 0.85 if m == 1 else 0.62
                lit = light[SUN_RGB + m] * sunny + light[HORIZON_RGB + m] * ambient + beam * 1.4 + glow * 3.0 * warm
                value = out[m] * lit * (1 - fresnel) + fresnel * light[HORIZON_RGB + m] * 1.3 + out[EMISSION] * warm
                rgb[v, u, m] = value * keep + light[HORIZON_RGB + m] * 1.5 * (1 - keep)
            load = light[SUN_LOAD_C] * sunny * (0.6 if label[v, u] == VEGETATION_CLASS else 1.0)
            clear = math.exp(-(0.3 * fog + 0.0012) * far)
            heat[v, u] = air + (out[CELSIUS] + load - air) * (1 - 0.35 * light[WET]) * clear
    return rgb, heat, label
