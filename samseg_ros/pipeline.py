"""Frame → Segmentation. Training aside, everything takes this path: node, replay, evaluation, demo."""

from __future__ import annotations

import time

import cv2
import numpy as np
from numpy.typing import NDArray

from samseg_ros.config import Config, LabelsConfig, as_trained
from samseg_ros.drawing import overlay
from samseg_ros.errors import InputError, SamsegError, nearest
from samseg_ros.labels import LabelSet, load_labels, load_remap, remap_target
from samseg_ros.models import LoadedModel, ModelSpec, load_model
from samseg_ros.models.artefact import Artefact
from samseg_ros.posterior import at_pixels, posterior, remapped
from samseg_ros.runtime import Runner
from samseg_ros.sensing.modalities import MODALITIES, padded
from samseg_ros.types import Camera, Frame, PointCloud, Segmentation

SIDE_MULTIPLE, SMALLEST_SIDE, SCORE_CELL = 32, 64, 4


class Pipeline:
    """A loaded model and everything around it.

    Args:
        loaded: network, label set and spec of a model.
        config: settings. ``pipeline.config`` may be replaced between frames: what may change at run time
            (``publish.min_confidence``) and what concerns preparation then holds for the next frame. While its
            ``thermal`` is the default, the weights' own (`ModelSpec.thermal`) stands in.

    Raises:
        SamsegError: the model asks for an unknown modality, the device is not there, the label set that
            ``labels.path`` names has another number of classes than the model's own, or ``labels.remap_path`` does not
            fit.
    """

    def __init__(self, loaded: LoadedModel, config: Config) -> None:
        self.config = config
        own = _labels(loaded.labels, config.labels.path)
        self._remap = _Remap(own, config.labels) if config.labels.remap_path else None
        self.labels = self._remap.labels if self._remap else own
        """Classes that are published."""
        published = self._remap.table if self._remap else range(len(own))
        self.own_classes: dict[str, int] = {name: int(published[i]) for i, name in enumerate(own.names)}
        """The model's own classes, and the id that each is published as (255: none)."""
        self._spec = loaded.spec
        self._run = Runner(loaded.network, config.model, loaded.spec.windows)
        if self._run.artefact:
            _refuse_contradiction(self._run.artefact, self._spec)
        for name in self.modalities:
            if name not in MODALITIES:
                raise SamsegError(f"the model wants a modality {name!r}; {nearest(name, MODALITIES)}")

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the model can take, "rgb" first."""
        return self._run.modalities

    @property
    def makes_fused(self) -> bool:
        """Whether there is a fused picture to ask for: FusionSAM makes one, unless it was exported."""
        return self._run.makes_fused

    @property
    def runs_on(self) -> str:
        """Device and arithmetic, as "cuda, bfloat16"."""
        return f"{self._run.device}, {str(self._run.dtype).removeprefix('torch.')}"

    @classmethod
    def from_config(cls, config: Config) -> Pipeline:
        """Load the model that the settings name.

        Raises:
            SamsegError: as `Pipeline`; no such model, or weights that cannot be read or do not fit.
        """
        return cls(load_model(config.model), config)

    def __call__(self, frame: Frame, fused: bool = False) -> Segmentation:
        """Segment one sensor set.

        A sensor that is missing, or whose data cannot be used (`Segmentation.problems`), is left out; only the camera
        image is needed.

        Args:
            frame: the set.
            fused: also return the fused picture, where there is one (`makes_fused`). With ``model.compile`` the frame
                then takes the network's uncompiled pass.

        Raises:
            InputError: the camera image cannot be used.
            SamsegError: the network's scores are not finite.
        """
        started = time.perf_counter()
        inputs, problems = self.prepare(frame)
        prepared = time.perf_counter()
        logits, picture = self._scores(inputs, frame, fused and self.makes_fused)
        modelled = time.perf_counter()
        result = posterior(logits, frame.size, self.config.publish.min_confidence)
        if self._remap is not None:
            result = remapped(result, self._remap.table, self._remap.matrix)
        finished = time.perf_counter()
        return Segmentation(
            labels=result.labels,
            confidence=result.confidence,
            logits=logits,
            pixel_share=result.pixel_share,
            mean_posterior=result.mean_posterior,
            stamp_ns=frame.stamp_ns,
            frame_id=frame.frame_id,
            sensors=tuple(inputs),
            timings_ms={
                "prepare": (prepared - started) * 1e3,
                "model": (modelled - prepared) * 1e3,
                "posterior": (finished - modelled) * 1e3,
            },
            problems=problems,
            published_from_model=self._remap.matrix if self._remap else None,
            fused=picture,
        )

    def prepare(self, frame: Frame) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
        """Return what the network sees, (3, h, w) per usable modality, and per unusable one what is wrong with it.

        With ``pad_to`` the image's own part is the upper left one.

        Raises:
            InputError: the camera image cannot be used, or is not of the size that the network was exported for.
        """
        size = self._own_size(frame)
        if self._run.artefact and (given := given_size(self._spec, frame.size)) != self._run.artefact.input_size:
            raise _not_exported_for(self._run.artefact, frame.size, seen_as(self._spec, given))
        config = self._sensing
        inputs: dict[str, NDArray[np.float32]] = {}
        problems: dict[str, str] = {}
        for name in self.modalities:
            try:
                array = MODALITIES[name](frame, size, config)
                if array is not None:
                    inputs[name] = padded(name, _finite(name, array), self._spec.pad_to)
            except Exception as error:  # whatever a sensor's data break: the camera goes on
                if name == "rgb":
                    raise
                problems[name] = str(error) if isinstance(error, InputError) else f"unexpected {error!r}"
        return inputs, problems

    def _scores(
        self, inputs: dict[str, NDArray[np.float32]], frame: Frame, fused: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None]:
        """Return the (K, h, w) scores of the image itself and, where asked for, the fused picture."""
        logits, planes = self._run.with_fused(inputs) if fused else (self._run(inputs), None)
        logits = self._without_padding(frame, logits)
        if not np.isfinite(logits).all():
            raise SamsegError(
                "scores of the network: expected finite numbers, got NaN or infinity; "
                "try model.precision: fp32, else check the weights"
            )
        if self._spec.temperature != 1.0:  # temperature scaling (Guo et al., ICML 2017)
            logits = logits / np.float32(self._spec.temperature)
        return logits, None if planes is None else _picture(self._without_padding(frame, planes), frame.size)

    def _own_size(self, frame: Frame) -> tuple[int, int]:
        return network_size(frame.size, self._spec.input_pixels, self._spec.squash_to, self._spec.pad_to)

    def _without_padding(self, frame: Frame, planes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return of (C, H/s, W/s) what is of the image itself."""
        if self._spec.pad_to is None:
            return planes
        s = self._spec.pad_to[0] // planes.shape[1]
        h, w = self._own_size(frame)
        return np.ascontiguousarray(planes[:, : h // s, : w // s])

    def warm_up(self, size: tuple[int, int]) -> float:
        """Segment a blank sensor set of (H, W) and use it, so that nothing is compiled later; return the seconds.

        An exported network is given the camera size that it was exported for.
        """
        started = time.perf_counter()
        frame = _blank_frame(*(self._run.artefact.camera_size if self._run.artefact else size), self._sensing)
        result = self(frame)
        at_pixels(result, np.zeros((1, 2), np.int32))
        overlay(frame.image, result.labels, self.labels.palette(), 0.5)
        return time.perf_counter() - started

    @property
    def _sensing(self) -> Config:
        """The settings that sensors are prepared by."""
        return as_trained(self.config, self._spec.thermal)


def network_size(
    camera_size: tuple[int, int],
    input_pixels: int,
    squash_to: tuple[int, int] | None = None,
    pad_to: tuple[int, int] | None = None,
) -> tuple[int, int]:
    """Return the (h, w) at which the network sees a camera's (H, W).

    The aspect is kept and the area comes near ``input_pixels``, as far as sides that are multiples of 32 allow; no side
    exceeds the camera's, except to reach 64. With ``squash_to`` it is that, whatever the camera's. With ``pad_to`` it
    is the camera's own or what fits, in multiples of 4 (a cell of the scores); the rest is padding.

    Raises:
        InputError: an empty image.
    """
    if min(camera_size) < 1:
        raise InputError(
            "camera image", expected="at least one pixel", got=f"{camera_size}", remedy="check the camera's driver"
        )
    if squash_to:
        return squash_to
    if pad_to:
        fit = min(1.0, *(most / side for most, side in zip(pad_to, camera_size, strict=True)))
        return _cells(camera_size[0] * fit, pad_to[0]), _cells(camera_size[1] * fit, pad_to[1])
    scale = min(1.0, (input_pixels / (camera_size[0] * camera_size[1])) ** 0.5)
    height, width = (_network_side(side, scale) for side in camera_size)
    return height, width


def given_size(spec: ModelSpec, camera_size: tuple[int, int]) -> tuple[int, int]:
    """Return the (h, w) that the network is given at once of a camera's (H, W): padded, or one window.

    Raises:
        InputError: as `network_size`.
    """
    height, width = spec.pad_to or network_size(camera_size, spec.input_pixels, spec.squash_to)
    if spec.windows:
        return min(height, spec.windows.size[0]), min(width, spec.windows.size[1])
    return height, width


def seen_as(spec: ModelSpec, size: tuple[int, int]) -> str:
    """Say how the network sees images of which it is given (h, w) at once (`given_size`)."""
    return f"{'in windows of' if spec.windows else 'at'} {size[0]}x{size[1]}"


def _network_side(side: int, scale: float) -> int:
    near, most = round(side * scale / SIDE_MULTIPLE), side // SIDE_MULTIPLE
    return max(SMALLEST_SIDE, min(near, most) * SIDE_MULTIPLE)


def _cells(side: float, most: int) -> int:
    return min(most, max(SCORE_CELL, round(side / SCORE_CELL) * SCORE_CELL))


def _picture(planes: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return (3, h, w) in 0..1 as (H, W, 3) in 0..255."""
    image = cv2.resize(np.ascontiguousarray(planes.transpose(1, 2, 0)), size[::-1], interpolation=cv2.INTER_LINEAR)
    return np.rint(255 * np.clip(image, 0.0, 1.0)).astype(np.uint8)


def _refuse_contradiction(artefact: Artefact, spec: ModelSpec) -> None:
    size = given_size(spec, artefact.camera_size)
    if size != artefact.input_size:
        raise SamsegError(
            f"model.yaml contradicts itself: cameras of {artefact.camera_size} are seen {seen_as(spec, size)} with "
            f"input_pixels {spec.input_pixels}, but input_size is {artefact.input_size}; export the network again"
        )


def _not_exported_for(artefact: Artefact, camera_size: tuple[int, int], seen: str) -> InputError:
    (h, w), (height, width) = artefact.input_size, camera_size
    return InputError(
        "camera image",
        expected=f"a size of which the network is given {h}x{w}, for which it was exported",
        got=f"{height}x{width}, which it would see {seen}",
        remedy=f"export it for this camera, by the command that made it with --size {height}x{width}",
    )


def _finite(name: str, array: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(array).all():
        raise InputError(
            name, expected="finite input of the network", got="NaN or infinity", remedy="check the sensor's driver"
        )
    return array


class _Remap:
    """What ``labels.remap_path`` asks for: the published set, and which of its classes each of the model's becomes."""

    def __init__(self, own: LabelSet, config: LabelsConfig) -> None:
        self.labels = remap_target(config.remap_path, config.remap_labels)
        self.table = load_remap(config.remap_path, own, self.labels)
        became = self.table[: len(own)]
        self.matrix = (became == np.arange(len(self.labels))[:, None]).astype(np.float32)  # (P, K)


def _labels(own: LabelSet, path: str) -> LabelSet:
    if not path:
        return own
    labels = load_labels(path)
    if len(labels) != len(own):
        raise SamsegError(
            f"labels.path: expected {len(own)} classes as the model has ({own.name}), "
            f"got {len(labels)} in {labels.name}; leave labels.path empty to use the model's own"
        )
    return labels


def _blank_frame(height: int, width: int, config: Config) -> Frame:
    """Return a sensor set that walks through every stage: grey image, flat thermal image, a wall 10 m ahead."""
    inside = 0.5 * (config.thermal.fixed_low + config.thermal.fixed_high)
    is_aligned = config.projection.thermal == "aligned"
    k = np.array([[width, 0.0, 0.5 * width], [0.0, width, 0.5 * height], [0.0, 0.0, 1.0]])
    x, y = np.meshgrid(np.linspace(-4, 4, 40), np.linspace(-2, 2, 20))
    wall = np.stack([x, y, np.full_like(x, 10.0)], axis=-1).reshape(-1, 3).astype(np.float32)
    camera = Camera(width, height, k)
    return Frame(
        image=np.full((height, width, 3), 128, np.uint8),
        thermal=np.full((height, width), inside, np.float32),
        points=PointCloud(wall, np.ones(len(wall), np.float32)),
        camera=camera,
        camera_from_lidar=np.eye(4),
        thermal_camera=None if is_aligned else camera,
        camera_from_thermal=None if is_aligned else np.eye(4),
    )
