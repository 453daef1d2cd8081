"""Where frames with labels come from: a split of a dataset, or one recording."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from samseg_ros.config import Config
from samseg_ros.datasets.catalog import Spread, open_dataset
from samseg_ros.datasets.labelled import LabelledDataset
from samseg_ros.datasets.labelled_recording import LabelledBag, labels_folder, open_recording
from samseg_ros.training.cache import fingerprint

RECORDING = "recording"
"""Name of a source that is one recording; every other is a row of `samseg_ros.datasets.catalog.DATASETS`."""
CHUNKS = ".samseg-chunks"
"""Folder in an output folder: a folder a job, named by all that its numbers depend on; a file a chunk."""
SHOWN_INPUTS = ("image", "thermal", "lidar", "camera_info", "labels", "condition")
"""Topics of a recording that a reader is told."""


@dataclass(frozen=True, slots=True)
class Source:
    """What is scored, named so that any process on any machine that sees the same files can open it."""

    name: str
    """A row of DATASETS, or `RECORDING`."""
    path: str = ""
    """Folder of the dataset, or the recording; the world needs none."""
    split: str = ""
    limit: int | None = None
    """Frames at most, evenly spread; None: all."""
    labels: str = ""
    """Label set of a recording that does not say what its ids mean."""
    config: Config = field(default_factory=Config)
    """By which the frames of a recording are made, see `read_by`; nothing else depends on it."""

    @property
    def shown(self) -> str:
        """What a reader sees: the recording's name, or dataset and split."""
        return Path(self.path).name if self.name == RECORDING else f"{self.name} {self.split}"


def read_by(source: Source, config: Config) -> Source:
    """Return a source as a model with these settings sees it: a recording's frames are made by them, as in the node.

    Only what decides about frames is taken over, so that models which agree about it share an opened recording.
    """
    if source.name != RECORDING:
        return source
    return replace(source, config=Config(inputs=config.inputs, sync=config.sync, projection=config.projection))


def open_source(source: Source) -> LabelledDataset:
    """Open what a source names.

    Raises:
        SamsegError: it is not there, or cannot be used.
    """
    if source.name == RECORDING:
        whole = open_recording(Path(source.path), source.labels, source.config)
        return whole if source.limit is None else Spread(whole, source.limit)
    folder = Path(source.path).expanduser() if source.path else None
    return open_dataset(source.name, folder, source.split, source.limit)


def digest(source: Source, dataset: LabelledDataset) -> str:
    """Return what tells this content from another: the names of the samples, and the times of the files behind them."""
    places = [Path(source.path).expanduser()] if source.path else []
    whole = recorded(dataset)
    for drive in whole.drives if whole else ():
        extrinsics = drive.config.projection.calibration_path
        places += [drive.path, labels_folder(drive.path), *([Path(extrinsics)] if extrinsics else [])]
    return f"{fingerprint(dataset)} {[files_of(place) for place in dict.fromkeys(places) if place.exists()]}"


def damage_of(dataset: LabelledDataset) -> str:
    """Say which part of a recording could not be read; empty: none, or it is no recording."""
    whole = recorded(dataset)
    return whole.damage if whole else ""


def used_of(dataset: LabelledDataset) -> list[str]:
    """Say for each recording what serves as what in it: inputs and labels; nothing where it is no recording."""
    whole = recorded(dataset)
    found = []
    for drive in whole.drives if whole else ():
        topics = {name: getattr(drive.topics, name) or "none" for name in SHOWN_INPUTS}
        if not drive.topics.labels:
            topics["labels"] = f"{labels_folder(drive.path)}/*.png"
        found.append(f"{drive.path}: {', '.join(f'{name} {topic}' for name, topic in topics.items())}")
    return found


def recorded(dataset: LabelledDataset) -> LabelledBag | None:
    """Return the recordings behind a dataset, None where it is of another kind."""
    whole = dataset.behind(0)[0] if isinstance(dataset, Spread) and len(dataset) else dataset
    return whole if isinstance(whole, LabelledBag) else None


def files_of(path: Path) -> list[tuple[str, int, int]]:
    """Return name, size and time of change of a file, or of all files below a folder but hidden ones.

    Folders in which evaluations keep what they have finished are passed over: they may lie below a dataset's.
    """
    if not path.is_dir():
        return [(path.name, path.stat().st_size, path.stat().st_mtime_ns)]
    found, seen = [], set()
    for at, folders, names in os.walk(path, followlinks=True):
        here = Path(at)
        is_known = here.resolve() in seen  # a link that leads back
        seen.add(here.resolve())
        if is_known or (here != path and CHUNKS in folders):
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files = [here / name for name in sorted(names) if not name.startswith(".")]
        times = [(file, file.stat()) for file in files if file.is_file()]
        found += [(str(file.relative_to(path)), now.st_size, now.st_mtime_ns) for file, now in times]
    return found
