"""Tiny trees of the true layouts, one function a dataset: `TREES`. Pictures are a few pixels; ids are written out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samseg_ros.datasets.world import write_recording

Array = NDArray[np.uint8]
SIZE = (2, 3)
WEATHERS = ("cloud", "fog", "night", "rain", "sun")


def picture(seed: int, size: tuple[int, int] = SIZE) -> Array:
    """Noise, (H, W, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def save(path: Path, pixels: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def ids(*rows: list[int]) -> Array:
    return np.array(rows, np.uint8)


def deliver_scene(root: Path, name: str, seed: int = 0, event_size: tuple[int, int] = (4, 4)) -> None:
    """``name`` as ``fog/test/MAP_1_point2/000050``; 4 x 4 pixels, the ids 0-15 of the file in rows."""
    for i, (part, suffix) in enumerate((("img", "rgb"), ("hha", "depth"), ("lidar", "lidar"), ("event", "event"))):
        size = event_size if part == "event" else (4, 4)
        save(root / part / f"{name}_{suffix}_front.png", picture(10 * seed + i, size))
    values = np.arange(16, dtype=np.uint8).reshape(4, 4)
    others = np.full((4, 4), 99, np.uint8)  # only the first channel counts
    save(root / "semantic" / f"{name}_semantic_front.png", np.dstack([values, others, others]))


def deliver(root: Path) -> None:
    for weather in WEATHERS:
        for split in ("train", "val", "test"):
            deliver_scene(root, f"{weather}/{split}/MAP_1_point1/000050", seed=1)
    deliver_scene(root, "fog/test/MAP_2_point3_underexposure/000050", seed=2)
    deliver_scene(root, "night/test/MAP_2_point4_eventlowres/000060", seed=3, event_size=(2, 2))


def muses_sweep(value: float = 10.0) -> NDArray[np.float32]:
    """(4, 6, 3): two points, at (1, 1) below the sensor and at (1, 2) above it, the second further away."""
    image = np.zeros((4, 6, 3), np.float32)
    image[1, 1] = value, 5.0, -1.5
    image[1, 2] = 2 * value, 3.0, 0.5
    return image


def muses_events() -> Array:
    """(4, 6, 3): 3 brighter, 1 darker event at one pixel."""
    image = np.zeros((4, 6, 3), np.uint8)
    image[2, 3] = 3, 1, 0
    return image


def save_npz(path: Path, image: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, image)


def muses(root: Path) -> None:
    names = {
        "train": ("clear/day/REC0001_frame_1", "snow/night/REC0002_frame_7"),
        "val": ("fog/night/REC0003_frame_2",),
    }
    for split, frames in names.items():
        for i, name in enumerate(frames):
            save(root / "frame_camera" / split / f"{name}_frame_camera.png", picture(i, (4, 6)))
            truth = np.full((4, 6), 255, np.uint8)
            truth[0] = 0, 1, 2, 16, 17, 18
            save(root / "gt_semantic" / split / f"{name}_gt_labelTrainIds.png", truth)
            save(root / "gt_semantic" / split / f"{name}_gt_labelColor.png", picture(i, (4, 6)))
            save_npz(root / "projected_to_rgb" / "lidar" / split / f"{name}_lidar.npz", muses_sweep())
            events = root / "projected_to_rgb" / "event_camera" / split
            save_npz(events / f"{name}_event_camera.npz", muses_events())


def cityscapes(root: Path) -> None:
    names = {
        "train": ("aachen/aachen_000000_000019", "ulm/ulm_000001_000019"),
        "val": ("munster/munster_000002_000019",),
    }
    for split, frames in names.items():
        for i, name in enumerate(frames):
            save(root / "leftImg8bit" / split / f"{name}_leftImg8bit.png", picture(i))
            save(root / "gtFine" / split / f"{name}_gtFine_labelIds.png", ids([0, 7, 8], [26, 33, 29]))
            save(root / "gtFine" / split / f"{name}_gtFine_color.png", picture(i))


def bdd100k(root: Path) -> None:
    names = {"train": ("0004a4c0-d4dff0ad", "00054602-3bf57337"), "val": ("7d15b18b-1e0d6e3f",)}
    for split, frames in names.items():
        for i, name in enumerate(frames):
            save(root / "images" / "10k" / split / f"{name}.jpg", picture(i))
            save(root / "labels" / "sem_seg" / "masks" / split / f"{name}.png", ids([0, 1, 2], [18, 255, 13]))


def labelled_bag(root: Path) -> None:
    """Two frames a condition of the world: two drives to train on, one to validate and one to test."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset.yaml").write_text("labels: world\n")
    for i, (name, conditions) in enumerate(
        {"train/a": ("day",), "train/b": ("night",), "val/c": ("day",), "test/d": ("day", "night")}.items()
    ):
        write_recording(root / name, conditions=conditions, frames_per_condition=2, seed=i, size=(64, 96))


TREES = {
    "deliver": deliver,
    "muses": muses,
    "cityscapes": cityscapes,
    "bdd100k": bdd100k,
    "labelled_bag": labelled_bag,
}
