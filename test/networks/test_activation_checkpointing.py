"""Recomputed activations: the same step in less memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from samseg_ros.errors import SamsegError
from samseg_ros.models import build_network
from samseg_ros.models.mm_sam_adapter import PRESETS, MmSamAdapter, build
from samseg_ros.networks.activation_checkpointing import checkpoint_activations
from samseg_ros.networks.convnext_stem import StemShape

STEM = StemShape(channels=(32, 32, 32, 32), depths=(1, 1, 3, 1), drop_path=0.4)
SIZE = {"vit_dim": 32, "vit_depth": 8, "vit_heads": 4, "heads": 4, "head_width": 32}
SMALL = replace(PRESETS["vit_b"], **SIZE, rgb_stem=STEM, x_stem=STEM)
"""As published in all that is random in training: dropout, paths dropped in stems and extractors."""
IMAGES = torch.randn(2, 2, 3, 96, 128, generator=torch.Generator().manual_seed(0))


def _step(network: MmSamAdapter) -> tuple[Tensor, dict[str, Tensor], Tensor, int]:
    """Return loss, gradients, the state of the random numbers, and the bytes kept beside the weights."""
    kept: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}

    def count(tensor: Tensor) -> Tensor:
        if (storage := tensor.untyped_storage()).data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        loss = network.train()(dict(zip(("rgb", "lidar"), IMAGES, strict=True))).square().mean()
    loss.backward()
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    return loss.detach(), gradients, torch.get_rng_state(), sum(kept.values())


def test_loss_gradients_and_random_numbers_stay_and_less_is_kept() -> None:
    torch.manual_seed(0)
    plain, spare = (build(SMALL, ("rgb", "lidar"), 3) for _ in range(2))
    spare.load_state_dict(plain.state_dict())
    checkpoint_activations(spare)
    loss, gradients, random, kept = _step(plain)
    spared_loss, spared_gradients, spared_random, spared_kept = _step(spare)
    assert torch.equal(spared_loss, loss) and torch.equal(spared_random, random)
    assert spared_gradients.keys() == gradients.keys() and len(gradients) > 300
    for name, gradient in gradients.items():
        torch.testing.assert_close(spared_gradients[name], gradient, atol=1e-6, rtol=1e-5, msg=name)
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in spare.state_dict().items())  # statistics
    assert spared_kept < 0.5 * kept


def test_a_frozen_encoder_hands_its_gradients_on() -> None:
    torch.manual_seed(0)
    plain, spare = (build(SMALL, ("rgb", "lidar"), 3, {"encoder": "frozen"}) for _ in range(2))
    spare.load_state_dict(plain.state_dict())
    checkpoint_activations(spare)
    gradients, spared = _step(plain)[1], _step(spare)[1]
    assert spared.keys() == gradients.keys() and not any(".encoder." in name for name in spared)
    name = "backbone.interactions.0.injector.gamma"  # reached through the encoder alone
    assert gradients[name].any()
    torch.testing.assert_close(spared[name], gradients[name], atol=1e-6, rtol=1e-5)


def test_a_network_without_a_sam_encoder_is_refused() -> None:
    with pytest.raises(SamsegError, match="expected a network with a SAM encoder, got Linear; set it to false"):
        checkpoint_activations(nn.Linear(1, 1))


def test_an_encoder_that_keeps_nothing_is_refused() -> None:
    with torch.device("meta"):
        network = build_network("ad_sam", "vit_b", ("rgb",), 3)
    with pytest.raises(SamsegError, match="AdSam's SAM encoder is frozen and keeps nothing for gradients"):
        checkpoint_activations(network)
