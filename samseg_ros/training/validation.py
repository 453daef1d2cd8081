"""What a run is judged by while it trains."""

from __future__ import annotations

import math
from functools import partial

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from samseg_ros.errors import SamsegError
from samseg_ros.evaluation.metrics import miou
from samseg_ros.models.windows import Windows, over_windows
from samseg_ros.training.batches import SampleSource, plain_batches
from samseg_ros.training.embeddings import EmbeddingCache
from samseg_ros.training.fabric import reduced
from samseg_ros.types import UNLABELLED

VALIDATION_BATCH = 6


def segmentation_score(
    network: nn.Module,
    data: SampleSource,
    sensors: tuple[str, ...],
    fabric: Fabric,
    embeddings: EmbeddingCache | None = None,
    windows: Windows | None = None,
) -> dict[str, float]:
    """Return mIoU (%) at the samples' own size; classes absent from all of them do not count.

    Args:
        embeddings: of the network's frozen encoder, where they are kept.
        windows: in which images are seen, as where the weights are used; not beside embeddings.

    Raises:
        SamsegError: there is no sample, or no labelled pixel.
    """
    network.eval()
    table: Tensor | None = None
    with torch.inference_mode(), fabric.autocast():
        for batch in plain_batches(data, sensors, VALIDATION_BATCH, fabric.global_rank, fabric.world_size):
            batch = batch.to(fabric.device)
            batch = embeddings.attach(batch) if embeddings else batch
            run = partial(network, present=batch.present, **batch.extras)
            logits = run(batch.inputs) if windows is None else over_windows(run, batch.inputs, windows)
            k = logits.shape[1]
            valid = batch.labels != UNLABELLED
            pairs = torch.bincount(batch.labels[valid] * k + logits.argmax(1)[valid], minlength=k * k)
            table = pairs if table is None else table + pairs
    if table is None:
        raise SamsegError("validation needs at least one sample for each process")
    score = 100 * float(miou(reduced(fabric, table, "sum").view(k, k).cpu().numpy()))
    if math.isnan(score):
        raise SamsegError("validation: expected some labelled pixels, got none; check the split and its labels")
    return {"val_miou": score}
