"""Speed, as ratios measured in one run: ours against a peer that does the same, and against a limit that nobody beats.

Every row repeats ours, peer and limit in turn and reports medians, so that a machine that slows down slows all three.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from samseg_ros import drawing
from samseg_ros.config import Config
from samseg_ros.errors import SamsegError, nearest
from samseg_ros.evaluation.benchmark_models import ad_sam, end_to_end, model, scoring
from samseg_ros.evaluation.benchmark_row import Row, Timing, clock, timed
from samseg_ros.posterior import posterior
from samseg_ros.sensing.modalities import IMAGENET_MEAN, IMAGENET_STD, rgb
from samseg_ros.sensing.projection import project
from samseg_ros.types import Camera, Frame, PointCloud

FULL_HD = (1080, 1920)


def projection() -> Row:
    """130,000 points of a spinning LiDAR onto a 1080p image."""
    rng = np.random.default_rng(0)
    azimuth, elevation = rng.uniform(-np.pi, np.pi, 130_000), rng.uniform(-0.4, 0.1, 130_000)
    reach = rng.uniform(3, 70, 130_000)
    ray = np.stack([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], 1)
    cloud = PointCloud((ray * reach[:, None]).astype(np.float32), rng.random(130_000).astype(np.float32))
    camera = _full_hd_camera()
    pose = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    config = Config().projection.model_copy(update={"occlusion": False, "dilation_px": 1})
    buffer = np.empty_like(cloud.xyz)
    return Row(
        "LiDAR → image, 130k points to 1080p",
        "cv2.projectPoints + lexsort",
        "copy of the points",
        "≥ 20×",
        lambda: project(cloud, camera, pose, FULL_HD, config),
        lambda: _project_by_opencv(cloud, camera, pose),
        timed(lambda: np.copyto(buffer, cloud.xyz)),
    )


def _full_hd_camera() -> Camera:
    k = np.array([[1100.0, 0, 960], [0, 1100.0, 540], [0, 0, 1]])
    return Camera(FULL_HD[1], FULL_HD[0], k)


def _project_by_opencv(cloud: PointCloud, camera: Camera, pose: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the same three channels the usual way: project everything, sort by pixel and depth, keep the first."""
    xyz = cloud.xyz.astype(np.float64)
    optical = xyz @ pose[:3, :3].T + pose[:3, 3]
    uv, _ = cv2.projectPoints(xyz, cv2.Rodrigues(pose[:3, :3])[0], pose[:3, 3], camera.k, camera.distortion)
    cell = np.floor(uv[:, 0] + 0.5).astype(np.int64)
    inside = (optical[:, 2] > 0.1) & (cell >= 0).all(1) & (cell[:, 0] < camera.width) & (cell[:, 1] < camera.height)
    flat, depth = cell[inside, 1] * camera.width + cell[inside, 0], optical[inside, 2]
    order = np.lexsort((depth, flat))
    _, first = np.unique(flat[order], return_index=True)
    chosen = order[first]
    channels = np.zeros((3, camera.height * camera.width), np.float32)
    reach = np.linalg.norm(optical[inside][chosen], axis=1)
    intensity = np.zeros(len(xyz)) if cloud.intensity is None else cloud.intensity
    channels[:, flat[chosen]] = reach / 80, np.clip(-optical[inside][chosen, 1] / 3, -1, 1), intensity[inside][chosen]
    return channels.reshape(3, camera.height, camera.width)


def preparation() -> Row:
    """A 1080p image to a normalised 1024-pixel-wide tensor."""
    from segment_anything.utils.transforms import ResizeLongestSide

    image = np.random.default_rng(0).integers(0, 256, (*FULL_HD, 3), np.uint8)
    frame, size, config = Frame(image), (576, 1024), Config()
    resize = ResizeLongestSide(1024)
    mean, std = (
        torch.from_numpy(IMAGENET_MEAN * 255)[:, None, None],
        torch.from_numpy(IMAGENET_STD * 255)[:, None, None],
    )

    def peer() -> object:
        return (torch.as_tensor(resize.apply_image(image)).permute(2, 0, 1).contiguous().float() - mean) / std

    return Row(
        "image preparation, 1080p → 1024",
        "SAM's ResizeLongestSide + normalise",
        "cv2.resize alone",
        "≥ 10×",
        lambda: rgb(frame, size, config),
        peer,
        timed(lambda: cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)),
    )


def labels_and_confidence() -> Row:
    """Posterior at camera size: 25 classes, 1080p, from logits at a quarter of 1024."""
    scores = np.random.default_rng(0).normal(size=(25, 9, 16)).astype(np.float32) * 3
    smooth = torch.nn.functional.interpolate(torch.from_numpy(scores)[None], (144, 256), mode="bicubic")[0]
    logits = np.ascontiguousarray(smooth.numpy())
    written = np.empty((*FULL_HD, 2), np.uint8)

    def peer() -> object:
        with torch.inference_mode():
            wide = F.interpolate(torch.from_numpy(logits)[None], FULL_HD, mode="bilinear", align_corners=False)
            best, index = wide.softmax(1).max(1)
            return index.to(torch.uint8).numpy(), (best * 255).round().to(torch.uint8).numpy()

    def limit() -> object:
        written.fill(1)
        return logits.sum()

    return Row(
        "labels + confidence at camera size, 25 classes, 1080p",
        "torch interpolate + softmax + max",
        "read the logits, write the outputs",
        "≥ 5×",
        lambda: posterior(logits, FULL_HD, 0.0),
        peer,
        timed(limit),
    )


def overlay() -> Row:
    """Class colours over a 1080p image."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*FULL_HD, 3), np.uint8)
    labels = np.repeat(np.repeat(rng.integers(0, 19, (20, 30), np.uint8), 54, axis=0), 64, axis=1)
    palette = rng.integers(0, 256, (256, 3), np.uint8)
    buffer = np.empty_like(image)

    def peer() -> object:
        blended = image.copy()
        for index in range(19):
            chosen = labels == index
            blended[chosen] = (0.45 * image[chosen] + 0.55 * palette[index]).astype(np.uint8)
        return blended

    return Row(
        "overlay, 1080p, 19 classes",
        "one boolean mask a class",
        "memcpy of the image",
        "≥ 50×",
        lambda: drawing.overlay(image, labels, palette, 0.55),
        peer,
        timed(lambda: np.copyto(buffer, image)),
    )


ROWS: Mapping[str, Callable[[], Row]] = {
    "projection": projection,
    "preparation": preparation,
    "posterior": labels_and_confidence,
    "overlay": overlay,
    "model": model,
    "end_to_end": end_to_end,
    "ad_sam": ad_sam,
    "scoring": scoring,
}


def run(
    names: Sequence[str] = (), repeats: int = 15, progress: Callable[[int, int], None] | None = None
) -> list[Timing]:
    """Measure rows (all by default): ours, peer and limit in turn, ``repeats`` times after one warm-up; medians.

    Args:
        progress: called with (rows done, rows in all).

    Raises:
        SamsegError: no such row.
    """
    chosen = tuple(names) or tuple(ROWS)
    for name in chosen:
        if name not in ROWS:
            raise SamsegError(f"no benchmark row {name!r}; {nearest(name, ROWS)}")
    timings = []
    for done, name in enumerate(chosen):
        row = ROWS[name]()
        turns = [(clock(row.ours_work), clock(row.peer_work), row.limit_ms()) for _ in range(repeats + 1)][1:]
        ours, peer, limit = (statistics.median(column) for column in zip(*turns, strict=True))
        timings.append(Timing(name, row, ours, peer, limit))
        if progress:
            progress(done + 1, len(chosen))
    return timings
