"""Where and with what numbers a run computes: one process, many under torchrun, CPU or GPU, are the same code."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn

if TYPE_CHECKING:
    from samseg_ros.training.recipe import Recipe

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def make_fabric(precision: str) -> Fabric:
    """Return Lightning Fabric for this process.

    Under ``torchrun --nproc-per-node N`` it is one of N data-parallel processes (NCCL on GPUs, gloo on CPUs); else it
    takes one device.
    """
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)  # it tells what the recipe says already
    world, local = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    fabric = Fabric(
        accelerator=accelerator,
        devices=local,
        num_nodes=max(1, world // local),
        # Unused: FusionSAM's thermal parts, where a process has no thermal image in its share of a batch.
        strategy=DDPStrategy(find_unused_parameters=True) if world > 1 else "auto",
        precision=PRECISIONS[precision],  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def threads_of_a_process() -> int:
    """Return the CPU threads that a process takes where the recipe says none.

    Alone it is OMP_NUM_THREADS, where that is set, or all cores. Of several on one machine each takes its share of the
    cores: torchrun sets OMP_NUM_THREADS to 1 by itself, so that there it says nothing.
    """
    cores, processes = len(os.sched_getaffinity(0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if processes == 1 and wanted.isdigit() and int(wanted):
        return int(wanted)
    return max(1, cores // processes)


def reduced(fabric: Fabric, value: Tensor, how: str) -> Tensor:
    """Return the "sum" or "mean" of a tensor over all processes."""
    result = fabric.all_reduce(value, reduce_op=how)
    return torch.as_tensor(result)


def shared_batch_norms(network: nn.Module, fabric: Fabric, recipe: Recipe) -> nn.Module:
    """Let batch norms see the batch of all processes, which only GPUs can (there is no SyncBatchNorm on the CPU)."""
    if fabric.world_size > 1 and fabric.device.type == "cuda" and not recipe.frozen_batch_norm:
        synchronised: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return synchronised
    return network


def freeze_batch_norms(network: nn.Module) -> None:
    """Put batch norms into evaluation: they use their statistics and leave them as they are."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
