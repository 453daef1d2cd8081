import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from samseg_ros.errors import InputError
from samseg_ros.training.losses.segmentation import (
    class_weights,
    cross_entropy,
    dice,
    dice_batch,
    edge_distance,
    focal,
    lovasz,
    ohem,
    surface,
    weight_sum,
)

Loss = Callable[[Tensor, Tensor], Tensor]
ALL: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "weighted cross_entropy": lambda x, y: cross_entropy(x, y, torch.linspace(0.5, 2, x.shape[1])),
    "focal": lambda x, y: focal(x, y, 0.25, 2.0),
    "ohem": lambda x, y: ohem(x, y, 0.7, 10),
    "dice": dice,
    "dice_batch": dice_batch,
    "lovasz": lovasz,
    "surface": surface,
}
every_loss = pytest.mark.parametrize("loss", ALL.values(), ids=ALL)


def example(seed: int = 0, batch: int = 2, classes: int = 4, size: tuple[int, int] = (6, 7)) -> tuple[Tensor, Tensor]:
    """Random logits in float64, and labels in blobs with a fifth unlabelled; the last class is absent."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, classes, *size, generator=generator, dtype=torch.float64)
    coarse = torch.randint(0, classes - 1, (batch, 3, 3), generator=generator)
    labels = F.interpolate(coarse[:, None].double(), size, mode="nearest")[:, 0].long()
    return logits, labels.masked_fill(torch.rand(batch, *size, generator=generator) < 0.2, 255)


def two_pixels() -> tuple[Tensor, Tensor]:
    """One image of two pixels: posterior of class 0 is 0.8 and 0.4, truth 0 and 1."""
    posterior = torch.tensor([[0.8, 0.4], [0.2, 0.6]], dtype=torch.float64)
    return posterior.log()[None, :, None, :], torch.tensor([[[0, 1]]])


def sure(labels: Tensor, classes: int) -> Tensor:
    """Logits whose posterior is the one-hot of the labels."""
    return F.one_hot(labels, classes).movedim(-1, 1) * 200.0


# Values by hand


def test_class_weights_are_one_over_the_log_of_the_share() -> None:
    weights = class_weights(torch.tensor([900.0, 100.0]))
    rare, common = 1 / math.log(1.2), 1 / math.log(2.0)
    torch.testing.assert_close(weights, 2 * torch.tensor([common, rare]) / (rare + common))


def test_class_weights_of_no_pixels_are_refused() -> None:
    with pytest.raises(InputError, match="class weights: expected labelled pixels, got none"):
        class_weights(torch.zeros(3))


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (cross_entropy, -(math.log(0.8) + math.log(0.6)) / 2),
        (
            lambda x, y: cross_entropy(x, y, torch.tensor([1.0, 3.0])),
            -(math.log(0.8) + 3 * math.log(0.6)) / 4,
        ),
        (lambda x, y: focal(x, y, 0.25, 2.0), -0.25 * (0.2**2 * math.log(0.8) + 0.4**2 * math.log(0.6)) / 2),
        (lambda x, y: ohem(x, y, 0.7, 0), -math.log(0.6)),
        (dice, 1 - (2 * 0.8 / (1.2 + 1) + 2 * 0.6 / (0.8 + 1)) / 2),
        (dice_batch, 1 - ((2 * 0.8 + 1) / (1.2 + 1 + 1) + (2 * 0.6 + 1) / (0.8 + 1 + 1)) / 2),
        # Errors of class 0: 0.2 at its own pixel, 0.4 at the other. Jaccard losses of the sets {0.4}, {0.4, 0.2}:
        # 1 - 1/2 and 1, so 0.4 x 1/2 + 0.2 x 1/2. Class 1: 0.4 at its own pixel, 0.2 at the other: 0.4 x 1 + 0.2 x 0.
        (lovasz, (0.3 + 0.4) / 2),
        (surface, 0.0),  # both pixels are edges
    ],
    ids=["cross_entropy", "weighted", "focal", "ohem", "dice", "dice_batch", "lovasz", "surface"],
)
def test_two_pixels_by_hand(loss: Loss, expected: float) -> None:
    assert loss(*two_pixels()).item() == pytest.approx(expected, abs=1e-6)


def test_surface_of_one_wrong_pixel_is_its_distance_to_the_edge() -> None:
    labels = torch.tensor([[[0, 0, 0, 0, 1]]])
    logits = sure(torch.tensor([[[1, 0, 0, 0, 1]]]), 2)
    # The first pixel is wrong in both classes, 3 pixels from the edge at the fourth; 2 classes x 5 pixels.
    assert surface(logits, labels).item() == pytest.approx(2 * 3 / 10)


def test_lovasz_of_a_hard_answer_is_one_minus_the_jaccard_index() -> None:
    labels = torch.tensor([[[0, 0, 0, 1], [1, 1, 2, 2]]])
    answer = torch.tensor([[[0, 0, 1, 1], [1, 2, 2, 2]]])
    assert lovasz(sure(answer, 4), labels).item() == pytest.approx(1 - (2 / 3 + 2 / 4 + 2 / 3) / 3)


def test_dice_counts_absent_classes_and_dice_batch_does_not() -> None:
    labels = torch.tensor([[[0, 1, 0, 1]]])
    logits = sure(labels, 2)
    with_absent = torch.cat([logits, torch.zeros(1, 2, 1, 4)], 1)  # their posterior underflows to a small positive
    assert dice(with_absent, labels).item() == pytest.approx(0, abs=1e-6)
    assert dice_batch(with_absent, labels).item() == pytest.approx(0, abs=1e-6)
    hesitant = torch.cat([logits, logits.amax(1, keepdim=True)], 1)  # half of every pixel goes to the absent class 2
    assert dice(hesitant, labels).item() == pytest.approx(1 - (2 * 1 / 3 + 2 * 1 / 3 + 0) / 3, abs=1e-6)
    assert dice_batch(hesitant, labels).item() == pytest.approx(1 - (2 + 1) / (1 + 2 + 1), abs=1e-6)


# Slow and independent references


def by_definition_lovasz(posterior: np.ndarray, labels: np.ndarray) -> float:
    """Sum over errors of (loss of the set of the worst so far, less that of the set before), Berman et al. eq. 8-9."""
    losses = []
    for k in np.unique(labels):
        truth = labels == k
        errors = np.where(truth, 1 - posterior[k], posterior[k])
        order = sorted(range(len(errors)), key=lambda i: -errors[i])
        before, total = 0.0, 0.0
        for n in range(1, len(order) + 1):
            wrong = set(order[:n])
            missed = sum(truth[i] for i in wrong)
            loss = 1 - (truth.sum() - missed) / (truth.sum() + len(wrong) - missed)
            total += errors[order[n - 1]] * (loss - before)
            before = loss
        losses.append(total)
    return float(np.mean(losses))


def test_lovasz_is_its_definition_over_sets() -> None:
    logits, labels = example()
    expected = [
        by_definition_lovasz(x.softmax(0)[:, y != 255].numpy(), y[y != 255].numpy())
        for x, y in zip(logits, labels, strict=True)
    ]
    assert lovasz(logits, labels).item() == pytest.approx(np.mean(expected), abs=1e-6)


def brute_force_distance(labels: np.ndarray) -> np.ndarray:
    height, width = labels.shape
    pixels = [(i, j) for i in range(height) for j in range(width)]
    around = ((0, 1), (1, 0), (0, -1), (-1, 0))
    edges = [
        (i, j)
        for i, j in pixels
        if any(
            0 <= i + di < height and 0 <= j + dj < width and labels[i + di, j + dj] != labels[i, j] for di, dj in around
        )
    ]
    nearest = [min(math.hypot(i - ei, j - ej) for ei, ej in edges) for i, j in pixels]
    return np.array(nearest).reshape(height, width)


def test_edge_distance_is_the_least_distance_to_any_edge_pixel() -> None:
    _, labels = example(size=(20, 23))
    labels[0] = 1
    labels[0, 4, 5] = 255
    for got, image in zip(edge_distance(labels), labels, strict=True):
        np.testing.assert_allclose(got.numpy(), brute_force_distance(image.numpy()), atol=1e-6)


def test_surface_is_the_sum_over_pixels_and_classes() -> None:
    logits, labels = example(size=(20, 23))
    expected = []
    for x, y in zip(logits.softmax(1).numpy(), labels.numpy(), strict=True):
        distance = brute_force_distance(y)
        wrong = sum(
            abs(x[k] - (y == k)) * distance * (y != 255)  # (H, W)
            for k in range(len(x))
        )
        expected.append(wrong.sum() / x.size)
    assert surface(logits, labels).item() == pytest.approx(np.mean(expected), abs=1e-6)


def test_ohem_keeps_what_a_sorted_list_says() -> None:
    logits, labels = example()
    valid = labels != 255
    probability = logits.softmax(1).gather(1, labels.where(valid, 0)[:, None])[:, 0][valid].tolist()
    for kept in (0, 3, 30, len(probability) - 1, len(probability), 10**6):
        threshold = max(0.7, sorted(probability)[min(kept, len(probability) - 1)])
        expected = np.mean([-math.log(p) for p in probability if p < threshold])
        assert ohem(logits, labels, 0.7, kept).item() == pytest.approx(expected, abs=1e-6)


def test_cross_entropy_is_torchs_weighted_mean() -> None:
    logits, labels = example()
    weights = torch.tensor([0.5, 1.0, 3.0, 2.0], dtype=torch.float64)
    expected = F.cross_entropy(logits, labels, weights, ignore_index=255)
    torch.testing.assert_close(cross_entropy(logits, labels, weights), expected)


def test_focal_without_focus_is_the_cross_entropy() -> None:
    logits, labels = example()
    torch.testing.assert_close(focal(logits, labels, 1.0, 0.0), F.cross_entropy(logits, labels, ignore_index=255))


def test_weight_sum_counts_labelled_pixels() -> None:
    labels = torch.tensor([[[0, 1], [1, 255]]])
    assert weight_sum(labels).item() == 3
    assert weight_sum(labels, torch.tensor([2.0, 0.25])).item() == 2.5


# What no loss may do


@every_loss
def test_batch_without_labels_costs_nothing_and_teaches_nothing(loss: Loss) -> None:
    logits = example()[0].requires_grad_()
    value = loss(logits, torch.full((2, 6, 7), 255))
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.item() == 0
    assert gradient.count_nonzero() == 0


@pytest.mark.parametrize("name", ["dice", "lovasz", "surface"])
def test_image_without_labels_counts_as_zero(name: str) -> None:
    logits, labels = example()
    labels[1] = 255
    alone = ALL[name](logits[:1], labels[:1])
    torch.testing.assert_close(ALL[name](logits, labels), alone / 2)


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "ohem", "dice_batch"])
def test_image_without_labels_is_as_if_absent(name: str) -> None:
    logits, labels = example()
    labels[1] = 255
    torch.testing.assert_close(ALL[name](logits, labels), ALL[name](logits[:1], labels[:1]))


def test_image_of_one_label_has_no_surface_loss() -> None:
    logits, labels = example()
    labels[0] = 1
    assert edge_distance(labels)[0].count_nonzero() == 0
    torch.testing.assert_close(surface(logits, labels), surface(logits[1:], labels[1:]) / 2)


@pytest.mark.parametrize("size", [(1, 1), (2, 3)])
def test_ohem_of_equally_sure_pixels_is_their_mean(size: tuple[int, int]) -> None:
    logits = torch.tensor([3.0, 0.0])[None, :, None, None].expand(1, 2, *size)
    labels = torch.zeros(1, *size, dtype=torch.int64)
    expected = math.log(1 + math.exp(-3))  # p = 0.95
    for kept in (0, 4, 100):
        assert ohem(logits, labels, 0.7, kept).item() == pytest.approx(expected, abs=1e-6)


@every_loss
def test_scores_of_unlabelled_pixels_change_nothing(loss: Loss) -> None:
    logits, labels = example()
    noise = 5 * example(seed=1)[0]
    changed = logits + noise * (labels == 255)[:, None]
    torch.testing.assert_close(loss(logits, labels), loss(changed, labels))
    assert not torch.isclose(loss(logits, labels), loss(logits + noise, labels))


@every_loss
def test_inputs_stay_as_they_are(loss: Loss) -> None:
    logits, labels = example()
    before = logits.clone(), labels.clone()
    loss(logits, labels)
    assert torch.equal(logits, before[0])
    assert torch.equal(labels, before[1])


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_float32(loss: Loss, dtype: torch.dtype) -> None:
    logits, labels = example()
    coarse = (4 * logits).to(dtype).requires_grad_()
    value = loss(coarse, labels)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(coarse.detach().float(), labels), atol=0, rtol=0)
    (gradient,) = torch.autograd.grad(value, coarse)
    assert gradient.dtype == dtype
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", sorted(ALL.keys() - {"lovasz"}))
def test_gradient_is_that_of_finite_differences(name: str) -> None:
    logits, labels = example(size=(4, 5))
    assert torch.autograd.gradcheck(lambda x: ALL[name](x, labels), logits.requires_grad_())


def test_gradient_of_lovasz_is_that_of_a_small_step() -> None:
    logits, labels = example(size=(4, 5))
    (gradient,) = torch.autograd.grad(lovasz(logits.requires_grad_(), labels), logits)
    step = 1e-3 * gradient / gradient.norm()
    rise = (lovasz(logits + step, labels) - lovasz(logits - step, labels)) / 2e-3
    assert rise.item() == pytest.approx(gradient.norm().item(), rel=1e-2)
