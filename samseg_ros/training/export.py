"""From a trained network to a folder that ``model.checkpoint`` can name."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from samseg_ros.models import ModelSpec, save_model
from samseg_ros.training.recipe import Recipe


def save_trained(folder: Path, network: nn.Module, recipe: Recipe) -> ModelSpec:
    """Write weights (fp16 safetensors) and model.yaml; return the spec.

    Raises:
        SamsegError: a weight is not finite or too large for float16.
    """
    height, width = recipe.cache_size
    spec = ModelSpec(
        name=recipe.model,
        preset=recipe.preset,
        labels="world",
        modalities=tuple(network.modalities),  # type: ignore[arg-type]
        input_pixels=height * width,
        weights=f"{recipe.preset}.safetensors",
        licence="Apache-2.0",
        paper="https://arxiv.org/abs/2509.10408" if recipe.model == "mm_sam_adapter" else "",
        data=f"{recipe.frames} generated scenes (samseg world, split train), sensors {', '.join(recipe.sensors)}",
    )
    return save_model(folder, network, spec)
