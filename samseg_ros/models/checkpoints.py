"""Checkpoints of others as plain tensors, and nothing in them is ever run."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import safe_globals

from samseg_ros.errors import InputError, SamsegError

WRAPPERS = ("state_dict", "model", "average", "network")
"""Entries under which a checkpoint keeps its weights, the first that is there and not empty counts."""
REMARKS = (
    "numpy.ndarray",
    "numpy.dtype",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "mmcv.runner.log_buffer.LogBuffer",
    "mmengine.logging.history_buffer.HistoryBuffer",
)
"""What training frameworks leave beside the weights (best score, palette, history)."""


SHOWN_KEYS = 5


class Remark:
    """Stands in for an object beside the weights; whatever it was made of is thrown away."""

    def __new__(cls, *_: Any) -> Remark:
        """Ignore what it was made of."""
        return object.__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name, on the CPU, mapped from the disk where the format allows.

    A .safetensors file holds nothing but tensors. A PyTorch file is read by PyTorch's restricted unpickler
    (``weights_only``). numpy objects and log buffers beside the weights become empty `Remark`s: allowing numpy's own
    types would not be safe, as the state of a ``numpy.dtype`` may turn bytes into pointers. Weights lie at the top or
    under one of `WRAPPERS`; the ``module.`` of a parallel or averaged network is taken off.

    Raises:
        SamsegError: no such file, a file that needs to run code to be read (it is not), a damaged file, or one that
            holds anything but named tensors.
    """
    if not path.is_file():
        raise SamsegError(f"no checkpoint at {path}; give a .safetensors, .pt or .pth file")
    tree: Any = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    return _without_module(_tensors(path, _unwrapped(tree)))


def misfits(state: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> str:
    """Say which keys are missing, unknown or of another shape than wanted; empty where all is right."""
    faults = {
        "missing": [name for name in shapes if name not in state],
        "unknown": [name for name in state if name not in shapes],
        "of another shape": [
            f"{name} {tuple(state[name].shape)} for {tuple(shape)}"
            for name, shape in shapes.items()
            if name in state and state[name].shape != shape
        ],
    }
    return "; ".join(f"{len(names)} {what} ({shortened(names)})" for what, names in faults.items() if names)


def shortened(names: Sequence[str]) -> str:
    """Join names, at most `SHOWN_KEYS` of them."""
    return ", ".join(names[:SHOWN_KEYS]) + (", ..." if len(names) > SHOWN_KEYS else "")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise SamsegError(f"{path}: expected a safetensors file, got something else ({error})") from None


def _read_torch(path: Path) -> Any:
    harmless: list[Any] = [_stand_in(name) for name in REMARKS]
    try:
        with safe_globals(harmless):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise _refusal(path, error) from None
    except Exception as error:  # torch raises nearly anything on a file that is not its own
        if "TorchScript" in str(error):
            raise _refusal(path, error) from None
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise SamsegError(f"{path} cannot be read as a PyTorch file ({reason}); is it whole? fetch it again") from None


def _stand_in(name: str) -> type[Remark]:
    """Return a `Remark` that the unpickler takes for the class or function ``name``."""
    module, _, attribute = name.rpartition(".")
    return type(attribute, (Remark,), {"__module__": module, "__qualname__": attribute})


def _refusal(path: Path, error: Exception) -> InputError:
    # PyTorch's own text goes on to say how to load the file all the same, which is no advice of ours.
    needed = re.search(r"GLOBAL ([\w.]+)", str(error))
    reason = f"it calls {needed[1]}" if needed else "it is no plain dictionary of tensors"
    return InputError(
        str(path),
        expected="tensors alone",
        got=f"a file that has to run code to be read ({reason}); it was refused and nothing was run",
        remedy="ask its author for .safetensors, or re-save its state_dict as safetensors where you trust it",
    )


def _unwrapped(tree: Any) -> Any:
    """Return what lies under the wrappers, of which there may be several."""
    while isinstance(tree, Mapping):
        inner = next((tree[name] for name in WRAPPERS if isinstance(tree.get(name), Mapping) and tree[name]), None)
        if inner is None:
            return tree
        tree = inner
    return tree


def _tensors(path: Path, tree: Any) -> dict[str, Tensor]:
    entries = dict(tree) if isinstance(tree, Mapping) else {}
    wrong = [
        f"{k!r} ({type(v).__name__})" for k, v in entries.items() if not (isinstance(k, str) and isinstance(v, Tensor))
    ]
    if wrong or not entries:
        kind = "an empty dictionary" if isinstance(tree, Mapping) else f"a {type(tree).__name__}"
        raise InputError(
            str(path),
            expected=f"named tensors, at the top or under {' | '.join(WRAPPERS)}",
            got=f"also {shortened(wrong)}" if wrong else kind,
            remedy="save the network's state_dict alone",
        )
    return entries


def _without_module(state: dict[str, Tensor]) -> dict[str, Tensor]:
    kept = {name: value for name, value in state.items() if name != "n_averaged"}  # a counter of averaged networks
    if all(name.startswith("module.") for name in kept):
        return {name.removeprefix("module."): value for name, value in kept.items()}
    return kept
