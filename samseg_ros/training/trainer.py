"""The training loop, top to bottom."""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from samseg_ros import __version__
from samseg_ros.errors import SamsegError
from samseg_ros.training.batches import Batch, draw_batch, plain_batch
from samseg_ros.training.cache import Cache
from samseg_ros.training.losses import class_weights, segmentation_loss
from samseg_ros.training.recipe import Recipe, load_recipe

logger = logging.getLogger(__name__)
FREE_SETTINGS = {"threads", "checkpoint_every", "validate_every"}
"""Settings of a recipe that may change when a run is resumed: the weights do not depend on them."""
Progress = Callable[[int, int, str], None]


def learning_rate(recipe: Recipe, step: int) -> float:
    """Return the rate of a step: linear warm-up, then a cosine down to 1 % of the peak."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    share = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return recipe.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))


def train(
    network: nn.Module, recipe: Recipe, data: Cache, validation: Cache, out: Path, progress: Progress | None = None
) -> nn.Module:
    """Train a network and return its averaged copy, which is the one to keep.

    ``out`` gets checkpoint.pt (resumed from when it exists), log.jsonl (one line per logged step), recipe.yaml and
    source.json (version and git revision).

    Args:
        network: initialised; on resuming its weights are replaced.
        progress: called with (step, steps, a line of text).

    Raises:
        SamsegError: the loss is not finite (the batch is saved to out/bad_batch.pt), or the checkpoint in ``out`` is
            damaged or of another recipe.
    """
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        _require_same(recipe, out / "recipe.yaml")
    (out / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
    (out / "source.json").write_text(json.dumps(source()))
    torch.set_num_threads(recipe.threads or os.cpu_count() or 1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay), use_buffers=True)
    optimizer = torch.optim.AdamW(_groups(network, recipe.weight_decay), recipe.learning_rate, betas=(0.9, 0.98))
    weights = class_weights(_pixel_counts(data)).to(device)
    first = _resume(checkpoint, device, network, average, optimizer) if checkpoint.exists() else 0
    network.train()
    start, running = time.monotonic(), 0.0
    for step in range(first, recipe.steps):
        torch.manual_seed(recipe.seed * 1_000_003 + step)  # dropout too repeats after a resume
        phase = recipe.phase_at(step)
        batch = _to(draw_batch(data, recipe, phase, step), device)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            coarse = network.coarse_logits(batch.inputs, batch.present)  # type: ignore[operator]
        labels = batch.labels[:, :: phase.loss_stride, :: phase.loss_stride]
        logits = F.interpolate(coarse.float(), labels.shape[1:], mode="bilinear", align_corners=False)
        loss = segmentation_loss(logits, labels, weights, recipe.dice_weight)
        if not torch.isfinite(loss):
            torch.save({"inputs": batch.inputs, "labels": batch.labels, "step": step}, out / "bad_batch.pt")
            raise SamsegError(f"step {step}: the loss is {loss.item()}; the batch is in {out / 'bad_batch.pt'}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
        optimizer.step()
        average.update_parameters(network)
        running = loss.item() if step == first else 0.95 * running + 0.05 * loss.item()
        done = step + 1
        if done % recipe.validate_every == 0 or done == recipe.steps:
            score = validate(average.module, validation, recipe)
            _log(out, {"step": done, "val_miou": score, "seconds": time.monotonic() - start})
            network.train()
        if done % 20 == 0:
            _log(
                out,
                {"step": done, "loss": running, "lr": learning_rate(recipe, step), "seconds": time.monotonic() - start},
            )
            if progress:
                progress(done, recipe.steps, f"loss {running:.3f}")
        if done % recipe.checkpoint_every == 0 or done == recipe.steps:
            _save(checkpoint, network, average, optimizer, done)
    averaged: nn.Module = average.module
    return averaged.eval()


def validate(network: nn.Module, data: Cache, recipe: Recipe, batch: int = 6) -> float:
    """Return mIoU (%) at network size over the cache; classes absent from it do not count."""
    network.eval()
    device = next(network.parameters()).device
    confusion: Tensor | None = None
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
        for i in range(0, len(data), batch):
            part = _to(plain_batch(data, range(i, min(i + batch, len(data))), recipe.sensors), device)
            logits = network(part.inputs)
            k = logits.shape[1]
            pairs = torch.bincount((part.labels * k + logits.argmax(1)).flatten(), minlength=k * k)
            confusion = pairs if confusion is None else confusion + pairs
    if confusion is None:
        raise SamsegError("validation needs at least one frame")
    table = confusion.view(k, k).double()
    hit = table.diagonal()
    union = table.sum(0) + table.sum(1) - hit
    return float((hit / union)[table.sum(1) > 0].mean() * 100)


def source() -> dict[str, str]:
    """Return version and git revision of the running code."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        revision = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        revision = "unknown"
    return {"version": __version__, "revision": revision}


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; biases, norms and scales do not."""
    matrices = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in network.parameters() if p.requires_grad and p.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _pixel_counts(data: Cache) -> Tensor:
    """Pixels per class over at most 500 frames, which is plenty for weights."""
    every = max(1, len(data) // 500)
    counts = np.bincount(np.asarray(data.arrays["labels"][::every]).ravel(), minlength=256)[:255]
    return torch.from_numpy(counts[: int(np.nonzero(counts)[0].max()) + 1].astype(np.float64)).float()


def _to(batch: Batch, device: torch.device) -> Batch:
    return Batch(
        {k: v.to(device, memory_format=torch.channels_last) for k, v in batch.inputs.items()},
        {k: v.to(device) for k, v in batch.present.items()},
        batch.labels.to(device),
    )


def _log(out: Path, row: dict[str, float]) -> None:
    with (out / "log.jsonl").open("a") as stream:
        stream.write(json.dumps(row) + "\n")
    logger.info("%s", row)


def _require_same(recipe: Recipe, path: Path) -> None:
    """Refuse to go on with another recipe than the one a run began with."""
    if path.exists():
        began = load_recipe(path).model_dump(exclude=FREE_SETTINGS)
        changed = [name for name, value in recipe.model_dump(exclude=FREE_SETTINGS).items() if value != began[name]]
        if changed:
            raise SamsegError(
                f"{path.parent} holds a run of another recipe (different: {', '.join(changed)}); choose another --out, "
                f"or remove {path.parent}"
            )


def _resume(
    path: Path, device: torch.device, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer
) -> int:
    """Put a checkpoint's state in place; return the steps done."""
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        return int(state["step"])
    except Exception as error:  # torch raises nearly anything on a torn file
        reason = str(error).partition("\n")[0]
        raise SamsegError(f"{path} cannot be resumed from ({reason}); remove it to begin anew") from None


def _save(path: Path, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Write beside and rename, so that a kill leaves the last whole checkpoint."""
    state = {
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
    }
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)
