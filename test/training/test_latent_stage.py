from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torchvision.models import vgg16

from samseg_ros.config import ModelConfig
from samseg_ros.errors import SamsegError
from samseg_ros.models import build_network, load_model
from samseg_ros.training.fabric import make_fabric
from samseg_ros.training.latent_stage import VggFeatures, freeze_tokens, latent_score, latent_stage
from samseg_ros.training.losses.latent import LatentSettings, discriminator_hinge, generator_hinge
from samseg_ros.training.objectives import latent, task_of
from samseg_ros.training.recipe import load_recipe
from samseg_ros.training.run import Places, run_recipe
from samseg_ros.training.run_log import read_log

SETTINGS = LatentSettings(judge_width=8)


@pytest.fixture(scope="module")
def stage():
    torch.manual_seed(0)
    return latent_stage(build_network("fusionsam", "compact", ("rgb", "thermal"), 3), SETTINGS).train()


def images(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(2, 3, 64, 64, generator=generator) for name in ("rgb", "thermal")}


def learners(stage):
    return {name: p for name, p in stage.named_parameters() if p.requires_grad}


def test_the_loss_is_the_sum_of_what_each_modality_loses(stage):
    loss, parts = stage(images(), {"thermal": torch.tensor([True, True])}, 0.8, SETTINGS)
    names = ("rebuilt", "perceptual", "adversarial", "judge", "commitment")
    assert set(parts) == {f"{part}_{name}" for part in names for name in ("rgb", "thermal")}
    assert loss.item() == pytest.approx(sum(float(v) for v in parts.values()), rel=1e-5)


def test_tokens_and_judges_all_learn_and_the_features_do_not(stage):
    stage.zero_grad(set_to_none=True)
    loss, _ = stage(images(), {"thermal": torch.tensor([True, True])}, 0.8, SETTINGS)
    loss.backward()
    assert {name.split(".")[0] for name in learners(stage)} == {"tokens", "judges"}
    assert [name for name, p in learners(stage).items() if p.grad is None] == []


def test_each_side_of_the_game_moves_only_its_own_weights(stage):
    batch, present = images(), {"thermal": torch.tensor([True, True])}
    stage.eval()  # a codebook that learns would change between the two passes
    stage.zero_grad(set_to_none=True)
    stage(batch, present, 0.8, SETTINGS)[0].backward()
    got = {name: p.grad.clone() for name, p in stage.judges.named_parameters()}
    stage.zero_grad(set_to_none=True)
    outputs = stage.tokenised(batch, present)
    for name, fake in stage.tokens.reconstruct(outputs).items():
        judge = stage.judges[name]
        discriminator_hinge(judge(outputs.images[name]), judge(fake.detach())).backward()
    stage.train()
    for name, p in stage.judges.named_parameters():
        torch.testing.assert_close(got[name], p.grad, rtol=1e-4, atol=1e-7)


def test_the_adversary_pulls_at_the_last_layer_as_strongly_as_the_picture_does(stage):
    stage.eval()
    batch, present = images(), {"thermal": torch.tensor([False, False])}
    last = stage.tokens.rgb.decoder[-2].weight
    still = LatentSettings(judge_width=8, alpha=0.0)

    def pull(loss):
        return torch.autograd.grad(loss, last)[0]

    painted = pull(stage(batch, present, 0.0, still)[0])
    both = pull(stage(batch, present, 0.5, still)[0])
    outputs = stage.tokenised(batch, present)
    fooled = pull(generator_hinge(stage.judges["rgb"](stage.tokens.reconstruct(outputs)["rgb"])))
    stage.train()
    expected = painted + 0.5 * painted.norm() / (fooled.norm() + 1e-6) * fooled  # VQGAN, eq. 7
    torch.testing.assert_close(both, expected, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("adversary", [0.0, 0.5])
def test_without_a_thermal_image_only_the_camera_is_learnt_from_and_every_term_is_there_all_the_same(stage, adversary):
    _, with_all = stage(images(), {"thermal": torch.tensor([True, True])}, adversary, SETTINGS)
    loss, parts = stage(images(), {"thermal": torch.tensor([False, False])}, adversary, SETTINGS)
    assert list(parts) == list(with_all)  # processes add these up term by term
    assert all(float(v) == 0 for name, v in parts.items() if name.endswith("_thermal"))
    assert loss.item() == pytest.approx(sum(float(v) for name, v in parts.items() if name.endswith("_rgb")), rel=1e-5)


def test_a_pictures_psnr_ssim_and_codes_are_those_of_its_reconstruction(stage, tmp_path):

    class Source:
        def __len__(self):
            return 1

        def planes(self, i):
            rng = np.random.default_rng(0)
            labels = np.full((66, 70, 1), 255, np.uint8)  # cut to 64 x 68
            return {"rgb": rng.integers(0, 255, (66, 70, 3), np.uint8), "labels": labels}

        def name(self, i):
            return "one"

    row = latent_score(stage, Source(), ("rgb", "thermal"), make_fabric("fp32"))
    stage.eval()
    image = torch.from_numpy(Source().planes(0)["rgb"][:64, :68].astype(np.float32) / 255).permute(2, 0, 1)[None]
    with torch.inference_mode():
        outputs = stage.tokens(image, None)
        rebuilt = stage.tokens.reconstruct(outputs)["rgb"].clamp(0, 1)
    error = float((rebuilt - image).square().mean())
    assert row["val_psnr"] == row["val_psnr_rgb"] == pytest.approx(10 * np.log10(1 / error), rel=1e-4)
    used = len(outputs.codes["rgb"].indices.unique())
    assert row["val_codes_rgb"] == pytest.approx(100 * used / 2048)
    counts = (
        np.unique(outputs.codes["rgb"].indices.numpy(), return_counts=True)[1] / outputs.codes["rgb"].indices.numel()
    )
    assert row["val_perplexity_rgb"] == pytest.approx(np.exp(-(counts * np.log(counts)).sum()), rel=1e-4)
    assert "val_psnr_thermal" not in row
    stage.train()


def test_the_first_stage_ends_in_a_start_for_the_second_and_in_nothing_that_segments(tmp_path, caplog, silent):
    tiny = {
        "data": {"dataset": "world", "limit": 4, "validation_limit": 2, "size": [96, 128]},
        "phases": [{"steps": 3, "batch": 2, "crop": [64, 64]}],
        "latent": {"adversarial_start": 1, "judge_width": 8},
        "precision": "fp32",
    }
    run_recipe(load_recipe("fusionsam_latent", tiny), Places(tmp_path / "first", None, tmp_path / "cache", 1), silent)
    rows = read_log(tmp_path / "first")
    assert "val_psnr" in rows[-1] and "loss_judge_rgb" in rows[-2]
    assert (tmp_path / "first" / "reconstructions.png").stat().st_size > 10_000
    with pytest.raises(SamsegError, match=r"first training stage \(latent\), whose masks mean nothing; train on"):
        load_model(ModelConfig(name="fusionsam", checkpoint=str(tmp_path / "first" / "model")))
    second = {
        **{key: tiny[key] for key in ("data", "phases", "precision")},
        "start_from": str(tmp_path / "first" / "model"),
        "joint.freeze_latent": True,
        "ema_decay": 0.0,
        "schedule.warmup_steps": 0,
        "optimizer.learning_rate": 0.05,  # what is not frozen moves far
    }
    with caplog.at_level(logging.WARNING):
        run_recipe(
            load_recipe("fusionsam_world", second), Places(tmp_path / "second", None, tmp_path / "cache", 1), silent
        )
    assert "left fresh" in caplog.text
    first = load_file(tmp_path / "first" / "model" / "compact.safetensors")
    last = torch.load(tmp_path / "second" / "checkpoint.pt", weights_only=True)["network"]
    frozen = [name for name in last if name.startswith(("tokens.rgb.", "tokens.thermal."))]
    assert frozen and all(torch.equal(last[name], first[name].to(last[name].dtype)) for name in frozen)
    assert not torch.allclose(last["fusion.query.weight"], first["fusion.query.weight"].float(), atol=1e-3)


def test_vgg_is_read_from_torchvisions_file_alone(tmp_path):
    network = vgg16(weights=None)
    torch.save(network.state_dict(), tmp_path / "vgg16.pth")
    maps = VggFeatures(tmp_path / "vgg16.pth")(torch.rand(1, 3, 32, 32))
    assert [tuple(m.shape[1:]) for m in maps] == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 2, 2)]
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(VggFeatures(tmp_path / "vgg16.pth")(image)[-1], network.features[:30](image))
    torch.save(build_network("ad_sam", "compact", ("rgb",), 3).state_dict(), tmp_path / "other.pth")
    with pytest.raises(SamsegError, match="is not torchvision's vgg16"):
        VggFeatures(tmp_path / "other.pth")


def test_the_first_stage_is_refused_where_it_has_no_meaning():
    for changes, told in (
        ({"model": "ad_sam", "sensors": ["rgb"]}, "stage latent is for fusionsam alone"),
        ({"stage": "whole"}, "latent is for stage latent alone"),
        ({"joint.freeze_latent": True, "start_from": "x"}, "it wants stage whole and start_from"),
    ):
        with pytest.raises(SamsegError, match=told):
            load_recipe("fusionsam_latent", changes)
    plain = build_network("fusionsam", "compact", ("rgb", "thermal"), 3, {"lstg": "conv"})
    with pytest.raises(SamsegError, match="expected the option lstg: vqgan"):
        latent_stage(plain, SETTINGS)
    with pytest.raises(SamsegError, match=r"joint\.freeze_latent is for fusionsam, got AdSam"):
        freeze_tokens(build_network("ad_sam", "compact", ("rgb",), 3))
    assert task_of(load_recipe("fusionsam_latent")).objective is latent
