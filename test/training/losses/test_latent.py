import pytest
import torch
from torch import Tensor, nn

from samseg_ros.training.losses.latent import (
    LatentSettings,
    adaptive_weight,
    adversarial_weight,
    commitment,
    discriminator_hinge,
    generator_hinge,
    perceptual,
    reconstruction,
)


def picture(seed: int, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def raw_and_doubled(image: Tensor) -> list[Tensor]:
    return [image, 2 * image]


def test_reconstruction_is_the_mean_squared_difference() -> None:
    image, rebuilt = torch.zeros(1, 1, 1, 2), torch.tensor([1.0, 3.0]).view(1, 1, 1, 2)
    assert reconstruction(image, rebuilt).item() == pytest.approx((1 + 9) / 2)


def test_commitment_pulls_the_codes_by_one_and_the_latents_by_beta() -> None:
    latent = torch.tensor([1.0, 2.0], requires_grad=True)
    codes = torch.tensor([1.0, 5.0], requires_grad=True)
    loss = commitment(latent, codes, 0.25)
    loss.backward()
    assert loss.item() == pytest.approx((1 + 0.25) * 9 / 2)
    assert codes.grad.tolist() == [0.0, 2 * 3 / 2]
    assert latent.grad.tolist() == [0.0, -0.25 * 2 * 3 / 2]


def test_perceptual_distance_of_opposite_and_orthogonal_features_by_hand() -> None:
    # One position, two channels: unit vectors (1, 0) against (-1, 0) are 4 apart, (1, 0) against (0, 1) 2.
    image, opposite, orthogonal = (torch.tensor(v).view(1, 2, 1, 1) for v in ([3.0, 0.0], [-7.0, 0.0], [0.0, 0.5]))
    assert perceptual(image, opposite, raw_and_doubled).item() == pytest.approx(4 + 4)
    assert perceptual(image, orthogonal, raw_and_doubled).item() == pytest.approx(2 + 2)


def test_perceptual_distance_is_averaged_over_positions_and_images() -> None:
    image, rebuilt = picture(0), picture(1)
    cosine = torch.nn.functional.cosine_similarity(image, rebuilt)
    expected = 2 * (2 - 2 * cosine).mean()  # |a - b|^2 = 2 - 2 cos for unit vectors; two layers
    torch.testing.assert_close(perceptual(image, rebuilt, raw_and_doubled), expected)


def test_perceptual_distance_does_not_see_the_strength_of_features() -> None:
    image = picture(0)
    assert perceptual(image, 5 * image, raw_and_doubled).item() == pytest.approx(0, abs=1e-12)


def test_perceptual_distance_teaches_the_rebuilt_picture_alone() -> None:
    network = nn.Conv2d(3, 4, 3).double().requires_grad_(False)
    image, rebuilt = picture(0).requires_grad_(), picture(1).requires_grad_()
    perceptual(image, rebuilt, lambda x: [network(x)]).backward()
    assert image.grad is None
    assert rebuilt.grad.abs().sum() > 0


def test_features_that_are_zero_have_a_finite_gradient() -> None:
    rebuilt = torch.zeros(1, 3, 2, 2, requires_grad=True)
    perceptual(torch.zeros(1, 3, 2, 2), rebuilt, raw_and_doubled).backward()
    assert rebuilt.grad.isfinite().all()


def test_discriminator_is_content_beyond_the_margin() -> None:
    real, fake = torch.tensor([0.5, 2.0]), torch.tensor([-3.0, 0.5])
    assert discriminator_hinge(real, fake).item() == pytest.approx(((0.5 + 0) / 2 + (0 + 1.5) / 2) / 2)


def test_generator_wants_high_scores() -> None:
    assert generator_hinge(torch.tensor([0.5, -2.5])).item() == 1.0


def test_adaptive_weight_is_the_ratio_of_the_gradients() -> None:
    layer = torch.tensor([1.0, 2.0], requires_grad=True)
    pull = (3 * layer[0] + 4 * layer[1], 0.5 * layer[0])  # gradients of length 5 and 0.5
    weight = adaptive_weight(*pull, layer)
    assert weight.item() == pytest.approx(10, rel=1e-5)
    assert not weight.requires_grad
    (pull[0] + weight * pull[1]).backward()  # the graphs are still there
    assert layer.grad.tolist() == pytest.approx([3 + 5, 4], rel=1e-5)


def test_adaptive_weight_is_bounded() -> None:
    layer = torch.ones(1, requires_grad=True)
    assert adaptive_weight(layer.sum(), 0 * layer.sum(), layer).item() == 1e4


def test_adversary_starts_late() -> None:
    settings = LatentSettings(beta_adv=0.5, adversarial_start=100)
    assert [adversarial_weight(step, settings) for step in (0, 99, 100, 10**6)] == [0.0, 0.0, 0.5, 0.5]


def test_the_two_betas_are_apart() -> None:
    settings = LatentSettings(beta_commit=0.1, beta_adv=0.9)
    assert (settings.beta_commit, settings.beta_adv) == (0.1, 0.9)
    assert LatentSettings().beta_commit == 0.25


LOSSES = {
    "reconstruction": reconstruction,
    "perceptual": lambda a, b: perceptual(a, b, raw_and_doubled),
    "commitment": lambda a, b: commitment(a, b, 0.25),
    "discriminator": discriminator_hinge,
    "generator": lambda a, b: generator_hinge(b),
}
each = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


@each
def test_half_precision_is_computed_in_float32(loss) -> None:
    a, b = picture(0).half(), picture(1).half()
    assert loss(a, b).dtype == torch.float32
    torch.testing.assert_close(loss(a, b), loss(a.float(), b.float()), atol=0, rtol=0)


@each
def test_equal_parts_of_a_batch_average_to_the_whole(loss) -> None:
    a, b = picture(0), picture(1)
    halves = [loss(a[i : i + 1], b[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(sum(halves) / 2, loss(a, b))


@pytest.mark.parametrize("name", sorted(LOSSES.keys() - {"commitment"}))  # whose stopped gradients are checked above
def test_gradient_is_that_of_finite_differences(name: str) -> None:
    image = picture(0)
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](image, x), picture(1).requires_grad_())
