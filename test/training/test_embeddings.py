from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from samseg_ros.errors import SamsegError
from samseg_ros.training.batches import Batch
from samseg_ros.training.cache import Cache
from samseg_ros.training.embeddings import EmbeddingCache
from samseg_ros.training.fabric import make_fabric
from samseg_ros.training.recipe import load_recipe
from samseg_ros.training.validation import segmentation_score


class Frozen(nn.Module):
    """Counts how often its encoder is asked."""

    frozen = True

    def __init__(self):
        super().__init__()
        self.image_encoder = nn.Conv2d(3, 4, 16, stride=16)
        self.calls = 0

    def sam_embedding(self, image):
        self.calls += 1
        return self.image_encoder(image)


def batch(seed=0):
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
    return Batch({"rgb": images}, {}, torch.zeros(2, 64, 64, dtype=torch.int64))


def test_an_image_goes_through_the_encoder_once(tmp_path):
    network = Frozen()
    first = EmbeddingCache(network, tmp_path, "fp32").attach(batch()).extras["embedding"]
    again = EmbeddingCache(network, tmp_path, "fp32").attach(batch()).extras["embedding"]
    assert network.calls == 2  # one a sample
    assert torch.equal(first, again)
    assert torch.allclose(first, network.sam_embedding(batch().inputs["rgb"]), atol=1e-2)  # float16


def test_another_image_or_another_encoder_is_not_taken_for_the_same(tmp_path):
    network = Frozen()
    EmbeddingCache(network, tmp_path, "fp32").attach(batch())
    EmbeddingCache(network, tmp_path, "fp32").attach(batch(seed=1))
    assert network.calls == 4
    other = Frozen()
    kept = EmbeddingCache(other, tmp_path, "fp32").attach(batch()).extras["embedding"]
    assert other.calls == 2
    assert torch.allclose(kept, other.image_encoder(batch().inputs["rgb"]), atol=1e-2)


def test_validation_takes_the_embeddings_that_are_kept_and_scores_the_same(tmp_path):
    class Segments(Frozen):
        def forward(self, inputs, present=None, embedding=None):
            given = self.sam_embedding(inputs["rgb"]) if embedding is None else embedding
            return nn.functional.interpolate(given, scale_factor=16.0)

    rng = np.random.default_rng(0)
    samples = Cache(
        {"rgb": rng.integers(0, 256, (3, 64, 64, 3)).astype(np.uint8), "labels": np.full((3, 64, 64, 1), 2, np.uint8)}
    )
    torch.manual_seed(1)
    network, fabric = Segments(), make_fabric("fp32")
    alone = segmentation_score(network, samples, ("rgb",), fabric)
    kept = EmbeddingCache(network, tmp_path, "fp32")
    network.calls = 0
    scores = [segmentation_score(network, samples, ("rgb",), fabric, kept) for _ in range(2)]
    assert network.calls == 3  # one a sample, the second time none
    assert [score["val_miou"] for score in scores] == pytest.approx([alone["val_miou"]] * 2, abs=1)


def test_embeddings_of_another_precision_are_not_taken_for_the_same(tmp_path):
    network = Frozen()
    EmbeddingCache(network, tmp_path, "bf16").attach(batch())
    EmbeddingCache(network, tmp_path, "fp32").attach(batch())
    assert network.calls == 4


def test_a_damaged_file_is_named_and_an_encoder_that_learns_is_refused(tmp_path):
    cache = EmbeddingCache(Frozen(), tmp_path, "fp32")
    cache.attach(batch())
    for path in tmp_path.rglob("*.npy"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SamsegError, match=r"\.npy is damaged"):
        cache.attach(batch())
    with pytest.raises(SamsegError, match="expected a model with a frozen SAM encoder"):
        EmbeddingCache(nn.Linear(1, 1), tmp_path, "fp32")


def test_images_that_never_come_again_are_not_cached():
    load_recipe("ad_sam_cityscapes")
    for changes in ({"augmentation.photometric": 1.0}, {"phases.0.crop": [256, 256]}):
        with pytest.raises(SamsegError, match="cache_embeddings wants whole images"):
            load_recipe("ad_sam_cityscapes", changes)
