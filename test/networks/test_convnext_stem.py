"""The stem against timm's own network."""

from __future__ import annotations

import timm
import torch
import torch.nn.functional as F

from samseg_ros.networks.convnext_stem import ConvNextStem, StemShape


def test_each_level_is_timms_stage_output_with_a_channel_norm_of_its_own() -> None:
    torch.manual_seed(0)
    theirs = timm.create_model(
        "convnext_atto.d2_in1k", pretrained=False, depths=(1, 1, 2, 1), dims=(8, 16, 24, 32), conv_mlp=False
    ).eval()
    stem = ConvNextStem(StemShape((8, 16, 24, 32), (1, 1, 2, 1), drop_path=0.0)).eval()
    for norm in stem.norms:
        torch.nn.init.normal_(norm.weight)
    own = {k: v for k, v in theirs.state_dict().items() if k.startswith(("stem.", "stages."))}
    missing, unexpected = stem.load_state_dict(own, strict=False)
    assert not unexpected and all(k.startswith("norms.") for k in missing)
    image = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        features = theirs.forward_intermediates(image, intermediates_only=True)
        expected = [
            F.layer_norm(f.permute(0, 2, 3, 1), (f.shape[1],), n.weight, n.bias, 1e-6).permute(0, 3, 1, 2)
            for f, n in zip(features, stem.norms, strict=True)
        ]
        got = stem(image)
    assert [tuple(x.shape[1:]) for x in got] == [(8, 16, 24), (16, 8, 12), (24, 4, 6), (32, 2, 3)]
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
