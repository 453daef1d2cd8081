"""Batches of augmented frames: geometry the same for every sensor, light and sensor noise each on its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samseg_ros.sensing.modalities import IMAGENET_MEAN, IMAGENET_STD
from samseg_ros.training.cache import Cache
from samseg_ros.training.recipe import Phase, Recipe


@dataclass(frozen=True)
class Batch:
    """What one step sees."""

    inputs: dict[str, Tensor]
    """Modality to (B, 3, H, W) float32."""
    present: dict[str, Tensor]
    """Modality to (B,) bool: which samples have that sensor."""
    labels: Tensor
    """(B, H, W) int64."""


def draw_batch(cache: Cache, recipe: Recipe, phase: Phase, step: int) -> Batch:
    """Draw the batch of a step. It depends on (seed, step) alone, so a resumed run sees the same batches."""
    rng = np.random.default_rng([recipe.seed, step])
    samples = [_augment(cache, int(rng.integers(len(cache))), phase, rng) for _ in range(phase.batch)]
    inputs = {name: torch.from_numpy(np.stack([s[name] for s in samples])) for name in recipe.sensors}
    present = {
        name: torch.from_numpy(rng.random(phase.batch) >= recipe.sensor_dropout)
        for name in recipe.sensors
        if name != "rgb"
    }
    labels = torch.from_numpy(np.stack([s["labels"] for s in samples]).astype(np.int64))
    return Batch(inputs, present, labels)


def plain_batch(cache: Cache, indices: range, sensors: tuple[str, ...]) -> Batch:
    """Return frames as they are, for validation."""
    samples = [_tensors({name: np.asarray(array[i]) for name, array in cache.arrays.items()}) for i in indices]
    inputs = {name: torch.from_numpy(np.stack([s[name] for s in samples])) for name in sensors}
    return Batch(inputs, {}, torch.from_numpy(np.stack([s["labels"] for s in samples]).astype(np.int64)))


def _augment(cache: Cache, i: int, phase: Phase, rng: np.random.Generator) -> dict[str, NDArray[np.generic]]:
    parts = {name: np.asarray(array[i]) for name, array in cache.arrays.items()}
    height, width = parts["labels"].shape[:2]
    share = rng.uniform(*phase.window)
    h, w = round(height * share), round(width * share)
    top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    flip = rng.random() < 0.5
    size = (phase.size[1], phase.size[0])
    for name, array in parts.items():
        cut = array[top : top + h, left : left + w]
        if flip:
            cut = cut[:, ::-1]
        mode = cv2.INTER_LINEAR if name in ("rgb", "thermal") else cv2.INTER_NEAREST
        if cut.shape[:2] != phase.size:
            wide = cut.astype(np.float32) if name == "lidar" else np.ascontiguousarray(cut)
            cut = cv2.resize(wide, size, interpolation=mode).reshape(*phase.size, -1)
        parts[name] = cut
    parts["rgb"] = _light(parts["rgb"], rng)
    parts["thermal"] = np.clip(
        parts["thermal"].astype(np.float32) * rng.uniform(0.8, 1.2) + rng.uniform(-25, 25), 0, 255
    )
    if rng.random() < 0.3:
        parts["lidar"] = parts["lidar"] * (rng.random((*phase.size, 1)) > rng.uniform(0.05, 0.6))
    return _tensors(parts)


def _light(rgb: NDArray[np.generic], rng: np.random.Generator) -> NDArray[np.float32]:
    """Change exposure, contrast, colour balance and saturation of (H, W, 3) 0..255."""
    image = rgb.astype(np.float32) * (rng.uniform(0.75, 1.3) * rng.uniform(0.92, 1.08, 3)).astype(np.float32)
    mean = np.float32(image.mean())
    image = (image - mean) * np.float32(rng.uniform(0.75, 1.25)) + mean
    grey = image.mean(2, keepdims=True)
    mixed: NDArray[np.float32] = np.clip(grey + (image - grey) * np.float32(rng.uniform(0.5, 1.4)), 0, 255)
    return mixed


def _tensors(parts: dict[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    """Return planes as the network wants them."""
    rgb = (parts["rgb"].astype(np.float32) / 255 - IMAGENET_MEAN) / IMAGENET_STD
    thermal = np.repeat(parts["thermal"].astype(np.float32).reshape(*rgb.shape[:2], 1) / 255, 3, axis=2)
    planes: dict[str, NDArray[np.floating[Any]]] = {
        "rgb": rgb,
        "thermal": thermal,
        "lidar": parts["lidar"].astype(np.float32),
    }
    tensors = {name: np.ascontiguousarray(p.transpose(2, 0, 1), np.float32) for name, p in planes.items()}
    return {**tensors, "labels": parts["labels"].reshape(rgb.shape[:2])}
