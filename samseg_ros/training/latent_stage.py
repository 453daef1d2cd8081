"""FusionSAM's first stage: the tokens of camera and thermal image (LSTG) alone, from pairs without labels.

Source: FusionSAM (arXiv 2408.13980), eq. 5-9, with VQGAN's adaptive weight (Esser et al., *Taming Transformers*, 2021).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from kornia.metrics import psnr, ssim
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.func import functional_call
from torchvision.models import vgg16

from samseg_ros.config import ModelConfig
from samseg_ros.errors import SamsegError
from samseg_ros.models import load_model
from samseg_ros.models.checkpoints import misfits, read_state
from samseg_ros.models.fusionsam import FusionSam
from samseg_ros.networks.latent_tokens import TokenOutputs
from samseg_ros.networks.patch_discriminator import PatchDiscriminator
from samseg_ros.networks.vector_quantizer import perplexity
from samseg_ros.networks.vqgan import Vqgan
from samseg_ros.resources import models_dir
from samseg_ros.sensing.modalities import IMAGENET_MEAN, IMAGENET_STD
from samseg_ros.training.batches import SampleSource, plain_batches
from samseg_ros.training.fabric import reduced
from samseg_ros.training.losses.fusion import WINDOW
from samseg_ros.training.losses.latent import (
    LatentSettings,
    adaptive_weight,
    discriminator_hinge,
    generator_hinge,
    perceptual,
    reconstruction,
)

SHOWN = 4
"""Pairs on the sheet of reconstructions."""
SHEET_WIDTH = 320


class LatentStage(nn.Module):
    """The tokens of a network, a judge for each modality, and what perceptual distances are measured with.

    Judges and tokens step at the same time, from one sum of losses: a judge sees rebuilt pictures detached, and the
    tokens see its weights detached.

    Args:
        network: whose tokens learn.
        features: frozen, (B, 3, H, W) with ImageNet's mean and deviation to maps.
        width: of the judges, see `PatchDiscriminator`.

    Raises:
        SamsegError: the network has no codebook.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: FusionSam, features: nn.Module, width: int) -> None:
        super().__init__()
        if not isinstance(network.tokens.rgb, Vqgan):
            raise SamsegError(
                "stage latent: expected the option lstg: vqgan, got one without a codebook; train it whole"
            )
        self.modalities = network.modalities
        self.tokens = network.tokens
        self.tokens.absent.requires_grad_(False)  # it stands for no picture
        self.judges = nn.ModuleDict({name: PatchDiscriminator(width=width) for name in network.modalities})
        self.features = features.eval().requires_grad_(False)
        for name, value in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(value.tolist()).reshape(1, 3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> LatentStage:
        """Switch between training and inference; the features stay."""
        super().train(mode)
        self.features.eval()
        return self

    def forward(
        self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor], adversary: float, settings: LatentSettings
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch (eq. 9, and the judges'), and its parts for the log.

        Args:
            inputs: as a network's, sides multiples of 4.
            adversary: weight of the adversarial loss; 0: the judges rest.
            settings: the other weights.
        """
        outputs = self.tokenised(inputs, present)
        rebuilt = self.tokens.reconstruct(outputs)
        total: Tensor = outputs.images["rgb"].new_zeros(())
        parts: dict[str, Tensor] = {}
        for name, fake in rebuilt.items():
            there = outputs.present[name]
            if there.any():
                losses = self._losses(name, outputs.images[name][there], fake[there], adversary, settings)
                losses["commitment"] = settings.gamma * settings.beta_commit * outputs.codes[name].commitment
            else:  # other processes may have some, and wait for the same terms and for every output's gradient
                losses = dict.fromkeys(_terms(adversary, settings), 0 * fake.float().mean())
            total = total + torch.stack(list(losses.values())).sum()
            parts |= {f"{part}_{name}": value.detach() for part, value in losses.items()}
        return total, parts

    def _losses(
        self, name: str, real: Tensor, fake: Tensor, adversary: float, settings: LatentSettings
    ) -> dict[str, Tensor]:
        losses = {"rebuilt": reconstruction(real, fake)}
        if settings.alpha:
            losses["perceptual"] = settings.alpha * perceptual(
                (real - self.mean) / self.std, (fake - self.mean) / self.std, self.features
            )
        if adversary:
            judge = self.judges[name]
            still = {key: value.detach() for key, value in judge.named_parameters()}
            fooled = generator_hinge(functional_call(judge, still, (fake,)))
            painted = torch.stack(list(losses.values())).sum()
            last = getattr(self.tokens, name).decoder[-2].weight
            losses["adversarial"] = adversary * adaptive_weight(painted, fooled, last).detach() * fooled
            losses["judge"] = discriminator_hinge(judge(real), judge(fake.detach()))
        return losses

    def tokenised(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> TokenOutputs:
        """Run LSTG on a network's inputs."""
        outputs: TokenOutputs = self.tokens(
            inputs["rgb"] * self.std + self.mean, inputs.get("thermal"), present.get("thermal")
        )
        return outputs


def _terms(adversary: float, settings: LatentSettings) -> list[str]:
    """Name the terms of a modality's loss."""
    perceptual_terms = ["perceptual"] if settings.alpha else []
    return ["rebuilt", *perceptual_terms, *(["adversarial", "judge"] if adversary else []), "commitment"]


def latent_stage(network: nn.Module, settings: LatentSettings) -> LatentStage:
    """Make what the first stage trains around a network.

    Raises:
        SamsegError: it is no FusionSAM with a codebook, or the features cannot be loaded.
    """
    if not isinstance(network, FusionSam):
        raise SamsegError(f"stage latent is for fusionsam, got {type(network).__name__}; leave stage away")
    features = VggFeatures(Path(settings.features).expanduser()) if settings.features else _own_features()
    return LatentStage(network, features, settings.judge_width)


def freeze_tokens(network: nn.Module) -> None:
    """Let the tokens of both modalities stay as they are; what stands for an absent thermal image still learns.

    Raises:
        SamsegError: it is no FusionSAM.
    """
    if not isinstance(network, FusionSam):
        raise SamsegError(f"joint.freeze_latent is for fusionsam, got {type(network).__name__}")
    for name in network.modalities:
        getattr(network.tokens, name).requires_grad_(False)  # a codebook learns only from latents with a gradient


class VggFeatures(nn.Module):
    """VGG16 up to the layers that LPIPS looks at: relu1_2, 2_2, 3_3, 4_3, 5_3.

    Raises:
        SamsegError: the file is not torchvision's vgg16.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        layers = vgg16(weights=None).features
        found = {k.removeprefix("features."): v for k, v in read_state(path).items() if k.startswith("features.")}
        if faults := misfits(found, {name: value.shape for name, value in layers.state_dict().items()}):
            raise SamsegError(f"latent.features: {path} is not torchvision's vgg16: {faults}")
        layers.load_state_dict(found)
        self.parts = nn.ModuleList(layers[a:b] for a, b in pairwise((0, 4, 9, 16, 23, 30)))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return five maps of an image (B, 3, H, W), sides at least 16."""
        maps = []
        for part in self.parts:
            image = part(image)
            maps.append(image)
        return maps


def _own_features() -> nn.Module:
    """Return the camera stem of the shipped camera-only MM SAM-adapter: four levels of features."""
    loaded = load_model(ModelConfig(checkpoint=str(models_dir() / "mm_sam_adapter" / "rgb")))
    stem: nn.Module = loaded.network.backbone.prior.rgb_stem  # type: ignore[union-attr, assignment]
    return stem


def latent_score(
    stage: nn.Module, data: SampleSource, sensors: tuple[str, ...], fabric: Fabric, *_: object
) -> dict[str, float]:
    """Return how well pictures are rebuilt.

    PSNR (dB, the mean over all pictures) comes first, then of each modality PSNR, SSIM, the share of its codes that
    were used at all (%), and their perplexity over all pictures.

    Raises:
        SamsegError: no sample.
    """
    if not isinstance(stage, LatentStage):
        raise SamsegError(f"expected the first stage, got {type(stage).__name__}")
    stage.eval()
    sums = {name: torch.zeros(3, device=fabric.device, dtype=torch.float64) for name in stage.modalities}
    used = {name: torch.zeros_like(getattr(stage.tokens, name).quantizer.uses) for name in stage.modalities}
    with torch.inference_mode(), fabric.autocast():
        for batch in plain_batches(data, sensors, 1, fabric.global_rank, fabric.world_size):
            for name, (real, fake, codes) in _rebuilt(stage, batch.to(fabric.device).inputs).items():
                if name == "rgb" or bool(batch.present[name]):
                    likeness = ssim(fake, real, WINDOW).mean()
                    sums[name] += torch.stack([psnr(fake, real, 1.0), likeness, torch.ones_like(likeness)]).double()
                    used[name] += codes.flatten().bincount(minlength=len(used[name]))
    return _summary(
        {n: reduced(fabric, v, "sum") for n, v in sums.items()}, {n: reduced(fabric, v, "sum") for n, v in used.items()}
    )


def _summary(sums: Mapping[str, Tensor], used: Mapping[str, Tensor]) -> dict[str, float]:
    count = sum(float(value[2]) for value in sums.values())
    if not count:
        raise SamsegError("validation needs at least one pair")
    row = {"val_psnr": sum(float(value[0]) for value in sums.values()) / count}
    for name, (decibels, likeness, number) in sums.items():
        if number:
            row |= {
                f"val_psnr_{name}": float(decibels / number),
                f"val_ssim_{name}": float(likeness / number),
                f"val_codes_{name}": 100 * float((used[name] > 0).float().mean()),
                f"val_perplexity_{name}": float(perplexity(used[name])),
            }
    return row


def _rebuilt(stage: LatentStage, inputs: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Modality to (picture, the rebuilt one, codes); pictures (1, 3, H, W) in 0..1, sides cut to multiples of 4."""
    h, w = (side - side % 4 for side in inputs["rgb"].shape[2:])
    outputs = stage.tokenised({name: image[..., :h, :w] for name, image in inputs.items()}, {})
    rebuilt = stage.tokens.reconstruct(outputs)
    return {
        name: (outputs.images[name].float(), fake.float().clamp(0, 1), outputs.codes[name].indices)
        for name, fake in rebuilt.items()
    }


def draw_reconstructions(stage: LatentStage, data: SampleSource, sensors: tuple[str, ...], path: Path) -> None:
    """Write a sheet of `SHOWN` pairs: each picture beside what its tokens make of it."""
    stage.eval()
    rows = []
    device = stage.mean.device
    chosen = {len(data) * i // SHOWN for i in range(min(SHOWN, len(data)))}
    with torch.inference_mode():
        for i, batch in enumerate(plain_batches(data, sensors, 1)):
            if i in chosen:
                pairs = _rebuilt(stage, batch.to(device).inputs).values()
                rows.append(np.hstack([_picture(image) for real, fake, _ in pairs for image in (real, fake)]))
    cv2.imwrite(str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))


def _picture(image: Tensor) -> np.ndarray:
    pixels = (255 * image[0].permute(1, 2, 0)).round().byte().cpu().numpy()
    return cv2.resize(pixels, (SHEET_WIDTH, SHEET_WIDTH * 3 // 4), interpolation=cv2.INTER_AREA)
