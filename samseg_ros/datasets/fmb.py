"""FMB, the full-time multi-modality benchmark (Liu et al., ICCV 2023): 800 x 600 RGB and infrared, 14 classes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from samseg_ros.datasets.folders import FolderDataset, id_table, matched, read_list, require, rgb_thermal
from samseg_ros.datasets.labelled import Sample
from samseg_ros.errors import SamsegError
from samseg_ros.types import UNLABELLED

SPLITS = ("train", "test")
LISTED_SPLITS = ("val",)
"""Splits that need lists which the download does not hold."""
EXPECTS = """\
fmb expects the folder of the download:
  train/{Visible,Infrared,Label}/NAME.png     1220 triples; Label: 0 = ignored, 1 Road ... 14 Pole
  test/{Visible,Infrared,Label}/NAME.png      280
and, where you have them, lists of a name a line:
  test_easy.txt  test_hard.txt    183 and 97: the difficulty of the test samples
  val_easy.txt   val_hard.txt     80 and 80 of the training samples: they become the split val, train is the rest"""
TABLE = id_table({0: UNLABELLED, **{k: k - 1 for k in range(1, 15)}})


def open_fmb(folder: Path, split: str) -> FolderDataset:
    """Open a split.

    Raises:
        SamsegError: something of the split is missing, or a list does not fit the files.
    """
    home = "test" if split == "test" else "train"
    parts = (f"{home}/Visible", f"{home}/Infrared", f"{home}/Label")
    names = matched("fmb", folder, dict.fromkeys(parts, ".png"), "", EXPECTS)
    if split == "val":
        require("fmb", folder, ("val_easy.txt", "val_hard.txt"), EXPECTS)
    difficulty = _difficulty(folder, "test" if split == "test" else "val", names)
    if split == "train":
        names, difficulty = [name for name in names if name not in difficulty], {}
    elif split == "val":
        names = [name for name in names if name in difficulty]
    elif difficulty and len(difficulty) < len(names):
        absent = sorted(set(names) - set(difficulty))
        raise SamsegError(
            f"fmb: {len(absent)} test samples are neither in test_easy.txt nor in test_hard.txt: "
            f"{', '.join(absent[:5])}; complete the lists or remove both"
        )
    samples = tuple(Sample(name, difficulty=difficulty.get(name, "")) for name in names)
    return FolderDataset("fmb", ("rgb", "thermal"), samples, partial(rgb_thermal, folder, parts, tuple(names), TABLE))


def _difficulty(folder: Path, which: str, names: Sequence[str]) -> dict[str, str]:
    """Return name -> easy | hard by the two lists of ``which``; empty where there are none."""
    if not any((folder / f"{which}_{level}.txt").exists() for level in ("easy", "hard")):
        return {}
    require("fmb", folder, (f"{which}_easy.txt", f"{which}_hard.txt"), EXPECTS)
    found: dict[str, str] = {}
    for level in ("easy", "hard"):
        path = folder / f"{which}_{level}.txt"
        listed = [line.removesuffix(".png") for line in read_list(path)]
        for name in listed:
            if name not in names or name in found:
                why = "is in the other list too" if name in found else "is no sample"
                raise SamsegError(f"{path}: {name} {why}; correct the list")
        found.update(dict.fromkeys(listed, level))
    return found
