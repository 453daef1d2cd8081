"""Tiny trees of the true layouts, one function a dataset. Two rows of three pixels each; what they hold is returned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = (2, 3)
Array = NDArray[np.uint8]


def picture(seed: int, channels: int = 3) -> Array:
    """Noise, (2, 3, channels), or (2, 3) of one channel."""
    shape = SIZE if channels == 1 else (*SIZE, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, pixels: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def lines(path: Path, *names: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


def ids(*rows: list[int]) -> Array:
    return np.array(rows, np.uint8)


def camvid(root: Path) -> None:
    """SegNet's layout."""
    for split, names in {"train": ("0001TP_1", "0016E5_1"), "val": ("0016E5_2",), "test": ("Seq05VD_1",)}.items():
        for i, name in enumerate(names):
            save(root / split / f"{name}.png", picture(i))
            save(root / f"{split}annot" / f"{name}.png", ids([0, 1, 10], [11, 5, 3]))
        rows = (f"/SegNet/CamVid/{split}/{name}.png /SegNet/CamVid/{split}annot/{name}.png" for name in names)
        lines(root / f"{split}.txt", *rows)


def camvid_by_kind(root: Path) -> None:
    for split, names in {"train": ("0001TP_1", "0016E5_1"), "val": ("0016E5_2",), "test": ("Seq05VD_1",)}.items():
        for i, name in enumerate(names):
            save(root / "image" / split / f"{name}.jpg", picture(i))
            save(root / "label" / split / f"{name}.png", ids([0, 1, 10], [11, 5, 3]))
        lines(root / f"{split}.txt", *names)


def mfnet(root: Path) -> None:
    for i, name in enumerate(("00001D", "00002N", "00003D", "00004N")):
        save(root / "images" / f"{name}.png", picture(i, 4))
        save(root / "labels" / f"{name}.png", ids([0, 1, 2], [8, 0, 3]))
    lines(root / "train.txt", "00001D", "00001D_flip")
    lines(root / "val.txt", "00002N")
    lines(root / "test.txt", "00003D", "00004N", "")
    lines(root / "test_day.txt", "00003D")
    lines(root / "test_night.txt", "00004N")


def fmb(root: Path) -> None:
    for split, names in {"train": ("00001", "00002", "00003"), "test": ("00004", "00005")}.items():
        for i, name in enumerate(names):
            save(root / split / "Visible" / f"{name}.png", picture(i))
            save(root / split / "Infrared" / f"{name}.png", np.repeat(picture(i, 1)[:, :, None], 3, axis=2))
            save(root / split / "Label" / f"{name}.png", ids([0, 1, 14], [9, 0, 8]))


def msrs(root: Path) -> None:
    for split, names in {"train": ("00001D", "00004N"), "test": ("00008N",)}.items():
        for i, name in enumerate(names):
            save(root / split / "vi" / f"{name}.png", picture(i))
            save(root / split / "ir" / f"{name}.png", picture(i, 1))
            save(root / split / "Segmentation_labels" / f"{name}.png", ids([0, 1, 2], [8, 0, 3]))


def pst900(root: Path) -> None:
    for split, names in {"train": ("1_bag_1", "1_bag_2"), "test": ("2_bag_7",)}.items():
        for i, name in enumerate(names):
            save(root / split / "rgb" / f"{name}.png", picture(i))
            save(root / split / "thermal" / f"{name}.png", picture(i, 1))
            save(root / split / "labels" / f"{name}.png", ids([0, 1, 2], [3, 4, 0]))


TREES = {"camvid": camvid, "mfnet": mfnet, "fmb": fmb, "msrs": msrs, "pst900": pst900}
