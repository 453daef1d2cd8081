"""Augmentation: geometry the same for every sensor, light and noise for each sensor on its own.

All of it depends on a seed alone; no global random state is read or moved. Light is drawn on 8-bit levels (look-up
tables, one colour matrix), so that a sample costs two or three milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from samseg_ros.sensing.modalities import IMAGENET_MEAN, IMAGENET_STD
from samseg_ros.types import UNLABELLED

Planes = dict[str, NDArray[Any]]
"""One sample: "rgb" (H, W, 3) uint8, "thermal" (H, W, 1) uint8, "lidar", "depth" and "event" (H, W, 3) float16 or
float32 as the network sees them, "labels" (H, W, 1) uint8. A sensor that the sample lacks is not in it."""

NEAREST = ("labels", "lidar")
"""Planes whose values must not be mixed: ids, and single points among nothing."""
FILL: dict[str, tuple[float, ...]] = {
    "rgb": tuple(float(level) for level in np.round(255 * IMAGENET_MEAN)),
    "labels": (UNLABELLED,),
}
"""What stands where there is no image; 0 for sensors that are not named."""
CROP_TRIES = 10
Share = Annotated[float, Field(ge=0, le=1)]


class AugmentationSettings(BaseModel):
    """What is done to training samples; by default they are mirrored only."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    resize: tuple[float, float] = Field((1.0, 1.0), description="Range of the scale, relative to the stored size.")
    category_max: float = Field(
        1.0, gt=0, le=1, description="Largest share of one class in a crop, tried ten times; 1: any."
    )
    flip: Share = Field(0.5, description="Probability of mirroring left and right.")
    rotation: float = Field(0.0, ge=0, le=180, description="Largest angle by which a crop is turned, degrees.")
    blur: Share = Field(0.0, description="Probability of a 3x3 Gaussian blur (RGB only).")
    photometric: Share = Field(
        0.0,
        description="Strength of the papers' photometric distortion (RGB only); 1: brightness 32 of 255, contrast and "
        "saturation 0.5 to 1.5, hue 18 of 180, each with probability 0.5.",
    )
    color_jitter: Share = Field(
        0.0,
        description="Strength of a milder change of light, in every sample (RGB only); 1: exposure 0.75 to 1.3, colour "
        "balance 0.92 to 1.08, contrast 0.75 to 1.25, saturation 0.5 to 1.4.",
    )
    tone: Share = Field(
        0.0,
        description="Strength of another camera's tone curve, in every sample (RGB only); 1: up to 5 % of all "
        "channels' levels become black and 10 % white, gamma 0.6 to 1.7 between them.",
    )
    shade: Share = Field(
        0.0,
        description="Probability that a part of a sample (a polygon with a soft edge) keeps 25 to 75 % of its light "
        "(RGB only): what is known by being bright has to be known by itself.",
    )
    thermal_jitter: Share = Field(0.0, description="Strength; 1: gain 0.8 to 1.2, offset 25 of 255.")
    lidar_thinning: Share = Field(0.0, description="Probability that 5 to 60 % of the LiDAR image is lost.")
    class_mix: Share = Field(
        0.0,
        description="Probability that half of another sample's classes are pasted over a sample (ClassMix, Olsson et "
        "al. 2021): what is known by what stands around it has to be known by itself.",
    )
    sensor_dropout: float = Field(
        0.0, ge=0, lt=1, description="Probability that a sample loses an auxiliary sensor, each on its own."
    )

    @model_validator(mode="after")
    def _resize_is_a_range(self) -> AugmentationSettings:
        if not 0 < self.resize[0] <= self.resize[1]:
            raise ValueError(f"expected resize as (low, high) with 0 < low <= high, got {self.resize}")
        return self


@dataclass(frozen=True, slots=True)
class _Window:
    """The part of a stored image (pixels) that is cut out, and the (h, w) that it is brought to."""

    top: int
    left: int
    height: int
    width: int
    target: tuple[int, int]


def augment(planes: Planes, crop: tuple[int, int], settings: AugmentationSettings, seed: int) -> Planes:
    """Return a crop of a sample, the same for every plane, with light and noise drawn for each sensor.

    The window is chosen first and only it is resized: labels and LiDAR by the nearest pixel, the others bilinear with
    antialiasing. Where the scaled image is smaller than the crop, it stands in the upper left corner. Around it, and in
    the corners of a turned crop, labels are 255, RGB is ImageNet's mean and other sensors see nothing.

    Args:
        planes: of any size, all alike; not changed.
        crop: (h, w) of every plane that is returned.
        settings: what is drawn; ``sensor_dropout`` is `present_flags`' business.
        seed: everything depends on it and on nothing else.
    """
    rng = np.random.default_rng(seed)
    window = _choose_window(planes["labels"], crop, settings, rng)
    mirrored, angle = rng.random() < settings.flip, rng.uniform(-1, 1) * settings.rotation
    parts = {name: _cut(name, plane, window) for name, plane in planes.items()}
    if "rgb" in parts:
        parts["rgb"] = _light(parts["rgb"], settings, rng)
    if "thermal" in parts and settings.thermal_jitter:
        parts["thermal"] = _jitter_thermal(parts["thermal"], settings.thermal_jitter, rng)
    if "lidar" in parts and rng.random() < settings.lidar_thinning:
        parts["lidar"] = parts["lidar"] * (rng.random((*window.target, 1)) >= rng.uniform(0.05, 0.6))
    return {name: _place(name, part, crop, mirrored, angle) for name, part in parts.items()}


def mix_classes(planes: Planes, donor: Planes, seed: int) -> Planes:
    """Return a sample with half of the donor's classes (rounded up) pasted over it, in every plane and in the labels.

    Args:
        planes: an augmented sample; not changed.
        donor: another one of the same crop; where it lacks a sensor of the first, or has one more, nothing is pasted.
        seed: everything depends on it and on nothing else.

    Source: *ClassMix*, Olsson et al., WACV 2021, with true labels.
    """
    if planes.keys() != donor.keys():
        return planes
    ids = np.unique(donor["labels"])
    ids = ids[ids != UNLABELLED]
    chosen = np.random.default_rng([seed, 2]).permutation(ids)[: (len(ids) + 1) // 2]  # apart from `augment`'s draws
    pasted = np.isin(donor["labels"], chosen)
    return {name: np.where(pasted, donor[name], plane) for name, plane in planes.items()}


def present_flags(modalities: tuple[str, ...], settings: AugmentationSettings, seed: int) -> dict[str, bool]:
    """Return which auxiliary sensors (all but "rgb") a sample keeps."""
    rng = np.random.default_rng([seed, 1])  # apart from what `augment` draws
    return {name: bool(rng.random() >= settings.sensor_dropout) for name in modalities if name != "rgb"}


def to_tensors(planes: Planes) -> dict[str, Tensor]:
    """Return planes as the network wants them.

    Returns:
        "rgb" with ImageNet's mean and deviation, "thermal" 0..1 repeated to three channels, other sensors as they are:
        (3, H, W) float32; "labels" (H, W) int64.
    """
    return {name: _to_tensor(name, plane) for name, plane in planes.items()}


def _to_tensor(name: str, plane: NDArray[Any]) -> Tensor:
    if name == "labels":
        return torch.from_numpy(plane[..., 0].astype(np.int64))
    if name == "rgb":
        image = torch.from_numpy(np.array(plane)).permute(2, 0, 1).contiguous()
        scaled = F.to_dtype(image, torch.float32, scale=True)
        normalized: Tensor = F.normalize(scaled, IMAGENET_MEAN.tolist(), IMAGENET_STD.tolist(), inplace=True)
        return normalized
    values = plane.astype(np.float32) / np.float32(255) if name == "thermal" else plane.astype(np.float32)
    return torch.from_numpy(values).permute(2, 0, 1).expand(3, -1, -1).contiguous()


def _choose_window(
    labels: NDArray[np.uint8], crop: tuple[int, int], settings: AugmentationSettings, rng: np.random.Generator
) -> _Window:
    """Draw a scale and a place; the place again, ten times at most, while one class has too large a share."""
    scale = rng.uniform(*settings.resize)
    height, rows = _extent(labels.shape[0], crop[0], scale)
    width, columns = _extent(labels.shape[1], crop[1], scale)
    for _ in range(CROP_TRIES):
        top = int(rng.integers(labels.shape[0] - height + 1))
        left = int(rng.integers(labels.shape[1] - width + 1))
        if settings.category_max == 1:
            break
        if _largest_share(labels[top : top + height, left : left + width]) < settings.category_max:
            break
    return _Window(top, left, height, width, (rows, columns))


def _extent(size: int, crop: int, scale: float) -> tuple[int, int]:
    """Return how many stored pixels are cut out along an axis, and how many they become."""
    needed = max(1, round(crop / scale))
    return (needed, crop) if needed <= size else (size, min(crop, max(1, round(size * scale))))


def _largest_share(labels: NDArray[np.uint8]) -> float:
    """Share of the commonest class among labelled pixels (every second row and column); 1 where nothing is labelled."""
    counts = np.bincount(labels[::2, ::2].ravel(), minlength=UNLABELLED + 1)[:UNLABELLED]
    return float(counts.max() / counts.sum()) if counts.any() else 1.0


def _cut(name: str, plane: NDArray[Any], window: _Window) -> NDArray[Any]:
    part = plane[window.top : window.top + window.height, window.left : window.left + window.width]
    part = np.array(part, np.float32 if part.dtype == np.float16 else part.dtype)
    if part.shape[:2] == window.target:
        return part
    how = InterpolationMode.NEAREST_EXACT if name in NEAREST else InterpolationMode.BILINEAR
    image = torch.from_numpy(part).permute(2, 0, 1)
    resized = F.resize(image, list(window.target), how, antialias=name not in NEAREST)
    return np.ascontiguousarray(resized.permute(1, 2, 0).numpy())


def _place(name: str, part: NDArray[Any], crop: tuple[int, int], mirrored: bool, angle: float) -> NDArray[Any]:
    """Mirror, pad to the crop and turn about its centre."""
    fill, channels = FILL.get(name, (0.0,) * part.shape[2]), part.shape[2]
    if mirrored:
        part = cv2.flip(part, 1)
    if part.shape[:2] != crop:
        below, beside = crop[0] - part.shape[0], crop[1] - part.shape[1]
        part = cv2.copyMakeBorder(part, 0, below, 0, beside, cv2.BORDER_CONSTANT, value=fill)
    if angle:
        turn = cv2.getRotationMatrix2D(((crop[1] - 1) / 2, (crop[0] - 1) / 2), angle, 1.0)
        how = cv2.INTER_NEAREST if name in NEAREST else cv2.INTER_LINEAR
        part = cv2.warpAffine(part, turn, crop[::-1], flags=how, borderValue=fill)
    return part.reshape(*crop, channels)  # OpenCV drops the axis of a single channel


def _light(rgb: NDArray[np.uint8], settings: AugmentationSettings, rng: np.random.Generator) -> NDArray[np.uint8]:
    if rng.random() < settings.blur:
        rgb = _levels(cv2.GaussianBlur(rgb, (3, 3), 0))
    if settings.photometric:
        rgb = _distort(rgb, settings.photometric, rng)
    if settings.color_jitter:
        rgb = _jitter_colors(rgb, settings.color_jitter, rng)
    if settings.shade and rng.random() < settings.shade:
        rgb = _shade(rgb, rng)
    return _bend(rgb, settings.tone, rng) if settings.tone else rgb


def _distort(rgb: NDArray[np.uint8], strength: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change brightness, contrast, saturation and hue, each with probability 0.5; contrast before or after the colours.

    Source: the photometric distortion of SSD (Liu et al. 2016), without its exchange of channels.
    """
    drawn = [rng.uniform(-strength, strength) * (rng.random() < 0.5) for _ in range(4)]
    brightness, contrast, saturation, hue = 32 * drawn[0], 1 + 0.5 * drawn[1], 1 + 0.5 * drawn[2], 18 * drawn[3]
    contrast_first = rng.random() < 0.5
    rgb = _map_levels(rgb, contrast if contrast_first else 1.0, brightness * (contrast if contrast_first else 1.0))
    if saturation != 1 or hue:
        level = np.arange(256)
        tables = np.stack([(level + round(hue)) % 180, np.clip(np.round(level * saturation), 0, 255), level], 1)
        hsv = cv2.LUT(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV), tables.astype(np.uint8)[None])
        rgb = _levels(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))
    return rgb if contrast_first else _map_levels(rgb, contrast, 0.0)


def _jitter_colors(rgb: NDArray[np.uint8], strength: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change exposure, colour balance, contrast (about the mean) and saturation: one matrix on (r, g, b, 1)."""
    exposure = 1 + strength * rng.uniform(-0.25, 0.3)
    gains = exposure * (1 + strength * rng.uniform(-0.08, 0.08, 3))
    contrast, saturation = 1 + strength * rng.uniform(-0.25, 0.25), 1 + strength * rng.uniform(-0.5, 0.4)
    mean = float((gains * cv2.mean(rgb)[:3]).mean())
    mixing = saturation * np.eye(3) + (1 - saturation) / 3
    matrix = np.hstack([contrast * mixing * gains, np.full((3, 1), (1 - contrast) * mean)])
    return _levels(cv2.transform(rgb, matrix))


def _shade(rgb: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Take light from the convex hull of three to five points, some of them outside."""
    height, width = rgb.shape[:2]
    corners = rng.uniform(-0.25, 1.25, (int(rng.integers(3, 6)), 2)) * (width, height)
    light = np.ones((height, width), np.float32)
    cv2.fillConvexPoly(light, cv2.convexHull(corners.astype(np.int32)), rng.uniform(0.25, 0.75))
    soft = cv2.GaussianBlur(light, (0, 0), rng.uniform(0.5, 6))
    return _levels(np.round(rgb * soft[:, :, None]).astype(np.uint8))


def _bend(rgb: NDArray[np.uint8], strength: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Cut the picture's own levels off at both ends and bend what is between them: cameras differ most in this."""
    lowest, highest = np.percentile(rgb[::4, ::4], [5, 90])
    black, white = strength * rng.random() * lowest, 255 - strength * rng.random() * (255 - highest)
    gamma = 1.7 ** (strength * rng.uniform(-1, 1))
    black = min(black, white - 1)  # a picture may be white all over
    curve = np.clip((np.arange(256) - black) / (white - black), 0, 1) ** gamma
    return _levels(cv2.LUT(rgb, np.round(255 * curve).astype(np.uint8)))


def _jitter_thermal(thermal: NDArray[np.uint8], strength: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    gain, offset = 1 + strength * rng.uniform(-0.2, 0.2), strength * rng.uniform(-25, 25)
    return _map_levels(thermal, gain, offset).reshape(thermal.shape)


def _map_levels(image: NDArray[np.uint8], gain: float, offset: float) -> NDArray[np.uint8]:
    """Return gain * level + offset, rounded, within 0..255."""
    if gain == 1 and offset == 0:
        return image
    return _levels(cv2.LUT(image, np.clip(np.round(gain * np.arange(256) + offset), 0, 255).astype(np.uint8)))


def _levels(image: Any) -> NDArray[np.uint8]:
    """Say what OpenCV's stubs do not: these are 8-bit levels."""
    levels: NDArray[np.uint8] = image
    return levels
