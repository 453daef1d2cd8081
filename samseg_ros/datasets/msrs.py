"""MSRS (Tang et al., Information Fusion 2022): aligned, cleaned pairs of MFNet, 640 x 480, with MFNet's 9 classes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from samseg_ros.datasets.folders import FolderDataset, matched, rgb_thermal
from samseg_ros.datasets.labelled import Sample
from samseg_ros.datasets.mfnet import TABLE, day_or_night

SPLITS = ("train", "test")
EXPECTS = """\
msrs expects the folder of the download (github.com/Linfeng-Tang/MSRS):
  train/{vi,ir,Segmentation_labels}/NAME.png     1083 triples; ids 0-8; NAME as 00001D (day) or 00004N (night)
  test/{vi,ir,Segmentation_labels}/NAME.png      361"""


def open_msrs(folder: Path, split: str) -> FolderDataset:
    """Open a split.

    Raises:
        SamsegError: something of the split is missing.
    """
    parts = (f"{split}/vi", f"{split}/ir", f"{split}/Segmentation_labels")
    names = tuple(matched("msrs", folder, dict.fromkeys(parts, ".png"), "", EXPECTS))
    samples = tuple(Sample(name, day_or_night(name)) for name in names)
    return FolderDataset("mfnet", ("rgb", "thermal"), samples, partial(rgb_thermal, folder, parts, names, TABLE))
