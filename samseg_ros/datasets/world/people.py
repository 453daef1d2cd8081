"""Pedestrians and cyclists, each in its own frame (x forward, y left, z up from the ground)."""

from __future__ import annotations

from samseg_ros.datasets.world.palette import Rng, any_color, draw_seed
from samseg_ros.datasets.world.primitives import Material, Row, Shape, World, primitive

BOX, ELLIPSOID, CYLINDER, WHEEL = Shape.BOX, Shape.ELLIPSOID, Shape.CYLINDER, Shape.WHEEL


def person(rng: Rng, split: str, label: World = World.PEDESTRIAN, *, lean: float = 0.0, z: float = 0.0) -> list[Row]:
    """A person who stands or walks along x; in test with a backpack, a skirt or a hat."""
    scale, stride = rng.uniform(0.86, 1.08), rng.uniform(0.0, 0.28)
    top, legs, skin = any_color(rng, saturation=0.9), any_color(rng, saturation=0.5, high=0.4), rng.uniform(0.12, 0.6)
    cover = float(rng.uniform(-3, 3))
    cloth, s = Material.CLOTH, scale

    def part(
        x: float, y: float, height: float, half: tuple[float, float, float], material: Material, color: list[float]
    ) -> Row:
        size = (half[0] * s, half[1] * s, half[2] * s)
        return primitive(
            ELLIPSOID, (x * s, y * s, z + height * s), size, label, material, color, seed=draw_seed(rng), warmth=cover
        )

    rows = [
        part(stride, 0.09, 0.45, (0.1, 0.09, 0.47), cloth, legs),
        part(-stride, -0.09, 0.45, (0.1, 0.09, 0.47), cloth, legs),
        part(lean, 0, 1.13, (0.16, 0.23, 0.36), cloth, top),
        part(lean - stride * 0.7, 0.27, 1.08, (0.07, 0.06, 0.32), cloth, top),
        part(lean + stride * 0.7, -0.27, 1.08, (0.07, 0.06, 0.32), cloth, top),
        part(lean * 1.6, 0, 1.62, (0.105, 0.095, 0.14), Material.SKIN, [skin, skin * 0.72, skin * 0.58]),
    ]
    extra = int(rng.integers(3)) if split == "test" else 3
    if extra == 0:
        rows.append(part(lean - 0.2, 0, 1.2, (0.14, 0.17, 0.24), cloth, any_color(rng)))
    elif extra == 1:
        rows.append(part(0, 0, 0.72, (0.22, 0.24, 0.34), cloth, any_color(rng)))
    elif extra == 2:
        rows.append(part(lean * 1.6, 0, 1.74, (0.17, 0.16, 0.06), cloth, any_color(rng)))
    return rows


def cyclist(rng: Rng, split: str) -> list[Row]:
    """A rider on a bicycle, one class together."""
    frame = any_color(rng)
    rows = person(rng, split, World.CYCLIST, lean=0.16, z=0.28)
    for x in (-0.52, 0.52):
        rows.append(
            primitive(
                WHEEL,
                (x, 0, 0.34),
                (0.34, 0.025, 0.34),
                World.CYCLIST,
                Material.TYRE,
                (0.04, 0.04, 0.04),
                seed=draw_seed(rng),
            )
        )
    rows.append(primitive(BOX, (0, 0, 0.62), (0.42, 0.03, 0.045), World.CYCLIST, Material.METAL, frame))
    rows.append(primitive(BOX, (0.45, 0, 0.9), (0.03, 0.27, 0.03), World.CYCLIST, Material.METAL, frame))
    rows.append(primitive(CYLINDER, (0.45, 0, 0.64), (0.03, 0.03, 0.28), World.CYCLIST, Material.METAL, frame))
    if split == "test":
        rows.append(
            primitive(
                BOX,
                (-0.6, 0, 0.8),
                (0.16, 0.2, 0.12),
                World.CYCLIST,
                Material.CLOTH,
                any_color(rng),
                seed=draw_seed(rng),
            )
        )
    return rows
