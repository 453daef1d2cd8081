"""Cityscapes (Cordts et al., CVPR 2016): 2048 x 1024 German streets, the 19 classes of its benchmark."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from samseg_ros.datasets.folders import (
    FolderDataset,
    id_table,
    matched,
    read_color,
    read_ids,
    refuse_unlabelled,
    remap,
    require,
)
from samseg_ros.datasets.labelled import Labelled, Sample
from samseg_ros.types import UNLABELLED, Frame

SPLITS = ("train", "val")
UNLABELLED_SPLITS = ("test",)
EXPECTS = """\
cityscapes expects a folder with both packages (leftImg8bit_trainvaltest, gtFine_trainvaltest) unpacked into it:
  leftImg8bit/{train,val}/CITY/CITY_SEQ_FRAME_leftImg8bit.png      2975 and 500
  gtFine/{train,val}/CITY/CITY_SEQ_FRAME_gtFine_labelIds.png       ids 0-33, brought to the 19 classes
or, without labelIds, what csCreateTrainIdLabelImgs makes of the polygons:
  gtFine/{train,val}/CITY/CITY_SEQ_FRAME_gtFine_labelTrainIds.png  ids 0-18, 255 = ignored
The labels of test are not public."""
TRAIN_IDS = id_table({**{i: i for i in range(19)}, 255: UNLABELLED})
"""For files that hold the benchmark's classes already (BDD100K and MUSES too)."""
CLASS_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The id in labelIds files of class 0, 1, 2, ... (helpers/labels.py of cityscapesScripts); the others are ignored."""
LABEL_IDS = id_table({**dict.fromkeys(range(34), UNLABELLED), **{k: i for i, k in enumerate(CLASS_IDS)}})
LABEL_IDS_SUFFIX = "_gtFine_labelIds.png"
TRAIN_IDS_SUFFIX = "_gtFine_labelTrainIds.png"


def open_cityscapes(folder: Path, split: str) -> FolderDataset:
    """Open a split.

    labelIds are taken where they are: they come with the download, while everyone may choose train ids of his own.

    Raises:
        SamsegError: something of the split is missing, or its labels are not public.
    """
    refuse_unlabelled("cityscapes", split, UNLABELLED_SPLITS)
    images, labels = f"leftImg8bit/{split}", f"gtFine/{split}"
    require("cityscapes", folder, (images, labels), EXPECTS)
    made = not any((folder / labels).glob(f"*/*{LABEL_IDS_SUFFIX}")) and any((folder / labels).glob("*/*TrainIds.png"))
    suffix = TRAIN_IDS_SUFFIX if made else LABEL_IDS_SUFFIX
    names = matched("cityscapes", folder, {images: "_leftImg8bit.png", labels: suffix}, "*/", EXPECTS)
    samples = tuple(Sample(name) for name in names)
    return FolderDataset("cityscapes", ("rgb",), samples, partial(_read, folder, split, suffix, tuple(names)))


def _read(folder: Path, split: str, suffix: str, names: tuple[str, ...], index: int) -> Labelled:
    label = folder / "gtFine" / split / f"{names[index]}{suffix}"
    table = TRAIN_IDS if suffix == TRAIN_IDS_SUFFIX else LABEL_IDS
    image = read_color(folder / "leftImg8bit" / split / f"{names[index]}_leftImg8bit.png")
    return Frame(image), remap(read_ids(label), table, label)
