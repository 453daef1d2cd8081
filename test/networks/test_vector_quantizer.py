"""The codebook: nearest code, straight-through gradient, moving averages, missing samples, two processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from samseg_ros.networks import vector_quantizer
from samseg_ros.networks.vector_quantizer import VectorQuantizer, nearest_codes, perplexity


def _line(*values: float) -> Tensor:
    """One-channel latents (1, 1, 1, n)."""
    return torch.tensor(values).reshape(1, 1, 1, -1)


def _pair(uses: tuple[float, float] = (1.0, 1.0)) -> VectorQuantizer:
    """Codes 0 and 10 with one channel, decay 0.5."""
    quantizer = VectorQuantizer(2, 1, decay=0.5)
    quantizer.codebook.copy_(torch.tensor([[0.0], [10.0]]))
    quantizer.uses.copy_(torch.tensor(uses))
    return quantizer


def test_the_nearest_code_is_the_one_that_brute_force_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_quantizer, "CHUNK", 7)  # several chunks, the last one not full
    generator = torch.Generator().manual_seed(0)
    latents, codes = torch.randn(40, 5, generator=generator), torch.randn(30, 5, generator=generator)
    distances = (latents[:, None] - codes[None]).square().sum(2)
    assert torch.equal(nearest_codes(latents, codes), distances.argmin(1))


def test_values_and_indices_lie_where_their_latents_lay() -> None:
    quantizer = _pair().eval()
    out = quantizer(torch.tensor([[1.0, 9.0, 12.0], [-3.0, 4.0, 6.0]]).reshape(1, 1, 2, 3))
    assert out.indices.tolist() == [[[0, 1, 1], [0, 0, 1]]]
    assert out.values.tolist() == [[[[0, 10, 10], [0, 0, 10]]]]


def test_the_gradient_passes_straight_through() -> None:
    latents = torch.randn(2, 4, 3, 5, requires_grad=True)
    upstream = torch.randn(2, 4, 3, 5)
    (VectorQuantizer(8, 4)(latents).values * upstream).sum().backward()
    assert torch.equal(latents.grad, upstream)


def test_the_commitment_pulls_each_latent_to_its_code() -> None:
    latents = _line(1.0, 7.0).requires_grad_()
    out = _pair().eval()(latents)
    out.commitment.backward()
    assert out.commitment.item() == pytest.approx((1 + 9) / 2)
    # d/dz of mean (code - z)^2 = 2 (z - code) / 2
    assert latents.grad.flatten().tolist() == [1.0, -3.0]


def test_codes_move_by_moving_averages_of_sums_and_uses() -> None:
    quantizer = _pair(uses=(1.0, 3.0)).train()
    quantizer(_line(1.0, 2.0, 3.0, 8.0).requires_grad_())
    # code 0: uses 0.5 * 1 + 0.5 * 3 = 2, sum 0.5 * (1 * 0) + 0.5 * (1 + 2 + 3) = 3
    # code 1: uses 0.5 * 3 + 0.5 * 1 = 2, sum 0.5 * (3 * 10) + 0.5 * 8 = 19
    assert quantizer.uses.tolist() == [2.0, 2.0]
    assert quantizer.codebook.flatten().tolist() == [1.5, 9.5]


def test_a_code_that_is_never_used_is_replaced_by_a_latent_of_the_batch() -> None:
    quantizer = _pair(uses=(1.0, 0.01)).train()
    quantizer(_line(2.0, 2.0).requires_grad_())
    # uses before: 0.5 * 1 + 0.5 * 2 = 1.5 and 0.005, which is below 2 % of the mean 0.7525
    assert quantizer.codebook[1].item() == 2.0
    assert quantizer.uses[1].item() == pytest.approx(0.7525)


def test_the_first_batch_initialises_the_codebook() -> None:
    quantizer = VectorQuantizer(64, 3).train()
    latents = 100 + torch.randn(2, 3, 8, 8)
    quantizer(latents.requires_grad_())
    assert quantizer.codebook.min() > 90
    assert quantizer.eval()(latents).perplexity > 10


@pytest.mark.parametrize("case", ["evaluation", "frozen encoder", "no sample there"])
def test_the_codebook_rests_in_evaluation_behind_a_frozen_encoder_and_without_samples(case: str) -> None:
    quantizer = _pair().train(case != "evaluation")
    there = torch.tensor([case != "no sample there"])
    quantizer(_line(1.0, 7.0).requires_grad_(case != "frozen encoder"), there)
    assert quantizer.codebook.flatten().tolist() == [0.0, 10.0]


def test_samples_that_are_not_there_count_for_nothing() -> None:
    latents = torch.stack([_line(1.0, 2.0)[0], torch.full((1, 1, 2), 500.0)])
    both, alone = _pair().train(), _pair().train()
    out = both(latents.clone().requires_grad_(), torch.tensor([True, False]))
    expected = alone(latents[:1].clone().requires_grad_())
    assert torch.equal(both.codebook, alone.codebook) and torch.equal(both.uses, alone.uses)
    assert out.commitment.item() == expected.commitment.item() == pytest.approx(2.5)
    assert out.perplexity.item() == expected.perplexity.item() == 1.0


def test_perplexity_is_the_exponential_of_the_entropy() -> None:
    # shares 1/2, 1/4, 1/4: entropy ln 2 / 2 + 2 ln 4 / 4 = 1.5 ln 2
    assert perplexity(torch.tensor([2.0, 1.0, 1.0, 0.0])).item() == pytest.approx(2**1.5)
    assert perplexity(torch.full((7,), 3.0)).item() == pytest.approx(7)
    assert perplexity(torch.zeros(3)).item() == 1


def test_codes_are_chosen_in_full_precision_under_autocast() -> None:
    # 1.001 and 1.002 are the same number in bfloat16.
    quantizer = _pair().eval()
    quantizer.codebook.copy_(torch.tensor([[1.001], [1.002]]))
    with torch.autocast("cpu", torch.bfloat16):
        assert quantizer(_line(1.0019)).indices.item() == 1


def _rank(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(rank)
    quantizer = _quantizer_of_four()
    quantizer(_batch()[rank : rank + 1].requires_grad_())
    torch.save((quantizer.codebook, quantizer.uses), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def _quantizer_of_four() -> VectorQuantizer:
    quantizer = VectorQuantizer(4, 2).train()
    quantizer.codebook.copy_(torch.tensor([[0.0, 0], [1, 1], [-1, -1], [900, 900]]))
    quantizer.uses.copy_(torch.tensor([5.0, 5, 5, 0]))
    return quantizer


def _batch() -> Tensor:
    return torch.randn(2, 2, 6, 6, generator=torch.Generator().manual_seed(3))


def test_two_processes_make_the_step_of_one_with_both_batches(tmp_path: Path) -> None:
    mp.start_processes(_rank, (str(tmp_path),), nprocs=2, start_method="fork")
    (codes, uses), (other_codes, other_uses) = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert torch.equal(codes, other_codes) and torch.equal(uses, other_uses)
    alone = _quantizer_of_four()
    alone(_batch().requires_grad_())
    torch.testing.assert_close(codes[:3], alone.codebook[:3])
    torch.testing.assert_close(uses, alone.uses)
    # The dead fourth code is a latent of rank 0's part.
    assert (codes[3] == _batch()[0].flatten(1).T).all(1).any()
