"""Weights on disk: safetensors, half precision, with a digest; nothing is unpickled."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from samseg_ros.errors import SamsegError
from samseg_ros.networks.road_fusion import adopt_grids

SHOWN_KEYS = 5
Precision = Literal["fp16", "fp32"]


def sha256(path: Path) -> str:
    """Return the hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def save_weights(path: Path, network: nn.Module, precision: Precision = "fp16") -> str:
    """Write a network's weights (batch-norm statistics stay float32) and return the file's sha256.

    Raises:
        SamsegError: a weight is not finite or too large for float16.
    """
    exact = {name for name, _ in network.named_buffers()}
    state = network.state_dict()
    return write_tensors(path, {k: stored(k, v, precision == "fp32" or k in exact) for k, v in state.items()})


def write_tensors(path: Path, tensors: dict[str, Tensor], facts: Mapping[str, str] | None = None) -> str:
    """Write a safetensors file and return its sha256.

    Written beside and renamed, so that a reader never sees half a file.

    Args:
        facts: metadata.
    """
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata={"format": "pt", **(facts or {})})
    mask = os.umask(0)
    os.umask(mask)
    part.chmod(0o666 & ~mask)  # the library makes files that their owner alone can read
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
    adopt_grids(network, tensors)
    _refuse_misfits(path, tensors, network.state_dict())
    network.load_state_dict(tensors)


def stored(name: str, value: Tensor, exact: bool) -> Tensor:
    """Return a weight as it is written: float32 where ``exact``, else float16; integers as they are.

    Raises:
        SamsegError: it is not finite, or too large for float16.
    """
    value = value.detach().cpu().contiguous()
    written = value if not value.is_floating_point() else value.float() if exact else value.half()
    if not torch.isfinite(written).all():
        limit = "" if exact else " within float16"
        raise SamsegError(f"{name}: expected finite weights{limit}, got {value.abs().max():.3g}; training diverged")
    return written


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
