"""Fresh weights in a folder that the settings can name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from samseg_ros.config import ModelConfig
from samseg_ros.errors import SamsegError
from samseg_ros.models import load_model, read_spec
from samseg_ros.models.random_weights import random_weights

GIVEN = {
    "name": "mm_sam_adapter",
    "preset": "compact",
    "labels": "cityscapes",
    "modalities": ("rgb", "lidar"),
    "input_pixels": 96 * 128,
    "options": {},
}


def test_the_same_seed_gives_the_same_weights_and_leaves_the_callers_numbers_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (random_weights(GIVEN, tmp_path / str(i), seed) for i, seed in enumerate((0, 0, 1)))
    assert torch.equal(torch.rand(3), expected)
    assert first.sha256 == again.sha256 != other.sha256
    loaded = load_model(ModelConfig(checkpoint=str(tmp_path / "0")))
    assert loaded.labels.name == "cityscapes" and "random" in loaded.spec.data
    assert read_spec(tmp_path / "0" / "model.yaml") == first
    scores = loaded.network({"rgb": torch.randn(1, 3, 96, 128)})
    assert scores.shape == (1, 19, 96, 128) and scores.isfinite().all()


def test_a_folder_with_a_model_is_not_overwritten_and_what_is_missing_is_named(tmp_path: Path) -> None:
    random_weights(GIVEN, tmp_path)
    with pytest.raises(SamsegError, match="holds a model already"):
        random_weights(GIVEN, tmp_path)
    with pytest.raises(SamsegError, match="random weights: what it is for is not known; give --labels, --modalities"):
        random_weights({"name": "mm_sam_adapter", "preset": "compact", "input_pixels": 4096}, tmp_path / "new")
