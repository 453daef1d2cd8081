"""The head's cheaper order of operations against its definition."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from samseg_ros.networks.segformer_head import SegformerHead


def test_fusing_each_level_before_upsampling_equals_fusing_the_concatenation() -> None:
    torch.manual_seed(0)
    head = SegformerHead((6, 8, 8, 10), width=12, classes=5).eval()
    for norm in (*(c.bn for c in head.convs), head.fusion_conv.bn):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    levels = [torch.randn(2, c, 24 // s, 32 // s) for c, s in zip((6, 8, 8, 10), (1, 2, 4, 8), strict=True)]
    with torch.inference_mode():
        maps = [conv(x) for conv, x in zip(head.convs, levels, strict=True)]
        maps = [F.interpolate(x, size=(24, 32), mode="bilinear", align_corners=False) for x in maps]
        plain = head.conv_seg(head.fusion_conv(torch.cat(maps, 1)))
        torch.testing.assert_close(head(levels), plain, atol=1e-5, rtol=1e-5)
