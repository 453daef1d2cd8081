"""What one frame, or many, say about a model: counts that add up over frames, so that any split of the work agrees.

Everything that a report shows (IoU, boundary F, calibration, latency) is computed from these counts alone; see
`samseg_ros.evaluation.summary`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samseg_ros.datasets.labelled import Sample
from samseg_ros.errors import InputError, SamsegError
from samseg_ros.evaluation.boundary import boundary_counts
from samseg_ros.evaluation.calibration import calibration_counts
from samseg_ros.evaluation.metrics import Counts, Floats, confusions_by_part
from samseg_ros.labels import LabelSet
from samseg_ros.posterior import negative_log_likelihood

BANDS_M = (10.0, 20.0, 40.0)
"""Where one band of distance ends and the next begins, metres; beyond the last is a band too."""
BANDS = ("0-10 m", "10-20 m", "20-40 m", "over 40 m", "unknown")
"""Names of the bands; *unknown*: no depth at that pixel."""


@dataclass(frozen=True, eq=False, slots=True)
class Measures:
    """N frames of one model on one dataset, K classes. A dropped frame is a row of zeros, so rows pair up over models.

    Raises:
        InputError: the arrays are not of one N, or not of one K.
    """

    names: tuple[str, ...]
    """(N) as the dataset calls its samples."""
    conditions: tuple[str, ...]
    """(N) weather, light; empty where unknown, as the next two."""
    difficulties: tuple[str, ...]
    """(N) easy | hard."""
    sensors: tuple[str, ...]
    """(N) what was fused, as "rgb+thermal"."""
    dropped: NDArray[np.bool_]
    """(N,) no mask came."""
    latency_ms: Floats
    """(N,) from sensor set to mask; NaN where not measured."""
    bands: Counts
    """(N, len(BANDS), K, K + 1) confusion per band of distance, each as in `metrics`."""
    boundary: Counts
    """(N, K, 4) pixels: predicted boundary, those of them that match; true boundary, those of them that match."""
    calibration: Counts
    """(N, 256, 2) per level of confidence (of 255): pixels with a true and a predicted class, those that are right."""
    nll: Floats
    """(N, T) negative log likelihood of the true class in nats, summed over pixels, at T temperatures; T may be 0."""
    nll_pixels: Counts
    """(N,) pixels in those sums."""

    def __post_init__(self) -> None:
        frames, classes = len(self.names), self.boundary.shape[1]
        wanted = {
            "dropped": (frames,),
            "latency_ms": (frames,),
            "bands": (frames, len(BANDS), classes, classes + 1),
            "boundary": (frames, classes, 4),
            "calibration": (frames, 256, 2),
            "nll": (frames, self.nll.shape[-1]),
            "nll_pixels": (frames,),
        }
        for name in ("conditions", "difficulties", "sensors"):
            if len(getattr(self, name)) != frames:
                raise _misfit(name, (frames,), (len(getattr(self, name)),))
        for name, shape in wanted.items():
            if getattr(self, name).shape != shape:
                raise _misfit(name, shape, getattr(self, name).shape)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def classes(self) -> int:
        """K."""
        return int(self.boundary.shape[1])

    @property
    def confusions(self) -> Counts:
        """(N, K, K + 1) confusion of each frame, whatever the distance."""
        total: Counts = self.bands.sum(1)
        return total


@dataclass(frozen=True, eq=False, slots=True)
class Scored:
    """One model on one dataset, under one stress."""

    model: str
    dataset: str
    sensors: str
    """What it was given of each frame, as "rgb+thermal"; empty: everything."""
    corruption: str
    """Empty: none."""
    severity: int
    """1 to 5; 0: no corruption."""
    measures: Measures
    labels: LabelSet


@dataclass(frozen=True, eq=False, slots=True)
class Prediction:
    """What a model, or a recording of one, says about a frame."""

    labels: NDArray[np.uint8]
    """(H, W) class ids of the dataset's label set, at camera size; 255 = unlabelled."""
    confidence: NDArray[np.uint8] | None = None
    """(H, W) round(255 * max posterior); None: not told."""
    sensors: str = ""
    """What was fused, as "rgb+thermal"; empty: not told."""
    latency_ms: float = np.nan
    logits: NDArray[np.float32] | None = None
    """(K, h, w) class scores; None: not at hand, or of other classes than the labels."""


def measure(
    prediction: Prediction | None,
    truth: NDArray[np.uint8],
    sample: Sample,
    classes: int,
    depth_m: NDArray[np.float32] | None = None,
    temperatures: Sequence[float] = (),
) -> Measures:
    """Measure one frame.

    Args:
        prediction: None: the frame was dropped.
        truth: (H, W) class ids; 255 = not to be counted.
        sample: what is known of the frame.
        classes: K.
        depth_m: (H, W) metres, NaN where unknown; None: nowhere known.
        temperatures: (T,) at which the likelihood of the truth is measured; a prediction without scores has none.

    Returns:
        Measures of N = 1.

    Raises:
        InputError: sizes differ, or an id is neither below K nor 255.
    """
    said = prediction or Prediction(np.zeros((0, 0), np.uint8))
    bands = np.zeros((len(BANDS), classes, classes + 1), np.int64)
    boundary, calibration = np.zeros((classes, 4), np.int64), np.zeros((256, 2), np.int64)
    nll, pixels = np.zeros(len(temperatures)), 0
    if prediction is not None:
        band = None if depth_m is None else bands_of(depth_m)
        bands = confusions_by_part(said.labels, truth, classes, band, len(BANDS))
        boundary = boundary_counts(said.labels, truth, classes)
    if said.confidence is not None:
        calibration = calibration_counts(said.labels, said.confidence, truth)
    if said.logits is not None and len(temperatures):
        nll, pixels = negative_log_likelihood(said.logits, truth, np.asarray(temperatures))
    return Measures(
        names=(sample.name,),
        conditions=(sample.condition,),
        difficulties=(sample.difficulty,),
        sensors=(said.sensors,),
        dropped=np.array([prediction is None]),
        latency_ms=np.array([said.latency_ms]),
        bands=bands[None],
        boundary=boundary[None],
        calibration=calibration[None],
        nll=nll[None],
        nll_pixels=np.array([pixels]),
    )


def bands_of(depth_m: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return (H, W) numbers of `BANDS`; a depth on a border belongs to the band behind it, infinity to the farthest."""
    band = np.isnan(depth_m).view(np.uint8) * np.uint8(len(BANDS_M) + 1)
    for border in BANDS_M:
        band += depth_m >= border
    return band


def concatenate(parts: Sequence[Measures]) -> Measures:
    """Put frames one after the other.

    Raises:
        InputError: no part, or parts of different classes or temperatures.
    """
    if not parts:
        raise InputError("scores", expected="at least one frame", got="none", remedy="score a dataset that has samples")
    for part in parts[1:]:
        if (part.classes, part.nll.shape[1]) != (parts[0].classes, parts[0].nll.shape[1]):
            raise InputError(
                "scores of different runs",
                expected=f"{parts[0].classes} classes and {parts[0].nll.shape[1]} temperatures",
                got=f"{part.classes} and {part.nll.shape[1]}",
                remedy="put together only what one model scored on one dataset",
            )
    joined: dict[str, Any] = {}
    for name in (f.name for f in fields(Measures)):
        columns = [getattr(part, name) for part in parts]
        joined[name] = tuple(chain(*columns)) if isinstance(columns[0], tuple) else np.concatenate(columns)
    return Measures(**joined)


def select(measures: Measures, frames: Sequence[int] | NDArray[np.bool_]) -> Measures:
    """Return some of the frames: by number, or one bool a frame."""
    is_mask = isinstance(frames, np.ndarray) and frames.dtype == np.bool_
    index: list[int] = np.flatnonzero(frames).tolist() if is_mask else [int(i) for i in frames]
    kept: dict[str, Any] = {}
    for name in (f.name for f in fields(Measures)):
        column = getattr(measures, name)
        kept[name] = tuple(column[i] for i in index) if isinstance(column, tuple) else column[index]
    return Measures(**kept)


def save(measures: Measures, path: Path) -> None:
    """Write an .npz: beside and renamed, so that a reader never sees half a file."""
    part = path.with_name(f"{path.name}.part")
    columns: dict[str, Any] = {f.name: np.asarray(getattr(measures, f.name)) for f in fields(Measures)}
    with part.open("wb") as stream:
        np.savez_compressed(stream, **columns)
    part.replace(path)


def load(path: Path) -> Measures:
    """Read what `save` wrote; nothing is unpickled.

    Raises:
        SamsegError: it cannot be read, or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as found:
            columns: dict[str, Any] = {f.name: found[f.name] for f in fields(Measures)}
        texts = ("names", "conditions", "difficulties", "sensors")
        columns |= {name: tuple(map(str, columns[name])) for name in texts}
        return Measures(**columns)
    except (OSError, ValueError, KeyError, IndexError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise SamsegError(f"{path}: cannot be read as scores ({error}); remove it and score again") from None


def _misfit(name: str, expected: tuple[int, ...], got: tuple[int, ...]) -> InputError:
    return InputError(f"scores, {name}", expected=str(expected), got=str(got), remedy="score the frames again")
