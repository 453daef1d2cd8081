"""Against numbers that the authors' release produced on random weights (no code, no trained weights)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from samseg_ros.errors import SamsegError
from samseg_ros.models.ad_sam import PRESETS
from samseg_ros.models.ad_sam_keys import our_key, our_state
from samseg_ros.networks.deformable_conv import CONVOLUTIONS
from samseg_ros.networks.deformable_fusion import DeformableFusion
from samseg_ros.networks.progressive_decoder import ProgressiveDecoder

OUTPUTS = ("fusion", "up1", "up2", "up3", "logits_stride4", "logits")


@pytest.fixture(scope="module")
def tensors(shared_data: Path) -> dict[str, Tensor]:
    return load_file(shared_data / "golden" / "ad_sam_fusion_decoder.safetensors")


@pytest.fixture(scope="module")
def got(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Outputs of our fusion and decoder, filled with every one of the stored weights."""
    preset, deformable = PRESETS["vit_h"], CONVOLUTIONS["deformable"]
    *skip_channels, coarsest = preset.resnet.channels
    net = nn.ModuleDict(
        {
            "fusion": DeformableFusion(preset.dim, coarsest, deformable),
            "decoder": ProgressiveDecoder(preset.dim, skip_channels, preset.widths, 7, deformable),
        }
    ).eval()
    weights = {k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")}
    net.load_state_dict(our_state(weights))
    sam, *skips, res4 = (tensors[f"input.{name}"].float() for name in ("sam", "res1", "res2", "res3", "res4"))
    kept: dict[str, Tensor] = {}
    for name in ("up1", "up2", "up3"):
        getattr(net["decoder"], name).register_forward_hook(
            lambda module, args, out, name=name: kept.__setitem__(name, out)
        )
    with torch.inference_mode():
        fused = net["fusion"](sam, res4)
        logits = net["decoder"](fused, skips)
        full = F.interpolate(logits, scale_factor=4.0, mode="bilinear", align_corners=False)
    return {"fusion": fused, **kept, "logits_stride4": logits, "logits": full}


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_output_agrees_with_the_authors_release(
    name: str, got: dict[str, Tensor], tensors: dict[str, Tensor]
) -> None:
    torch.testing.assert_close(got[name], tensors[f"output.{name}"], atol=1e-4, rtol=0)


def test_every_stored_output_is_compared(tensors: dict[str, Tensor]) -> None:
    assert {k.removeprefix("output.") for k in tensors if k.startswith("output.")} == set(OUTPUTS)


def test_a_key_of_another_model_is_refused_by_its_name() -> None:
    assert our_key("module.up1.conv.0.conv.bias") == "decoder.up1.conv.0.conv.bias"
    with pytest.raises(SamsegError, match=r"'spm\.fc1\.weight' is no parameter of the fusion, decoder or head"):
        our_key("spm.fc1.weight")
