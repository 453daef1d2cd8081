"""Prompts from coarse scores by hand, and their embedding against SAM's own prompt encoder."""

from __future__ import annotations

import pytest
import torch
from segment_anything.modeling import PromptEncoder
from torch import Tensor

from samseg_ros.networks.sam_prompts import DROP, Prompts, SamPrompts, propose_prompts


def _scores(h: int = 32, w: int = 32) -> Tensor:
    """Class 0 everywhere, but class 1 in a block of rows 10-11, columns 20-22 and in the cell (25, 5)."""
    labels = torch.zeros(h, w, dtype=torch.long)
    labels[10:12, 20:23] = 1
    labels[25, 5] = 1
    scores = 20 * torch.nn.functional.one_hot(labels, 2).permute(2, 0, 1)[None].float()
    return scores


def test_the_mask_is_how_rare_the_class_of_a_place_is_in_the_image() -> None:
    mask = propose_prompts(_scores()).mask[0, 0]
    # Shares 1017 / 1024 and 7 / 1024, so r is 7 / 1024 in class 0 and 1017 / 1024 in class 1; mean 0, deviation 1.
    a, b = 7 / 1024, 1017 / 1024
    mean = b * a + a * b
    deviation = ((b * (a - mean) ** 2 + a * (b - mean) ** 2) + 1e-4) ** 0.5
    assert mask[0, 0].item() == pytest.approx((a - mean) / deviation, abs=1e-3)
    assert mask[10, 20].item() == pytest.approx((b - mean) / deviation, abs=1e-3)


def test_the_box_surrounds_what_is_clearly_rarer_than_the_mean() -> None:
    # Cells: columns 5 to 22, rows 10 to 25, four pixels each.
    assert propose_prompts(_scores()).box.tolist() == [[20.0, 40.0, 91.0, 103.0]]


def test_points_are_the_centres_of_the_rarest_cells_of_the_rarest_fields() -> None:
    # Fields of 4 x 4 cells: the block lies in one in rows 8-11, columns 20-23, the single cell in another.
    points = propose_prompts(_scores()).points
    assert points.shape == (1, 10, 2)
    first = {tuple(p) for p in points[0, :2].tolist()}
    assert (5 * 4 + 1.5, 25 * 4 + 1.5) in first
    (block,) = first - {(5 * 4 + 1.5, 25 * 4 + 1.5)}
    assert 20 * 4 < block[0] < 23 * 4 and 10 * 4 < block[1] < 12 * 4


def test_points_lie_in_ten_fields_of_an_image_without_any_structure() -> None:
    points = propose_prompts(torch.zeros(1, 2, 16, 24)).points[0]
    assert len({(x // 12, y // 8) for x, y in points.tolist()}) == 10


def test_an_image_of_one_class_gives_a_weak_mask_the_whole_box_and_finite_gradients() -> None:
    scores = torch.zeros(1, 3, 16, 20, requires_grad=True)
    prompts = propose_prompts(scores)
    prompts.mask.sum().backward()
    assert prompts.mask.abs().max() < 1e-4
    assert prompts.box.tolist() == [[0.0, 0.0, 79.0, 63.0]]
    assert scores.grad is not None and scores.grad.isfinite().all()


@pytest.mark.parametrize(("h", "w"), [(16, 16), (12, 20)])
def test_embeddings_are_those_of_sams_prompt_encoder_built_for_that_size(h: int, w: int) -> None:
    torch.manual_seed(0)
    ours = SamPrompts(32).eval()
    theirs = PromptEncoder(32, (h, w), (16 * h, 16 * w), 16)
    theirs.load_state_dict(ours.encoder.state_dict())
    points, mask = 16 * h * torch.rand(2, 10, 2), torch.randn(2, 1, 4 * h, 4 * w)
    box = torch.tensor([[1.0, 2, 100, 120], [30, 40, 50, 60]])
    sparse, dense = ours(Prompts(points, box, mask))
    expected_sparse, expected_dense = theirs((points, torch.ones(2, 10)), box, mask)
    torch.testing.assert_close(sparse, expected_sparse)
    torch.testing.assert_close(dense, expected_dense)
    torch.testing.assert_close(ours.dense_positions(h, w), theirs.get_dense_pe())


def test_training_drops_each_kind_of_prompt_from_about_a_fifth_of_the_samples() -> None:
    torch.manual_seed(0)
    prompts = SamPrompts(8).train()
    n = 2000
    one = propose_prompts(_scores())
    many = Prompts(*(x.expand(n, *x.shape[1:]) for x in (one.points, one.box, one.mask[..., :8, :8])))
    sparse, dense = prompts(many)
    no_point = (sparse == prompts.encoder.not_a_point_embed.weight).all(-1)
    no_mask = (dense == prompts.encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)).flatten(1).all(1)
    for dropped in (no_point[:, 0], no_point[:, 10] & no_point[:, 11], no_mask):
        assert dropped.float().mean().item() == pytest.approx(DROP, abs=0.03)
    assert not torch.equal(no_point[:, 0], no_mask)
