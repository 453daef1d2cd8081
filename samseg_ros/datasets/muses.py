"""MUSES (Brödermann et al., ECCV 2024): 1920 x 1080 in all weather by day and night, with LiDAR and event camera.

The download holds raw sweeps and event streams; the dataset's own SDK (github.com/timbroed/MUSES) projects them into
the camera's view, once. What it writes then is read here, in the one format that keeps the numbers (.npz).
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from samseg_ros.datasets.cityscapes import TRAIN_IDS
from samseg_ros.datasets.folders import FolderDataset, matched, read_color, read_ids, refuse_unlabelled, remap, require
from samseg_ros.datasets.labelled import Labelled, Sample
from samseg_ros.errors import InputError, SamsegError
from samseg_ros.types import Frame

SPLITS = ("train", "val")
UNLABELLED_SPLITS = ("test",)
COMMAND = "python scripts/project_sensors_to_rgb.py --muses_root FOLDER --lidar --event_camera --motion_compensation"
"""Of the SDK; .npz is its default."""
EXPECTS = f"""\
muses expects a folder with the packages unpacked into it:
  frame_camera/SPLIT/WEATHER/LIGHT/NAME_frame_camera.png
  gt_semantic/SPLIT/WEATHER/LIGHT/NAME_gt_labelTrainIds.png   ids 0-18, 255 = ignored
with SPLIT train (1500 samples), val (250); WEATHER clear, fog, rain, snow; LIGHT day, night;
and at least one of the sensors as the dataset's SDK projects them, without its --enlarge options:
  projected_to_rgb/lidar/SPLIT/WEATHER/LIGHT/NAME_lidar.npz
  projected_to_rgb/event_camera/SPLIT/WEATHER/LIGHT/NAME_event_camera.npz
made by: {COMMAND}
The labels of test are not public."""
CAMERA, TRUTH = "_frame_camera.png", "_gt_labelTrainIds.png"


@dataclass(frozen=True, slots=True)
class Projected:
    """One sensor's pictures, (H, W, 3) under ``arr_0`` in an .npz, and what its channels are normalised by."""

    folder: str
    suffix: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


PROJECTED = {
    "lidar": Projected("projected_to_rgb/lidar", "_lidar.npz", (1.463, 1.827, 0.078), (7.557, 9.850, 0.670)),
    "event": Projected("projected_to_rgb/event_camera", "_event_camera.npz", (0.0877, 0.0878, 0), (0.448, 0.401, 1)),
}
"""LiDAR: range (m), intensity, height (m). Events of the last 30 ms: how many brighter, how many darker, nothing."""


def open_muses(folder: Path, split: str) -> FolderDataset:
    """Open a split with the sensors that are projected. Conditions are weather and light: "fog night".

    Raises:
        SamsegError: something of the split is missing, no sensor is projected or in another format, or the split's
            labels are not public.
    """
    refuse_unlabelled("muses", split, UNLABELLED_SPLITS)
    require("muses", folder, (f"frame_camera/{split}", f"gt_semantic/{split}"), EXPECTS)
    sensors = tuple(name for name, sensor in PROJECTED.items() if (folder / sensor.folder).is_dir())
    if not sensors:
        raise SamsegError(f"muses: no projected LiDAR or events under {folder}; run `{COMMAND}` of its SDK\n{EXPECTS}")
    for name in sensors:
        _refuse_other_formats(folder / PROJECTED[name].folder / split)
    parts = {f"frame_camera/{split}": CAMERA, f"gt_semantic/{split}": TRUTH}
    parts |= {f"{PROJECTED[name].folder}/{split}": PROJECTED[name].suffix for name in sensors}
    names = tuple(matched("muses", folder, parts, "*/*/", EXPECTS))
    samples = tuple(Sample(name, " ".join(name.split("/")[:2])) for name in names)
    return FolderDataset("cityscapes", ("rgb", *sensors), samples, partial(_read, folder, split, sensors, names))


def _refuse_other_formats(home: Path) -> None:
    kinds = {path.suffix for path in home.glob("*/*/*.*")}
    if kinds & {".png", ".npy"} and ".npz" not in kinds:
        raise InputError(
            f"muses: {home}",
            expected=".npz files",
            got=", ".join(sorted(kinds)),
            remedy="project again without --output_file_type (its default is .npz, which keeps the numbers)",
        )


def _read(folder: Path, split: str, sensors: tuple[str, ...], names: tuple[str, ...], index: int) -> Labelled:
    name = names[index]
    label = folder / "gt_semantic" / split / f"{name}{TRUTH}"
    image = read_color(folder / "frame_camera" / split / f"{name}{CAMERA}")
    images = {}
    for modality in sensors:
        sensor = PROJECTED[modality]
        raw = _projection(folder / sensor.folder / split / f"{name}{sensor.suffix}")
        images[modality] = (enlarged(raw) - np.array(sensor.mean, np.float32)) / np.array(sensor.std, np.float32)
    return Frame(image, images=images), remap(read_ids(label), TRAIN_IDS, label)


def enlarged(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Let every point fill 2 x 2 pixels, itself and those right and below, each channel its largest value there.

    A picture in which no point stands alone was enlarged by the SDK (its --enlarge options do the same): it stays.

    Args:
        picture: (H, W, 3), 0 in all channels where there is nothing; values may be negative (height).
    """
    square = np.ones((2, 2), np.uint8)
    there = np.asarray(picture.any(axis=2), np.uint8)
    corners = cv2.erode(there, square, anchor=(0, 0))  # MORPH_OPEN would shift an even square
    if np.array_equal(cv2.dilate(corners, square), there):
        return picture
    nothing = np.float32(-np.finfo(np.float32).max)
    largest = cv2.dilate(np.where(there[:, :, None] > 0, picture, nothing), square)
    return np.where(largest == nothing, np.float32(0), largest)


def _projection(path: Path) -> NDArray[np.float32]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            picture = arrays["arr_0"]
    except (OSError, TypeError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise SamsegError(f"{path}: not what the SDK writes ({error}); run `{COMMAND}` again") from None
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype not in (np.uint8, np.float32):
        raise InputError(
            str(path),
            expected="(H, W, 3) uint8 or float32",
            got=f"{picture.shape} {picture.dtype}",
            remedy=f"run `{COMMAND}` again",
        )
    if not np.isfinite(picture).all():
        raise InputError(str(path), expected="finite numbers", got="NaN", remedy=f"run `{COMMAND}` again")
    return np.asarray(picture, np.float32)
