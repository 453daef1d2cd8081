"""Cars and trucks, each in its own frame (x forward, y left, z up from the ground).

The test split draws from families of shapes that the training split never shows.
"""

from __future__ import annotations

import numpy as np

from samseg_ros.datasets.world.palette import Rng, any_color, draw_seed
from samseg_ros.datasets.world.primitives import Material, Row, Shape, World, primitive

BOX, ELLIPSOID, CYLINDER, WHEEL = Shape.BOX, Shape.ELLIPSOID, Shape.CYLINDER, Shape.WHEEL


def _wheels(rng: Rng, label: World, half_base: float, half_track: float, radius: float, warmth: float) -> list[Row]:
    rim = [0.03 + 0.05 * rng.random()] * 3
    return [
        primitive(
            WHEEL, (x, y, radius), (radius, 0.11, radius), label, Material.TYRE, rim, warmth=warmth, seed=draw_seed(rng)
        )
        for x in (-half_base, half_base)
        for y in (-half_track, half_track)
    ]


def _lights(label: World, x: float, half_width: float, z: float) -> list[Row]:
    rows = []
    for y in (-half_width * 0.78, half_width * 0.78):
        rows.append(primitive(BOX, (x, y, z), (0.04, 0.16, 0.08), label, Material.HEADLIGHT, (0.8, 0.8, 0.75)))
        rows.append(primitive(BOX, (-x, y, z + 0.08), (0.04, 0.14, 0.07), label, Material.TAILLIGHT, (0.5, 0.03, 0.03)))
    return rows


def car(rng: Rng, split: str, *, moving: bool) -> list[Row]:
    """Passenger car: sedan, SUV or estate in training; hatchback, van or pick-up in test."""
    kind = int(rng.integers(3))
    length, width = rng.uniform(4.1, 4.9), rng.uniform(1.7, 1.95)
    if split == "test":
        length = (3.7, 4.8, 5.2)[kind] * rng.uniform(0.97, 1.05)
        cabin_x, cabin_half, cabin_h, belt = (
            (-0.35, 1.25, 0.62, 0.86),
            (-0.25, 1.95, 0.98, 0.95),
            (0.35, 0.95, 0.68, 0.98),
        )[kind]
        taper = ((0.3, 0.2), (0.22, 0.12), (0.35, 0.15))[kind]
    else:
        cabin_x, cabin_half, cabin_h, belt = (
            (-0.25, 1.25, 0.55, 0.85),
            (-0.35, 1.55, 0.72, 1.0),
            (-0.55, 1.65, 0.56, 0.88),
        )[kind]
        taper = ((0.48, 0.25), (0.28, 0.15), (0.35, 0.22))[kind]
    color, hot, half = any_color(rng), (14.0 if moving else float(rng.choice([0.0, 5.0]))), length / 2
    low = 0.22
    body_h = (belt - low) / 2
    rows = [
        primitive(
            BOX,
            (0, 0, low + body_h),
            (half, width / 2, body_h),
            World.CAR,
            Material.PAINT,
            color,
            taper=(0.06, 0.05),
            seed=draw_seed(rng),
        ),
        primitive(
            BOX,
            (half * 0.68, 0, belt + 0.01),
            (half * 0.28, width * 0.42, 0.03),
            World.CAR,
            Material.ENGINE,
            color,
            warmth=hot,
        ),
        primitive(
            BOX,
            (cabin_x, 0, belt + cabin_h * 0.42),
            (cabin_half, width * 0.46, cabin_h * 0.42),
            World.CAR,
            Material.GLASS,
            (0.03, 0.035, 0.04),
            taper=taper,
        ),
        primitive(
            BOX,
            (cabin_x, 0, belt + cabin_h * 0.92),
            (cabin_half * (1 - taper[0]) + 0.06, width * 0.46 * (1 - taper[1]) + 0.03, cabin_h * 0.09),
            World.CAR,
            Material.PAINT,
            color,
        ),
    ]
    if split == "test" and kind == 2:
        rows.append(
            primitive(BOX, (-half * 0.58, 0, belt), (half * 0.4, width * 0.5, 0.2), World.CAR, Material.PAINT, color)
        )
    return (
        rows
        + _wheels(rng, World.CAR, half * 0.6, width / 2 - 0.08, 0.33, hot * 0.6)
        + _lights(World.CAR, half, width / 2, 0.66)
    )


def truck(rng: Rng, split: str, *, moving: bool) -> list[Row]:
    """Box truck, tanker or bus-like coach in training; flatbed with freight or container truck in test."""
    kind, hot = int(rng.integers(3)), (18.0 if moving else 0.0)
    length, width, height = rng.uniform(7.0, 10.5), 2.45, rng.uniform(2.9, 3.7)
    half, cab, color = length / 2, 1.0, any_color(rng)
    rows = [
        primitive(
            BOX, (half - cab, 0, 1.65), (cab, width / 2, 1.15), World.TRUCK, Material.PAINT, color, taper=(0.12, 0.05)
        ),
        primitive(
            BOX,
            (half - cab + 0.06, 0, 2.1),
            (cab * 0.97, width * 0.46, 0.42),
            World.TRUCK,
            Material.GLASS,
            (0.03, 0.03, 0.04),
        ),
        primitive(
            BOX,
            (half - 0.02, 0, 0.95),
            (0.08, width * 0.35, 0.3),
            World.TRUCK,
            Material.ENGINE,
            (0.05, 0.05, 0.05),
            warmth=hot,
        ),
        primitive(
            BOX, (-0.4, 0, 0.75), (half - 0.5, width * 0.4, 0.18), World.TRUCK, Material.METAL, (0.06, 0.06, 0.06)
        ),
    ]
    freight, z0, back = any_color(rng), 0.95, -cab
    hull = (half - cab - 0.1, width / 2, (height - z0) / 2)
    middle = (back, 0.0, z0 + hull[2])
    if split == "test" and kind != 1:
        for x in np.linspace(-half + 1.2, half - 2 * cab - 1.2, 3):
            size = (rng.uniform(0.7, 1.1), rng.uniform(0.8, 1.15), rng.uniform(0.4, 0.95))
            rows.append(
                primitive(
                    BOX,
                    (x, 0, 1.0 + size[2]),
                    size,
                    World.TRUCK,
                    Material.CARGO,
                    any_color(rng),
                    seed=draw_seed(rng),
                    family=4,
                )
            )
    elif kind == 2 and split != "test":
        rows.append(
            primitive(
                ELLIPSOID,
                (back, 0, 1.9),
                (half - cab, width / 2, 1.05),
                World.TRUCK,
                Material.CARGO,
                freight,
                family=2,
                seed=draw_seed(rng),
            )
        )
    else:
        rows.append(
            primitive(
                BOX,
                middle,
                hull,
                World.TRUCK,
                Material.CARGO,
                freight,
                family=3 if split == "test" else kind,
                seed=draw_seed(rng),
            )
        )
    wheels = _wheels(rng, World.TRUCK, half * 0.72, width / 2 - 0.15, 0.5, hot * 0.5)
    return rows + wheels + _lights(World.TRUCK, half, width / 2, 0.9)
