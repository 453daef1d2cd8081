import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from samseg_ros.errors import InputError
from samseg_ros.training.losses.segmentation import cross_entropy, dice_batch, focal
from samseg_ros.training.losses.terms import HYBRID, LOSSES, LossSettings, SegmentationLoss

ADDITIVE = {"cross_entropy": 1.0, "focal": 0.7, "dice": 0.6, "lovasz": 0.5, "surface": 0.4}
WEIGHTS = torch.tensor([0.4, 1.1, 1.9, 0.6])


def example(batch: int = 4) -> tuple[Tensor, Tensor]:
    """Logits, and labels of which each image has fewer than the one before, the last none."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(batch, 4, 8, 9, generator=generator)
    labels = torch.randint(0, 4, (batch, 8, 9), generator=generator)
    share = torch.arange(batch)[:, None, None] / (batch - 1)
    return logits, labels.masked_fill(torch.rand(batch, 8, 9, generator=generator) < share, 255)


def graded(loss: SegmentationLoss, logits: Tensor, labels: Tensor, normalizer: Tensor | None = None) -> tuple:
    logits = logits.clone().requires_grad_()
    value, _ = loss(logits, labels, normalizer)
    return value.detach(), torch.autograd.grad(value, logits)[0]


def test_default_is_the_plain_cross_entropy() -> None:
    logits, labels = example()
    total, parts = SegmentationLoss(LossSettings())(logits, labels)
    torch.testing.assert_close(total, torch.nn.functional.cross_entropy(logits, labels, ignore_index=255))
    assert parts == {"cross_entropy": total}


def test_total_is_the_weighted_sum_of_the_parts() -> None:
    logits, labels = example()
    settings = LossSettings(terms={"cross_entropy": 2.0, "dice_batch": 0.5}, class_weights="enet")
    total, parts = SegmentationLoss(settings, WEIGHTS)(logits.requires_grad_(), labels)
    torch.testing.assert_close(parts["cross_entropy"], cross_entropy(logits, labels, WEIGHTS).detach())
    torch.testing.assert_close(parts["dice_batch"], dice_batch(logits, labels).detach())
    torch.testing.assert_close(total.detach(), 2 * parts["cross_entropy"] + 0.5 * parts["dice_batch"])
    assert not any(part.requires_grad for part in parts.values())


def test_settings_reach_their_terms() -> None:
    logits, labels = example()
    settings = LossSettings(terms={"focal": 1, "ohem": 1}, focal_alpha=0.5, focal_gamma=1, ohem_threshold=1)
    parts = SegmentationLoss(settings)(logits, labels)[1]
    torch.testing.assert_close(parts["focal"], focal(logits, labels, 0.5, 1.0))
    torch.testing.assert_close(parts["ohem"], cross_entropy(logits, labels))
    few = SegmentationLoss(settings.model_copy(update={"ohem_threshold": 0.0, "ohem_min_kept": 1}))(logits, labels)[1]
    worst = torch.nn.functional.cross_entropy(logits, labels, ignore_index=255, reduction="none").max()
    torch.testing.assert_close(few["ohem"], worst)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "class weights"])
def test_parts_of_a_batch_with_a_common_normalizer_are_the_whole(weights: Tensor | None, processes: int) -> None:
    logits, labels = example()
    settings = LossSettings(terms=ADDITIVE, class_weights="none" if weights is None else "enet")
    loss = SegmentationLoss(settings, weights)
    whole, gradient = graded(loss, logits, labels)
    cuts = [slice(0, 1), slice(1, 4)]  # of unequal size, and with other shares of labelled pixels
    normalizer = torch.stack([loss.mass(labels[cut]) for cut in cuts]).sum(0) / processes
    parts = [graded(loss, logits[cut], labels[cut], normalizer) for cut in cuts]
    torch.testing.assert_close(sum(value for value, _ in parts) / processes, whole, atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.cat([g for _, g in parts]) / processes, gradient, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", sorted(LOSSES.keys() - ADDITIVE.keys()))
def test_terms_that_are_not_additive_are_averaged_over_the_images(name: str) -> None:
    logits, labels = example()
    loss = SegmentationLoss(LossSettings(terms={name: 1.0}, ohem_min_kept=10))
    first, rest = loss(logits[:1], labels[:1])[0], loss(logits[1:], labels[1:])[0]
    normalizer = loss.mass(labels)
    parts = [loss(logits[cut], labels[cut], normalizer)[0] for cut in (slice(0, 1), slice(1, 4))]
    torch.testing.assert_close(torch.stack(parts), torch.stack([first / 4, 3 * rest / 4]))
    assert not torch.isclose(sum(parts), loss(logits, labels)[0], atol=1e-4)


def test_mass_counts_images_pixels_and_class_weights() -> None:
    labels = torch.tensor([[[0, 1]], [[1, 255]]])
    enet = SegmentationLoss(LossSettings(class_weights="enet"), torch.tensor([0.5, 2.0]))
    assert enet.mass(labels).tolist() == [2, 3, 4.5]
    assert SegmentationLoss(LossSettings()).mass(labels).tolist() == [2, 3, 3]


@pytest.mark.parametrize("name", LOSSES)
def test_autocast_and_half_precision_change_no_loss(name: str) -> None:
    logits, labels = example()
    loss = SegmentationLoss(LossSettings(terms={name: 1.0}))
    coarse = logits.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(coarse, labels)[0]
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(coarse.float(), labels)[0], atol=0, rtol=0)


@pytest.mark.parametrize("name", LOSSES)
def test_truth_costs_less_than_error(name: str) -> None:
    _, labels = example()
    known = labels.where(labels != 255, 0)
    right = 10 * torch.nn.functional.one_hot(known, 4).movedim(-1, 1).float()
    loss = SegmentationLoss(LossSettings(terms={name: 1.0}))
    assert loss(right, labels)[0] < 0.01
    assert loss(right.roll(1, 1), labels)[0] > 20 * loss(right, labels)[0]


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "class weights"])
def test_batch_without_labels_costs_nothing(weights: Tensor | None) -> None:
    logits, labels = example()
    terms = dict.fromkeys(LOSSES, 1.0)
    loss = SegmentationLoss(LossSettings(terms=terms, class_weights="none" if weights is None else "enet"), weights)
    value, gradient = graded(loss, logits, torch.full_like(labels, 255))
    assert value.item() == 0
    assert gradient.count_nonzero() == 0


def test_hybrid_is_ad_sams() -> None:
    assert LossSettings(terms=HYBRID).terms == {"focal": 0.4, "dice": 0.3, "lovasz": 0.2, "surface": 0.1}


def test_class_weights_move_with_the_module_and_are_not_saved() -> None:
    loss = SegmentationLoss(LossSettings(class_weights="enet"), WEIGHTS)
    assert loss.to(torch.float64).class_weights.dtype == torch.float64
    assert loss.state_dict() == {}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"terms": {"lovas": 1.0}}, "unknown loss 'lovas'; did you mean 'lovasz'?"),
        ({"terms": {}}, "at least 1 item"),
        ({"terms": {"dice": 0.0}}, "greater than 0"),
        ({"terms": {"dice": float("inf")}}, "finite number"),
        ({"terms": {"dice": 1.0}, "class_weights": "enet"}, "class weights act on cross_entropy alone"),
        ({"gamma": 2.0}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValidationError) as error:
        LossSettings(**settings)
    assert message in str(error.value)


def test_every_setting_is_described() -> None:
    assert all(field.description for field in LossSettings.model_fields.values())


@pytest.mark.parametrize(("mode", "weights"), [("enet", None), ("none", WEIGHTS)])
def test_class_weights_are_there_just_where_asked_for(mode: str, weights: Tensor | None) -> None:
    with pytest.raises(InputError, match=f"expected those of class_weights: {mode}"):
        SegmentationLoss(LossSettings(class_weights=mode), weights)


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 8, 8, dtype=torch.int64)),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8)),
        (torch.zeros(3, 4, 4), torch.zeros(4, 4, dtype=torch.int64)),
        (torch.zeros(2, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(logits: Tensor, labels: Tensor) -> None:
    with pytest.raises(InputError, match="loss: expected logits"):
        SegmentationLoss(LossSettings())(logits, labels)


def test_normalizer_that_is_no_mass_is_refused() -> None:
    with pytest.raises(InputError, match=r"three counts of SegmentationLoss\.mass"):
        SegmentationLoss(LossSettings())(*example(), torch.tensor(5.0))
