"""Road-Fusion's parts against their definitions, written out slowly."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from samseg_ros.networks.road_fusion import (
    ChannelRecalibration,
    ChannelSelfAttention,
    CoordinateAttention,
    CrossChannelAttention,
    FusionShape,
    GatedLocal,
    RoadFusion,
    SpatialNorm,
    adopt_grids,
)

X = torch.randn(2, 32, 6, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("groups", [32, 0])
def test_channel_attention_compares_unit_length_channels_within_each_head(groups: int) -> None:
    torch.manual_seed(0)
    module = ChannelSelfAttention(32, FusionShape(qkv_groups=groups, heads=4, scale=0.7))
    torch.nn.init.uniform_(module.scale, 0.5, 2)
    q, k, v = module.qkv2(module.qkv1(X)).reshape(2, 3, 4, 8, 48).unbind(1)  # (B, heads, c, HW)
    cosine = torch.einsum("bhcn,bhdn->bhcd", F.normalize(q, dim=-1), F.normalize(k, dim=-1))
    out = (cosine * module.scale).softmax(-1) @ v
    torch.testing.assert_close(module(X), 0.7 * module.proj(out.reshape(X.shape)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mean", [False, True])
def test_each_modality_takes_the_other_ones_channels(mean: bool) -> None:
    module = CrossChannelAttention(FusionShape(scale=0.3, mean_similarity=mean))
    rgb, other = X.flatten(2), X.flip(0).flatten(2) * 0.1
    similarity = rgb @ other.transpose(1, 2) / (48 if mean else 1)
    got_rgb, got_x = module(rgb.reshape(X.shape), other.reshape(X.shape))
    torch.testing.assert_close(got_rgb.flatten(2), rgb + 0.3 * similarity.softmax(-1) @ other, atol=1e-5, rtol=1e-5)
    back = similarity.transpose(1, 2).softmax(-1)
    torch.testing.assert_close(got_x.flatten(2), other + 0.3 * back @ rgb, atol=1e-5, rtol=1e-5)


def test_the_spatial_norm_is_a_layer_norm_over_height_and_width() -> None:
    norm = SpatialNorm((6, 8))
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    expected = F.layer_norm(X.flatten(2), (48,), norm.weight, norm.bias, 1e-5).reshape(X.shape)
    torch.testing.assert_close(norm(X), expected, atol=1e-5, rtol=1e-5)


def test_the_spatial_norm_stretches_its_affine_to_another_size() -> None:
    norm = SpatialNorm((1, 2))
    norm.bias.data = torch.tensor([0.0, 1.0])
    # Bilinear from 2 to 4 columns: 0, 1/4, 3/4, 1. A constant map is normed to zero, so the bias is what comes out.
    assert norm(torch.full((1, 1, 1, 4), 7.0)).flatten().tolist() == [0.0, 0.25, 0.75, 1.0]


def test_norms_take_the_grid_of_weights_of_another_size_and_the_same_aspect() -> None:
    network = torch.nn.Sequential(SpatialNorm((18, 24)), torch.nn.Linear(2, 2), SpatialNorm((9, 12)))
    state = {"0.weight": torch.zeros(12 * 16), "0.bias": torch.zeros(12 * 16), "1.weight": torch.zeros(5, 5)}
    adopt_grids(network, state)
    assert [network[i].grid for i in (0, 2)] == [(12, 16), (9, 12)]
    assert network[0].weight.shape == network[0].bias.shape == (192,) and network[2].weight.shape == (108,)


@pytest.mark.parametrize("cells", [12 * 15, 13 * 17, 1])
def test_a_norm_stays_where_the_aspect_does_not_come_out(cells: int) -> None:
    norm = SpatialNorm((18, 24))
    norm.adopt(cells)
    assert norm.grid == (18, 24) and norm.weight.shape == (432,)


def test_the_local_path_is_a_grouped_convolution_with_a_gelu_gate() -> None:
    torch.manual_seed(0)
    module = GatedLocal(32)
    first, second = module.dwconv(module.project_in(X)).chunk(2, 1)
    expected = 0.5 * module.project_out(F.gelu(first) * second)
    torch.testing.assert_close(module(X, torch.tensor(0.5)), expected, atol=1e-5, rtol=1e-5)


def test_recalibration_adds_the_gated_map_to_itself() -> None:
    module = ChannelRecalibration(32)
    gate = torch.sigmoid(F.relu(module.gn(module.conv(F.adaptive_avg_pool2d(X, 1)))))
    torch.testing.assert_close(X * module(X), X + X * gate)


def test_coordinate_attention_gates_by_rows_and_columns() -> None:
    module = CoordinateAttention(32).eval()

    def gate(strip: torch.Tensor, out: torch.nn.Module) -> torch.Tensor:
        result: torch.Tensor = out(F.hardswish(module.bn1(module.conv1(strip)))).sigmoid()
        return result

    rows, columns = gate(X.mean(3, keepdim=True), module.conv_h), gate(X.mean(2, keepdim=True), module.conv_w)
    torch.testing.assert_close(module(X), X + X * rows * columns)


def test_at_half_resolution_the_fusion_is_added_to_the_full_concatenation() -> None:
    fusion = RoadFusion(32, (6, 8), FusionShape(heads=4, scale=0.5), stride=2).eval()
    assert fusion.norm.grid == (3, 4)
    fusion.scale_global.data.zero_()
    fusion.scale_local.data.zero_()
    other = X.flip(0)
    torch.testing.assert_close(fusion(X, other), torch.cat([X, other], 1))
