"""DeLiVER (Zhang et al., CVPR 2023): simulated streets, camera, depth, LiDAR and events, 1042 x 1042, 25 classes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samseg_ros.datasets.folders import FolderDataset, id_table, matched, read_color, remap, require
from samseg_ros.datasets.labelled import Labelled, Sample
from samseg_ros.types import UNLABELLED, Frame

SPLITS = ("train", "val", "test")
EXPECTS = """\
deliver expects the folder of the download (DELIVER):
  img/WEATHER/SPLIT/SCENE/NUMBER_rgb_front.png
  hha/WEATHER/SPLIT/SCENE/NUMBER_depth_front.png        depth as HHA (depth/ itself is not read)
  lidar/WEATHER/SPLIT/SCENE/NUMBER_lidar_front.png
  event/WEATHER/SPLIT/SCENE/NUMBER_event_front.png
  semantic/WEATHER/SPLIT/SCENE/NUMBER_semantic_front.png   first channel: 1 Building ... 25 Truck; 0, 255 = ignored
with WEATHER cloud, fog, night, rain, sun; SPLIT train (3983 samples), val (2005), test (1897);
SCENE as MAP_10_point102, with motionblur, overexposure, underexposure, lidarjitter or eventlowres in it where a sensor
fails."""
WEATHERS = ("cloud", "fog", "night", "rain", "sun")
FAILURES = ("motionblur", "overexposure", "underexposure", "lidarjitter", "eventlowres")
FILES = {
    "img": "_rgb_front.png",
    "hha": "_depth_front.png",
    "lidar": "_lidar_front.png",
    "event": "_event_front.png",
    "semantic": "_semantic_front.png",
}
"""Folder -> suffix of its files."""
TABLE = id_table({0: UNLABELLED, 255: UNLABELLED, **{k: k - 1 for k in range(1, 26)}})


def open_deliver(folder: Path, split: str) -> FolderDataset:
    """Open a split. Conditions are the weather and, behind it, the sensor failure: "fog", "fog motionblur".

    Raises:
        SamsegError: something of the split is missing.
    """
    require("deliver", folder, (f"{part}/{weather}" for part in FILES for weather in WEATHERS), EXPECTS)
    names = tuple(matched("deliver", folder, FILES, f"*/{split}/*/", EXPECTS))
    modalities = ("rgb", "depth", "lidar", "event")
    return FolderDataset("deliver", modalities, tuple(map(_sample, names)), partial(_read, folder, names))


def _sample(name: str) -> Sample:
    """Describe ``fog/test/MAP_1_point2_motionblur/045050``. Hard is what underexposure makes so (arXiv 2509.10408)."""
    weather, split, _ = name.split("/", 2)
    failure = next((failure for failure in FAILURES if failure in name), "")
    difficulty = "" if split != "test" else "hard" if failure == "underexposure" else "easy"
    return Sample(name, f"{weather} {failure}".strip(), difficulty)


def _read(folder: Path, names: tuple[str, ...], index: int) -> Labelled:
    files = {part: folder / part / f"{names[index]}{suffix}" for part, suffix in FILES.items()}
    image, label = read_color(files["img"]), files["semantic"]
    images = {"depth": read_color(files["hha"]), "lidar": read_color(files["lidar"])}
    images["event"] = _enlarged(read_color(files["event"]), image.shape[:2])
    # The first channel alone holds the ids, whatever the others do (as in the authors' reader, Apache-2.0).
    return Frame(image, images=images), remap(read_color(label)[:, :, 0], TABLE, label)


def _enlarged(image: NDArray[np.uint8], size: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return an image of the camera's aspect at its (H, W), nearest neighbour: eventlowres is stored in 512 x 512."""
    (h, w), (height, width) = image.shape[:2], size
    if h * width != w * height:
        return image  # the dataset refuses it
    rows, columns = np.arange(height) * h // height, np.arange(width) * w // width
    return np.asarray(image[rows[:, None], columns], np.uint8)
