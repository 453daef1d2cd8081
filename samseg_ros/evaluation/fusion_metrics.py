"""What is commonly measured of a fused picture. There is no true one to hold it against: compare models, not tasks.

All on grey pictures (ITU-R BT.601 luma) with levels 0..255, at the camera's size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import scipy.stats
from numpy.typing import NDArray

NAMES: Mapping[str, str] = {
    "entropy_bits": "entropy (bits)",
    "spatial_frequency": "spatial frequency",
    "ssim_camera": "SSIM with camera",
    "ssim_thermal": "SSIM with thermal",
    "vif_camera": "VIF of camera",
    "vif_thermal": "VIF of thermal",
}
"""Key in metrics.json → what people read; every metric that there is."""
SSIM_WINDOW = 11
"""Taps of SSIM's Gaussian; its sigma is 1.5."""
VIF_SMALLEST_SIDE = 41
"""Of torchmetrics: four scales of shrinking windows have to fit."""


def fusion_metrics(
    fused: NDArray[np.uint8], camera: NDArray[np.uint8], thermal: NDArray[np.uint8] | None
) -> dict[str, float]:
    """Measure one fused picture.

    Args:
        fused: (H, W, 3) RGB.
        camera: (H, W, 3) RGB.
        thermal: (H, W, 3) grey, as the model saw it; None where it had none.

    Returns:
        Keys of `NAMES` to values, without those that cannot be had: VIF without torchmetrics, on images with a side
        below 41 or of a flat source; anything with a thermal image that is missing.
    """
    picture = _gray(fused)
    values = {"entropy_bits": entropy(picture), "spatial_frequency": spatial_frequency(picture)}
    for name, image in (("camera", camera), ("thermal", thermal)):
        if image is None:
            continue
        source = _gray(image)
        values[f"ssim_{name}"] = structural_similarity(picture, source)
        fidelity = information_fidelity(picture, source)
        if fidelity is not None:
            values[f"vif_{name}"] = fidelity
    return values


def mean_metrics(frames: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each metric over the frames that have it, after ``frames`` and ``thermal_frames``."""
    known = {name: [frame[name] for frame in frames if name in frame] for name in NAMES}
    means = {name: float(np.mean(values)) for name, values in known.items() if values}
    return {"frames": len(frames), "thermal_frames": len(known["ssim_thermal"]), **means}


def named(means: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return what `mean_metrics` gave as names and numbers for people, in the order of `NAMES`."""
    return [(name, f"{means[key]:.3f}") for key, name in NAMES.items() if key in means]


def entropy(gray: NDArray[np.uint8]) -> float:
    """Return the Shannon entropy of the histogram of (H, W) levels, bits: 0 where flat, 8 where all are as frequent.

    Source: Roberts, van Aardt, Ahmed, *Assessment of image fusion procedures using entropy, image quality, and
    multispectral classification*, J. Appl. Remote Sens. 2, 2008.
    """
    return float(scipy.stats.entropy(np.bincount(gray.ravel(), minlength=256), base=2))


def spatial_frequency(gray: NDArray[np.uint8]) -> float:
    """Return sqrt(RF² + CF²) of (H, W) levels: the activity along rows and columns.

    RF² is the sum of the squared differences of neighbours in a row over the number of pixels H W, CF² of those in a
    column. Source: Eskicioglu, Fisher, *Image quality measures and their performance*, IEEE Trans. Commun. 43, 1995.
    """
    levels = gray.astype(np.float64)
    squares = (np.diff(levels, axis=1) ** 2).sum() + (np.diff(levels, axis=0) ** 2).sum()
    return math.sqrt(squares / gray.size)


def structural_similarity(fused: NDArray[np.uint8], source: NDArray[np.uint8]) -> float:
    """Return the mean SSIM of two (H, W) pictures: 1 where equal, and as computed by kornia.

    Source: Wang, Bovik, Sheikh, Simoncelli, *Image quality assessment: from error visibility to structural
    similarity*, IEEE Trans. Image Process. 13, 2004.
    """
    import torch  # not before it is needed: a live replay without a fused picture does without
    from kornia.metrics import ssim

    with torch.inference_mode():
        a, b = (torch.from_numpy(image)[None, None].double() for image in (fused, source))
        return float(ssim(a, b, SSIM_WINDOW, max_val=255.0).mean())


def information_fidelity(fused: NDArray[np.uint8], source: NDArray[np.uint8]) -> float | None:
    """Return VIF (pixel domain): the share of the source's information that the fused picture holds, (H, W) each.

    0 for nothing, 1 for all; more than 1 where it shows the source with more contrast. Source: Sheikh, Bovik, *Image
    information and visual quality*, IEEE Trans. Image Process. 15, 2006; as computed by torchmetrics.

    Returns:
        None where torchmetrics is not installed, a side is below 41, or the source is flat and holds no information.
    """
    if min(source.shape) < VIF_SMALLEST_SIDE or np.ptp(source) == 0:  # in float32 a flat source seems to hold some
        return None
    try:
        from torchmetrics.functional.image import visual_information_fidelity
    except ImportError:
        return None
    import torch

    with torch.inference_mode():  # float64 would take twenty times as long on a CPU and change the sixth digit
        a, b = (torch.from_numpy(image)[None, None].float() for image in (fused, source))
        fidelity = float(visual_information_fidelity(a, b))
    return fidelity if math.isfinite(fidelity) else None


def _gray(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    gray: NDArray[np.uint8] = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    return gray
