"""Conditions: how sun, sky, fog, rain and darkness light a scene, and what they do to each sensor."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from samseg_ros.datasets.world.light import (
    AIR_C,
    CLOUD_SEED,
    FOG_PER_M,
    HORIZON_RGB,
    LAMPS,
    LIGHT_COLUMNS,
    SUN_DIRECTION,
    SUN_LOAD_C,
    SUN_RGB,
    WET,
    ZENITH_RGB,
)
from samseg_ros.errors import SamsegError, nearest

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Condition:
    """Light and weather of one scene. Radiance in units where a white sheet in the noon sun gives about 1."""

    name: str
    sun: float
    """Radiance of direct light."""
    sun_color: Triple
    sun_height: tuple[float, float]
    """Range of the sun's elevation, radians."""
    sky: float
    """Radiance of the sky near the horizon."""
    sky_color: Triple
    zenith_color: Triple
    air_c: tuple[float, float]
    """Range of air temperature, degrees Celsius."""
    sun_load_c: float
    """How much direct light warms surfaces, degrees Celsius."""
    lamps: float = 0.0
    """Strength of headlights and street lamps."""
    gain: float = 1.0
    """Exposure of the camera; its noise grows with it."""
    noise: float = 0.006
    fog_per_m: tuple[float, float] = (0.0, 0.0006)
    """Range of extinction in visible light, 1/m."""
    wet: float = 0.0
    """0 dry, 1 pouring."""
    glare: float = 0.0
    """How strongly the sun shines into the lens."""
    lidar_loss: float = 0.03
    """Share of returns lost at 50 m."""


_NOON = Condition(
    "day",
    0.85,
    (1.0, 0.95, 0.86),
    (0.45, 1.2),
    0.42,
    (0.72, 0.82, 1.0),
    (0.28, 0.48, 0.95),
    (8.0, 24.0),
    11.0,
    gain=1.45,
)

CONDITIONS: dict[str, Condition] = {
    c.name: c
    for c in (
        _NOON,
        replace(
            _NOON,
            name="dusk",
            sun=0.05,
            sun_color=(1.0, 0.6, 0.35),
            sun_height=(0.08, 0.2),
            sky=0.07,
            sky_color=(0.95, 0.6, 0.45),
            zenith_color=(0.2, 0.25, 0.5),
            air_c=(4.0, 18.0),
            sun_load_c=2.0,
            lamps=0.35,
            gain=3.2,
            noise=0.03,
        ),
        replace(
            _NOON,
            name="night",
            sun=0.0008,
            sun_color=(0.6, 0.7, 1.0),
            sky=0.0009,
            sky_color=(0.9, 0.7, 0.6),
            zenith_color=(0.3, 0.3, 0.5),
            air_c=(-4.0, 14.0),
            sun_load_c=0.0,
            lamps=0.55,
            gain=4.5,
            noise=0.065,
        ),
        replace(
            _NOON,
            name="fog",
            sun=0.12,
            sky=0.5,
            gain=1.0,
            sky_color=(0.9, 0.92, 0.95),
            zenith_color=(0.85, 0.88, 0.93),
            air_c=(0.0, 12.0),
            sun_load_c=1.5,
            lamps=0.1,
            fog_per_m=(0.03, 0.075),
            lidar_loss=0.35,
        ),
        replace(_NOON, name="glare", sun_height=(0.12, 0.3), glare=1.0, gain=1.2),
        replace(
            _NOON,
            name="rain",
            sun=0.03,
            sky=0.3,
            sky_color=(0.75, 0.78, 0.82),
            zenith_color=(0.6, 0.63, 0.68),
            air_c=(3.0, 16.0),
            sun_load_c=0.5,
            lamps=0.12,
            gain=1.6,
            noise=0.016,
            fog_per_m=(0.006, 0.016),
            wet=1.0,
            lidar_loss=0.2,
        ),
    )
}


def condition(name: str) -> Condition:
    """Return a condition by name.

    Raises:
        SamsegError: there is none of that name.
    """
    if name not in CONDITIONS:
        raise SamsegError(f"no condition {name!r}; {nearest(name, CONDITIONS)}")
    return CONDITIONS[name]


@dataclass(frozen=True)
class Light:
    """One draw of a condition, as numbers for the shading kernel."""

    condition: Condition
    sun_direction: np.ndarray
    """(3,) unit vector towards the sun, world frame."""
    air_c: float
    fog_per_m: float
    table: np.ndarray
    """(LIGHT_COLUMNS,) for the shading kernel, see light.py."""


def draw_light(name: str, rng: np.random.Generator, heading: float) -> Light:
    """Draw sun, temperature and fog of a condition; glare puts the sun before the camera (heading in radians)."""
    c = condition(name)
    height = rng.uniform(*c.sun_height)
    azimuth = heading + rng.uniform(-0.3, 0.3) if c.glare else rng.uniform(0, 2 * np.pi)
    sun = np.array([np.cos(height) * np.cos(azimuth), np.cos(height) * np.sin(azimuth), np.sin(height)])
    air, fog = rng.uniform(*c.air_c), rng.uniform(*c.fog_per_m)
    tint = rng.uniform(0.9, 1.1, 3)
    overcast = rng.uniform(0.05, 1.0) if c.name in ("day", "glare") and not c.glare else 1.0
    strength = rng.uniform(0.75, 1.25)
    table = np.zeros(LIGHT_COLUMNS)
    table[SUN_DIRECTION : SUN_DIRECTION + 3] = sun
    table[SUN_RGB : SUN_RGB + 3] = np.array(c.sun_color) * c.sun * strength * overcast * tint
    table[HORIZON_RGB : HORIZON_RGB + 3] = np.array(c.sky_color) * c.sky * strength * tint
    table[ZENITH_RGB : ZENITH_RGB + 3] = np.array(c.zenith_color) * c.sky * strength * tint
    table[[FOG_PER_M, AIR_C, SUN_LOAD_C, LAMPS]] = fog, air, c.sun_load_c * overcast, c.lamps
    table[[WET, CLOUD_SEED]] = c.wet, rng.uniform(0, 500)
    return Light(c, sun, air, fog, table)
