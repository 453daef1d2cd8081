import math

import torch

from samseg_ros.training.losses import class_weights, dice_loss, segmentation_loss


def test_class_weights_are_one_over_the_log_of_the_share():
    weights = class_weights(torch.tensor([900.0, 100.0]))
    rare, common = 1 / math.log(1.2), 1 / math.log(2.0)
    assert torch.allclose(weights, 2 * torch.tensor([common, rare]) / (rare + common))


def test_dice_of_two_pixels_by_hand():
    # Posterior of class 0: 0.8 and 0.4; truth: 0 and 1.
    posterior = torch.tensor([[0.8, 0.4], [0.2, 0.6]])
    logits = posterior.log()[None, :, None, :]
    labels = torch.tensor([[[0, 1]]])
    first = (2 * 0.8 + 1) / (1.2 + 1 + 1)
    second = (2 * 0.6 + 1) / (0.8 + 1 + 1)
    assert torch.isclose(dice_loss(logits, labels), torch.tensor(1 - (first + second) / 2))


def test_unlabelled_pixels_change_nothing():
    logits = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 3, (1, 4, 4), generator=torch.Generator().manual_seed(1))
    weights = torch.ones(3)
    holed = labels.clone()
    holed[0, 0] = 255
    changed = logits.clone()
    changed[:, 0, 0] += 5.0  # class 0, first row

    def loss(scores, truth):
        return segmentation_loss(scores, truth, weights, 1.0)

    assert torch.isclose(loss(logits, holed), loss(changed, holed))
    assert not torch.isclose(loss(logits, labels), loss(changed, labels))
