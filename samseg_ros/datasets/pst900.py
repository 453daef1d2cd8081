"""PST900 (Shivakumar et al., ICRA 2020): underground search, 1280 x 720 RGB and thermal, 5 classes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from samseg_ros.datasets.folders import FolderDataset, id_table, matched, rgb_thermal
from samseg_ros.datasets.labelled import Sample

SPLITS = ("train", "test")
EXPECTS = """\
pst900 expects the folder of the download (PST900_RGBT_Dataset):
  train/{rgb,thermal,labels}/NAME.png     597 triples; thermal: 8 bits, 0 = not seen; labels: ids 0-4
  test/{rgb,thermal,labels}/NAME.png      288
thermal_raw/ and depth/, which the download has beside them, are not read."""
TABLE = id_table({i: i for i in range(5)})


def open_pst900(folder: Path, split: str) -> FolderDataset:
    """Open a split.

    Raises:
        SamsegError: something of the split is missing.
    """
    parts = (f"{split}/rgb", f"{split}/thermal", f"{split}/labels")
    names = tuple(matched("pst900", folder, dict.fromkeys(parts, ".png"), "", EXPECTS))
    samples = tuple(Sample(name) for name in names)
    return FolderDataset("pst900", ("rgb", "thermal"), samples, partial(rgb_thermal, folder, parts, names, TABLE))
