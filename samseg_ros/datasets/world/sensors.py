"""The world's sensor rig: a camera, a thermal camera (by default with the same view), and a spinning LiDAR."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from samseg_ros.datasets.world import casting, shading, surfaces
from samseg_ros.datasets.world.light import SUN_RGB
from samseg_ros.datasets.world.primitives import CLASS, CX, CY, CZ, MATERIAL, RED, Material
from samseg_ros.datasets.world.scene import Scene
from samseg_ros.datasets.world.weather import Light
from samseg_ros.types import Camera, Frame, PointCloud

CAMERA_FRAME, LIDAR_FRAME, BASE_FRAME = "camera_optical", "lidar", "base_link"
THERMAL_FRAME = "thermal_optical"
"""Of a thermal camera that does not share the camera's view."""
SHADOW_CELLS, SHADOW_HALF_M = 640, 60.0
KELVIN = 273.15
COUNTS_PER_K = 100.0
"""Thermal counts are hundredths of a kelvin, as radiometric cores give them."""


@dataclass(frozen=True)
class Rig:
    """Calibration of the three sensors."""

    camera: Camera
    base_from_camera: NDArray[np.float64]
    base_from_lidar: NDArray[np.float64]
    azimuth: NDArray[np.float64]
    """(A,) radians, ascending."""
    elevation: NDArray[np.float64]
    """(E,) radians."""
    thermal_camera: Camera | None = None
    """None: it shares the camera's view."""
    camera_from_thermal: NDArray[np.float64] | None = None
    """(4, 4), None: it shares the camera's view."""

    @property
    def camera_from_lidar(self) -> NDArray[np.float64]:
        """(4, 4) extrinsics."""
        return np.linalg.inv(self.base_from_camera) @ self.base_from_lidar


def make_rig(
    size: tuple[int, int] = (480, 640),
    beams: int = 64,
    columns: int = 1024,
    full_turn: bool = True,
    camera_from_thermal: NDArray[np.float64] | None = None,
    thermal_camera: Camera | None = None,
) -> Rig:
    """Return the rig for a camera of (height, width) pixels.

    Args:
        full_turn: scan all around; otherwise only what the camera can see (faster, the same points there).
        camera_from_thermal: (4, 4), metres: gives the thermal camera a place of its own, see `beside`.
        thermal_camera: its intrinsics there, a pinhole; default: those of the camera.
    """
    height, width = size
    focal = 0.72 * width
    k = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) * 0.47], [0, 0, 1.0]])
    camera = Camera(width, height, k, "plumb_bob", np.zeros(5), CAMERA_FRAME)
    base_from_camera = np.array([[0, 0, 1, 1.5], [-1, 0, 0, 0], [0, -1, 0, 1.55], [0, 0, 0, 1.0]])
    base_from_lidar = np.eye(4)
    base_from_lidar[:3, 3] = 0.9, 0.0, 1.95
    azimuth = (np.arange(columns) + 0.5) * 2 * np.pi / columns - np.pi
    if not full_turn:
        azimuth = azimuth[np.abs(azimuth) < 0.78]
    elevation = np.deg2rad(np.linspace(-22.0, 13.0, beams))
    if camera_from_thermal is None:
        return Rig(camera, base_from_camera, base_from_lidar, azimuth, elevation)
    own = replace(thermal_camera or camera, frame_id=THERMAL_FRAME)
    return Rig(camera, base_from_camera, base_from_lidar, azimuth, elevation, own, camera_from_thermal)


def beside(right_m: float, yaw_deg: float) -> NDArray[np.float64]:
    """Return (4, 4) camera_from_thermal of a thermal camera to the right of the camera, turned to the right."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("y", yaw_deg, degrees=True).as_matrix()  # y points down
    pose[0, 3] = right_m
    return pose


@dataclass(frozen=True)
class Capture:
    """One moment, seen by every sensor, with the truth beside it."""

    frame: Frame
    labels: NDArray[np.uint8]
    """(H, W) class ids."""
    depth: NDArray[np.float32]
    """(H, W) metres along the optical axis, infinity for sky."""
    condition: str


def capture(scene: Scene, light: Light, rig: Rig, t: float, rng: np.random.Generator, stamp_ns: int = 0) -> Capture:
    """Render the scene at time t (seconds)."""
    rows, base = scene.primitives(t), scene.ego_pose(t)
    pose = base @ rig.base_from_camera
    basis = casting.sun_basis(light.sun_direction)
    center = pose[:3, 3] + 40.0 * np.array([base[0, 0], base[1, 0], 0.0])
    cells = SHADOW_CELLS if light.table[SUN_RGB : SUN_RGB + 3].max() > 0.02 else 1
    shadow = casting.cast_shadow(rows, basis, center, SHADOW_HALF_M, cells)
    lamps = rows[(rows[:, MATERIAL] == Material.LAMP) & (np.abs(rows[:, CX] - pose[0, 3]) < 70)][:, [CX, CY, CZ]]
    sunlight = shadow, basis, center, SHADOW_HALF_M, np.ascontiguousarray(lamps)

    def look(camera: Camera, pose: NDArray[np.float64]) -> Any:
        """Return radiance, temperature, labels and depth."""
        depth, index = casting.cast_camera(rows, scene.ground, pose, camera.k, camera.height, camera.width)
        shaded = shading.shade(depth, index, rows, scene.ground, pose, camera.k, light.table, *sunlight)
        return *shaded, depth

    radiance, heat, labels, depth = look(rig.camera, pose)
    if rig.thermal_camera is not None and rig.camera_from_thermal is not None:
        heat = look(rig.thermal_camera, pose @ rig.camera_from_thermal)[1]
    frame = Frame(
        image=expose(radiance, light, rig, pose, rng),
        stamp_ns=stamp_ns,
        frame_id=CAMERA_FRAME,
        thermal=thermal_counts(heat, light, rng),
        points=scan(rows, scene, light, rig, base, rng, stamp_ns),
        camera=rig.camera,
        camera_from_lidar=rig.camera_from_lidar,
        thermal_camera=rig.thermal_camera,
        camera_from_thermal=rig.camera_from_thermal,
    )
    return Capture(frame, labels, depth, light.condition.name)


def expose(
    radiance: NDArray[np.float32], light: Light, rig: Rig, pose: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 RGB: lens (bloom, glare, drops), exposure, shot and read noise, gamma."""
    c, (height, width) = light.condition, radiance.shape[:2]
    image: Any = radiance * (c.gain * rng.uniform(0.8, 1.25))
    if c.glare:
        image += _glare(light, rig, pose, height, width)
    if c.wet:
        image = _rain(image, rng)
    bright = np.minimum(np.maximum(image - 0.9, 0), 4)
    if bright.any():
        small = cv2.resize(bright, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
        image += 0.5 * cv2.resize(cv2.GaussianBlur(small, (0, 0), width / 160), (width, height))
    image = cv2.GaussianBlur(image, (0, 0), 0.55 * width / 640)
    sigma = np.sqrt(c.noise**2 + (c.noise * 1.5) * np.clip(image, 0, 1) * 0.1)
    image = image + sigma * rng.standard_normal(image.shape, np.float32)
    out: NDArray[np.uint8] = np.round(255 * np.power(np.clip(image, 0, 1), 1 / 2.2)).astype(np.uint8)
    return out


def _glare(light: Light, rig: Rig, pose: NDArray[np.float64], height: int, width: int) -> NDArray[np.float32]:
    direction = pose[:3, :3].T @ light.sun_direction
    if direction[2] < 0.05:
        return np.zeros((height, width, 1), np.float32)
    u, v, _ = rig.camera.k @ direction / direction[2]
    x, y = np.arange(width, dtype=np.float32) - np.float32(u), np.arange(height, dtype=np.float32) - np.float32(v)
    r = np.hypot(x[None, :], y[:, None]) / width
    star = np.exp(-np.abs(x[None, :]) / (0.006 * width)) * np.exp(-r / 0.3)
    veil: NDArray[np.float32] = (3.0 * np.exp(-((r / 0.07) ** 2)) + 1.1 * np.exp(-r / 0.22) + 0.18 + 0.6 * star).astype(
        np.float32
    )
    return veil[:, :, None]


def _rain(image: Any, rng: np.random.Generator) -> Any:
    """Add falling streaks and drops on the lens to (H, W, 3) radiance."""
    height, width = image.shape[:2]
    streaks = (rng.random((height, width), np.float32) > 0.9975).astype(np.float32)
    length = max(3, height // 30)
    kernel = np.zeros((length, length), np.float32)
    cv2.line(kernel, (length // 3, 0), (length // 2, length - 1), 1.0)
    image = image + 0.16 * np.minimum(cv2.filter2D(streaks, -1, kernel), 1)[:, :, None]
    mask: Any = np.zeros((height, width), np.float32)
    for _ in range(int(rng.integers(6, 22))):
        center = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        axes = (int(width * rng.uniform(0.008, 0.035)), int(width * rng.uniform(0.01, 0.045)))
        cv2.ellipse(mask, center, axes, 0, 0, 360, 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), width / 300)[:, :, None]
    blurred = np.roll(cv2.GaussianBlur(image, (0, 0), width / 60), width // 80, axis=1)
    return image * (1 - mask) + blurred * mask


def thermal_counts(heat: NDArray[np.float32], light: Light, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Return (H, W) uint16 counts of a core of half the resolution: softer optics, noise, column pattern, drift."""
    height, width = heat.shape
    small = cv2.resize(
        cv2.GaussianBlur(heat, (0, 0), 0.9 * width / 640), (width // 2, height // 2), interpolation=cv2.INTER_AREA
    )
    small = (
        small
        + 0.12 * rng.standard_normal(small.shape, np.float32)
        + 0.1 * rng.standard_normal((1, small.shape[1]), np.float32)
    )
    soft = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    drift = rng.uniform(-1.0, 1.0)
    counts: NDArray[np.uint16] = np.clip((soft + drift + KELVIN) * COUNTS_PER_K, 0, 65535).astype(np.uint16)
    return counts


def scan(
    rows: NDArray[np.float64],
    scene: Scene,
    light: Light,
    rig: Rig,
    base: NDArray[np.float64],
    rng: np.random.Generator,
    stamp_ns: int,
) -> PointCloud:
    """Return one sweep in the LiDAR's frame, deskewed: every point as at the stamp, lost returns left out."""
    pose = base @ rig.base_from_lidar
    reach, index = casting.cast_lidar(rows, scene.ground, pose, rig.azimuth, rig.elevation)
    e, a = np.nonzero(np.isfinite(reach) & (reach < 100.0))
    r = reach[e, a].astype(np.float64)
    ce = np.cos(rig.elevation[e])
    rays = np.stack([ce * np.cos(rig.azimuth[a]), ce * np.sin(rig.azimuth[a]), np.sin(rig.elevation[e])], 1)
    hit = index[e, a]
    albedo = np.where(hit >= 0, rows[np.maximum(hit, 0), RED], scene.ground[11])
    world = rays @ pose[:3, :3].T * r[:, None] + pose[:3, 3]
    on_ground = np.nonzero(hit < 0)[0]
    kinds = surfaces.ground_kinds(scene.ground, np.ascontiguousarray(world[on_ground, :2]))
    albedo[on_ground[kinds == 1]] = 0.7
    albedo[on_ground[kinds == 2]] = scene.ground[12]
    albedo[on_ground[kinds == 4]] = 0.35
    signs = (hit >= 0) & (rows[np.maximum(hit, 0), CLASS] == 6)
    albedo[signs] = 0.95
    intensity = np.clip(albedo * rng.uniform(0.75, 1.25, len(r)), 0, 1) * np.exp(-light.fog_per_m * r)
    lost = rng.random(len(r)) < 1 - (1 - light.condition.lidar_loss) ** (r / 50.0 * (1.3 - 0.6 * albedo))
    r = r + rng.normal(0, 0.02, len(r))
    clutter = rng.random(len(r)) < 0.012 * (light.condition.wet + 20 * light.fog_per_m)
    r = np.where(clutter, rng.uniform(1.5, 12.0, len(r)) % np.maximum(r, 1.6), r)
    keep = ~lost
    xyz = (rays * r[:, None])[keep].astype(np.float32)
    return PointCloud(xyz, intensity[keep].astype(np.float32), LIDAR_FRAME, stamp_ns)
