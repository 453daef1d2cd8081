"""The records that cross stages: what a sensor set is, and what a segmentation is.

Frames follow REP-103: a *camera optical* frame has x right, y down, z forward; a sensor or vehicle frame has
x forward, y left, z up. Lengths are metres, stamps are integer nanoseconds, transforms are named
``target_from_source`` and map a column vector of the source frame into the target frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from samseg_ros.errors import InputError

UNLABELLED = 255
"""Class id of a pixel that carries no label (both in ground truth and in published masks)."""

DISTORTION_COEFFICIENTS: Mapping[str, tuple[int, ...]] = {
    "plumb_bob": (4, 5),
    "rational_polynomial": (8,),
    "equidistant": (4,),
}
"""Distortion models of sensor_msgs/CameraInfo that we handle, with the numbers of coefficients each may have."""
EXTREME = 10_000
"""No focal length is so many times longer or shorter than the image's longer side, no centre so far away."""


@dataclass(frozen=True, eq=False, slots=True)
class Camera:
    """Intrinsics of one camera, as sensor_msgs/CameraInfo gives them.

    Raises:
        InputError: no camera matrix, or a focal length that no lens has at that image size; an unknown distortion
            model, or the wrong number of coefficients for it.
    """

    width: int
    """Image width in pixels."""
    height: int
    """Image height in pixels."""
    k: NDArray[np.float64]
    """(3, 3) camera matrix, pixels. The centre of the top-left pixel is (0, 0), as in OpenCV."""
    distortion_model: str = "plumb_bob"
    distortion: NDArray[np.float64] = field(default_factory=lambda: np.zeros(5))
    """(n,) coefficients in the order of OpenCV; all zero for a rectified image."""
    frame_id: str = ""
    """Optical frame."""

    def __post_init__(self) -> None:
        if not self._is_pinhole():
            raise InputError(
                "camera matrix",
                expected=f"[[fx, s, cx], [0, fy, cy], [0, 0, 1]] in pixels, fx and fy from 1/{EXTREME} to {EXTREME} "
                f"times the image's longer side ({self.width}x{self.height})",
                got=f"shape {self.k.shape}: {self.k.ravel().tolist()}",
                remedy="calibrate the camera and publish its camera_info",
            )
        counts = DISTORTION_COEFFICIENTS.get(self.distortion_model)
        if counts is None:
            raise InputError(
                "distortion model",
                expected=" | ".join(DISTORTION_COEFFICIENTS),
                got=repr(self.distortion_model),
                remedy="rectify the image (image_proc) and publish its rectified camera_info",
            )
        if self.distortion.shape[0] not in (*counts, 0):
            raise InputError(
                f"{self.distortion_model} distortion",
                expected=f"{' or '.join(map(str, counts))} coefficients",
                got=str(self.distortion.shape[0]),
                remedy="check D in camera_info",
            )

    def _is_pinhole(self) -> bool:
        if self.k.shape != (3, 3) or not np.isfinite(self.k).all():
            return False
        below_diagonal = np.array([self.k[1, 0], self.k[2, 0], self.k[2, 1], self.k[2, 2] - 1.0])
        side = max(self.width, self.height, 1)
        has_lens = min(self.k[0, 0], self.k[1, 1]) >= side / EXTREME and np.abs(self.k).max() <= side * EXTREME
        return bool(has_lens and (np.abs(below_diagonal) < 1e-6).all())

    @property
    def is_distorted(self) -> bool:
        """Whether any coefficient is non-zero."""
        return bool(np.any(self.distortion != 0))


@dataclass(frozen=True, eq=False, slots=True)
class PointCloud:
    """One LiDAR sweep in the sensor's own frame. NaN rows are allowed (they mean *no return*)."""

    xyz: NDArray[np.float32]
    """(N, 3) metres."""
    intensity: NDArray[np.float32] | None = None
    """(N,) in the sensor's own scale, or None where the sensor gives none."""
    frame_id: str = ""
    stamp_ns: int = 0
    deskewed: NDArray[np.float32] | None = None
    """(N, 3) metres, the same points as the sensor would have seen them had it stood still since stamp_ns; None where
    that is not known. They are what is projected; what is published are the points as measured."""


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """One synchronised sensor set. The camera image is the reference: everything else may be missing (None)."""

    image: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    stamp_ns: int = 0
    """Stamp of the camera image."""
    frame_id: str = ""
    """Optical frame of the camera image."""
    thermal: NDArray[np.generic] | None = None
    """(Ht, Wt) uint8, uint16 (raw counts) or float32; without a camera of its own (below) aligned to the camera image
    (same field of view)."""
    points: PointCloud | None = None
    camera: Camera | None = None
    """Needed only to project the LiDAR or to register the thermal image."""
    camera_from_lidar: NDArray[np.float64] | None = None
    """(4, 4) maps LiDAR points into the camera's optical frame, metres."""
    thermal_camera: Camera | None = None
    """Of a thermal image that has a view of its own and still has to be registered; given with camera_from_thermal."""
    camera_from_thermal: NDArray[np.float64] | None = None
    """(4, 4) maps points of the thermal camera's optical frame into the camera's, metres."""
    images: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    """Modality to a picture (H, W, 3) that came ready-made, aligned to the camera image, as datasets deliver LiDAR,
    depth (HHA) and events: uint8 (the network sees it / 255) or float32 (it sees it as it is)."""

    @property
    def size(self) -> tuple[int, int]:
        """Camera (height, width) in pixels."""
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True, eq=False, slots=True)
class Segmentation:
    """What the pipeline says about one frame, at camera size."""

    labels: NDArray[np.uint8]
    """(H, W) class ids, 255 = unlabelled."""
    confidence: NDArray[np.uint8]
    """(H, W) round(255 * max posterior)."""
    logits: NDArray[np.float32]
    """(K, h, w) class scores at the network's output stride, from which everything lazy is computed."""
    pixel_share: NDArray[np.float64]
    """(K,) share of the labelled pixels that carry each class; sums to 1 (0 where nothing is labelled)."""
    mean_posterior: NDArray[np.float64]
    """(K,) mean of the max posterior over the pixels that carry the class, NaN for a class that is absent."""
    stamp_ns: int = 0
    frame_id: str = ""
    sensors: tuple[str, ...] = ("rgb",)
    """Modalities that were fused."""
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    """Milliseconds per stage: prepare, model, posterior."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """Modalities that were there but could not be used, and why."""
    published_from_model: NDArray[np.float32] | None = None
    """(P, K) 1 where the k-th class of the logits is published as class p (labels.remap_path); labels, pixel_share and
    mean_posterior are then of the P classes, confidence and logits of the model's own. None: they are the same."""
    fused: NDArray[np.uint8] | None = None
    """(H, W, 3) RGB, the picture that the network made of its sensors; None unless asked for and made."""
