from __future__ import annotations

import pytest
import torch

from samseg_ros.errors import SamsegError
from samseg_ros.models import build_network
from samseg_ros.training.batches import Batch
from samseg_ros.training.losses.terms import LossSettings, SegmentationLoss
from samseg_ros.training.objectives import fusionsam
from samseg_ros.training.recipe import load_recipe


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_network("fusionsam", "compact", ("rgb", "thermal"), 3).train()


def objective(network, present, **changes):
    recipe = load_recipe("fusionsam_world", changes)
    generator = torch.Generator().manual_seed(0)
    images = {name: torch.rand(2, 3, 64, 64, generator=generator) for name in ("rgb", "thermal")}
    labels = torch.randint(0, 3, (2, 64, 64), generator=generator)
    criterion = SegmentationLoss(LossSettings())
    torch.manual_seed(1)
    batch = Batch(images, {"thermal": torch.tensor(present)}, labels)
    return fusionsam(network, batch, labels, criterion, criterion.mass(labels), recipe, 0)


@pytest.mark.parametrize("present", [[True, True], [True, False], [False, False]])
def test_every_parameter_of_fusionsam_gets_a_gradient_whichever_samples_have_a_thermal_image(network, present):
    loss, parts = objective(network, present)
    assert {"cross_entropy", "auxiliary", "rebuilt_rgb", "rebuilt_thermal", "commitment_rgb", "fused"} <= set(parts)
    loss.backward()
    idle = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    network.zero_grad(set_to_none=True)
    assert idle == []


def test_the_total_is_the_weighted_sum_of_its_parts(network):
    weights = {"joint.auxiliary": 0.5, "joint.reconstruction": 2.0, "joint.beta_commit": 3.0, "joint.fusion": 0.1}
    loss, parts = objective(network, [True, True], **weights)
    rebuilt = parts["rebuilt_rgb"] + parts["rebuilt_thermal"]
    commitment = parts["commitment_rgb"] + parts["commitment_thermal"]
    by_hand = parts["cross_entropy"] + 0.5 * parts["auxiliary"] + 2 * rebuilt + 3 * commitment + 0.1 * parts["fused"]
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_where_no_sample_has_a_thermal_image_nothing_is_compared_with_one(network):
    _, parts = objective(network, [False, False])
    assert "rebuilt_rgb" in parts
    assert all(parts[name] == 0 for name in ("rebuilt_thermal", "commitment_thermal", "fused"))


def test_terms_of_fusionsam_are_refused_for_other_models():
    with pytest.raises(SamsegError, match="joint is for fusionsam alone"):
        load_recipe("mm_sam_adapter_world", {"joint.fusion": 1.0})
