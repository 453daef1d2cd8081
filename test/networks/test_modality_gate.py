"""Merging X streams: weights by hand, exactness with one stream, and absence."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from samseg_ros.networks.modality_gate import ModalityGate

LIKE = torch.zeros(2, 4, 3, 5)


def _streams() -> dict[str, Tensor]:
    return {"thermal": torch.randn(2, 4, 3, 5), "lidar": torch.randn(2, 4, 3, 5)}


def test_a_single_stream_passes_through_unchanged() -> None:
    streams = _streams()
    gate = ModalityGate(("thermal", "lidar"), 4)
    assert torch.equal(gate({"lidar": streams["lidar"]}, {}, LIKE), streams["lidar"])


def test_two_streams_are_weighed_by_the_softmax_of_their_logits() -> None:
    streams = _streams()
    gate = ModalityGate(("thermal", "lidar"), 4)
    gate.logits["thermal"].bias.data.fill_(math.log(3))  # softmax of (log 3, 0) is (3/4, 1/4)
    expected = 0.75 * streams["thermal"] + 0.25 * streams["lidar"]
    torch.testing.assert_close(gate(streams, {}, LIKE), expected)


def test_the_mean_of_what_is_there_has_no_weights_to_learn() -> None:
    streams = _streams()
    gate = ModalityGate(("thermal", "lidar"), 4, "mean")
    assert [name for name, _ in gate.named_parameters()] == ["absent"]
    merged = gate(streams, {"thermal": torch.tensor([True, False])}, LIKE)
    torch.testing.assert_close(merged[0], (streams["thermal"][0] + streams["lidar"][0]) / 2)
    assert torch.equal(merged[1], streams["lidar"][1])


def test_a_stream_flagged_absent_is_as_if_left_out_even_when_it_holds_nan() -> None:
    streams = _streams()
    streams["thermal"][1] = torch.nan
    gate = ModalityGate(("thermal", "lidar"), 4)
    merged = gate(streams, {"thermal": torch.tensor([True, False])}, LIKE)
    assert torch.equal(merged[1], streams["lidar"][1])
    torch.testing.assert_close(merged[0], (streams["thermal"][0] + streams["lidar"][0]) / 2)


def test_where_every_stream_is_absent_the_learned_vector_stands() -> None:
    gate = ModalityGate(("thermal", "lidar"), 4)
    absent = torch.tensor([True, False])
    merged = gate(_streams(), {"thermal": absent, "lidar": absent}, LIKE)
    expected = gate.absent.detach().reshape(4, 1, 1).expand(4, 3, 5)
    assert torch.equal(merged[1], expected)
    assert torch.equal(gate({}, {}, LIKE)[0], expected)


def test_gradients_stay_finite_when_every_stream_of_a_sample_is_absent() -> None:
    gate = ModalityGate(("thermal", "lidar"), 4)
    streams = {name: x.requires_grad_() for name, x in _streams().items()}
    absent = torch.tensor([True, False])
    gate(streams, {"thermal": absent, "lidar": absent}, LIKE).square().sum().backward()
    gradients = [p.grad for p in (*gate.parameters(), *streams.values())]
    assert all(g is not None and g.isfinite().all() for g in gradients)
    assert streams["thermal"].grad is not None and not streams["thermal"].grad[1].any()
