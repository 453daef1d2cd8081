"""Against numbers that the authors' release produced on random weights (no code, no trained weights)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from samseg_ros.models.mm_sam_adapter import PRESETS, build
from samseg_ros.models.mm_sam_adapter_keys import our_key, our_state
from samseg_ros.networks.convnext_stem import StemShape
from samseg_ros.networks.segformer_head import SegformerHead

GOLDEN = Path(__file__).parents[2] / ".." / "shared" / "data" / "golden"
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"golden numbers are not at {GOLDEN}")

SMALL_STEM = StemShape(channels=(32, 64, 96, 128), depths=(1, 1, 1, 1))
SMALL = replace(
    PRESETS["vit_l"],
    vit_dim=64,
    vit_depth=4,
    vit_heads=4,
    global_blocks=(1, 3),
    training_size=(256, 256),
    rgb_stem=SMALL_STEM,
    x_stem=SMALL_STEM,
    heads=4,
)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v.float() for k, v in tensors.items() if k.startswith(prefix)}


@pytest.fixture(scope="module")
def difference() -> dict[str, float]:
    """Largest difference per stored output and intermediate value."""
    tensors = load_file(GOLDEN / "mm_sam_adapter_small.safetensors")
    net = build(SMALL, ("rgb", "lidar"), 25).eval()
    missing, unexpected = net.load_state_dict(our_state(_part(tensors, "weights."), "lidar"), strict=False)
    assert not unexpected
    assert all("gates" in key or "decode_head" in key for key in missing), missing
    inputs = {"rgb": tensors["input.rgb"].float(), "lidar": tensors["input.x"].float()}
    got: dict[str, Tensor] = {}

    def keep(name: str, index: int | None = None) -> object:
        def hook(module: object, args: object, out: Tensor | tuple[Tensor, ...]) -> None:
            got[name] = out if index is None else out[index]

        return hook

    backbone = net.backbone
    for i in range(4):
        backbone.prior.rgb_stem.norms[i].register_forward_hook(keep(f"mid.stem_rgb{i + 1}"))
        backbone.prior.x_stems["lidar"].norms[i].register_forward_hook(keep(f"mid.stem_x{i + 1}"))
        backbone.prior.fusions[i].register_forward_hook(keep(f"mid.fusion{i + 1}"))
        backbone.interactions[i].register_forward_hook(keep(f"mid.tokens{i + 1}", 0))
    backbone.interactions[0].register_forward_hook(keep("mid.adapter1", 1))
    backbone.interactions[3].register_forward_hook(keep("mid.adapter4", 1))
    with torch.inference_mode():
        levels = backbone(inputs, {})
    got |= {f"output.f{i + 1}": level for i, level in enumerate(levels)}
    names = [k for k in tensors if k.startswith(("mid.", "output."))]
    return {
        name: (got[name][: len(tensors[name])].reshape(tensors[name].shape) - tensors[name]).abs().max().item()
        for name in names
    }


@needs_golden
def test_every_intermediate_value_agrees_with_the_authors_release(difference: dict[str, float]) -> None:
    wrong = {k: v for k, v in difference.items() if k.startswith("mid.") and v > 2e-4}
    assert len(difference) == 22 and not wrong


@needs_golden
def test_the_four_levels_agree_with_the_authors_release(difference: dict[str, float]) -> None:
    assert {k: v for k, v in difference.items() if k.startswith("output.") and v > 2e-4} == {}


@needs_golden
def test_the_head_agrees_with_the_authors_release() -> None:
    tensors = load_file(GOLDEN / "segformer_head.safetensors")
    head = SegformerHead((64,) * 4, 48, 25).eval()
    head.load_state_dict(_part(tensors, "weights.decode_head."))
    levels = [tensors[f"input.f{i}"].float() for i in (1, 2, 3, 4)]
    with torch.inference_mode():
        torch.testing.assert_close(head(levels), tensors["output.logits"], atol=5e-5, rtol=0)


@needs_golden
def test_every_key_of_the_full_model_has_its_place_and_shape() -> None:
    with torch.device("meta"):
        net = build(PRESETS["vit_l"], ("rgb", "lidar"), 25)
    ours = {k: "x".join(map(str, v.shape)) or "scalar" for k, v in net.state_dict().items() if "gates" not in k}
    lines = (GOLDEN / "mm_sam_adapter_keys.txt").read_text().splitlines()
    theirs = dict(line.split("\t") for line in lines if line and not line.startswith("#"))
    assert {our_key(k, "lidar"): shape for k, shape in theirs.items()} == ours
