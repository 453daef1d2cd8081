"""Prepared samples: brought to one size once and kept on disk as memory maps, or read from their files each time."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from samseg_ros.config import Config
from samseg_ros.datasets import world
from samseg_ros.datasets.labelled import LabelledDataset
from samseg_ros.datasets.thermal_view import ThermalView
from samseg_ros.datasets.world.labelled import LabelledWorld
from samseg_ros.errors import SamsegError
from samseg_ros.sensing.modalities import MODALITIES
from samseg_ros.training.augmentation import Planes
from samseg_ros.training.lock import locked
from samseg_ros.training.processes import WORKERS
from samseg_ros.types import Frame

Array = NDArray[np.generic]
LAYOUT: dict[str, tuple[int, type]] = {
    "rgb": (3, np.uint8),
    "thermal": (1, np.uint8),
    "lidar": (3, np.float16),
    "depth": (3, np.float16),
    "event": (3, np.float16),
    "labels": (1, np.uint8),
}
"""Channels and type of each array (samples, H, W, channels)."""
STATE_FILE = "done.json"
SAVE_EVERY = 64
"""Samples after which it is noted how far a cache has come."""


@dataclass(frozen=True)
class Cache:
    """Samples of one size."""

    arrays: dict[str, Array]
    """Memory maps (N, H, W, C): rgb and thermal 0..255, lidar, depth and event as the network sees them, labels."""
    present: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    """Auxiliary modality to (N,): which samples have that sensor; a modality that is not named: all."""
    names: tuple[str, ...] = ()
    """Of the samples; empty: their numbers."""

    def __len__(self) -> int:
        return len(self.arrays["labels"])

    def planes(self, i: int) -> Planes:
        """Return one sample, views of the maps; a sensor that it lacks is not in it."""
        there = [name for name in self.arrays if name not in self.present or self.present[name][i]]
        return {name: self.arrays[name][i] for name in there}

    def name(self, i: int) -> str:
        """Name of a sample."""
        return self.names[i] if self.names else str(i)

    def __getstate__(self) -> dict[str, Any]:
        """Hand maps to other processes by their files, not by their content."""
        mapped = {k: a.filename if isinstance(a, np.memmap) and a.filename else a for k, a in self.arrays.items()}
        present = {name: np.array(flags) for name, flags in self.present.items()}
        return {"arrays": mapped, "present": present, "names": self.names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the maps again."""
        arrays = {k: a if isinstance(a, np.ndarray) else np.load(a, mmap_mode="r") for k, a in state["arrays"].items()}
        for name, value in {**state, "arrays": arrays}.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class DirectSamples:
    """Samples that are read and prepared each time, at the size of their camera images."""

    dataset: LabelledDataset
    modalities: tuple[str, ...]
    config: Config = field(default_factory=Config)

    def __len__(self) -> int:
        return len(self.dataset)

    def planes(self, i: int) -> Planes:
        """Return one sample; a sensor that it lacks is not in it.

        Raises:
            SamsegError: a file is missing or damaged, or a sensor's data cannot be used.
        """
        return _read(i, self.dataset, self.modalities, None, self.config)

    def name(self, i: int) -> str:
        """Name of a sample."""
        return self.dataset.samples[i].name


def prepare(
    frame: Frame, labels: NDArray[np.uint8], modalities: tuple[str, ...], size: tuple[int, int] | None, config: Config
) -> Planes:
    """Return a frame's modalities and labels by the same functions that the pipeline uses, in the types of `LAYOUT`.

    Args:
        frame: one sensor set.
        labels: (H, W) class ids.
        modalities: what is wanted; one that the frame lacks is left out.
        size: (h, w) of the result; None: the camera's own.
        config: the projection and thermal sections are used.

    Raises:
        InputError: a sensor's data cannot be used, see `samseg_ros.sensing.modalities`.
    """
    height, width = size or frame.size
    planes: Planes = {}
    for name in modalities:
        if name == "rgb":
            planes[name] = cv2.resize(frame.image, (width, height), interpolation=cv2.INTER_AREA)
        elif (image := MODALITIES[name](frame, (height, width), config)) is not None:
            channels, kind = LAYOUT[name]
            levels = np.round(255 * image[:channels]) if kind is np.uint8 else image
            planes[name] = np.ascontiguousarray(levels.transpose(1, 2, 0), kind)
    planes["labels"] = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)[:, :, None]
    return planes


def open_cache(
    folder: Path,
    dataset: LabelledDataset,
    key: str,
    modalities: tuple[str, ...],
    size: tuple[int, int],
    config: Config,
    workers: int,
    progress: Callable[[int, int], None] | None = None,
) -> Cache:
    """Open the cache of a dataset, preparing what is not there yet (continues after a kill).

    Args:
        folder: of all caches; each has a folder of its own in it, named by what it holds.
        dataset: every sample is brought to ``size``.
        key: name of dataset and split, such as ``world_train_4500``; size, modalities, `fingerprint` and settings
            are added.
        modalities: what is kept of each sample, "rgb" among it.
        size: (h, w), pixels.
        config: as in `prepare`.
        workers: processes that prepare.
        progress: called with (samples done, samples in all) while preparing.

    Raises:
        SamsegError: a file of the cache is damaged, the disk has no space for it, or a sample cannot be read.
    """
    folder = folder / f"{key}_{size[0]}x{size[1]}_{'-'.join(modalities)}_{fingerprint(dataset)}{_stamp(config)}"
    with locked(folder, "another run prepares these samples, waiting for it", wait=True):
        arrays, done = _open_arrays(folder, len(dataset), modalities, size)
        flags = arrays["present"]
        read = partial(_read, dataset=dataset, modalities=modalities, size=size, config=config)
        prepared = _prepared(range(done, len(dataset)), read, workers)
        for i, planes in enumerate(prepared, start=done):
            for name in (*modalities, "labels"):
                arrays[name][i] = planes.get(name, 0)
            flags[i] = [name in planes for name in modalities]
            if (i + 1) % SAVE_EVERY == 0 or i + 1 == len(dataset):
                _note(folder / STATE_FILE, i + 1)
                if progress:
                    progress(i + 1, len(dataset))
    planes_of = {name: array for name, array in arrays.items() if name != "present"}
    present = {name: flags[:, k] for k, name in enumerate(modalities) if name != "rgb"}
    return Cache(planes_of, present, tuple(sample.name for sample in dataset.samples))


def _open_arrays(
    folder: Path, samples: int, modalities: tuple[str, ...], size: tuple[int, int]
) -> tuple[dict[str, NDArray[Any]], int]:
    """Return the arrays of a cache ("present" among them), made where they are not there, and how far they are filled.

    What is made takes its whole space on the disk at once: a map that finds none later would end the process (SIGBUS).
    """
    kinds: dict[str, tuple[tuple[int, ...], type]]
    kinds = {name: ((samples, *size, LAYOUT[name][0]), LAYOUT[name][1]) for name in (*modalities, "labels")}
    kinds["present"] = ((samples, len(modalities)), np.bool_)
    state = folder / STATE_FILE
    absent = {name: kind for name, kind in kinds.items() if not (folder / f"{name}.npy").exists()}
    if absent:
        state.unlink(missing_ok=True)  # before they are made: what was just made holds nothing
    try:
        for name, (shape, kind) in absent.items():
            _make(folder / f"{name}.npy", shape, kind)
    except OSError as error:
        for name in absent:
            (folder / f"{name}.npy").unlink(missing_ok=True)
        needed = sum(math.prod(shape) * np.dtype(kind).itemsize for shape, kind in absent.values())
        raise SamsegError(
            f"{folder}: expected {needed / 1e9:.1f} GB of space for the prepared samples, got {error.strerror}; "
            "make room, choose another --cache, or set a smaller data.size"
        ) from None
    arrays = {name: _map(folder / f"{name}.npy", shape, kind) for name, (shape, kind) in kinds.items()}
    return arrays, _done(state, samples) if state.exists() else 0


def _prepared(samples: range, read: Callable[[int], Planes], workers: int) -> Iterator[Planes]:
    """Yield samples in order, prepared by several processes; with one worker, by this one."""
    if workers == 1 or len(samples) < 2:
        yield from map(read, samples)
        return
    with ProcessPoolExecutor(workers, WORKERS, cv2.setNumThreads, (1,)) as pool:
        yield from pool.map(read, samples, chunksize=8)


def fingerprint(dataset: LabelledDataset) -> str:
    """Return a digest of what a dataset holds: the names of its samples, and of the world its source and scenes."""
    if isinstance(dataset, ThermalView):
        return fingerprint(dataset.whole)
    names = "\n".join(sample.name for sample in dataset.samples)
    version = f"{world_version()} {dataset.scenes!r}" if isinstance(dataset, LabelledWorld) else ""
    return hashlib.sha256(f"{version}\n{names}".encode()).hexdigest()[:8]


def _stamp(config: Config) -> str:
    """Name the settings that samples are prepared by; the defaults have no name."""
    told, usual = (c.model_dump_json(include={"projection", "thermal"}) for c in (config, Config()))
    return "" if told == usual else f"_{hashlib.sha256(told.encode()).hexdigest()[:8]}"


def world_version() -> str:
    """Return a digest of the world's source: frames that another world rendered are not those of this one."""
    digest = hashlib.sha256()
    for file in sorted(Path(world.__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:8]


def _read(
    i: int, dataset: LabelledDataset, modalities: tuple[str, ...], size: tuple[int, int] | None, config: Config
) -> Planes:
    frame, labels = dataset[i]
    try:
        return prepare(frame, labels, modalities, size, config)
    except SamsegError as error:
        raise SamsegError(f"sample {dataset.samples[i].name}: {error}") from None


def _note(state: Path, done: int) -> None:
    try:
        state.write_text(json.dumps({"frames": done}))
    except OSError as error:
        raise SamsegError(
            f"{state} cannot be written ({error.strerror}); make room and run again, it goes on"
        ) from None


def _done(state: Path, samples: int) -> int:
    try:
        done = int(json.loads(state.read_text())["frames"])
        if not 0 <= done <= samples:
            raise ValueError(f"expected 0 to {samples} samples, got {done}")
        return done
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(state, error) from None


def _make(path: Path, shape: tuple[int, ...], kind: type) -> None:
    """Make an array of zeros that has its space on the disk; it appears when it is whole."""
    part = path.with_suffix(".part")
    try:
        np.lib.format.open_memmap(part, mode="w+", dtype=kind, shape=shape)
        with part.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, part.stat().st_size)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    part.replace(path)


def _map(path: Path, shape: tuple[int, ...], kind: type) -> NDArray[Any]:
    try:
        np.load(path, mmap_mode="r")  # "r+" would fill a truncated file up with zeros
        existing: NDArray[Any] = np.load(path, mmap_mode="r+")
        if existing.shape != shape or existing.dtype != kind:
            raise ValueError(f"expected {shape} {np.dtype(kind)}, got {existing.shape} {existing.dtype}")
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, error) from None
    return existing


def _damaged(path: Path, error: Exception) -> SamsegError:
    return SamsegError(f"{path} is damaged ({error}); remove {path.parent}, it is prepared again")
