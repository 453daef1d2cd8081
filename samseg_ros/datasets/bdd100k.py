"""BDD100K's semantic segmentation (Yu et al., CVPR 2020): 1280 x 720, all over the US, Cityscapes' 19 classes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from samseg_ros.datasets.cityscapes import TRAIN_IDS
from samseg_ros.datasets.folders import FolderDataset, matched, read_color, read_ids, refuse_unlabelled, remap
from samseg_ros.datasets.labelled import Labelled, Sample
from samseg_ros.types import Frame

SPLITS = ("train", "val")
UNLABELLED_SPLITS = ("test",)
EXPECTS = """\
bdd100k expects the folder bdd100k with "10K Images" and "Semantic Segmentation" unpacked into it:
  images/10k/{train,val}/NAME.jpg             7000 and 1000
  labels/sem_seg/masks/{train,val}/NAME.png   ids 0-18, 255 = ignored
The labels of test are not public."""


def open_bdd100k(folder: Path, split: str) -> FolderDataset:
    """Open a split.

    Raises:
        SamsegError: something of the split is missing, or its labels are not public.
    """
    refuse_unlabelled("bdd100k", split, UNLABELLED_SPLITS)
    images, masks = f"images/10k/{split}", f"labels/sem_seg/masks/{split}"
    names = tuple(matched("bdd100k", folder, {images: ".jpg", masks: ".png"}, "", EXPECTS))
    samples = tuple(Sample(name) for name in names)
    return FolderDataset("cityscapes", ("rgb",), samples, partial(_read, folder / images, folder / masks, names))


def _read(images: Path, masks: Path, names: tuple[str, ...], index: int) -> Labelled:
    label = masks / f"{names[index]}.png"
    return Frame(read_color(images / f"{names[index]}.jpg")), remap(read_ids(label), TRAIN_IDS, label)
