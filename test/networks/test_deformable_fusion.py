"""AD-SAM's fusion against its definition, step by step."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from samseg_ros.networks.deformable_conv import CONVOLUTIONS
from samseg_ros.networks.deformable_fusion import ChannelAttention, DeformableFusion


def test_channel_attention_weighs_each_channel_by_its_mean_and_maximum() -> None:
    attention = ChannelAttention(16)
    first, second = attention.fc[0].weight, attention.fc[2].weight
    with torch.no_grad():
        first.zero_()[0, 0] = 1.0  # the only hidden unit reads channel 0
        second.fill_(1.0)
    x = torch.zeros(1, 16, 2, 2)
    x[0, 0] = torch.tensor([[0.0, 1.0], [0.0, 3.0]])  # mean 1, maximum 3
    x[0, 1] = 2.0
    got = attention(x)
    # sigmoid(relu(1) + relu(3)) = 1 / (1 + exp(-4)) = 0.98201
    torch.testing.assert_close(got[0, 1], torch.full((2, 2), 2 * 0.98201), atol=1e-4, rtol=0)
    # A negative maximum and mean are cut off, each before the sum: sigmoid(0) = 0.5.
    torch.testing.assert_close(attention(-x - 1)[0, 1], torch.full((2, 2), -1.5), atol=1e-6, rtol=0)


def test_fusion_resizes_projects_joins_convolves_norms_weighs_and_activates() -> None:
    torch.manual_seed(0)
    fusion = DeformableFusion(16, 24, CONVOLUTIONS["plain"])
    nn.init.normal_(fusion.norm.weight)
    sam, res4 = torch.randn(2, 16, 6, 8), torch.randn(2, 24, 3, 4)
    resnet = fusion.resnet_conv(F.interpolate(res4, scale_factor=2, mode="bilinear", align_corners=False))
    x = fusion.norm(F.conv2d(torch.cat([sam, resnet], 1), *fusion.fusion_conv.parameters(), padding=1))
    torch.testing.assert_close(fusion(sam, res4), F.gelu(fusion.channel_attention(x)), atol=1e-5, rtol=1e-5)
