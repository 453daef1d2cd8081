"""Where and how a network runs: device, arithmetic, threads, compilation."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from samseg_ros.config import ModelConfig
from samseg_ros.errors import SamsegError
from samseg_ros.models.artefact import Artefact, ExportedNetwork
from samseg_ros.models.windows import Windows, over_windows
from samseg_ros.networks.precision import cast_weights


class Runner:
    """A network ready to run on one frame after another.

    Args:
        network: follows the interface of `samseg_ros.models`; it is taken over (moved, its weights cast). An exported
            network runs as it was exported.
        config: device, precision, threads, compile.
        windows: in which the images are seen; None: as a whole.

    Raises:
        SamsegError: the device is not there, or an exported network cannot be loaded or was exported otherwise.
    """

    def __init__(self, network: nn.Module, config: ModelConfig, windows: Windows | None = None) -> None:
        self._windows = windows
        # The other half is for callbacks, drivers and players: a thread that waits for a taken core stalls the frame.
        threads = config.threads or max(1, (os.cpu_count() or 1) // 2)
        torch.set_num_threads(threads)
        self.modalities: tuple[str, ...] = tuple(network.modalities)  # type: ignore[arg-type]
        self.artefact = network.artefact if isinstance(network, ExportedNetwork) else None
        """What is baked into an exported network."""
        self._fixed_graph = config.compile or self.artefact is not None
        self._coarse_logits: Callable[..., torch.Tensor]
        self._coarse_logits_and_fused: Callable[..., tuple[torch.Tensor, torch.Tensor]] | None = None
        if isinstance(network, ExportedNetwork):
            _refuse_what_is_baked_in(network.artefact, config)
            self.device, self.dtype = network.start(config.device, threads), torch.float32
            self._coarse_logits = network.coarse_logits
        else:
            self.device = choose_device(config.device)
            self.dtype = choose_dtype(config.precision, self.device)
            self._coarse_logits = self._ready(network, config.compile)
            self._coarse_logits_and_fused = getattr(network, "coarse_logits_and_fused", None)

    def _ready(self, network: nn.Module, compiled: bool) -> Callable[..., torch.Tensor]:
        ready: Any = network.eval().requires_grad_(False).to(self.device).to(memory_format=torch.channels_last)
        if self.dtype == torch.bfloat16:
            cast_weights(ready, torch.bfloat16)
        return torch.compile(ready.coarse_logits) if compiled else ready.coarse_logits

    def __call__(self, inputs: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return (K, h/4, w/4) class scores of (3, h, w) arrays; a modality that is not among them is missing."""
        with torch.inference_mode(), self._autocast():
            tensors = {name: self._tensor(array) for name, array in inputs.items()}
            if self._windows is None:
                return _array(self._scores(tensors))
            return _array(over_windows(self._scores, tensors, self._windows))

    def _scores(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self._coarse_logits(*(self._filled(tensors) if self._fixed_graph else (tensors,)))

    @property
    def makes_fused(self) -> bool:
        """Whether the network makes a fused picture; what was exported, or sees windows, has none."""
        return self._coarse_logits_and_fused is not None and self._windows is None

    def with_fused(self, inputs: Mapping[str, NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the scores and the fused picture (3, h, w) in 0..1 of one pass, which is never the compiled one.

        Compiling a second graph would stall the frame for which somebody first asks.

        Raises:
            SamsegError: the network makes none.
        """
        if self._coarse_logits_and_fused is None:
            raise SamsegError("the network makes no fused picture; expected one for which makes_fused holds")
        with torch.inference_mode(), self._autocast():
            logits, fused = self._coarse_logits_and_fused({name: self._tensor(array) for name, array in inputs.items()})
            return _array(logits), _array(fused)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def _tensor(self, array: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(array)[None].to(self.device, memory_format=torch.channels_last)

    def _filled(self, tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Return every modality and whether it is there: one compiled graph serves all combinations."""
        blank = torch.zeros_like(tensors["rgb"])
        inputs = {name: tensors.get(name, blank) for name in self.modalities}
        there = {name: torch.tensor([name in tensors], device=self.device) for name in self.modalities[1:]}
        return inputs, there


def _array(batch: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = batch[0].float().cpu().numpy()
    return np.ascontiguousarray(array)  # it may come channels last


def choose_device(name: str) -> torch.device:
    """Return the torch device of a name; ``auto`` is cuda where there is one, else cpu.

    Raises:
        SamsegError: no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch raises all of them
        reason = str(error).splitlines()[0]
        raise SamsegError(
            f"model.device: expected a device of this machine, got {name!r} ({reason}); use auto or cpu"
        ) from None
    return device


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return float32 or bfloat16; ``auto`` is bfloat16 where the hardware multiplies it, else float32.

    CPUs without AMX emulate bfloat16, several times slower than float32.
    """
    if precision != "auto":
        return torch.bfloat16 if precision == "bf16" else torch.float32
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = device.type == "cpu" and has_amx()
    return torch.bfloat16 if native else torch.float32


def has_amx(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this CPU multiplies bfloat16 matrices in hardware (Intel AMX)."""
    try:
        flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "").split()
    except OSError:  # not Linux
        return False
    return {"amx_tile", "amx_bf16"} <= set(flags)


def _refuse_what_is_baked_in(artefact: Artefact, config: ModelConfig) -> None:
    if config.compile:
        raise SamsegError("model.compile: expected false, the exported network is compiled already or cannot be")
    if config.precision not in ("auto", artefact.precision):
        raise SamsegError(
            f"model.precision: expected auto or {artefact.precision}, in which the network was exported, got "
            f"{config.precision}; export it again with --precision {config.precision}"
        )
