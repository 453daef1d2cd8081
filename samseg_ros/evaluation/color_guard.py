"""The colour-by-number guard: how well would a random forest do that sees one pixel at a time?

The world would teach nothing if a pixel's own colour, temperature, range and height gave its class away.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from samseg_ros.config import Config
from samseg_ros.datasets.world import WorldDataset
from samseg_ros.evaluation.metrics import confusion, miou
from samseg_ros.training.cache import prepare

LIMIT_MIOU = 45.0
"""The guard holds while the forest stays at or below this (points of 100)."""
SIZE = (288, 384)


def pixel_features(
    dataset: WorldDataset, i: int, per_frame: int | None, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return (N, 6) RGB, thermal, range and height of single pixels (0 where no point fell) and their classes (N,).

    Args:
        per_frame: how many pixels to draw at random; None for every 7th pixel.
    """
    parts = prepare(*dataset[i], ("rgb", "thermal", "lidar"), SIZE, Config())
    table = (
        np.concatenate([parts["rgb"], parts["thermal"], parts["lidar"][..., :2]], 2).astype(np.float32).reshape(-1, 6)
    )
    labels = np.asarray(parts["labels"], np.uint8).ravel()
    chosen = np.arange(0, len(labels), 7) if per_frame is None else rng.choice(len(labels), per_frame, replace=False)
    return table[chosen], labels[chosen]


def forest_miou(
    train_frames: int = 240,
    test_frames: int = 120,
    per_frame: int = 400,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> float:
    """Return the mIoU (points of 100) on test scenes of a forest trained on single pixels of training scenes."""
    rng = np.random.default_rng(seed)
    train, test = WorldDataset("train", train_frames), WorldDataset("test", test_frames)
    pixels = []
    for i in range(train_frames):
        pixels.append(pixel_features(train, i, per_frame, rng))
        if progress:
            progress(i + 1, train_frames + test_frames)
    forest = RandomForestClassifier(
        60, min_samples_leaf=5, class_weight="balanced_subsample", n_jobs=-1, random_state=seed
    )
    forest.fit(np.concatenate([p[0] for p in pixels]), np.concatenate([p[1] for p in pixels]))
    total = np.zeros((12, 13), np.int64)
    for i in range(test_frames):
        features, labels = pixel_features(test, i, None, rng)
        total += confusion(forest.predict(features).astype(np.uint8), labels, 12)
        if progress:
            progress(train_frames + i + 1, train_frames + test_frames)
    return 100 * float(miou(total))
