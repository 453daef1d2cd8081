"""Verify a downloaded dataset: read it, count it, and draw a page of it that a person can judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from samseg_ros.config import ProjectionConfig
from samseg_ros.datasets.catalog import dataset_entry, open_dataset
from samseg_ros.datasets.labelled import Labelled, LabelledDataset, Sample
from samseg_ros.drawing import Image, color_mask, contact_sheet, depth_overlay, gray, legend
from samseg_ros.errors import SamsegError
from samseg_ros.labels import load_labels
from samseg_ros.sensing.projection import project_frame
from samseg_ros.types import UNLABELLED, Frame

OPENED = 40
"""Samples of a split that are opened unless all are asked for."""
ROWS = 6
"""Samples on the page."""
WIDTH = 320
"""Of a picture on the page, pixels."""

Bar = Callable[[int, int], None]
"""Takes (done, in all)."""


@dataclass
class SplitCheck:
    """What was found in one split."""

    split: str
    labels: str = ""
    """Label set."""
    samples: int = 0
    expected: int = 0
    """How many there are at least in a whole download, 0: not known."""
    opened: int = 0
    conditions: Counter[str] = field(default_factory=Counter)
    difficulties: Counter[str] = field(default_factory=Counter)
    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    """(256,) opened pixels of each class id, 255 = ignored."""
    problems: list[str] = field(default_factory=list)


def check_split(name: str, folder: Path | None, split: str, everything: bool, bar: Bar) -> SplitCheck:
    """Open a split, look whether every file is there, and decode every sample or an even choice of `OPENED`.

    What is wrong is told in ``problems``; the search goes on behind a damaged sample.
    """
    found = SplitCheck(split, expected=dataset_entry(name).sizes.get(split, 0))
    try:
        dataset = open_dataset(name, folder, split)
    except SamsegError as error:
        found.problems.append(str(error))
        return found
    found.labels, found.samples = dataset.labels, len(dataset)
    found.conditions = Counter(sample.condition for sample in dataset.samples if sample.condition)
    found.difficulties = Counter(sample.difficulty for sample in dataset.samples if sample.difficulty)
    chosen = range(len(dataset)) if everything else _evenly(len(dataset), OPENED)
    for done, index in enumerate(chosen, 1):
        _count(dataset, index, found)
        bar(done, len(chosen))
    if found.samples < found.expected:
        found.problems.append(
            f"{name} {split}: expected {found.expected} samples, got {found.samples}; download or unpack it again"
        )
    return found


def _count(dataset: LabelledDataset, index: int, found: SplitCheck) -> None:
    try:
        _, ids = dataset[index]
    except SamsegError as error:
        found.problems.append(str(error))
        return
    found.opened += 1
    found.pixels += np.bincount(ids.ravel(), minlength=256)


def class_shares(checks: Sequence[SplitCheck]) -> dict[str, list[float]]:
    """Return class -> share of the labelled pixels in each split, and "ignored" -> share of all pixels.

    Args:
        checks: of one dataset, at least one of them opened.
    """
    labels = next(found.labels for found in checks if found.labels)
    table = {}
    for i, name in enumerate(load_labels(labels).names):
        table[name] = [float(c.pixels[i] / max(1, c.pixels[:UNLABELLED].sum())) for c in checks]
    table["ignored"] = [float(c.pixels[UNLABELLED] / max(1, c.pixels.sum())) for c in checks]
    return table


def draw_page(name: str, folder: Path | None, splits: Sequence[str], path: Path) -> None:
    """Write a PNG: a row for each of some samples of the splits, with camera, other sensors and labels, and the legend.

    Raises:
        SamsegError: no split has a sample that can be read, or the file cannot be written.
    """
    if path.suffix != ".png":
        raise SamsegError(f"{path}: expected a name that ends in .png")
    images: list[Image] = []
    captions: list[str] = []
    for dataset, text, (frame, ids) in _some_samples(name, folder, splits):
        labels, columns = load_labels(dataset.labels), len(dataset.modalities) + 1
        size = round(WIDTH * frame.size[0] / frame.size[1]), WIDTH
        row = {text: _resized(frame.image, size)}
        row |= {modality: _resized(_picture(modality, frame), size) for modality in dataset.modalities[1:]}
        small = cv2.resize(ids, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        row["labels (black: ignored)"] = color_mask(np.asarray(small, np.uint8), labels.palette())
        images += row.values()
        captions += row
    if not images:
        raise SamsegError(f"{name}: no sample could be read, so there is nothing to draw; check the folder first")
    sheet = contact_sheet(images, captions, columns)
    page = np.vstack([sheet, legend(labels, sheet.shape[1])])
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), page[:, :, ::-1]):
        raise SamsegError(f"{path}: cannot be written; is its folder writable?")


def _some_samples(
    name: str, folder: Path | None, splits: Sequence[str]
) -> Iterator[tuple[LabelledDataset, str, Labelled]]:
    """Yield (dataset, caption, sample) of `ROWS` samples, spread over the splits; what cannot be read is left out."""
    for number, split in enumerate(splits):
        share = ROWS // len(splits) + (number < ROWS % len(splits))
        try:
            dataset = open_dataset(name, folder, split)
        except SamsegError:
            continue
        for index in _varied(dataset.samples, share):
            sample = dataset.samples[index]
            try:
                labelled = dataset[index]
            except SamsegError:
                continue
            text = " ".join(filter(None, (split, sample.name, sample.condition, sample.difficulty)))
            yield dataset, text, labelled


def _picture(modality: str, frame: Frame) -> Image:
    """Return what a sensor gave as colours, whatever form it came in; black where it gave nothing."""
    if modality == "thermal" and frame.thermal is not None:
        levels = np.asarray(frame.thermal, np.float32)
        low, high = np.nanpercentile(levels, [1, 99])
        return gray(levels, float(low), float(high))
    if modality in frame.images:
        image = frame.images[modality]
        return np.asarray(image, np.uint8) if image.dtype == np.uint8 else _stretched(image)
    if modality == "lidar" and frame.points is not None:
        config = ProjectionConfig()
        depth_m = project_frame(frame, frame.size, config).depth_m
        return depth_overlay(frame.image // 3, depth_m, config.max_range_m)
    return np.zeros((*frame.size, 3), np.uint8)


def _stretched(image: NDArray[np.generic]) -> Image:
    """Return (H, W, 3) float channels, each from its own least to its own largest value."""
    channels = (np.asarray(image[:, :, c], np.float32) for c in range(3))
    return np.dstack([gray(c, float(np.nanmin(c)), float(np.nanmax(c)))[:, :, 0] for c in channels])


def _resized(image: Image, size: tuple[int, int]) -> Image:
    how = cv2.INTER_AREA if size[0] <= image.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size[::-1], interpolation=how), np.uint8)


def _varied(samples: Sequence[Sample], wanted: int) -> list[int]:
    """Return numbers of up to ``wanted`` samples, each condition and difficulty in its turn."""
    groups: dict[tuple[str, str], list[int]] = {}
    for index, sample in enumerate(samples):
        groups.setdefault((sample.condition, sample.difficulty), []).append(index)
    shares = [wanted // len(groups) + (i < wanted % len(groups)) for i in range(len(groups))]
    chosen = zip(groups.values(), shares, strict=True)
    return sorted(group[i] for group, share in chosen for i in _evenly(len(group), share))


def _evenly(count: int, wanted: int) -> list[int]:
    """Return up to ``wanted`` numbers below ``count``, evenly spread, the first and the last among them."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, wanted))})
