"""Values and gradients of the authors' releases."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from samseg_ros.training.losses.segmentation import dice, edge_distance, focal, lovasz, ohem, surface
from samseg_ros.training.losses.terms import HYBRID, LossSettings, SegmentationLoss

VALUE, GRADIENT = 1e-5, 1e-7

RELEASED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "focal": lambda x, y: focal(x, y, 0.25, 2.0),
    "dice": dice,
    "lovasz": lovasz,
    "surface": surface,
    "hybrid": lambda x, y: SegmentationLoss(LossSettings(terms=HYBRID))(x, y)[0],
    "ohem_kept100": lambda x, y: ohem(x, y, 0.7, 100),
    "ohem_kept1200": lambda x, y: ohem(x, y, 0.7, 1200),
    "ohem_kept100000": lambda x, y: SegmentationLoss(LossSettings(terms={"ohem": 1.0}))(x, y)[0],
}


@pytest.fixture(scope="module")
def golden(shared_data: Path) -> dict[str, Tensor]:
    return load_file(shared_data / "golden" / "losses.safetensors")


@pytest.mark.parametrize("name", RELEASED)
def test_value_and_gradient_are_the_released_ones(golden: dict[str, Tensor], name: str) -> None:
    logits = golden["input.logits"].requires_grad_()
    value = RELEASED[name](logits, golden["input.labels"])
    (gradient,) = torch.autograd.grad(value, logits)
    torch.testing.assert_close(value, golden[f"value.{name}"][0], atol=VALUE, rtol=0)
    torch.testing.assert_close(gradient, golden[f"grad.{name}"], atol=GRADIENT, rtol=0)


def test_every_released_loss_is_compared(golden: dict[str, Tensor]) -> None:
    assert {key.removeprefix("value.") for key in golden if key.startswith("value.")} == set(RELEASED)


def test_edge_distance_is_the_released_one(golden: dict[str, Tensor]) -> None:
    distance = edge_distance(golden["input.labels"])
    torch.testing.assert_close(distance, golden["surface.distance"], atol=VALUE, rtol=0)
