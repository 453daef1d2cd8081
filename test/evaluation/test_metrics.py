"""Metrics against hand computation, scikit-learn and torchmetrics."""

import numpy as np
import pytest

from samseg_ros.errors import InputError
from samseg_ros.evaluation.metrics import (
    accuracy,
    bootstrap,
    bootstrap_difference,
    bootstrap_miou,
    confusion,
    confusions_by_part,
    iou,
    miou,
)

TRUTH = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 255, 255], [2, 2, 255, 255]], np.uint8)
PREDICTED = np.array([[0, 0, 1, 0], [0, 1, 1, 255], [2, 2, 0, 1], [2, 1, 2, 255]], np.uint8)


def _frames(seed: int, classes: int, absent: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    allowed = [c for c in range(classes) if c not in absent]
    truth = rng.choice([*allowed, 255], size=(23, 31)).astype(np.uint8)
    predicted = np.where(rng.random(truth.shape) < 0.6, truth, rng.choice(allowed, size=truth.shape)).astype(np.uint8)
    predicted[truth == 255] = rng.choice(allowed, size=int((truth == 255).sum()))
    return predicted, truth


def test_a_4x4_case_by_hand() -> None:
    counts = confusion(PREDICTED, TRUTH, 4)
    assert counts.tolist() == [[3, 1, 0, 0, 0], [1, 2, 0, 0, 1], [0, 1, 3, 0, 0], [0, 0, 0, 0, 0]]
    # class 0: 3 hits, 4 true, 4 predicted; class 1: 2, 4, 4; class 2: 3, 4, 3; class 3 never occurs.
    np.testing.assert_allclose(iou(counts), [3 / 5, 2 / 6, 3 / 4, np.nan])
    assert miou(counts, "skip") == pytest.approx((3 / 5 + 2 / 6 + 3 / 4) / 3)
    assert miou(counts, "zero") == pytest.approx((3 / 5 + 2 / 6 + 3 / 4) / 4)
    assert accuracy(counts) == pytest.approx(8 / 12)


def test_a_class_that_is_only_predicted_counts_zero_under_both_rules() -> None:
    counts = confusion(np.array([[0, 1]], np.uint8), np.array([[0, 0]], np.uint8), 2)
    assert iou(counts).tolist() == [0.5, 0.0]
    assert float(miou(counts, "skip")) == float(miou(counts, "zero")) == 0.25


@pytest.mark.parametrize("seed", range(4))
def test_confusion_equals_scikit_learn(seed: int) -> None:
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    predicted, truth = _frames(seed, 7, absent=(3,))
    valid = truth != 255
    expected = sklearn_metrics.confusion_matrix(truth[valid], predicted[valid], labels=list(range(7)))
    counts = confusion(predicted, truth, 7)
    assert (counts[:, :7] == expected).all()
    assert (counts[:, 7] == 0).all()


@pytest.mark.parametrize(("seed", "absent"), [(0, ()), (1, ()), (2, (3,)), (3, (0, 6))])
def test_iou_and_miou_equal_torchmetrics(seed: int, absent: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    classification = pytest.importorskip("torchmetrics.classification")
    frames = [_frames(10 * seed + i, 7, absent) for i in range(3)]
    counts = sum(confusion(p, t, 7) for p, t in frames)
    for average, ours in (("none", np.nan_to_num(iou(counts))), ("macro", miou(counts, "skip"))):
        metric = classification.MulticlassJaccardIndex(num_classes=7, average=average, ignore_index=255)
        for predicted, truth in frames:
            metric.update(torch.from_numpy(predicted.astype(np.int64)), torch.from_numpy(truth.astype(np.int64)))
        # torchmetrics divides and sums in float32: one unit in the last place
        np.testing.assert_allclose(metric.compute().numpy(), ours, rtol=0, atol=1.2e-7)


def test_another_size_or_a_stray_id_is_refused() -> None:
    with pytest.raises(InputError, match=r"expected the size of the labels \(4, 4\), got \(2, 2\)"):
        confusion(np.zeros((2, 2), np.uint8), TRUTH, 3)
    with pytest.raises(InputError, match="label image: expected class ids below 2, or 255, got id 2"):
        confusion(np.zeros((4, 4), np.uint8), TRUTH, 2)
    with pytest.raises(InputError, match="mask image: expected class ids below 3, or 255, got id 9"):
        confusion(np.full((4, 4), 9, np.uint8), TRUTH, 3)


def test_parts_of_an_image_are_counted_as_by_hiding_all_but_each() -> None:
    predicted, truth = _frames(5, 6)
    part = np.random.default_rng(6).integers(0, 3, truth.shape).astype(np.uint8)
    counts = confusions_by_part(predicted, truth, 6, part, 4)
    for number in range(4):
        hidden = np.where(part == number, truth, 255).astype(np.uint8)
        np.testing.assert_array_equal(counts[number], confusion(predicted, hidden, 6))
    np.testing.assert_array_equal(counts.sum(0), confusion(predicted, truth, 6))
    np.testing.assert_array_equal(confusions_by_part(predicted, truth, 6, None, 4)[3], counts.sum(0))
    with pytest.raises(InputError, match="parts of the image: expected the size of the labels"):
        confusions_by_part(predicted, truth, 6, part[1:], 4)


def test_any_score_of_counts_has_an_interval_and_no_score_has_none() -> None:
    confusions = np.stack([confusion(*_frames(seed, 5), 5) for seed in range(6)])
    assert bootstrap(confusions, miou, n=50) == bootstrap_miou(confusions, n=50)
    nothing = bootstrap(np.zeros_like(confusions), accuracy, n=50)
    assert np.isnan(nothing.low) and np.isnan(nothing.high) and not nothing.excludes_zero


def test_a_frame_without_labels_gives_nan_and_not_zero() -> None:
    counts = confusion(np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8), 3)
    assert np.isnan(miou(counts, "skip")) and np.isnan(miou(counts, "zero")) and np.isnan(accuracy(counts))


def test_the_bootstrap_equals_a_slow_loop_over_the_same_draws() -> None:
    confusions = np.stack([confusion(*_frames(seed, 5), 5) for seed in range(6)])
    interval = bootstrap_miou(confusions, n=200, seed=3)
    draws = np.random.default_rng(3).multinomial(6, np.full(6, 1 / 6), size=200)
    slow = [miou(sum(confusions[i] * count for i, count in enumerate(draw))) for draw in draws]
    assert (interval.low, interval.high) == pytest.approx(tuple(np.percentile(slow, [2.5, 97.5])))
    assert interval.low < miou(confusions.sum(0)) < interval.high


def test_identical_frames_have_an_interval_of_width_zero() -> None:
    confusions = np.repeat(confusion(PREDICTED, TRUTH, 3)[None], 5, axis=0)
    interval = bootstrap_miou(confusions, n=50)
    assert interval.low == pytest.approx(float(miou(confusions[0])))
    assert interval.high == pytest.approx(interval.low)


def test_a_paired_difference_is_zero_against_itself_and_sees_a_real_gain() -> None:
    ours = np.stack([confusion(*_frames(seed, 5), 5) for seed in range(8)])
    difference, interval = bootstrap_difference(ours, ours, n=100)
    assert (difference, interval.low, interval.high) == (0.0, 0.0, 0.0)
    assert not interval.excludes_zero
    worse = np.stack([np.roll(c[:, :5], 1, axis=1) for c in ours])
    difference, interval = bootstrap_difference(ours[:, :, :5], worse, n=100)
    assert difference > 0.1
    assert interval.excludes_zero


def test_the_bootstrap_refuses_no_frames_and_unpaired_frames() -> None:
    with pytest.raises(InputError, match="expected at least one frame"):
        bootstrap_miou(np.zeros((0, 3, 3), np.int64))
    with pytest.raises(InputError, match="expected 2 frames of the other model, got 1"):
        bootstrap_difference(np.ones((2, 3, 3), np.int64), np.ones((1, 3, 3), np.int64))
