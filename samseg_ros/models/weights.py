"""Weights on disk: safetensors, half precision, with a digest; nothing is unpickled."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from samseg_ros.errors import SamsegError

SHOWN_KEYS = 5


def sha256(path: Path) -> str:
    """Return the hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def save_weights(path: Path, network: nn.Module) -> str:
    """Write a network's weights as float16 (batch-norm statistics stay float32) and return the file's sha256.

    Written beside and renamed, so that a reader never sees half a file.

    Raises:
        SamsegError: a weight is not finite or too large for float16.
    """
    buffers = {name for name, _ in network.named_buffers()}
    tensors = {name: _stored(name, value, name in buffers) for name, value in network.state_dict().items()}
    part = path.with_suffix(".part")
    save_file(tensors, part)
    part.replace(path)
    return sha256(path)


def load_weights(path: Path, network: nn.Module, digest: str = "") -> None:
    """Fill a network with the weights of a file.

    Args:
        path: .safetensors file.
        network: keeps its own float type.
        digest: expected sha256; empty: not checked.

    Raises:
        SamsegError: no such file, not a safetensors file, another digest, or weights that do not fit (keys named).
    """
    if not path.is_file():
        raise SamsegError(
            f"no weights at {path}; give model.checkpoint a .safetensors file or a folder with model.yaml"
        )
    if digest and (found := sha256(path)) != digest:
        raise SamsegError(f"{path}: expected sha256 {digest}, got {found}; the file is damaged, fetch it again")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise SamsegError(f"{path}: expected a safetensors file, got something else ({error})") from None
    _refuse_misfits(path, tensors, network.state_dict())
    network.load_state_dict(tensors)


def _stored(name: str, value: Tensor, is_buffer: bool) -> Tensor:
    value = value.detach().cpu().contiguous()
    stored = value if is_buffer or not value.is_floating_point() else value.half()
    if not torch.isfinite(stored).all():
        raise SamsegError(
            f"{name}: expected finite weights within float16, got {value.abs().max():.3g}; training diverged"
        )
    return stored


def _refuse_misfits(path: Path, tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    faults = {
        "missing": [k for k in wanted if k not in tensors],
        "not in this model": [k for k in tensors if k not in wanted],
        "of another shape": [
            f"{k} {tuple(tensors[k].shape)} for {tuple(v.shape)}"
            for k, v in wanted.items()
            if k in tensors and tensors[k].shape != v.shape
        ],
    }
    said = [f"{len(keys)} {what} ({_shortened(keys)})" for what, keys in faults.items() if keys]
    if said:
        raise SamsegError(
            f"{path}: the weights do not fit the model: {'; '.join(said)}; check model.config and the labels"
        )


def _shortened(keys: list[str]) -> str:
    return ", ".join(keys[:SHOWN_KEYS]) + (", ..." if len(keys) > SHOWN_KEYS else "")
