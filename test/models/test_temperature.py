"""A temperature that was fitted is found again with the weights, wherever they are loaded."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from samseg_ros.config import ModelConfig, from_flat
from samseg_ros.errors import SamsegError
from samseg_ros.models import load_model, read_spec
from samseg_ros.models.export import Plan, export_model
from samseg_ros.models.install import install
from samseg_ros.models.random_weights import random_weights
from samseg_ros.models.temperature import store_temperature
from samseg_ros.pipeline import Pipeline
from samseg_ros.types import Frame

CAMERA = (64, 96)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAMSEG_MODELS", str(tmp_path / "installed"))
    given = {"name": "ad_sam", "preset": "compact", "labels": "camvid", "modalities": ("rgb",), "input_pixels": 64 * 96}
    random_weights(given, tmp_path / "weights", precision="fp32")
    return tmp_path / "weights"


def _config(path: Path) -> ModelConfig:
    return ModelConfig(name="ad_sam", checkpoint=str(path))


def test_a_stored_temperature_is_read_again_and_a_second_one_multiplies_it(folder: Path) -> None:
    before = read_spec(folder / "model.yaml")
    assert store_temperature(_config(folder), 1.5) == folder / "model.yaml"
    assert load_model(_config(folder)).spec == before.model_copy(update={"temperature": 1.5})
    store_temperature(_config(folder / before.weights), 0.5)
    assert load_model(_config(folder)).spec.temperature == 0.75


def test_installed_weights_keep_their_temperature(folder: Path) -> None:
    store_temperature(_config(folder), 1.25)
    install(folder)
    assert load_model(ModelConfig(name="ad_sam")).spec.temperature == 1.25


def test_weights_that_no_model_yaml_names_have_no_temperature_of_others_and_keep_none(folder: Path) -> None:
    install(folder)
    store_temperature(ModelConfig(name="ad_sam"), 3.0)
    with pytest.raises(SamsegError, match=r"expected weights that a model\.yaml beside them names"):
        store_temperature(ModelConfig(name="mm_sam_adapter", checkpoint=str(folder / "other.safetensors")), 2.0)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_what_cannot_be_a_temperature_is_not_stored(folder: Path, factor: float) -> None:
    before = (folder / "model.yaml").read_text()
    with pytest.raises(SamsegError, match="no temperature can be"):
        store_temperature(_config(folder), factor)
    assert (folder / "model.yaml").read_text() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_told(folder: Path) -> None:
    (folder / "model.yaml").chmod(0o444)
    with pytest.raises(SamsegError, match="cannot be written"):
        store_temperature(_config(folder), 2.0)


@pytest.mark.slow
def test_an_exported_network_says_the_same_confidence_as_its_weights(folder: Path, tmp_path: Path) -> None:
    def segment(path: Path) -> np.ndarray:
        settings = {"model.name": "ad_sam", "model.checkpoint": str(path), "model.device": "cpu"}
        image = np.random.default_rng(0).integers(0, 256, (*CAMERA, 3), np.uint8)
        return Pipeline.from_config(from_flat({**settings, "model.precision": "fp32"}))(Frame(image)).confidence

    plain = segment(folder)
    store_temperature(_config(folder), 4.0)
    plan = Plan("torch", CAMERA, CAMERA, "fp32", "cpu")
    export_model(load_model(_config(folder)), tmp_path / "exported", plan)
    warm = segment(folder)
    assert warm.mean() < plain.mean()
    np.testing.assert_allclose(segment(tmp_path / "exported").astype(int), warm, atol=1)
