"""Pairs of camera and thermal pictures in two folders, with or without labels: what a first stage learns from."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from samseg_ros.datasets.folders import FolderDataset, id_table, read_color, read_ids, read_levels, remap, require
from samseg_ros.datasets.labelled import Labelled, Sample
from samseg_ros.errors import SamsegError
from samseg_ros.types import UNLABELLED, Frame

SPLITS = ("train", "val", "all")
LABEL_IDS = id_table({i: i for i in range(9)} | {UNLABELLED: UNLABELLED})
"""Of label/: MFNet's, and what was left open where labels were drawn by hand or taken from pictures."""
HELD_BACK = 10
"""Every so many pairs, one is left for val."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
EXPECTS = """\
rgbt_pairs expects a folder of aligned pairs, such as RoadScene's or MSRS's:
  vi/NAME.{png,jpg,bmp}      the camera's picture
  ir/NAME.{png,jpg,bmp}      the thermal picture of the same name and size
  label/NAME.png             perhaps: MFNet's ids 0-8, 255 unlabelled; without the folder every pixel is
train is nine pairs of ten in the order of their names, val the tenth, all is all."""


def open_rgbt_pairs(folder: Path, split: str) -> FolderDataset:
    """Open a split; its label set is MFNet's.

    Raises:
        SamsegError: no pairs, or a picture without its partner.
    """
    require("rgbt_pairs", folder, ("vi", "ir"), EXPECTS)
    parts = {part: _files(folder / part) for part in ("vi", "ir")}
    if (folder / "label").is_dir():
        parts["label"] = _files(folder / "label")
    every = {name for files in parts.values() for name in files}
    alone = sorted(name for name in every if not all(name in files for files in parts.values()))
    if alone or not parts["vi"]:
        found = (
            f"{alone[0]}, which is not in each of {', '.join(parts)} (as {', '.join(SUFFIXES)})"
            if alone
            else "no picture"
        )
        raise SamsegError(f"rgbt_pairs: {folder}: expected pairs of one name, got {found}\n{EXPECTS}")
    held_back = {"train": False, "val": True}.get(split)
    names = [n for i, n in enumerate(sorted(parts["vi"])) if held_back in (None, i % HELD_BACK == 0)]
    files = tuple(tuple(parts[part][name] for part in parts) for name in names)
    return FolderDataset("mfnet", ("rgb", "thermal"), tuple(map(Sample, names)), partial(_read, files))


def _files(folder: Path) -> dict[str, Path]:
    """Pictures by name."""
    if not folder.is_dir():
        raise SamsegError(f"rgbt_pairs: {folder} is no folder\n{EXPECTS}")
    found: dict[str, Path] = {}
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file()):
        if path.stem in found:
            raise SamsegError(f"rgbt_pairs: {found[path.stem]} and {path.name} have one name; remove one of them")
        found[path.stem] = path
    return found


def _read(files: tuple[tuple[Path, ...], ...], index: int) -> Labelled:
    camera, thermal, *label = files[index]
    image = read_color(camera)
    ids = remap(read_ids(label[0]), LABEL_IDS, label[0]) if label else np.full(image.shape[:2], UNLABELLED, np.uint8)
    return Frame(image, thermal=read_levels(thermal)), ids
