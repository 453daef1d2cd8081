"""SAM's embeddings on disk, where its encoder is frozen: each image goes through it once, not once an epoch."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from samseg_ros.errors import SamsegError
from samseg_ros.training.batches import Batch


class EmbeddingCache:
    """Embeddings by the content of the image and of the encoder and by the precision it computes in, kept as float16.

    Pays where few different images come, as with whole images that are mirrored at most. A file cannot be stale:
    another image, size, augmentation or encoder has another name.

    Args:
        network: has ``sam_embedding(image)`` and a frozen encoder.
        folder: shared by all runs.
        precision: that of the run.

    Raises:
        SamsegError: the network has no encoder that stays as it is.
    """

    def __init__(self, network: nn.Module, folder: Path, precision: str) -> None:
        if not getattr(network, "frozen", False) or not hasattr(network, "sam_embedding"):
            raise SamsegError(
                "cache_embeddings: expected a model with a frozen SAM encoder (ad_sam vit_b, vit_l, vit_h), "
                f"got {type(network).__name__}; set it to false"
            )
        self._network = network
        self._folder = folder / f"{_digest(network)}_{precision}"
        self._folder.mkdir(parents=True, exist_ok=True)

    def attach(self, batch: Batch) -> Batch:
        """Return the batch with "embedding" (B, C, h, w) among its extras."""
        rows = [self._embedding(image) for image in batch.inputs["rgb"]]
        return replace(batch, extras={"embedding": torch.cat(rows)})

    def _embedding(self, image: Tensor) -> Tensor:
        content = hashlib.sha256(image.detach().cpu().contiguous().numpy().tobytes()).hexdigest()
        path = self._folder / f"{content}.npy"
        if not path.exists():
            with torch.no_grad():
                found = self._network.sam_embedding(image[None]).half().cpu().numpy()  # type: ignore[operator]
            part = path.with_suffix(f".{torch.initial_seed()}.part")  # processes may write the same image
            with part.open("wb") as stream:
                np.save(stream, found)
            part.replace(path)
        try:
            return torch.from_numpy(np.load(path)).to(image)
        except (OSError, ValueError, EOFError) as error:
            raise SamsegError(f"{path} is damaged ({error}); remove it, it is made again") from None


def _digest(network: nn.Module) -> str:
    """Name the weights of the frozen parts."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        if name.startswith(("image_encoder.", "neck.")):
            digest.update(name.encode())
            digest.update(value.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()[:16]
