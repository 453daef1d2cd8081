"""From a recipe and a folder of data to a folder of weights: the parts put together."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import nn

from samseg_ros.config import Config, ThermalConfig
from samseg_ros.datasets.catalog import DATASETS, open_dataset
from samseg_ros.datasets.labelled import LabelledDataset
from samseg_ros.errors import SamsegError
from samseg_ros.labels import load_labels
from samseg_ros.models import MODELS, ModelSpec, build_network, save_model
from samseg_ros.models.checkpoints import misfits, read_state
from samseg_ros.models.import_weights import with_labels_beside
from samseg_ros.models.sam_checkpoint import SIZES, load_sam_encoder, sam_encoder_state
from samseg_ros.networks.activation_checkpointing import checkpoint_activations
from samseg_ros.training.batches import SampleSource
from samseg_ros.training.cache import DirectSamples, open_cache
from samseg_ros.training.checkpoint import CHECKPOINT_FILE
from samseg_ros.training.fabric import make_fabric
from samseg_ros.training.latent_stage import LatentStage, draw_reconstructions, freeze_tokens, latent_stage
from samseg_ros.training.lock import locked
from samseg_ros.training.recipe import DataSettings, Recipe
from samseg_ros.training.trainer import train

logger = logging.getLogger(__name__)
SAME_ASPECT = 0.05
"""Relative difference up to which two aspects count as one: sides are multiples of 32."""
MODEL_FOLDER = "model"
Bar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""``with bar("what") as advance: advance(done, in all)``."""


@dataclass(frozen=True)
class Places:
    """Where a run reads and writes."""

    out: Path
    """Folder of checkpoints, log and weights."""
    data: Path | None = None
    """Folder of the dataset; the world needs none."""
    cache: Path = Path("runs/cache")
    """Folder of prepared samples, shared by all runs."""
    workers: int = 1
    """Processes that prepare samples."""


def run_recipe(recipe: Recipe, places: Places, bar: Bar) -> ModelSpec:
    """Train as a recipe says and write ``out/model``, which ``model.checkpoint`` can name; return its spec.

    Raises:
        SamsegError: the data, the recipe or the weights to start from are not as they have to be.
    """
    fabric = make_fabric(recipe.precision)
    with alone_in(places.out) if fabric.is_global_zero else nullcontext():
        return _run(recipe, places, bar, fabric)


def alone_in(folder: Path) -> AbstractContextManager[None]:
    """Hold the folder of a run. Raises as `samseg_ros.training.lock.locked`."""
    return locked(folder, "another run writes there; wait for its end, or choose another --out")


def _run(recipe: Recipe, places: Places, bar: Bar, fabric: Fabric) -> ModelSpec:
    torch.manual_seed(recipe.seed)
    known = recipe.data
    data, validation = open_splits(recipe, places.data)
    labels = load_labels(data.labels)
    network = build_network(recipe.model, recipe.preset, recipe.sensors, len(labels), recipe.options)
    if recipe.activation_checkpointing:
        checkpoint_activations(network)
    if not (places.out / CHECKPOINT_FILE).exists():
        start_weights(network, recipe)
    if recipe.joint.freeze_latent:
        freeze_tokens(network)
    learner = latent_stage(network, recipe.latent) if recipe.stage == "latent" else network
    with fabric.rank_zero_first():  # the first process prepares, the others find it done
        samples = _source(recipe, data, known.train_split, places, bar)
        unseen = _source(recipe, validation, known.val_split, places, bar)
    with bar("training") as advance:
        train(
            learner,
            recipe,
            samples,
            unseen,
            len(labels),
            places.out,
            lambda done, total, _: advance(done, total),
            fabric,
            places.cache / "embeddings",
        )
    height, width = unseen.planes(0)["labels"].shape[:2]
    spec = spec_of(recipe, data, network, height * width)
    if fabric.is_global_zero:
        if isinstance(learner, LatentStage):
            draw_reconstructions(learner, unseen, recipe.sensors, places.out / "reconstructions.png")
        spec = save_model(places.out / MODEL_FOLDER, network, with_labels_beside(places.out / MODEL_FOLDER, spec))
    return spec


def open_splits(recipe: Recipe, folder: Path | None) -> tuple[LabelledDataset, LabelledDataset]:
    """Open what a recipe learns from and what it is validated on.

    Raises:
        SamsegError: something of them is missing, or the recipe wants a sensor that they lack.
    """
    known = recipe.data
    data = open_dataset(known.dataset, folder, known.train_split, known.limit, known.view, known.thermal)
    _require_sensors(recipe, data)
    validation = open_dataset(known.dataset, folder, known.val_split, known.validation_limit, known.view, known.thermal)
    for split, part in ((known.train_split, data), (known.val_split, validation)):
        if not len(part):
            raise SamsegError(
                f"{known.dataset}: split {split} has no sample; check the dataset, or choose another split"
            )
    return data, validation


def start_weights(network: nn.Module, recipe: Recipe) -> None:
    """Fill a fresh network with what the recipe starts from.

    From ``start_from`` whatever has the same name and shape is taken, so that another label set or another sensor can
    be learnt on top; what stays fresh is said in the log.

    Raises:
        SamsegError: a file cannot be read, less than half of the network's parameters are in it, or SAM's encoder is
            frozen and nothing fills it.
    """
    require_sam(network, recipe)
    if recipe.sam_checkpoint:
        load_sam_encoder(network, sam_encoder_state(read_state(Path(recipe.sam_checkpoint))))
    if recipe.resnet_checkpoint:
        _load_resnet(network, Path(recipe.resnet_checkpoint))
    if not recipe.start_from:
        return
    path = Path(recipe.start_from).expanduser()
    found = read_state(next(iter(sorted(path.glob("*.safetensors"))), path) if path.is_dir() else path)
    wanted = network.state_dict()
    fits = {k: v for k, v in found.items() if k in wanted and wanted[k].shape == v.shape}
    share = sum(v.numel() for v in fits.values()) / sum(v.numel() for v in wanted.values())
    if share < 0.5:
        raise SamsegError(
            f"start_from: expected weights of {recipe.model} ({recipe.preset}), got {path}, in which only "
            f"{100 * share:.0f} % of the parameters fit; check model, preset and options"
        )
    fresh = [k for k in wanted if k not in fits]
    if not recipe.sam_checkpoint and (lost := _frozen_sam(network, recipe) & set(fresh)):
        raise SamsegError(
            f"start_from: {path} lacks weights of SAM's encoder, which stays as it is ({sorted(lost)[0]}, ...); "
            f"set sam_checkpoint too: {_how_to_fetch(recipe)}"
        )
    if recipe.joint.freeze_latent and (lost_tokens := [k for k in fresh if k.startswith("tokens.")]):
        raise SamsegError(
            f"start_from: {path} lacks tokens that joint.freeze_latent would keep as they are ({lost_tokens[0]}, ...); "
            "start from a first stage of the same preset, or set joint.freeze_latent=false"
        )
    network.load_state_dict(fits, strict=False)
    logger.warning("%s: %.0f %% of the parameters taken; left fresh: %s", path, 100 * share, ", ".join(fresh) or "none")


def require_sam(network: nn.Module, recipe: Recipe) -> None:
    """Refuse to train around a frozen SAM encoder of random weights.

    The compact preset is spared: no SAM is as small, and its ablation freezes random weights on purpose.

    Raises:
        SamsegError: the encoder is frozen, and the recipe names nothing that fills it.
    """
    if recipe.stage == "latent":  # SAM is not run there
        return
    if _frozen_sam(network, recipe) and not (recipe.sam_checkpoint or recipe.start_from):
        raise SamsegError(
            f"sam_checkpoint: expected SAM's weights, as {recipe.model} {recipe.preset} keeps its encoder frozen, got "
            f"none; {_how_to_fetch(recipe)}, or start_from with weights of this model"
        )


def _frozen_sam(network: nn.Module, recipe: Recipe) -> set[str]:
    """Return the names of the parameters of SAM's image encoder that do not learn; none of a preset of our own size."""
    parts = ("image_encoder.", "neck.", "backbone.encoder.")
    frozen = {name for name, p in network.named_parameters() if name.startswith(parts) and not p.requires_grad}
    return frozen if recipe.preset in SIZES else set()


def _how_to_fetch(recipe: Recipe) -> str:
    return f"samseg weights fetch sam_{recipe.preset}, then --set sam_checkpoint=FILE"


def _load_resnet(network: nn.Module, path: Path) -> None:
    """Put ImageNet weights into the network's ResNet, its classifier (``fc``) aside."""
    resnet = getattr(network, "resnet", None)
    if not isinstance(resnet, nn.Module):
        raise SamsegError(f"resnet_checkpoint: {type(network).__name__} has no ResNet; leave it empty")
    found = {name: value for name, value in read_state(path).items() if not name.startswith("fc.")}
    if faults := misfits(found, {name: value.shape for name, value in resnet.state_dict().items()}):
        raise SamsegError(f"{path} does not fit the network's ResNet: {faults}")
    resnet.load_state_dict(found)


def spec_of(recipe: Recipe, data: LabelledDataset, network: nn.Module, pixels: int) -> ModelSpec:
    """Say what the weights are for; ``pixels`` is the area of a validation image."""
    name, scaling = recipe.data.dataset, recipe.data.thermal
    sees_counts = "thermal" in recipe.sensors
    return ModelSpec(
        name=recipe.model,
        preset=recipe.preset,
        options=recipe.options,
        labels=data.labels,
        modalities=tuple(network.modalities),  # type: ignore[arg-type]
        input_pixels=recipe.data.input_pixels or pixels,
        stage=recipe.stage,
        squash_to=recipe.data.size if recipe.data.squash else None,
        pad_to=recipe.data.pad_to,
        windows=recipe.data.windows,
        thermal=scaling if sees_counts and scaling != ThermalConfig() else None,
        weights=f"{recipe.preset}.safetensors",
        licence="Apache-2.0"
        if recipe.data.dataset == "world"
        else f"of the data: {DATASETS[recipe.data.dataset].licence}",
        paper=MODELS[recipe.model].paper,
        data=f"{name}, {len(data)} samples of split {recipe.data.train_split}, sensors "
        + ("thermal as rgb" if recipe.data.view == "thermal" else ", ".join(recipe.sensors)),
    )


def _require_sensors(recipe: Recipe, data: LabelledDataset) -> None:
    missing = [name for name in recipe.sensors if name not in data.modalities]
    if missing:
        raise SamsegError(
            f"sensors: expected some of {', '.join(data.modalities)}, which {recipe.data.dataset} has, "
            f"got {', '.join(missing)}; change the recipe's sensors"
        )


def _source(recipe: Recipe, dataset: LabelledDataset, split: str, places: Places, bar: Bar) -> SampleSource:
    """Return prepared samples: kept on disk where the recipe says a size, else read each time.

    What is kept has every modality of the dataset, so that recipes of different sensors share it.
    """
    config, size = Config(thermal=recipe.data.thermal), recipe.data.size
    if size is None:
        return DirectSamples(dataset, recipe.sensors, config)
    _warn_of_aspect(recipe.data, dataset)
    view = "" if recipe.data.view == "all" else f"_{recipe.data.view}"
    key = f"{recipe.data.dataset}{view}_{split}_{len(dataset)}{_stamp(places.data)}"
    with bar(f"preparing {split}") as advance:
        return open_cache(places.cache, dataset, key, dataset.modalities, size, config, places.workers, advance)


def _warn_of_aspect(data: DataSettings, dataset: LabelledDataset) -> None:
    """Say where images are squashed although the weights will be used with the aspect kept."""
    (height, width), (h, w) = dataset[0][0].size, data.size or (1, 1)
    if not data.squash and abs(height * w / (width * h) - 1) > SAME_ASPECT:
        logger.warning(
            "data.size %dx%d has another aspect than the images (%dx%d): they are squashed in training, but not where "
            "the weights are used; choose a size of their aspect, or set data.squash",
            *(h, w, height, width),
        )


def _stamp(folder: Path | None) -> str:
    """Name a folder's files by path, size and time: what was prepared of other files is not taken for theirs."""
    if folder is None or not folder.is_dir():
        return ""
    digest = hashlib.sha256(str(folder.resolve()).encode())
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        status = file.stat()
        digest.update(f"{file.relative_to(folder)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return f"_{digest.hexdigest()[:8]}"
