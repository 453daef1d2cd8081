"""Learning rates and decays against the table of the authors' release, and by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from samseg_ros.errors import SamsegError
from samseg_ros.models.mm_sam_adapter import PRESETS, build
from samseg_ros.models.mm_sam_adapter_keys import our_key
from samseg_ros.training.parameter_groups import parameter_groups


def _scales_and_decays(
    network: nn.Module, model: str, layer_decay: float = 1.0, grouping: str = "published"
) -> dict[str, tuple[float, float]]:
    """Name to (lr_scale, weight decay) for a base decay of 0.01."""
    names = {id(p): name for name, p in network.named_parameters()}
    groups = parameter_groups(network, model, 2e-4, 0.01, layer_decay, grouping)
    assert all(g["lr"] == 2e-4 * g["lr_scale"] for g in groups)
    return {names[id(p)]: (g["lr_scale"], g["weight_decay"]) for g in groups for p in g["params"]}


def _compact(**options: str) -> nn.Module:
    with torch.device("meta"):
        return build(PRESETS["compact"], ("rgb", "thermal", "lidar"), 5, options)


def test_every_rate_and_decay_of_the_published_model_equals_the_authors_table(shared_data: Path) -> None:
    with torch.device("meta"):
        network = build(PRESETS["vit_l"], ("rgb", "lidar"), 25)
    got = _scales_and_decays(network, "mm_sam_adapter", 0.9)
    lines = (shared_data / "golden" / "mm_sam_adapter_lr_scales.tsv").read_text().splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    wrong = {
        key: (scale, decay)
        for key, scale, decay in rows
        if got[our_key(key, "lidar")] != (pytest.approx(float(scale), rel=1e-9), float(decay))
    }
    assert len(rows) == 1411 and wrong == {}
    beside = set(got) - {our_key(key, "lidar") for key, _, _ in rows}
    assert beside == {f"backbone.prior.gates.{i}.absent" for i in range(4)}


def test_equal_rates_and_decays_share_a_group() -> None:
    with torch.device("meta"):
        network = build(PRESETS["vit_l"], ("rgb", "lidar"), 25)
    # Two for each of 24 blocks, two for stems and embeddings, two for the rest.
    assert len(parameter_groups(network, "mm_sam_adapter", 2e-4, 0.01, 0.9, "published")) == 52


def test_layer_decay_counts_from_the_last_block_at_any_depth() -> None:
    got = _scales_and_decays(_compact(), "mm_sam_adapter", 0.5)  # 8 blocks
    assert got["backbone.encoder.blocks.7.mlp.lin1.weight"] == (0.5, 0.01)
    assert got["backbone.encoder.blocks.0.norm1.weight"] == (0.5**8, 0.0)
    assert got["backbone.encoder.pos_embed"] == (0.5**9, 0.01)
    assert got["backbone.prior.x_stems.thermal.norms.0.bias"] == (0.5**9, 0.01)
    assert got["backbone.prior.gates.0.logits.lidar.weight"] == (1.0, 0.0)
    assert got["backbone.to_first.weight"] == (1.0, 0.01)


def test_frozen_parameters_are_left_out() -> None:
    network = _compact(encoder="frozen")
    got = _scales_and_decays(network, "mm_sam_adapter", 0.9)
    assert set(got) == {name for name, _ in network.named_parameters() if not name.startswith("backbone.encoder.")}


@pytest.mark.parametrize("model", ["mm_sam_adapter", "a_model_of_the_users_own"])
def test_plain_lets_matrices_decay_and_vectors_not_at_one_rate(model: str) -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    assert _scales_and_decays(network, model, grouping="plain") == {
        "0.weight": (1.0, 0.01),
        "0.bias": (1.0, 0.0),
        "1.weight": (1.0, 0.0),
        "1.bias": (1.0, 0.0),
    }


def test_ad_sam_moves_its_resnet_at_a_tenth_and_lets_everything_decay() -> None:
    network = nn.ModuleDict({"resnet": nn.BatchNorm1d(3), "decoder": nn.Linear(2, 2)})
    assert _scales_and_decays(network, "ad_sam") == {
        "resnet.weight": (0.1, 0.01),
        "resnet.bias": (0.1, 0.01),
        "decoder.weight": (1.0, 0.01),
        "decoder.bias": (1.0, 0.01),
    }


def test_fusionsam_has_one_group() -> None:
    (group,) = parameter_groups(nn.Linear(2, 2), "fusionsam", 1e-4, 1e-3, 1.0, "published")
    assert (group["lr"], group["weight_decay"], len(group["params"])) == (1e-4, 1e-3, 2)


def test_an_optimiser_of_torch_takes_the_groups_and_keeps_the_factors() -> None:
    network = nn.ModuleDict({"resnet": nn.Linear(1, 1, bias=False), "head": nn.Linear(1, 1, bias=False)})
    for parameter in network.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.ones_like(parameter)
    optimizer = torch.optim.AdamW(parameter_groups(network, "ad_sam", 0.1, 0.0, 1.0, "published"))
    optimizer.step()  # Adam's first step is the rate, whatever the gradient
    assert [p.item() for p in network.parameters()] == pytest.approx([0.99, 0.9])
    assert [g["lr_scale"] for g in optimizer.param_groups] == [0.1, 1.0]


@pytest.mark.parametrize(
    ("model", "layer_decay", "grouping", "told"),
    [
        ("mm_sam_adaptor", 1.0, "published", "no published learning rates for 'mm_sam_adaptor'; did you mean"),
        ("mm_sam_adapter", 1.0, "publsihed", "expected plain | published, got 'publsihed'"),
        ("mm_sam_adapter", 0.9, "plain", "optimizer.layer_decay 0.9: mm_sam_adapter with grouping plain has one rate"),
        ("ad_sam", 0.9, "published", "optimizer.layer_decay 0.9: ad_sam with grouping published has one rate"),
    ],
)
def test_settings_that_have_no_meaning_are_refused(model: str, layer_decay: float, grouping: str, told: str) -> None:
    with pytest.raises(SamsegError) as error:
        parameter_groups(nn.Linear(1, 1), model, 1e-4, 0.01, layer_decay, grouping)
    assert told in str(error.value)
