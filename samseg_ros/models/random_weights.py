"""Weights that nothing was learnt into: to try speed and memory of a size whose trained weights are not at hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from samseg_ros.labels import load_labels
from samseg_ros.models import ModelSpec, build_network, save_model
from samseg_ros.models.import_weights import checked_spec, refuse_taken, with_labels_beside
from samseg_ros.models.weights import Precision

RANDOM = {
    "licence": "Apache-2.0",
    "data": "nothing: random weights, for trials of speed and memory; masks mean nothing",
}
"""What holds for all of them."""


def random_weights(given: Mapping[str, Any], out: Path, seed: int = 0, precision: Precision = "fp16") -> ModelSpec:
    """Write a network's fresh weights and model.yaml; return the spec with its digest.

    Args:
        given: entries of a model.yaml: name, preset, labels, modalities, input_pixels, and options where wanted.
        out: must not hold a model yet.
        seed: of the random numbers; the caller's own go on as if none had been drawn.

    Raises:
        SamsegError: an entry is missing or wrong, or there is a model at ``out``.
    """
    spec = checked_spec("random weights", {**{k: v for k, v in given.items() if v}, **RANDOM})
    refuse_taken(out)
    classes = len(load_labels(spec.labels))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build_network(spec.name, spec.preset, spec.modalities, classes, spec.options)
    return save_model(out, network, with_labels_beside(out, spec), precision)
