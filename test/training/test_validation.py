"""A run is judged by how its weights will be used."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from samseg_ros.errors import SamsegError
from samseg_ros.models.windows import Windows
from samseg_ros.training.cache import Cache
from samseg_ros.training.fabric import make_fabric
from samseg_ros.training.recipe import load_recipe
from samseg_ros.training.validation import segmentation_score


class SaysWhatItSees(nn.Module):
    """Class 1 where it is shown 64 x 64 pixels, class 0 for any other size."""

    def forward(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        image = inputs["rgb"]
        one = torch.full_like(image[:, :1], float(image.shape[2:] == (64, 64)))
        return torch.cat([1 - one, one], 1)


def test_validation_sees_images_in_the_windows_that_the_weights_will_see_them_in() -> None:
    labels = np.ones((3, 90, 150, 1), np.uint8)  # no multiples of 32, as CamVid's 360
    samples = Cache({"rgb": np.zeros((3, 90, 150, 3), np.uint8), "labels": labels})
    network, fabric = SaysWhatItSees(), make_fabric("fp32")
    assert segmentation_score(network, samples, ("rgb",), fabric) == {"val_miou": 0}
    windows = Windows(size=(64, 64), stride=(32, 64))
    assert segmentation_score(network, samples, ("rgb",), fabric, windows=windows) == {"val_miou": 100}


def test_windows_are_refused_beside_kept_embeddings_of_whole_images() -> None:
    with pytest.raises(SamsegError, match=r"cache_embeddings wants whole images: .* no windows"):
        load_recipe("ad_sam_cityscapes", {"data.squash": False, "data.windows": {"size": [64, 64], "stride": [64, 64]}})
