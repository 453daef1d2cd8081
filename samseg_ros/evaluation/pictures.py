"""One picture a frame that shows a person everything: camera, thermal, LiDAR, fused picture, mask, truth."""

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
COLUMNS = {2: 2, 3: 3, 4: 2, 5: 3, 6: 3, 7: 4}
"""Of so many panels otherwise."""
RED = np.array([230, 30, 40], np.uint8)


@dataclass(frozen=True, eq=False, slots=True)
class Panels:
    """What is known of one frame, beside the frame all at camera size."""

    frame: Frame
    mask: NDArray[np.uint8]
    """(H, W) class ids."""
    depth_m: NDArray[np.float32] | None = None
    """(H, W) projected LiDAR, NaN where empty."""
    truth: NDArray[np.uint8] | None = None
    """(H, W) class ids."""
    fused: NDArray[np.uint8] | None = None
    """(H, W, 3) RGB that the model made."""


def tile(panels: Panels, labels: LabelSet, config: Config) -> NDArray[np.uint8]:
    """Return (h, w, 3) RGB: the panels that there are in a grid, each with its caption, and the legend below."""
    palette, alpha, image = labels.palette(), config.publish.overlay_alpha, panels.frame.image
    shown = [("camera", image)]
    if (thermal := panels.frame.thermal) is not None:
        size = panels.frame.size if panels.frame.thermal_camera else (thermal.shape[0], thermal.shape[1])
        seen = thermal_seen(panels.frame, size, config)
        shown.append(("thermal", drawing.gray(np.zeros(size)) if seen is None else seen))
    if panels.depth_m is not None:
        reach = config.projection.max_range_m
        depth = drawing.depth_overlay(image, panels.depth_m, reach)
        shown.append((f"LiDAR depth on the image, 0 (red) to {reach:g} m (blue)", depth))
    if panels.fused is not None:
        shown.append(("fused", panels.fused))
    shown.append(("segmentation", drawing.overlay(image, panels.mask, palette, alpha)))
    if panels.truth is not None and panels.truth.shape == panels.mask.shape:
        shown.append(("ground truth", drawing.overlay(image, panels.truth, palette, alpha)))
        shown.append(("wrong pixels", _wrong(image, panels.mask, panels.truth)))
    columns = 1 if image.shape[1] > WIDE * image.shape[0] else COLUMNS[len(shown)]
    sheet = drawing.contact_sheet([image for _, image in shown], [caption for caption, _ in shown], columns)
    return np.vstack([sheet, drawing.legend(labels, sheet.shape[1])])


def _wrong(image: NDArray[np.uint8], mask: NDArray[np.uint8], truth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Show the image dimmed, red where the mask is wrong."""
    dimmed = (image // 3) + 40
    dimmed[(mask != truth) & (truth != UNLABELLED)] = RED
    return np.asarray(dimmed, np.uint8)


def thermal_seen(frame: Frame, size: tuple[int, int], config: Config) -> NDArray[np.uint8] | None:
    """Return the thermal image (h, w, 3) at that size as the settings scale it, registered where it has to be.

    None where it is missing or of no use.
    """
    try:
        seen = modalities.thermal(frame, size, config)
    except SamsegError:
        return None
    return None if seen is None else drawing.gray(seen[0])
