"""A benchmark is fair only if both sides do the same: the peers give what ours gives."""

import numpy as np
import pytest

from samseg_ros.errors import SamsegError
from samseg_ros.evaluation import benchmark


def test_both_projections_see_the_same_points_nearly_everywhere() -> None:
    row = benchmark.projection()
    ours, peer = row.ours_work().channels, row.peer_work()  # type: ignore[attr-defined]
    both = (ours[0] > 0) & (peer[0] > 0)
    # Rounding in single precision moves a few points to the neighbouring pixel.
    assert both.sum() > 0.98 * (peer[0] > 0).sum()
    assert np.abs(ours[0] - peer[0])[both].mean() < 1e-3


def test_both_preparations_show_the_same_image() -> None:
    row = benchmark.preparation()
    ours, peer = np.asarray(row.ours_work()), np.asarray(row.peer_work())
    assert ours.shape == peer.shape
    assert np.abs(ours - peer).mean() < 0.25  # noise, resized by two antialiasing filters; values span -2.1 .. 2.6


def test_both_posteriors_give_the_same_labels() -> None:
    row = benchmark.labels_and_confidence()
    ours, (labels, confidence) = row.ours_work(), row.peer_work()  # type: ignore[misc]
    assert (ours.labels != labels[0]).mean() < 1e-5  # ties to the last bit may fall either way
    assert np.abs(ours.confidence.astype(int) - confidence[0].astype(int)).max() <= 1  # type: ignore[attr-defined]


def test_both_overlays_give_the_same_picture() -> None:
    row = benchmark.overlay()
    ours, peer = np.asarray(row.ours_work()).astype(int), np.asarray(row.peer_work()).astype(int)
    assert np.abs(ours - peer).max() <= 1


def test_an_unknown_row_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(SamsegError, match="did you mean 'posterior'"):
        benchmark.run(["posteriour"])
