"""What stands beside a road, each in its own frame (x along the road, y left, z up from the ground).

The test split draws from families of shapes and textures that the training split never shows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from samseg_ros.datasets.world.palette import Rng, any_color, draw_seed
from samseg_ros.datasets.world.primitives import Material, Row, Shape, World, primitive

BOX, ELLIPSOID, CYLINDER, WHEEL = Shape.BOX, Shape.ELLIPSOID, Shape.CYLINDER, Shape.WHEEL


def tree(rng: Rng, split: str) -> list[Row]:
    """Round or columnar crowns in training; cones or wide umbrellas in test."""
    height, bark = rng.uniform(4.5, 10.0), rng.uniform(0.05, 0.25)
    green = [float(rng.uniform(0.04, 0.22)), float(rng.uniform(0.1, 0.28)), float(rng.uniform(0.02, 0.09))]
    trunk, radius = height * rng.uniform(0.28, 0.42), rng.uniform(1.1, 2.4)
    rows = [
        primitive(
            CYLINDER,
            (0, 0, trunk / 2 + 0.3),
            (0.1 + height * 0.012, 0.1, trunk / 2 + 0.3),
            World.VEGETATION,
            Material.BARK,
            (bark, bark * 0.8, bark * 0.6),
            seed=draw_seed(rng),
        )
    ]

    def leaves(x: float, y: float, z: float, half: tuple[float, float, float]) -> None:
        tint = [float(np.clip(g * rng.uniform(0.75, 1.3), 0.01, 0.5)) for g in green]
        rows.append(
            primitive(ELLIPSOID, (x, y, z), half, World.VEGETATION, Material.FOLIAGE, tint, seed=draw_seed(rng))
        )

    crown, kind = height - trunk, int(rng.integers(2))
    if split == "test" and kind == 0:
        for i in range(4):
            leaves(
                0, 0, trunk + crown * (0.12 + 0.25 * i), (radius * (1 - 0.22 * i), radius * (1 - 0.22 * i), crown * 0.2)
            )
    elif split == "test":
        leaves(0, 0, trunk + crown * 0.45, (radius * 1.7, radius * 1.7, crown * 0.28))
        leaves(0.3, 0.2, trunk + crown * 0.7, (radius, radius * 1.1, crown * 0.22))
    elif kind == 0:
        for _ in range(5):
            x, y = rng.uniform(-0.55, 0.55, 2) * radius
            leaves(
                x,
                y,
                trunk + crown * rng.uniform(0.3, 0.7),
                (radius * 0.72, radius * 0.72, crown * rng.uniform(0.25, 0.35)),
            )
    else:
        leaves(0, 0, trunk + crown * 0.45, (radius * 0.55, radius * 0.55, crown * 0.55))
    return rows


def bush(rng: Rng, split: str) -> list[Row]:
    """A low hedge or a round bush."""
    green = [float(rng.uniform(0.04, 0.25)), float(rng.uniform(0.1, 0.26)), 0.05]
    if rng.random() < 0.5:
        half = (rng.uniform(1.0, 4.0), rng.uniform(0.3, 0.6), rng.uniform(0.35, 0.8))
        return [primitive(BOX, (0, 0, half[2]), half, World.VEGETATION, Material.FOLIAGE, green, seed=draw_seed(rng))]
    r = rng.uniform(0.5, 1.3) * (1.3 if split == "test" else 1.0)
    return [
        primitive(
            ELLIPSOID, (0, 0, r * 0.6), (r, r, r * 0.75), World.VEGETATION, Material.FOLIAGE, green, seed=draw_seed(rng)
        )
    ]


def building(rng: Rng, split: str, length: float, depth: float) -> list[Row]:
    """One or two bodies; facades of brick, plaster, panels or glass in training, of stone or stripes in test."""
    family = float(rng.integers(4)) if split != "test" else float(4 + rng.integers(2))
    height, color, seed = rng.uniform(4.5, 22.0), any_color(rng, saturation=0.45, low=0.08, high=0.6), draw_seed(rng)

    def body(x: float, y: float, half: tuple[float, float, float], base: float = 0.0) -> Row:
        return primitive(
            BOX, (x, y, base + half[2]), half, World.BUILDING, Material.FACADE, color, seed=seed, family=family
        )

    rows = [body(0, 0, (length / 2, depth / 2, height / 2))]
    if height < 9 and rng.random() < 0.6:
        roof = any_color(rng, saturation=0.4, low=0.05, high=0.3)
        rows.append(
            primitive(
                BOX,
                (0, 0, height + 1.3),
                (length / 2 + 0.3, depth / 2 + 0.3, 1.3),
                World.BUILDING,
                Material.PAINT,
                roof,
                taper=(0.05, 0.95),
                seed=seed,
            )
        )
    elif rng.random() < 0.4:
        rows.append(body(length * rng.uniform(-0.2, 0.2), 0, (length * 0.25, depth * 0.35, 1.6), height))
    return rows


def street_lamp(rng: Rng, split: str) -> list[Row]:
    """A pole with an arm over the road (towards +y); its lamp lights the ground at night."""
    height, arm, grey = rng.uniform(4.5, 7.5), rng.uniform(0.8, 2.0), [float(rng.uniform(0.08, 0.5))] * 3
    rows = [
        primitive(
            CYLINDER, (0, 0, height / 2), (rng.uniform(0.06, 0.11), 0.1, height / 2), World.POLE, Material.METAL, grey
        )
    ]
    rows.append(primitive(BOX, (0, arm / 2, height), (0.05, arm / 2, 0.05), World.POLE, Material.METAL, grey))
    half = (0.12, 0.3, 0.06) if split != "test" else (0.2, 0.2, 0.2)
    rows.append(primitive(BOX, (0, arm, height - 0.06), half, World.POLE, Material.LAMP, (0.7, 0.7, 0.65)))
    return rows


def bollard(rng: Rng, split: str) -> list[Row]:
    """A short post."""
    shade = any_color(rng, saturation=0.8)
    height = rng.uniform(0.8, 1.3)
    return [primitive(CYLINDER, (0, 0, height / 2), (0.08, 0.08, height / 2), World.POLE, Material.METAL, shade)]


def traffic_sign(rng: Rng, split: str) -> list[Row]:
    """A plate on a pole that faces -x: discs and panels in training; arrows and big boards in test."""
    height, grey, color = (
        rng.uniform(2.1, 3.0),
        [float(rng.uniform(0.1, 0.5))] * 3,
        any_color(rng, saturation=1.0, low=0.15),
    )
    rows = [primitive(CYLINDER, (0.05, 0, height / 2), (0.045, 0.05, height / 2), World.POLE, Material.METAL, grey)]
    kind, r = int(rng.integers(2)), rng.uniform(0.32, 0.55)
    seed = draw_seed(rng)
    if split == "test" and kind:
        rows.append(
            primitive(
                BOX, (-0.04, 0, height + 0.1), (0.03, 0.95, 0.5), World.SIGN, Material.SIGN, color, seed=seed, family=3
            )
        )
    elif split == "test":
        rows.append(
            primitive(
                BOX,
                (-0.04, 0, height + r / 2),
                (0.03, r, r / 2),
                World.SIGN,
                Material.SIGN,
                color,
                taper=(0, 0.98),
                seed=seed,
                family=2,
            )
        )
        rows.append(
            primitive(
                BOX,
                (-0.04, 0, height - r / 2 + 0.02),
                (0.03, r * 0.5, r / 2),
                World.SIGN,
                Material.SIGN,
                color,
                seed=seed,
                family=2,
            )
        )
    elif kind:
        rows.append(
            primitive(
                ELLIPSOID, (-0.04, 0, height), (0.03, r, r), World.SIGN, Material.SIGN, color, seed=seed, family=0
            )
        )
    else:
        rows.append(
            primitive(
                BOX,
                (-0.04, 0, height),
                (0.03, r, r * rng.uniform(0.6, 1.2)),
                World.SIGN,
                Material.SIGN,
                color,
                seed=seed,
                family=1,
            )
        )
    return rows


ROADSIDE: dict[str, Callable[[Rng, str], list[Row]]] = {
    "street_lamp": street_lamp,
    "traffic_sign": traffic_sign,
    "bollard": bollard,
    "tree": tree,
    "bush": bush,
}
