"""ResNet as a feature extractor: the published one, and smaller ones."""

from __future__ import annotations

import torch
import torchvision

from samseg_ros.networks.resnet import ResNetShape, resnet


def test_the_default_takes_the_weights_of_torchvisions_resnet50() -> None:
    with torch.device("meta"):
        own, theirs = resnet(ResNetShape()), torchvision.models.resnet50(weights=None)
    shapes = {k: v.shape for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    assert {k: v.shape for k, v in own.state_dict().items()} == shapes


def test_the_four_maps_have_the_channels_that_the_shape_says() -> None:
    for shape in (
        ResNetShape(layers=(1, 1, 1, 1), widths=(8, 16, 24, 32)),
        ResNetShape("resnet18", (1, 1, 1, 1), (8, 16, 24, 32), stem="deep_tiered", stem_width=8),
    ):
        with torch.inference_mode():
            maps = resnet(shape).eval()(torch.zeros(1, 3, 64, 96))
        assert [x.shape[1:] for x in maps] == [
            (c, 64 // s, 96 // s) for c, s in zip(shape.channels, (4, 8, 16, 32), strict=True)
        ]
