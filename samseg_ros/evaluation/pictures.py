"""One picture a frame that shows a person everything: camera, mask, truth, thermal, LiDAR."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samseg_ros import drawing
from samseg_ros.config import Config
from samseg_ros.errors import SamsegError
from samseg_ros.labels import LabelSet
from samseg_ros.sensing import modalities
from samseg_ros.types import UNLABELLED, Frame

WIDE = 1.8
"""Images wider than this times their height stand above each other."""
COLUMNS = {2: 2, 3: 3, 4: 2, 5: 3, 6: 3}
"""Of so many panels otherwise."""
RED = np.array([230, 30, 40], np.uint8)


@dataclass(frozen=True, eq=False, slots=True)
class Panels:
    """What is known of one frame, all at camera size but the thermal image."""

    image: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    mask: NDArray[np.uint8]
    """(H, W) class ids."""
    thermal: NDArray[np.generic] | None = None
    depth_m: NDArray[np.float32] | None = None
    """(H, W) projected LiDAR, NaN where empty."""
    truth: NDArray[np.uint8] | None = None
    """(H, W) class ids."""


def tile(panels: Panels, labels: LabelSet, config: Config) -> NDArray[np.uint8]:
    """Return (h, w, 3) RGB: the panels that there are in a grid, each with its caption, and the legend below."""
    palette, alpha = labels.palette(), config.publish.overlay_alpha
    shown = [("camera", panels.image)]
    if panels.thermal is not None:
        shown.append(("thermal", _thermal(panels.image, panels.thermal, config)))
    if panels.depth_m is not None:
        reach = config.projection.max_range_m
        depth = drawing.depth_overlay(panels.image, panels.depth_m, reach)
        shown.append((f"LiDAR depth on the image, 0 (red) to {reach:g} m (blue)", depth))
    shown.append(("segmentation", drawing.overlay(panels.image, panels.mask, palette, alpha)))
    if panels.truth is not None and panels.truth.shape == panels.mask.shape:
        shown.append(("ground truth", drawing.overlay(panels.image, panels.truth, palette, alpha)))
        shown.append(("wrong pixels", _wrong(panels.image, panels.mask, panels.truth)))
    columns = 1 if panels.image.shape[1] > WIDE * panels.image.shape[0] else COLUMNS[len(shown)]
    sheet = drawing.contact_sheet([image for _, image in shown], [caption for caption, _ in shown], columns)
    return np.vstack([sheet, drawing.legend(labels, sheet.shape[1])])


def _wrong(image: NDArray[np.uint8], mask: NDArray[np.uint8], truth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Show the image dimmed, red where the mask is wrong."""
    dimmed = (image // 3) + 40
    dimmed[(mask != truth) & (truth != UNLABELLED)] = RED
    return np.asarray(dimmed, np.uint8)


def _thermal(image: NDArray[np.uint8], thermal: NDArray[np.generic], config: Config) -> NDArray[np.uint8]:
    """Show the thermal image as a model sees it; black where it cannot be used."""
    try:
        seen = modalities.thermal(Frame(image=image, thermal=thermal), thermal.shape[:2], config)
    except SamsegError:
        seen = None
    return drawing.gray(np.zeros(image.shape[:2]) if seen is None else seen[0])
