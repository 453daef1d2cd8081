"""The training loop, top to bottom."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import torch
import yaml
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from samseg_ros import __version__
from samseg_ros.errors import SamsegError
from samseg_ros.provenance import revision
from samseg_ros.training.batches import Batch, SampleSource, loader, positions
from samseg_ros.training.checkpoint import (
    BEST_FILE,
    CHECKPOINT_FILE,
    RECIPE_FILE,
    State,
    load_best,
    load_state,
    require_same_recipe,
    save_best,
    save_state,
)
from samseg_ros.training.embeddings import EmbeddingCache
from samseg_ros.training.fabric import (
    freeze_batch_norms,
    make_fabric,
    reduced,
    shared_batch_norms,
    threads_of_a_process,
)
from samseg_ros.training.losses.segmentation import class_weights
from samseg_ros.training.losses.terms import SegmentationLoss
from samseg_ros.training.objectives import SHARED_METHODS, task_of
from samseg_ros.training.parameter_groups import parameter_groups
from samseg_ros.training.recipe import OptimizerSettings, Phase, Recipe
from samseg_ros.training.run_log import RunLog
from samseg_ros.training.schedule import Course, learning_rate

LOG_EVERY = 20
"""Steps between rows of the log."""
SMOOTHING = 0.95
"""Of the loss that is logged."""
Progress = Callable[[int, int, str], None]


def train(
    network: nn.Module,
    recipe: Recipe,
    data: SampleSource,
    validation: SampleSource,
    classes: int,
    out: Path,
    progress: Progress | None = None,
    fabric: Fabric | None = None,
    embeddings: Path | None = None,
) -> nn.Module:
    """Train a network and return it with the weights that validated best (averaged ones where ``ema_decay`` is set).

    ``out`` gets checkpoint.pt (resumed from when it exists), best.pt, log.jsonl, curves.html, tensorboard/, recipe.yaml
    (every setting) and source.json (version and git revision).

    Args:
        network: initialised; on resuming its weights are replaced. ``coarse_logits(inputs, present)`` makes what is
            learnt from.
        classes: K, of the labels.
        progress: called with (step, steps, a line of text).
        fabric: where to compute; default: as `make_fabric`.
        embeddings: folder of a frozen encoder's embeddings, for ``cache_embeddings``; default: in ``out``.

    Raises:
        SamsegError: the loss is not finite (the batch is saved beside), the checkpoint in ``out`` is damaged or of
            another recipe, or the batch cannot be shared out evenly.
    """
    require_same_recipe(recipe, out)
    trainer = Trainer(network, recipe, data, classes, out, fabric or make_fabric(recipe.precision))
    if recipe.cache_embeddings:
        trainer.embeddings = EmbeddingCache(network, embeddings or out / "embeddings", recipe.precision)
    trainer.run(validation, progress)
    load_best(out / BEST_FILE, network)
    return network.eval()


class Trainer:
    """A run between its start, or its last checkpoint, and its end. Arguments as `train`."""

    def __init__(
        self, network: nn.Module, recipe: Recipe, data: SampleSource, classes: int, out: Path, fabric: Fabric
    ) -> None:
        torch.set_num_threads(recipe.threads or threads_of_a_process())
        self.recipe, self.data, self.out, self.fabric = recipe, data, out, fabric
        self.course = Course(recipe.steps_of(len(data)), tuple(p.batch for p in recipe.phases), len(data))
        network = shared_batch_norms(network.to(memory_format=torch.channels_last), fabric, recipe)
        self.criterion = SegmentationLoss(recipe.loss, _class_weights(recipe, data, classes)).to(fabric.device)
        optimizer = make_optimizer(network, recipe.model, recipe.optimizer)
        self.module, wrapped = fabric.setup(network, optimizer)
        for method in SHARED_METHODS:
            if hasattr(network, method):
                self.module.mark_forward_method(method)
        self.task = task_of(recipe)
        self.embeddings: EmbeddingCache | None = None
        self.state = State(network, _average(network, recipe), wrapped)
        self.state.data = source_digest(data)
        if (out / CHECKPOINT_FILE).exists():
            load_state(out / CHECKPOINT_FILE, self.state, fabric)
        elif fabric.is_global_zero:
            (out / BEST_FILE).unlink(missing_ok=True)  # of another run
        self.log = _begin(out, recipe, self.state.step) if fabric.is_global_zero else None

    def run(self, validation: SampleSource, progress: Progress | None = None) -> None:
        """Go on to the last step."""
        state = self.state
        if state.step == 0:
            self.validate(validation)
        started = time.monotonic() - state.seconds
        for phase, batches in self.batches():
            parts = self.step(phase, batches)
            state.seconds = time.monotonic() - started
            last = state.step == self.course.steps
            if state.step % LOG_EVERY == 0 or last:
                self.write({"loss": state.running_loss, **parts, "lr": state.optimizer.param_groups[0]["lr"]})
            if progress:
                progress(state.step, self.course.steps, f"loss {state.running_loss:.3f}")
            if state.step % self.recipe.validate_every == 0 or last:
                self.validate(validation)
            if self.fabric.is_global_zero and (state.step % self.recipe.checkpoint_every == 0 or last):
                save_state(self.out / CHECKPOINT_FILE, state, self.fabric)
        if self.log:
            self.log.close()
        self.fabric.barrier()

    def batches(self) -> Iterator[tuple[Phase, list[Batch]]]:
        """Yield the micro-batches of every step that is left. They depend on (seed, step) alone."""
        first, offset, stream = self.state.step, 0, 0
        for phase, length in zip(self.recipe.phases, self.course.lengths, strict=True):
            micro, count = self.shares(phase)
            rank, world = self.fabric.global_rank, self.fabric.world_size
            steps = range(max(0, first - offset), length)
            chunks = [c for s in steps for c in positions(s, rank, world, micro, count, stream)]
            yield from self._grouped(phase, chunks, count)
            offset, stream = offset + length, stream + length * phase.batch

    def _grouped(self, phase: Phase, chunks: list[list[int]], count: int) -> Iterator[tuple[Phase, list[Batch]]]:
        recipe = self.recipe
        settings = recipe.augmentation
        if phase.resize is not None:
            settings = settings.model_copy(update={"resize": phase.resize})
        stream = loader(self.data, settings, phase.crop, recipe.sensors, recipe.seed, chunks, recipe.workers)
        while group := list(islice(stream, count)):
            yield phase, [batch.to(self.fabric.device) for batch in group]

    def shares(self, phase: Phase) -> tuple[int, int]:
        """Return the samples of a micro-batch and the number of micro-batches that a process has in a step.

        Raises:
            SamsegError: they do not make up the batch.
        """
        world = self.fabric.world_size
        micro = self.recipe.micro_batch or phase.batch // world
        if micro == 0 or phase.batch % (micro * world):
            raise SamsegError(
                f"batch: expected a multiple of {world} processes x {micro or 1} samples (micro_batch), "
                f"got {phase.batch}; change phases.N.batch or micro_batch"
            )
        return micro, phase.batch // (micro * world)

    def step(self, phase: Phase, batches: list[Batch]) -> dict[str, float]:
        """Take one optimiser step; return the parts of the loss."""
        state, recipe = self.state, self.recipe
        seed = recipe.seed * 1_000_003 + state.step  # dropout too repeats after a resume
        torch.manual_seed(seed * self.fabric.world_size + self.fabric.global_rank)
        settings = recipe.optimizer
        for group in state.optimizer.param_groups:
            peak = settings.learning_rate * group["lr_scale"]
            group["lr"] = learning_rate(peak, recipe.schedule, state.step, self.course)
        state.network.train()
        if recipe.frozen_batch_norm:
            freeze_batch_norms(state.network)
        loss, parts = self.gradients(phase, batches)
        if settings.clip_norm:
            norm = self.fabric.clip_gradients(
                self.module, state.optimizer, max_norm=settings.clip_norm, error_if_nonfinite=False
            )
            if recipe.precision != "fp16" and norm is not None and not torch.isfinite(norm):  # fp16 skips such steps
                raise SamsegError(self._save_bad_batch(batches, loss, "its gradient is not finite"))
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        if state.average is not None:
            state.average.update_parameters(state.network)
        state.running_loss = loss if state.step == 0 else SMOOTHING * state.running_loss + (1 - SMOOTHING) * loss
        state.step += 1
        return parts

    def gradients(self, phase: Phase, batches: list[Batch]) -> tuple[float, dict[str, float]]:
        """Add up the gradients of a step; return its loss and the parts of it, over all processes.

        Sums are divided by what *all* processes and micro-batches hold (`SegmentationLoss`), so that neither the number
        of processes nor accumulation changes the step, but for the terms that are no sums (OHEM, batch Dice, and what
        FusionSAM learns beside the segmentation: means over the samples that have a sensor, and codebooks, which every
        micro-batch moves).
        """
        stride = phase.loss_stride
        labels = [batch.labels[:, ::stride, ::stride] for batch in batches]
        mass = torch.stack([self.criterion.mass(part) for part in labels]).sum(0)
        counts = reduced(self.fabric, mass, "sum") / self.fabric.world_size
        totals: dict[str, Tensor] = {}
        for i, (batch, target) in enumerate(zip(self._embedded(batches), labels, strict=True)):
            with self.fabric.no_backward_sync(self.module, enabled=i + 1 < len(batches)):
                with self.fabric.autocast():  # a module that is not wrapped for many processes does not do it itself
                    loss, parts = self.task.objective(
                        self.module, batch, target, self.criterion, counts, self.recipe, self.state.step
                    )
                self.fabric.backward(loss)
            for name, value in {"loss": loss.detach(), **{f"loss_{k}": v for k, v in parts.items()}}.items():
                totals[name] = totals.get(name, torch.zeros_like(value)) + value
        means = {name: float(reduced(self.fabric, value, "mean")) for name, value in totals.items()}
        whole = means.pop("loss")
        if not math.isfinite(whole):
            raise SamsegError(self._save_bad_batch(batches, whole))
        return whole, means if len(means) > 1 else {}

    def _embedded(self, batches: list[Batch]) -> list[Batch]:
        if self.embeddings is None:
            return batches
        with self.fabric.autocast():
            return [self.embeddings.attach(batch) for batch in batches]

    def validate(self, data: SampleSource) -> None:
        """Score the weights that would be kept, write the row, and keep them where they are the best so far."""
        state = self.state
        recipe = self.recipe
        scores = self.task.score(state.kept, data, recipe.sensors, self.fabric, self.embeddings, recipe.data.windows)
        score = next(iter(scores.values()))
        if self.fabric.is_global_zero:
            if score > state.best_score:
                state.best_score = score
                save_best(self.out / BEST_FILE, state)
            self.write(scores)
            if self.log:
                self.log.draw(f"{self.recipe.model} {self.recipe.preset} on {self.recipe.data.dataset}")

    def write(self, row: dict[str, float]) -> None:
        """Add a row to the log, on the first process."""
        if self.log:
            epoch = self.course.epoch(self.state.step)
            self.log.write({"step": self.state.step, "epoch": round(epoch, 4), **row, "seconds": self.state.seconds})

    def _save_bad_batch(self, batches: list[Batch], loss: float, fault: str = "") -> str:
        path = self.out / f"bad_batch{self.fabric.global_rank or ''}.pt"
        tree = [{"inputs": b.inputs, "present": b.present, "labels": b.labels, "names": list(b.names)} for b in batches]
        torch.save({"step": self.state.step, "micro_batches": tree}, path)
        said = f"step {self.state.step}: the loss is {loss}{', ' if fault else ''}{fault}"
        return f"{said}; the batch is in {path}, the last state in {CHECKPOINT_FILE}"


def source_digest(data: SampleSource) -> str:
    """Name what is learnt from: the samples and their order."""
    names = "\n".join(data.name(i) for i in range(len(data)))
    return hashlib.sha256(names.encode()).hexdigest()[:16]


def make_optimizer(network: nn.Module, model: str, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Return Adam or AdamW over the groups that ``grouping`` says, each with its "lr_scale"."""
    groups = parameter_groups(
        network, model, settings.learning_rate, settings.weight_decay, settings.layer_decay, settings.grouping
    )
    kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    return kind(groups, settings.learning_rate, betas=settings.betas)


def _average(network: nn.Module, recipe: Recipe) -> AveragedModel | None:
    if not recipe.ema_decay:
        return None
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay), use_buffers=True)


def _begin(out: Path, recipe: Recipe, done: int) -> RunLog:
    """Write down what runs, and open the log."""
    out.mkdir(parents=True, exist_ok=True)
    (out / RECIPE_FILE).write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
    (out / "source.json").write_text(json.dumps({"version": __version__, "revision": revision()}))
    return RunLog(out, done)


def _class_weights(recipe: Recipe, data: SampleSource, classes: int) -> Tensor | None:
    """Return the classes' weights from at most 500 samples, which is plenty."""
    if recipe.loss.class_weights == "none":
        return None
    counts = torch.zeros(256)
    for i in range(0, len(data), max(1, len(data) // 500)):
        counts += torch.bincount(torch.from_numpy(data.planes(i)["labels"].ravel().astype("int64")), minlength=256)
    return class_weights(counts[:classes])
