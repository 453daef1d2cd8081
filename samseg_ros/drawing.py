"""Pictures that a person looks at: class colours, depth on the image, legends, contact sheets. All RGB, uint8."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from samseg_ros.errors import InputError
from samseg_ros.labels import LabelSet

Image = NDArray[np.uint8]
"""(H, W, 3) RGB."""

_FONT, _TEXT, _PAPER = cv2.FONT_HERSHEY_SIMPLEX, (235, 235, 235), (32, 32, 32)


def color_mask(labels: NDArray[np.uint8], palette: NDArray[np.uint8]) -> Image:
    """Return (H, W, 3) colours of (H, W) class ids by a (256, 3) palette (`LabelSet.palette`)."""
    return np.asarray(cv2.applyColorMap(np.ascontiguousarray(labels), palette.reshape(256, 1, 3)), np.uint8)


def overlay(image: Image, labels: NDArray[np.uint8], palette: NDArray[np.uint8], alpha: float) -> Image:
    """Blend class colours over the image.

    Args:
        image: (H, W, 3).
        labels: (H, W) class ids.
        palette: (256, 3); an id whose colour is black (255, and every id without a class) leaves the image as it is.
        alpha: opacity of the colours, 0..1.

    Raises:
        InputError: image and labels differ in size.
    """
    _require_size("labels", labels, image)
    weight = np.where(palette.any(1), round(256 * alpha), 0)  # of the colour, in 1/256
    shift = (palette.astype(np.int32) * weight[:, None] + 128).astype(np.uint16)
    blended = np.empty_like(image)
    _blend(np.ascontiguousarray(image), labels, (256 - weight).astype(np.uint16), shift, blended)
    return blended


@njit(cache=True, nogil=True)
def _blend(image, labels, keep, shift, blended):  # type: ignore[no-untyped-def]
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            label = labels[y, x]
            for c in range(3):
                blended[y, x, c] = (np.uint32(image[y, x, c]) * keep[label] + shift[label, c]) >> np.uint32(8)


def depth_overlay(image: Image, depth_m: NDArray[np.float32], max_range_m: float) -> Image:
    """Paint depth over the image, near red to far blue, each point as a square that a person can see.

    Args:
        image: (H, W, 3).
        depth_m: (H, W) metres, NaN where empty.
        max_range_m: depth that is darkest blue; the scale is a square root, so that near things differ more.

    Raises:
        InputError: image and depth differ in size.
    """
    _require_size("depth", depth_m, image)
    side = 1 + 2 * max(1, round(image.shape[1] / 1000))
    filled = np.where(np.isnan(depth_m), np.float32(np.inf), depth_m).astype(np.float32)
    square = np.ones((side, side), np.uint8)
    near = cv2.erode(filled, square, borderType=cv2.BORDER_REPLICATE)  # the nearest point of the square wins
    known = np.isfinite(near)
    level = np.where(known, 255 * (1 - np.sqrt(np.clip(near / max_range_m, 0, 1))), 0).astype(np.uint8)
    colors = cv2.applyColorMap(level, cv2.COLORMAP_TURBO)[:, :, ::-1]
    return np.asarray(np.where(known[:, :, None], colors, image), np.uint8)


def gray(values: NDArray[np.generic], low: float = 0.0, high: float = 1.0) -> Image:
    """Return an (H, W) array as a grey picture, ``low`` black and ``high`` white, what is not finite black."""
    levels = np.nan_to_num(np.asarray(values, np.float32), nan=low, posinf=high, neginf=low)
    scaled = np.clip((levels - low) / max(high - low, 1e-12), 0, 1)
    return np.repeat(np.rint(255 * scaled).astype(np.uint8)[:, :, None], 3, axis=2)


def legend(labels: LabelSet, width: int) -> Image:
    """Return a strip of ``width`` pixels with a swatch and the name of every class, in as many rows as needed."""
    unit = _unit(width)
    row, swatch, gap, scale = round(22 * unit), round(14 * unit), round(6 * unit), 0.45 * unit
    places, x, y = [], 6, 0
    for name in labels.names:
        step = swatch + gap + _text_width(name, scale) + round(14 * unit)
        if x + step > width and x > 6:
            x, y = 6, y + row
        places.append((x, y))
        x += step
    strip = np.full((y + row, width, 3), _PAPER, np.uint8)
    for name, color, (left, top) in zip(labels.names, labels.colors, places, strict=True):
        corner = (left, top + (row - swatch) // 2)
        cv2.rectangle(strip, corner, (corner[0] + swatch, corner[1] + swatch), color.tolist(), cv2.FILLED)
        cv2.rectangle(strip, corner, (corner[0] + swatch, corner[1] + swatch), _TEXT, 1)
        _write(strip, name, (left + swatch + gap, top + row - gap), scale)
    return strip


def contact_sheet(images: Sequence[Image], captions: Sequence[str], columns: int) -> Image:
    """Return the images in a grid, a caption above each.

    Every cell has the first image's size; other images are fitted into it, their aspect kept.

    Args:
        images: at least one.
        captions: one for each image.
        columns: images in a row.

    Raises:
        InputError: no image, or another number of captions.
    """
    if not images or len(images) != len(captions):
        raise InputError(
            "contact sheet",
            expected="at least one image and a caption for each",
            got=f"{len(images)} images and {len(captions)} captions",
            remedy="pass lists of the same length",
        )
    height, width = images[0].shape[:2]
    columns = max(1, min(columns, len(images)))
    unit = _unit(columns * width)
    cells = [
        _captioned(_fit(image, height, width), caption, unit) for image, caption in zip(images, captions, strict=True)
    ]
    cells += [np.full_like(cells[0], _PAPER[0])] * (-len(cells) % columns)
    return np.vstack([np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)])


def _require_size(what: str, array: NDArray[np.generic], image: Image) -> None:
    if array.shape != image.shape[:2]:
        raise InputError(
            what, expected=f"the image's size {image.shape[:2]}", got=str(array.shape), remedy="resize one to the other"
        )


def _fit(image: Image, height: int, width: int) -> Image:
    if image.shape[:2] == (height, width):
        return image
    scale = min(height / image.shape[0], width / image.shape[1])
    small = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    resized = cv2.resize(image, small, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    cell = np.full((height, width, 3), _PAPER, np.uint8)
    top, left = (height - small[1]) // 2, (width - small[0]) // 2
    cell[top : top + small[1], left : left + small[0]] = resized
    return cell


def _unit(width: int) -> float:
    """By how much text grows on a picture of that width: pages show wide ones reduced."""
    return max(1.0, width / 1100)


def _captioned(image: Image, caption: str, unit: float) -> Image:
    bar = np.full((round(24 * unit), image.shape[1], 3), _PAPER, np.uint8)
    scale = 0.5 * unit
    for _ in range(3):  # the width of a text is not quite proportional to its scale
        scale *= min(1.0, (image.shape[1] - 12) / max(1, _text_width(caption, scale)))
    _write(bar, caption, (6, round(17 * unit)), max(scale, 0.25))
    return np.vstack([bar, image])


def _text_width(text: str, scale: float) -> int:
    return int(cv2.getTextSize(text, _FONT, scale, 1)[0][0])


def _write(image: Image, text: str, baseline: tuple[int, int], scale: float) -> None:
    cv2.putText(image, text, baseline, _FONT, scale, _TEXT, 1, cv2.LINE_AA)
