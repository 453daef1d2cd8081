"""The loop on a network of two layers: it learns, resumes exactly, and stops on a loss that is no number."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from samseg_ros.errors import SamsegError
from samseg_ros.training.batches import draw_batch
from samseg_ros.training.cache import Cache
from samseg_ros.training.recipe import Phase, Recipe, load_recipe
from samseg_ros.training.trainer import learning_rate, train


class TwoLayers(nn.Module):
    modalities = ("rgb", "thermal", "lidar")

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, stride=4)
        self.classes = nn.Conv2d(8, 2, 1)

    def coarse_logits(self, inputs, present=None):
        return self.classes(torch.relu(self.patch(inputs["rgb"])))

    def forward(self, inputs, present=None):
        return nn.functional.interpolate(self.coarse_logits(inputs), scale_factor=4.0)


def toy_cache(frames=8):
    """Class 1 is the bright half."""
    rng = np.random.default_rng(0)
    labels = np.zeros((frames, 64, 64, 1), np.uint8)
    labels[:, :, 32:] = 1
    rgb = (rng.integers(0, 60, (frames, 64, 64, 3)) + 150 * labels).astype(np.uint8)
    blank = np.zeros((frames, 64, 64, 1), np.uint8)
    return Cache({"rgb": rgb, "thermal": blank, "lidar": np.zeros((frames, 64, 64, 3), np.float16), "labels": labels})


def toy_recipe(**changes):
    settings = {
        "phases": (Phase(steps=40, batch=2, size=(64, 64)),),
        "warmup_steps": 2,
        "learning_rate": 0.02,
        "ema_decay": 0.8,
        "precision": "fp32",
        "checkpoint_every": 20,
        "validate_every": 20,
        "threads": 1,
    }
    return Recipe(**{**settings, **changes})


def network():
    torch.manual_seed(0)
    return TwoLayers()


def losses(folder):
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


def test_the_loop_learns_and_keeps_its_recipe(tmp_path):
    recipe = toy_recipe()
    train(network(), recipe, toy_cache(), toy_cache(2), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["val_miou"] for row in rows if "val_miou" in row][-1] > 95
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


def test_a_resumed_run_ends_in_the_same_weights(tmp_path):
    whole = train(network(), toy_recipe(), toy_cache(), toy_cache(2), tmp_path / "whole")

    def kill_at_30(step, steps, text):
        if step == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(network(), toy_recipe(), toy_cache(), toy_cache(2), tmp_path / "parts", kill_at_30)
    assert torch.load(tmp_path / "parts" / "checkpoint.pt", weights_only=True)["step"] == 20
    resumed = train(network(), toy_recipe(), toy_cache(), toy_cache(2), tmp_path / "parts")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_loss_that_is_no_number_stops_with_the_batch_saved(tmp_path):
    broken = network()
    broken.classes.bias.data[:] = float("nan")
    with pytest.raises(SamsegError, match="the loss is nan"):
        train(broken, toy_recipe(), toy_cache(), toy_cache(2), tmp_path)
    assert torch.load(tmp_path / "bad_batch.pt", weights_only=True)["step"] == 0


def test_a_batch_depends_on_seed_and_step_alone():
    recipe, data = toy_recipe(), toy_cache()
    one, two = (draw_batch(data, recipe, recipe.phases[0], 5) for _ in range(2))
    other = draw_batch(data, recipe, recipe.phases[0], 6)
    assert torch.equal(one.inputs["rgb"], two.inputs["rgb"])
    assert not torch.equal(one.inputs["rgb"], other.inputs["rgb"])


def test_geometry_moves_labels_with_the_image():
    recipe, data = toy_recipe(), toy_cache()
    phase = Phase(steps=1, batch=16, size=(64, 64), window=(0.5, 0.9))
    batch = draw_batch(data, recipe, phase, 0)
    for rgb, labels in zip(batch.inputs["rgb"].mean(1), batch.labels, strict=True):
        if 0 < labels.float().mean() < 1:
            assert rgb[labels == 1].mean() > rgb[labels == 0].mean() + 0.5


def test_the_rate_rises_linearly_and_falls_as_a_cosine():
    recipe = toy_recipe(phases=(Phase(steps=102),))
    assert learning_rate(recipe, 0) == pytest.approx(0.01)
    assert learning_rate(recipe, 2) == pytest.approx(0.02)
    assert learning_rate(recipe, 52) == pytest.approx(0.02 * (0.01 + 0.99 * 0.5))
    assert learning_rate(recipe, 102) == pytest.approx(0.0002)


def test_an_unknown_setting_of_a_recipe_is_refused(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("phases: [{steps: 1}]\nlearnig_rate: 1\n")
    with pytest.raises(SamsegError, match="learnig_rate"):
        load_recipe(path)


def test_the_shipped_recipes_load():
    from samseg_ros.resources import config_dir

    recipes = {p.stem: load_recipe(p) for p in (config_dir() / "training").glob("*.yaml")}
    fused, alone = recipes["mm_sam_adapter_world"], recipes["mm_sam_adapter_world_rgb"]
    assert fused.phases == alone.phases  # the card compares them at the same budget
    assert alone.sensors == ("rgb",)


def test_a_run_is_not_resumed_with_another_recipe_nor_from_a_torn_checkpoint(tmp_path):
    short = {"phases": (Phase(steps=1, batch=1, size=(64, 64)),)}
    train(network(), toy_recipe(**short), toy_cache(), toy_cache(1), tmp_path)
    with pytest.raises(SamsegError, match=r"another recipe .different: dice_weight"):
        train(network(), toy_recipe(**short, dice_weight=0.5), toy_cache(), toy_cache(1), tmp_path)
    assert load_recipe(tmp_path / "recipe.yaml") == toy_recipe(**short)
    train(network(), toy_recipe(**{**short, "checkpoint_every": 7}), toy_cache(), toy_cache(1), tmp_path)
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(SamsegError, match=r"checkpoint\.pt cannot be resumed from"):
        train(network(), toy_recipe(**short), toy_cache(), toy_cache(1), tmp_path)


@pytest.mark.parametrize("content", [b"phases: [{steps: 1}]\nprecision: fp16\n", b"\xff\xfe\xfa"])
def test_a_recipe_of_unknown_precision_or_that_is_no_text_is_refused(tmp_path, content):
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    with pytest.raises(SamsegError, match="recipe"):
        load_recipe(path)
