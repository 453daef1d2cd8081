import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from samseg_ros.errors import InputError
from samseg_ros.training.losses.fusion import FusionSettings, fusion_loss, gradient, intensity, structure


def picture(seed: int, channels: int = 3) -> Tensor:
    return torch.rand(2, channels, 14, 17, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slope(image: np.ndarray) -> np.ndarray:
    kernel = np.outer([1, 2, 1], [-1, 0, 1])[None, None] / 8
    dx, dy = (ndimage.correlate(image, k, mode="nearest") for k in (kernel, kernel.swapaxes(2, 3)))
    return np.sqrt(dx**2 + dy**2 + 1e-6)


def mean_ssim(a: np.ndarray, b: np.ndarray) -> float:
    def mean(x: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(x, 1.5, axes=(-2, -1), mode="mirror", radius=5)

    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    score = (2 * ma * mb + 0.01**2) * (2 * cov + 0.03**2) / ((ma**2 + mb**2 + 0.01**2) * (va + vb + 0.03**2))
    return float(score.mean())


def test_intensity_is_the_distance_to_the_brightest_source() -> None:
    fused, camera, thermal = (torch.tensor(v).view(1, 1, 1, 2) for v in ([0.5, 0.5], [0.2, 0.9], [0.8, 0.1]))
    assert intensity(fused, [camera, thermal]).item() == pytest.approx((0.3 + 0.4) / 2)


def test_gradient_is_the_distance_to_the_steepest_source() -> None:
    fused, camera, thermal = picture(0), picture(1), picture(2)
    steepest = np.maximum(slope(camera.numpy()), slope(thermal.numpy()))
    expected = np.abs(slope(fused.numpy()) - steepest).mean()
    assert gradient(fused, [camera, thermal]).item() == pytest.approx(expected)


def test_structure_is_one_minus_the_mean_similarity_to_the_sources() -> None:
    fused, camera, thermal = picture(0), picture(1), picture(2)
    expected = 1 - (mean_ssim(fused.numpy(), camera.numpy()) + mean_ssim(fused.numpy(), thermal.numpy())) / 2
    assert structure(fused, [camera, thermal]).item() == pytest.approx(expected)


def test_total_is_the_weighted_sum() -> None:
    fused, sources = picture(0).requires_grad_(), [picture(1), picture(2)]
    total, parts = fusion_loss(fused, sources, FusionSettings())
    by_hand = {"intensity": intensity(fused, sources), "gradient": gradient(fused, sources)}
    by_hand["structure"] = structure(fused, sources)
    torch.testing.assert_close(parts, {name: part.detach() for name, part in by_hand.items()})
    torch.testing.assert_close(total, 20 * by_hand["intensity"] + 20 * by_hand["gradient"] + 10 * by_hand["structure"])
    assert fusion_loss(fused, sources, FusionSettings(intensity=0, gradient=0, structure=0))[0].item() == 0


def test_picture_that_equals_its_sources_costs_nothing() -> None:
    assert fusion_loss(picture(0), [picture(0)] * 2, FusionSettings())[0].item() == pytest.approx(0, abs=1e-6)


def test_thermal_picture_of_one_channel_stands_for_three() -> None:
    fused, camera, thermal = picture(0), picture(1), picture(2, channels=1)
    one = fusion_loss(fused, [camera, thermal], FusionSettings())[0]
    torch.testing.assert_close(one, fusion_loss(fused, [camera, thermal.repeat(1, 3, 1, 1)], FusionSettings())[0])


def test_flat_picture_has_a_finite_gradient() -> None:
    fused = torch.zeros(1, 3, 8, 8, requires_grad=True)
    fusion_loss(fused, [torch.zeros(1, 3, 8, 8)] * 2, FusionSettings())[0].backward()
    assert fused.grad.isfinite().all()


def test_autocast_and_half_precision_change_nothing() -> None:
    fused, sources = picture(0).bfloat16(), [picture(1).bfloat16(), picture(2).bfloat16()]
    with torch.autocast("cpu", torch.bfloat16):
        value = fusion_loss(fused, sources, FusionSettings())[0]
    assert value.dtype == torch.float32
    exact = fusion_loss(fused.float(), [source.float() for source in sources], FusionSettings())[0]
    torch.testing.assert_close(value, exact, atol=0, rtol=0)


def test_gradient_is_that_of_finite_differences() -> None:
    fused, sources = picture(0)[:1, :1, :7, :7].requires_grad_(), [picture(s)[:1, :1, :7, :7] for s in (1, 2)]
    assert torch.autograd.gradcheck(lambda x: fusion_loss(x, sources, FusionSettings())[0], fused)


def test_equal_parts_of_a_batch_average_to_the_whole() -> None:
    fused, camera, thermal = picture(0), picture(1), picture(2)
    halves = [
        fusion_loss(fused[i : i + 1], [camera[i : i + 1], thermal[i : i + 1]], FusionSettings())[0] for i in range(2)
    ]
    torch.testing.assert_close(sum(halves) / 2, fusion_loss(fused, [camera, thermal], FusionSettings())[0])


@pytest.mark.parametrize("sources", [[], [torch.zeros(2, 3, 7, 17)], [torch.zeros(2, 2, 14, 17)]])
def test_sources_that_do_not_fit_are_refused(sources: list[Tensor]) -> None:
    with pytest.raises(InputError, match="sources of the fused picture"):
        fusion_loss(picture(0), sources, FusionSettings())
