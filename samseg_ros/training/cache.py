"""Prepared frames of the world on disk: rendered once, read as memory maps by every run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from samseg_ros.config import Config
from samseg_ros.datasets import world
from samseg_ros.datasets.world import WorldDataset
from samseg_ros.errors import SamsegError
from samseg_ros.sensing.modalities import MODALITIES
from samseg_ros.types import Frame

Array = NDArray[np.generic]
LAYOUT: dict[str, tuple[int, type]] = {
    "rgb": (3, np.uint8),
    "thermal": (1, np.uint8),
    "lidar": (3, np.float16),
    "labels": (1, np.uint8),
}
"""Channels and type of each array (frames, H, W, channels)."""


@dataclass(frozen=True)
class Cache:
    """Memory maps (N, H, W, C): rgb and thermal 0..255, lidar as the network sees it, labels."""

    arrays: dict[str, Array]

    def __len__(self) -> int:
        return len(self.arrays["labels"])


def prepare(frame: Frame, labels: NDArray[np.uint8], size: tuple[int, int], config: Config) -> dict[str, Array]:
    """Return the arrays of one frame at network size, by the same functions that the pipeline uses."""
    height, width = size
    thermal, lidar = MODALITIES["thermal"](frame, size, config), MODALITIES["lidar"](frame, size, config)
    blank = np.zeros((3, height, width), np.float32)
    return {
        "rgb": cv2.resize(frame.image, (width, height), interpolation=cv2.INTER_AREA),
        "thermal": np.round(255 * (blank if thermal is None else thermal)[:1]).astype(np.uint8).transpose(1, 2, 0),
        "lidar": (blank if lidar is None else lidar).astype(np.float16).transpose(1, 2, 0),
        "labels": cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)[:, :, None],
    }


def _render(i: int, dataset: WorldDataset, size: tuple[int, int]) -> dict[str, Array]:
    cv2.setNumThreads(1)
    frame, labels = dataset[i]
    return prepare(frame, labels, size, Config())


def open_cache(
    folder: Path,
    split: str,
    frames: int,
    size: tuple[int, int],
    workers: int,
    progress: Callable[[int, int], None] | None = None,
) -> Cache:
    """Open the cache of a split, rendering what is not there yet (continues after a kill).

    Args:
        progress: called with (frames done, frames in all) while rendering.

    Raises:
        SamsegError: a file of the cache is damaged.
    """
    folder = folder / f"{split}_{frames}_{size[0]}x{size[1]}_{world_version()}"
    folder.mkdir(parents=True, exist_ok=True)
    whole = all((folder / f"{name}.npy").exists() for name in LAYOUT)
    arrays = {
        name: _map(folder / f"{name}.npy", (frames, *size, channels), kind) for name, (channels, kind) in LAYOUT.items()
    }
    state = folder / "done.json"
    done = _done(state) if whole and state.exists() else 0  # an array that was just made holds nothing
    if done < frames:
        dataset = WorldDataset(split, frames)
        with ProcessPoolExecutor(workers) as pool:
            render = partial(_render, dataset=dataset, size=size)
            for i, parts in enumerate(pool.map(render, range(done, frames), chunksize=8), start=done):
                for name, array in parts.items():
                    arrays[name][i] = array
                if (i + 1) % 64 == 0 or i + 1 == frames:
                    state.write_text(json.dumps({"frames": i + 1}))
                    if progress:
                        progress(i + 1, frames)
    return Cache(arrays)


def world_version() -> str:
    """Return a digest of the world's source: frames that another world rendered are not those of this one."""
    digest = hashlib.sha256()
    for file in sorted(Path(world.__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:8]


def _done(state: Path) -> int:
    try:
        return int(json.loads(state.read_text())["frames"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(state, error) from None


def _map(path: Path, shape: tuple[int, ...], kind: type) -> Array:
    if not path.exists():
        return np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape)
    try:
        np.load(path, mmap_mode="r")  # "r+" would fill a truncated file up with zeros
        existing: Array = np.load(path, mmap_mode="r+")
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, error) from None
    return existing


def _damaged(path: Path, error: Exception) -> SamsegError:
    return SamsegError(f"{path} is damaged ({error}); remove {path.parent}, it is rendered again")
