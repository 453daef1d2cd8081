from __future__ import annotations

import logging

import cv2
import numpy as np
import pytest
import torch

from samseg_ros.config import ModelConfig, ThermalConfig, from_flat
from samseg_ros.datasets.fmb import open_fmb
from samseg_ros.errors import SamsegError
from samseg_ros.models import ModelSpec, build_network, load_model, read_spec, save_model
from samseg_ros.pipeline import Pipeline
from samseg_ros.training import run
from samseg_ros.training.lock import locked
from samseg_ros.training.recipe import load_recipe
from samseg_ros.training.run import Places, require_sam, run_recipe, start_weights

TINY = {
    "data.limit": 4,
    "data.validation_limit": 2,
    "data.size": [64, 96],
    "phases": [{"steps": 2, "batch": 2, "crop": [64, 64]}],
    "precision": "fp32",
}


def adapter(classes, sensors=("rgb", "thermal")):
    return build_network("mm_sam_adapter", "compact", sensors, classes)


def test_a_recipe_on_the_world_ends_in_a_folder_that_the_pipeline_loads(tmp_path, silent):
    recipe = load_recipe("mm_sam_adapter_world", TINY)
    spec = run_recipe(recipe, Places(tmp_path / "run", None, tmp_path / "cache", 1), silent)
    assert read_spec(tmp_path / "run" / "model" / "model.yaml") == spec
    assert (spec.modalities, spec.labels, spec.input_pixels) == (("rgb", "thermal", "lidar"), "world", 64 * 96)
    assert len(load_model(ModelConfig(checkpoint=str(tmp_path / "run" / "model"))).labels) == 12


def test_what_is_squashed_in_training_is_said_and_may_be_meant(tmp_path, caplog, silent):
    places = Places(tmp_path / "run", None, tmp_path / "cache", 1)
    run_recipe(load_recipe("mm_sam_adapter_world", TINY), places, silent)  # 64 x 96 of 480 x 640
    assert "data.size 64x96 has another aspect than the images (480x640)" in caplog.text
    caplog.clear()
    meant = load_recipe("mm_sam_adapter_world", {**TINY, "data.squash": True})
    spec = run_recipe(meant, Places(tmp_path / "meant", None, tmp_path / "cache", 1), silent)
    assert spec.squash_to == (64, 96) and "aspect" not in caplog.text


def test_weights_can_be_meant_for_another_area_than_they_are_validated_at(tmp_path, silent):
    recipe = load_recipe("mm_sam_adapter_world", {**TINY, "data.input_pixels": 480_000})
    run_recipe(recipe, Places(tmp_path / "run", None, tmp_path / "cache", 1), silent)
    assert read_spec(tmp_path / "run/model/model.yaml").input_pixels == 480_000


@pytest.fixture
def lukewarm(tmp_path):
    """A folder of FMB's layout whose thermal images are 51 everywhere."""
    rng = np.random.default_rng(0)
    for split, names in (("train", "ab"), ("test", "c")):
        for name in names:
            parts = {
                "Visible": rng.integers(0, 256, (64, 96, 3), np.uint8),
                "Infrared": np.full((64, 96), 51, np.uint8),
            }
            for part, pixels in (parts | {"Label": rng.integers(0, 15, (64, 96), np.uint8)}).items():
                (tmp_path / "fmb" / split / part).mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(tmp_path / "fmb" / split / part / f"{name}.png"), pixels)
    return tmp_path / "fmb"


FMB = {"preset": "compact", "augmentation": {}, "phases": TINY["phases"], "precision": "fp32", "workers": 0}


@pytest.mark.parametrize("size", [None, [64, 96]])  # read each time, or kept on disk
def test_the_published_fmb_recipe_sees_thermal_over_255_in_training_and_so_do_its_weights(
    tmp_path, silent, monkeypatch, lukewarm, size
):
    seen = []

    def watched(*arguments):
        network = build_network(*arguments)
        network.backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0]["thermal"].clone()))
        return network

    monkeypatch.setattr(run, "build_network", watched)
    recipe = load_recipe("mm_sam_adapter_fmb", {**FMB, "data.size": size, "data.pad_to": None})
    spec = run_recipe(recipe, Places(tmp_path / "run", lukewarm, tmp_path / "cache", 1), silent)
    assert {tuple(x.shape[-2:]) for x in seen} == {(64, 64), (64, 96)}  # training and validation
    assert all(x.numpy() == pytest.approx(51 / 255) for x in seen)
    assert spec.thermal == ThermalConfig(normalization="fixed", fixed_low=0, fixed_high=255)

    segment = Pipeline.from_config(from_flat({"model.checkpoint": str(tmp_path / "run" / "model")}))
    assert segment.prepare(open_fmb(lukewarm, "test")[0][0])[0]["thermal"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    "changes", [{"data.thermal": {}}, {"sensors": ["rgb"]}, {"sensors": ["rgb"], "data.view": "thermal"}]
)
def test_weights_say_nothing_of_thermal_where_it_is_the_default_or_they_take_none(tmp_path, silent, lukewarm, changes):
    recipe = load_recipe("mm_sam_adapter_fmb", {**FMB, **changes})
    data, _ = run.open_splits(recipe, lukewarm)
    network = adapter(14, recipe.sensors)
    assert run.spec_of(recipe, data, network, 64 * 96).thermal is None
    if recipe.data.view == "thermal":
        assert (data[0][0].image == 51).all()  # the counts that stand in for the camera: 255 * 51 / 255


def test_a_sensor_that_the_dataset_lacks_is_refused(tmp_path, silent):
    recipe = load_recipe("mm_sam_adapter_world", {**TINY, "sensors": ["rgb", "event"]})
    with pytest.raises(SamsegError, match="sensors: expected some of rgb, thermal, lidar, which world has, got event"):
        run_recipe(recipe, Places(tmp_path / "run", None, tmp_path / "cache", 1), silent)


def test_fine_tuning_takes_what_fits_and_says_what_stays_fresh(tmp_path, caplog):
    source = adapter(7)
    spec = {"name": "mm_sam_adapter", "preset": "compact", "labels": "world", "modalities": source.modalities}
    rest = {"input_pixels": 4096, "weights": "w.safetensors", "licence": "x"}
    save_model(tmp_path, source, ModelSpec(**spec, **rest))
    network = adapter(12, ("rgb", "thermal", "lidar"))
    with caplog.at_level(logging.WARNING):
        start_weights(network, load_recipe("mm_sam_adapter_world", {"start_from": str(tmp_path)}))
    stem = "backbone.prior.rgb_stem.stem.0.weight"
    name = stem if stem in network.state_dict() else next(k for k in network.state_dict() if "rgb_stem" in k)
    assert torch.equal(network.state_dict()[name], source.state_dict()[name].half().float())
    assert "left fresh: " in caplog.text and "x_stems.lidar" in caplog.text and "decode_head" in caplog.text


def test_two_runs_do_not_write_into_one_folder(tmp_path, silent):
    with locked(tmp_path / "run", ""), pytest.raises(SamsegError, match=r"run is in use .*choose another --out"):
        run_recipe(
            load_recipe("mm_sam_adapter_world", TINY), Places(tmp_path / "run", None, tmp_path / "cache"), silent
        )
    assert not (tmp_path / "cache").exists()


def published(recipe):
    """Return the network of a recipe without its memory."""
    with torch.device("meta"):
        return build_network(recipe.model, recipe.preset, recipe.sensors, 3, recipe.options)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("fusionsam_fmb", {"preset": "vit_b"}),
        ("ad_sam_cityscapes", {"preset": "vit_b"}),
        ("mm_sam_adapter_fmb", {"preset": "vit_b", "options.encoder": "frozen"}),
    ],
)
def test_a_frozen_encoder_of_sams_size_is_not_left_random(name, changes):
    recipe = load_recipe(name, changes)
    with pytest.raises(SamsegError, match=r"sam_checkpoint: expected SAM's weights, .*samseg weights fetch sam_vit_b"):
        start_weights(published(recipe), recipe)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("fusionsam_fmb", {"preset": "vit_b", "sam_checkpoint": "sam_vit_b.pth"}),
        ("mm_sam_adapter_fmb", {"preset": "vit_b"}),  # SAM's weights learn
        ("mm_sam_adapter_world", {"options.encoder": "frozen"}),  # compact: there is no such SAM
    ],
)
def test_other_encoders_may_start_as_the_recipe_says(name, changes):
    recipe = load_recipe(name, changes)
    require_sam(published(recipe), recipe)


def test_weights_to_start_from_have_to_hold_all_of_a_frozen_encoder(tmp_path):
    network = published(load_recipe("fusionsam_fmb", {"preset": "vit_b"}))
    state = {name: torch.zeros(1).expand(value.shape) for name, value in network.state_dict().items()}
    torch.save({name: value for name, value in state.items() if not name.startswith("neck.")}, tmp_path / "w.pt")
    recipe = load_recipe("fusionsam_fmb", {"preset": "vit_b", "start_from": str(tmp_path / "w.pt")})
    with pytest.raises(SamsegError, match=r"lacks weights of SAM's encoder, which stays as it is .neck\."):
        start_weights(network, recipe)


def test_weights_of_another_model_are_refused_as_a_start(tmp_path):
    torch.save(torch.nn.Linear(3, 3).state_dict(), tmp_path / "w.pt")
    recipe = load_recipe("mm_sam_adapter_world", {"start_from": str(tmp_path / "w.pt")})
    with pytest.raises(SamsegError, match="only 0 % of the parameters fit"):
        start_weights(adapter(12), recipe)


def test_a_resnet_is_filled_from_a_file_whose_classifier_is_left_aside(tmp_path):
    network = build_network("ad_sam", "compact", ("rgb",), 3)
    theirs = {name: torch.full_like(value, 0.5) for name, value in network.resnet.state_dict().items()}
    torch.save({**theirs, "fc.weight": torch.zeros(2, 2)}, tmp_path / "resnet.pth")
    start_weights(network, load_recipe("ad_sam_world", {"resnet_checkpoint": str(tmp_path / "resnet.pth")}))
    assert all(torch.equal(value, theirs[name]) for name, value in network.resnet.state_dict().items())
    with pytest.raises(SamsegError, match="MmSamAdapter has no ResNet"):
        start_weights(adapter(3), load_recipe("ad_sam_world", {"resnet_checkpoint": str(tmp_path / "resnet.pth")}))


def test_recomputed_activations_end_in_the_same_weights(tmp_path, silent):
    ends = []
    for name, spare in (("kept", False), ("spared", True)):
        recipe = load_recipe("mm_sam_adapter_world", {**TINY, "activation_checkpointing": spare})
        run_recipe(recipe, Places(tmp_path / name, None, tmp_path / "cache", 1), silent)
        ends.append(load_model(ModelConfig(checkpoint=str(tmp_path / name / "model"))).network.state_dict())
    assert all(torch.allclose(value, ends[1][name], atol=1e-5) for name, value in ends[0].items())
