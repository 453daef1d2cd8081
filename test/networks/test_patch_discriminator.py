import pytest
import torch

from samseg_ros.networks.patch_discriminator import PatchDiscriminator


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(("depth", "expected"), [(1, 16), (2, 34), (3, 70)])
def test_each_score_sees_one_patch(depth: int, expected: int) -> None:
    network = PatchDiscriminator(1, width=8, depth=depth).double()
    for name, module in network.named_modules():  # the norms look at the whole map
        if isinstance(module, torch.nn.GroupNorm):
            network.set_submodule(name, torch.nn.Identity())
    image = torch.rand(1, 1, 160, 160, dtype=torch.float64, requires_grad=True)
    scores = network(image)
    scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2].backward()
    seen = image.grad[0, 0].nonzero()
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [expected, expected]


def test_scores_of_a_picture_do_not_depend_on_the_others() -> None:
    network = PatchDiscriminator(width=8)
    pictures = torch.rand(3, 3, 40, 56)
    torch.testing.assert_close(network(pictures)[1:2], network(pictures[1:2]))


def test_smallest_picture_has_one_score() -> None:
    assert PatchDiscriminator(width=8)(torch.rand(1, 3, 24, 24)).shape == (1, 1, 1, 1)


def test_first_weights_have_the_published_spread() -> None:
    weights = torch.cat([p.flatten() for p in PatchDiscriminator().parameters() if p.ndim == 4])
    assert weights.std().item() == pytest.approx(0.02, rel=0.01)


def test_discriminator_learns_to_tell_stripes_from_noise() -> None:
    network = PatchDiscriminator(1, width=8, depth=1)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    stripes = (torch.arange(24) % 4 < 2).float().expand(4, 1, 24, 24)
    for _ in range(60):
        real, fake = network(stripes), network(torch.rand(4, 1, 24, 24).round())
        loss = torch.relu(1 - real).mean() + torch.relu(1 + fake).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert network(stripes).min() > 0 > network(torch.rand(4, 1, 24, 24).round()).max()
