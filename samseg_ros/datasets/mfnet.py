"""MFNet's RGB-thermal street scenes (Ha et al., IROS 2017): 640 x 480, 9 classes, "unlabeled" counted as one."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np

from samseg_ros.datasets.folders import FolderDataset, id_table, read_bands, read_ids, read_list, remap, require
from samseg_ros.datasets.labelled import Labelled, Sample
from samseg_ros.types import Frame

SPLITS = ("train", "val", "test")
LISTED_SPLITS = ("test_day", "test_night")
"""Splits whose lists are handed round with later works (RTFNet's among them)."""
EXPECTS = """\
mfnet expects the folder of the download (ir_seg_dataset):
  images/NAME.png            four channels: RGB and thermal; NAME as 00001D (day) or 01569N (night)
  labels/NAME.png            ids 0-8
  train.txt  val.txt  test.txt                a line: NAME; 1568 (half of them NAME_flip), 392, 393
  test_day.txt  test_night.txt                only for the splits of these names
NAME_flip is read from NAME and mirrored: the flipped files need not be made."""
TABLE = id_table({i: i for i in range(9)})
FLIP = "_flip"


def open_mfnet(folder: Path, split: str) -> FolderDataset:
    """Open a split.

    Raises:
        SamsegError: something of the split is missing, or its list is damaged.
    """
    require("mfnet", folder, [f"{split}.txt"], EXPECTS)
    names = read_list(folder / f"{split}.txt")
    stems = [name.removesuffix(FLIP) for name in names]
    require("mfnet", folder, (f"{part}/{stem}.png" for stem in stems for part in ("images", "labels")), EXPECTS)
    samples = tuple(Sample(name, day_or_night(name)) for name in names)
    return FolderDataset("mfnet", ("rgb", "thermal"), samples, partial(_read, folder, tuple(names)))


def day_or_night(name: str) -> str:
    """Return day for 00001D, night for 00001N, else nothing."""
    found = re.fullmatch(rf"\d+([DN])({FLIP})?", name)
    return {"D": "day", "N": "night"}[found[1]] if found else ""


def _read(folder: Path, names: tuple[str, ...], index: int) -> Labelled:
    stem = names[index].removesuffix(FLIP)
    label = folder / "labels" / f"{stem}.png"
    bands = read_bands(folder / "images" / f"{stem}.png", 4)
    ids = remap(read_ids(label), TABLE, label)
    if names[index].endswith(FLIP):
        bands, ids = bands[:, ::-1], ids[:, ::-1]
    image, thermal = np.ascontiguousarray(bands[:, :, :3]), np.ascontiguousarray(bands[:, :, 3])
    return Frame(image, thermal=thermal), np.ascontiguousarray(ids)
