"""Layouts: what stands where along a road, what moves, and how the ego vehicle drives through it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samseg_ros.datasets.world import people, roadside, vehicles
from samseg_ros.datasets.world.primitives import COLUMNS, Row, place
from samseg_ros.errors import SamsegError, nearest

SPLITS = ("train", "val", "test")
LENGTH_M = 130.0
GROUND_COLUMNS = 17
EGO_START_M = 5.0
CLEAR_HALF_WIDTH_M, CLEAR_BEHIND_M, CLEAR_AHEAD_M = 1.6, 6.0, 8.0
FASTEST_WALK = 1.7
"""Metres per second; whoever is faster drives or rides."""


@dataclass(frozen=True)
class Thing:
    """An object with its pose at time 0 in road coordinates: x along, y left of the centre line."""

    rows: list[Row]
    x: float
    y: float
    heading: float = 0.0
    """Radians against the road's direction."""
    speed: float = 0.0
    """Metres per second along its heading."""
    z: float = 0.0


@dataclass(frozen=True)
class Scene:
    """A road with everything beside and on it."""

    things: tuple[Thing, ...]
    ground: NDArray[np.float64]
    """(GROUND_COLUMNS,) geometry and texture of road and verges, see casting and shading."""
    ego_speed: float
    """Metres per second."""
    ego_lane_y: float
    sway: NDArray[np.float64]
    """(4,) amplitudes of pitch, roll (radians), heave (metres) and the phase of the suspension."""

    def ego_pose(self, t: float) -> NDArray[np.float64]:
        """Return world_from_base (4, 4) at time t in seconds."""
        x = EGO_START_M + self.ego_speed * t
        y = self._bend(x) + self.ego_lane_y + 0.15 * np.sin(0.4 * t + self.sway[3])
        yaw = np.arctan(2 * self.ground[0] * x) + 0.01 * np.sin(0.7 * t)
        pitch, roll, heave = self.sway[:3] * np.sin(np.array([5.1, 3.7, 6.3]) * t + self.sway[3])
        cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
        pose = np.eye(4)
        pose[:3, :3] = (
            np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
            @ np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
            @ np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
        )
        pose[:3, 3] = x, y, heave
        return pose

    def _speed(self, thing: Thing) -> float:
        """Traffic ahead in the ego vehicle's lane is never slower than it, so that a long drive runs into nobody."""
        ahead = thing.x > EGO_START_M and abs(thing.y - self.ego_lane_y) < CLEAR_HALF_WIDTH_M
        follows = thing.speed > FASTEST_WALK and abs(thing.heading) < 0.5
        return max(thing.speed, self.ego_speed) if ahead and follows else thing.speed

    def _bend(self, x: float) -> float:
        return float(self.ground[0] * x * x)

    def primitives(self, t: float) -> NDArray[np.float64]:
        """Return every primitive in world coordinates at time t: (P, COLUMNS)."""
        tables = []
        ego_x = EGO_START_M + self.ego_speed * t
        for thing in self.things:
            speed = self._speed(thing)
            x = thing.x + speed * t * np.cos(thing.heading)
            y = thing.y + speed * t * np.sin(thing.heading)
            if abs(y - self.ego_lane_y) < CLEAR_HALF_WIDTH_M and -CLEAR_BEHIND_M < x - ego_x < CLEAR_AHEAD_M:
                continue  # whoever would stand in the ego vehicle has stepped aside
            slope = float(np.arctan(2 * self.ground[0] * x))
            tables.append(place(thing.rows, x, y + self._bend(x), thing.heading + slope, thing.z))
        return np.concatenate(tables) if tables else np.zeros((0, COLUMNS))


def make_scene(split: str, seed: int) -> Scene:
    """Lay out a scene; the same (split, seed) always gives the same one.

    Raises:
        SamsegError: no such split.
    """
    if split not in SPLITS:
        raise SamsegError(f"no world split {split!r}; {nearest(split, SPLITS)}")
    rng = np.random.default_rng([SPLITS.index(split), seed])
    builder = _Builder(rng, split)
    builder.roadsides()
    builder.traffic()
    builder.people()
    sway = np.array([*rng.uniform(0.002, 0.008, 2), rng.uniform(0.0, 0.03), rng.uniform(0, 6)])
    lane = -builder.drive + builder.drive / builder.lanes
    return Scene(
        tuple(builder.things), builder.ground, float(rng.uniform(4, 13)), lane + float(rng.uniform(-0.3, 0.3)), sway
    )


class _Builder:
    """Fills one scene, side by side and lane by lane."""

    def __init__(self, rng: np.random.Generator, split: str) -> None:
        self.rng, self.split, self.things = rng, split, list[Thing]()
        test = split == "test"
        self.lanes = int(rng.choice([2, 2, 3, 4]))
        self.drive = self.lanes * rng.uniform(3.0, 3.6) / 2  # half the width of the lanes
        self.parking = float(rng.choice([0.0, 2.2], p=[0.35, 0.65]))
        self.half = self.drive + self.parking
        self.walk, self.curb = rng.uniform(1.6, 4.0), rng.uniform(0.1, 0.2)
        cross = rng.random() < (0.55 if test else 0.4)
        self.cross_x = rng.uniform(28, 60) if cross else 1e6
        self.cross_half = rng.uniform(3.5, 6.0) if cross else 0.0
        self.ground = np.zeros(GROUND_COLUMNS)
        self.ground[:14] = [
            rng.uniform(-0.0022, 0.0022) if rng.random() < 0.6 else 0.0,
            self.half, self.walk, self.curb, self.cross_x, self.cross_half,
            self.lanes,
            rng.uniform(0.08, 0.18),  # width of a mark, m
            rng.uniform(6, 12) if not test else rng.uniform(3, 5),  # period of dashes, m
            float(rng.random() < 0.7),  # edge lines
            float(rng.random() < 0.6),  # zebra at the crossing
            rng.uniform(0.05, 0.22),  # albedo of asphalt
            rng.uniform(0.16, 0.5),  # albedo of the sidewalk
            float(rng.integers(3)) if not test else float(3 + rng.integers(2)),  # paving family
        ]  # fmt: skip
        self.ground[14] = rng.uniform(0, 500)
        self.ground[15] = float(rng.random() < 0.6)  # grass beyond the sidewalk, else pavement
        self.ground[16] = self.drive

    def add(
        self, rows: list[Row], x: float, y: float, heading: float = 0.0, speed: float = 0.0, z: float = 0.0
    ) -> None:
        self.things.append(Thing(rows, float(x), float(y), float(heading), float(speed), float(z)))

    def in_crossing(self, x: float, margin: float) -> bool:
        return bool(abs(x - self.cross_x) < self.cross_half + margin)

    def roadsides(self) -> None:
        rng = self.rng
        for side in (-1, 1):
            x, park = -12.0, rng.random() < 0.25
            while x < LENGTH_M:
                length = rng.uniform(8, 26)
                middle = x + length / 2
                setback = rng.uniform(0.2, 1.0) if rng.random() < 0.55 else rng.uniform(2, 7)
                if not park and not self.in_crossing(middle, length / 2 + 1) and rng.random() < 0.85:
                    depth = rng.uniform(8, 15)
                    y = side * (self.half + self.walk + setback + depth / 2)
                    self.add(roadside.building(rng, self.split, length * rng.uniform(0.75, 1.0), depth), middle, y)
                elif not self.in_crossing(middle, 2):
                    for _ in range(int(rng.integers(2, 6))):
                        kind = "tree" if rng.random() < 0.65 else "bush"
                        y = side * (self.half + self.walk + rng.uniform(0.8, 12))
                        self.add(
                            roadside.ROADSIDE[kind](rng, self.split),
                            middle + rng.uniform(-0.5, 0.5) * length,
                            y,
                            rng.uniform(-0.3, 0.3),
                        )
                x += length
            self._furniture(side)
        # Something closes the view at the far end, as in a town; without it every horizon would be sky.
        if rng.random() < 0.6:
            for y in np.arange(-60, 61, rng.uniform(14, 22)):
                rows = (
                    roadside.building(rng, self.split, 10, 18) if rng.random() < 0.5 else roadside.tree(rng, self.split)
                )
                self.add(rows, LENGTH_M + 15 + rng.uniform(-5, 5), y)

    def _furniture(self, side: int) -> None:
        rng = self.rng
        edge = self.half + 0.45
        lamps = np.arange(rng.uniform(5, 20), 80.0, rng.uniform(16, 30))
        for x in lamps:
            if not self.in_crossing(x, 0):
                # The arm points to +y in the lamp's frame, so the right-hand side's stands as it is.
                self.add(roadside.street_lamp(rng, self.split), x, side * edge, 0.0 if side < 0 else np.pi, z=self.curb)
        spots = rng.uniform(8, 65, int(rng.integers(5, 11)))
        for x in spots:
            if self.in_crossing(x, 0):
                continue
            kind = str(rng.choice(["traffic_sign", "traffic_sign", "traffic_sign", "tree", "bush", "bollard"]))
            y = side * (edge + rng.uniform(0.0, self.walk * (0.3 if kind in ("traffic_sign", "bollard") else 0.9)))
            self.add(roadside.ROADSIDE[kind](rng, self.split), x, y, rng.uniform(-0.35, 0.35), z=self.curb)

    def traffic(self) -> None:
        rng, taken = self.rng, list[tuple[float, float]]()
        for _ in range(int(rng.integers(5, 13))):
            lane = int(rng.integers(self.lanes))
            width = 2 * self.drive / self.lanes
            y, own = -self.drive + (lane + 0.5) * width, lane < self.lanes / 2
            x = rng.uniform(14 if own else 9, 80)
            if any(abs(x - a) < 13 and abs(y - b) < 2.6 for a, b in taken):
                continue
            taken.append((x, y))
            big = rng.random() < 0.3
            rows = vehicles.truck(rng, self.split, moving=True) if big else vehicles.car(rng, self.split, moving=True)
            # Own traffic keeps up with the ego vehicle, roughly, so that a recording does not drive through it.
            self.add(
                rows,
                x,
                y + rng.uniform(-0.3, 0.3),
                (0 if own else np.pi) + rng.uniform(-0.04, 0.04),
                rng.uniform(6, 12),
            )
        for side in (-1, 1) if self.parking else ():
            for x in np.arange(rng.uniform(6, 12), 90, rng.uniform(6.0, 9.0)):
                y = side * (self.half - 1.05)
                if (
                    rng.random() < 0.42
                    and not self.in_crossing(x, 4)
                    and not any(abs(x - a) < 12 and abs(y - b) < 2.6 for a, b in taken)
                ):
                    turned = 0.0 if (side < 0) != (rng.random() < 0.15) else np.pi
                    big = rng.random() < 0.12
                    rows = (
                        vehicles.truck(rng, self.split, moving=False)
                        if big
                        else vehicles.car(rng, self.split, moving=False)
                    )
                    self.add(rows, x, y, turned + rng.uniform(-0.05, 0.05))

    def people(self) -> None:
        rng = self.rng
        for _ in range(int(rng.integers(6, 16))):
            x, side = rng.uniform(8, 60), rng.choice([-1, 1])
            crossing = rng.random() < 0.25
            y = (
                rng.uniform(-self.half, self.half)
                if crossing
                else side * (self.half + rng.uniform(0.4, max(0.6, self.walk - 0.3)))
            )
            heading = rng.choice([-1, 1]) * np.pi / 2 if crossing else rng.choice([0, np.pi]) + rng.uniform(-0.5, 0.5)
            z = 0.0 if crossing or self.in_crossing(x, 0) else self.curb
            self.add(people.person(rng, self.split), x, y, heading, rng.uniform(0.0, 1.6), z)
        for _ in range(int(rng.integers(2, 6))):
            own = rng.random() < 0.6
            y = (-1 if own else 1) * (self.drive - rng.uniform(0.2, 1.6))
            self.add(
                people.cyclist(rng, self.split),
                rng.uniform(9, 50),
                y,
                (0 if own else np.pi) + rng.uniform(-0.1, 0.1),
                rng.uniform(2.5, 6),
            )
