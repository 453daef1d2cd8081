"""From samples to batches: an endless, seeded stream of augmented samples that any number of processes share out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from samseg_ros.errors import SamsegError
from samseg_ros.training.augmentation import (
    AugmentationSettings,
    Planes,
    augment,
    mix_classes,
    present_flags,
    to_tensors,
)
from samseg_ros.training.processes import WORKERS


class SampleSource(Protocol):
    """Where samples come from: `samseg_ros.training.cache.Cache` or `DirectSamples`."""

    def __len__(self) -> int: ...

    def planes(self, i: int) -> Planes:
        """Return one sample; a sensor that it lacks is not in it."""

    def name(self, i: int) -> str:
        """Name of a sample, for messages."""


@dataclass(frozen=True)
class Item:
    """One sample as the network sees it."""

    inputs: dict[str, Tensor]
    """Modality to (3, H, W) float32; zeros where the sample lacks the sensor."""
    present: dict[str, bool]
    """Which auxiliary sensors it has."""
    labels: Tensor
    """(H, W) int64."""
    name: str


@dataclass(frozen=True)
class Batch:
    """What one step (or one part of an accumulated step) sees."""

    inputs: dict[str, Tensor]
    """Modality to (B, 3, H, W) float32."""
    present: dict[str, Tensor]
    """Auxiliary modality to (B,) bool: which samples have that sensor."""
    labels: Tensor
    """(B, H, W) int64."""
    names: tuple[str, ...] = ()
    """Of the samples."""
    extras: dict[str, Tensor] = field(default_factory=dict)
    """What else ``coarse_logits`` takes, by its name."""

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device, images in channels-last order."""
        return Batch(
            {name: image.to(device, memory_format=torch.channels_last) for name, image in self.inputs.items()},
            {name: flags.to(device) for name, flags in self.present.items()},
            self.labels.to(device),
            self.names,
        )


class SampleStream(Dataset[Item]):
    """Augmented samples without end: one epoch after the other, each in an order of its own.

    Position p is sample ``order(seed, p // N)[p % N]``, augmented by a seed made of (seed, p): a run that is resumed,
    or shared out differently, sees the same samples.

    Args:
        source: N samples, at least one.
        settings: of the augmentation.
        crop: (h, w) of every sample.
        modalities: what the network sees.
        seed: of the run.
    """

    def __init__(
        self,
        source: SampleSource,
        settings: AugmentationSettings,
        crop: tuple[int, int],
        modalities: tuple[str, ...],
        seed: int,
    ) -> None:
        if len(source) == 0:
            raise SamsegError("training needs at least one sample, got none; check the dataset and its split")
        self._source, self._settings, self._crop = source, settings, crop
        self._modalities, self._seed = modalities, seed

    def __getitem__(self, position: int) -> Item:
        epoch, place = divmod(position, len(self._source))
        i = int(_order(self._seed, epoch, len(self._source))[place])
        seed = int(np.random.SeedSequence([self._seed, position]).generate_state(1, np.uint64)[0])
        planes = self._planes(i, seed, present_flags(self._modalities, self._settings, seed))
        if self._settings.class_mix:
            planes = self._mixed(planes, seed)
        return _item(planes, self._modalities, self._source.name(i))

    def _planes(self, i: int, seed: int, kept: Mapping[str, bool]) -> Planes:
        stored = self._source.planes(i)
        seen = {name: stored[name] for name in self._modalities if name in stored and kept.get(name, True)}
        return augment({**seen, "labels": stored["labels"]}, self._crop, self._settings, seed)

    def _mixed(self, planes: Planes, seed: int) -> Planes:
        """Paste classes of another sample, drawn anew: it has the sensors that this one kept."""
        rng = np.random.default_rng([seed, 3])  # apart from what `augment` and `present_flags` draw
        if rng.random() >= self._settings.class_mix:
            return planes
        other, other_seed = int(rng.integers(len(self._source))), int(rng.integers(2**63))
        kept = {name: name in planes for name in self._modalities}
        return mix_classes(planes, self._planes(other, other_seed, kept), seed)


def positions(step: int, rank: int, world: int, batch: int, accumulate: int = 1, offset: int = 0) -> list[list[int]]:
    """Return the positions in the stream that one process takes in one optimiser step, a list a micro-batch.

    A step takes the next batch x accumulate x world positions. They are shared out so that two processes of batch b
    together take what one process of batch 2b takes, and so does one that accumulates two micro-batches of b.

    Args:
        step: 0, 1, ... since ``offset``.
        rank: of the process, 0 <= rank < world.
        world: processes.
        batch: samples of a micro-batch of one process.
        accumulate: micro-batches of a step.
        offset: position at which step 0 starts, where earlier phases had another batch.
    """
    first = offset + step * batch * accumulate * world
    starts = [first + (micro * world + rank) * batch for micro in range(accumulate)]
    return [list(range(start, start + batch)) for start in starts]


def collate(items: Sequence[Item]) -> Batch:
    """Stack samples of one size."""
    return Batch(
        {name: torch.stack([item.inputs[name] for item in items]) for name in items[0].inputs},
        {name: torch.tensor([item.present[name] for item in items]) for name in items[0].present},
        torch.stack([item.labels for item in items]),
        tuple(item.name for item in items),
    )


def loader(
    source: SampleSource,
    settings: AugmentationSettings,
    crop: tuple[int, int],
    modalities: tuple[str, ...],
    seed: int,
    chunks: Iterable[list[int]],
    workers: int,
) -> Iterator[Batch]:
    """Yield a batch of `SampleStream` for each list of positions, in their order.

    Args:
        source, settings, crop, modalities, seed: as `SampleStream`.
        chunks: positions of each batch; may be endless, it is read ahead by two batches a worker.
        workers: processes that read and augment; 0: done here, when a batch is asked for.

    Raises:
        SamsegError: a sample cannot be read.
    """
    stream = _Chunks(SampleStream(source, settings, crop, modalities, seed))
    own_generator = torch.Generator()  # else the loader moves torch's global random state
    batches = DataLoader(
        stream,
        batch_size=None,
        sampler=chunks,
        num_workers=workers,
        multiprocessing_context=WORKERS if workers else None,
        collate_fn=_as_it_is,
        worker_init_fn=_one_thread,
        generator=own_generator,
    )
    for batch in batches:
        if isinstance(batch, SamsegError):
            raise batch
        yield batch


def plain_batches(
    source: SampleSource, modalities: tuple[str, ...], batch: int, rank: int = 0, world: int = 1
) -> Iterator[Batch]:
    """Yield samples once, in order and as they are, for validation; a batch ends early where the size changes.

    Args:
        source: where they come from.
        modalities: what the network sees.
        batch: samples of a batch.
        rank: of the process, which takes samples rank, rank + world, ...
        world: processes.
    """
    waiting: list[Item] = []
    for i in range(rank, len(source), world):
        stored = source.planes(i)
        planes = {name: stored[name] for name in (*modalities, "labels") if name in stored}
        item = _item(planes, modalities, source.name(i))
        if waiting and (len(waiting) == batch or item.labels.shape != waiting[0].labels.shape):
            yield collate(waiting)
            waiting = []
        waiting.append(item)
    if waiting:
        yield collate(waiting)


class _Chunks(Dataset["Batch | SamsegError"]):
    """A list of positions -> their batch. An error is handed over as a value: a worker's would come out garbled."""

    def __init__(self, stream: SampleStream) -> None:
        self._stream = stream

    def __getitem__(self, chunk: list[int]) -> Batch | SamsegError:
        try:
            return collate([self._stream[position] for position in chunk])
        except SamsegError as error:
            return SamsegError(str(error))


def _item(planes: Planes, modalities: tuple[str, ...], name: str) -> Item:
    tensors = to_tensors(planes)
    labels = tensors.pop("labels")
    blank = torch.zeros(3, *labels.shape)
    present = {m: m in tensors for m in modalities if m != "rgb"}
    return Item({m: tensors.get(m, blank) for m in modalities}, present, labels, name)


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, samples: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(samples)


def _as_it_is(batch: Any) -> Any:
    return batch


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(1)
