"""AD-SAM: semantic segmentation from the camera alone, SAM's encoder beside a ResNet.

Source: *AD-SAM: Fine-Tuning the Segment Anything Vision Foundation Model for Autonomous Driving Perception*, and for
what the paper leaves open its authors' release. ``PRESETS`` holds every size, ``OPTIONS`` the ablation. Beyond the
paper: any image size (the authors squash to 1024 x 1024), padded to a multiple of 32 with its own border, because the
group norms see the whole map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samseg_ros.errors import InputError, SamsegError
from samseg_ros.networks.deformable_conv import CONVOLUTIONS
from samseg_ros.networks.deformable_fusion import DeformableFusion
from samseg_ros.networks.progressive_decoder import ProgressiveDecoder
from samseg_ros.networks.resnet import ResNetShape, resnet
from samseg_ros.networks.sam_encoder import SamEncoder
from samseg_ros.networks.sam_neck import SamNeck

MODALITIES = ("rgb",)
STRIDE = 32
OPTIONS: dict[str, tuple[str, ...]] = {"convolution": ("deformable", "plain")}
"""The convolutions of fusion and decoder; the first value is the paper's."""


@dataclass(frozen=True, slots=True)
class Preset:
    """One size of the model; the defaults are what all published sizes share."""

    vit_dim: int
    vit_depth: int
    vit_heads: int
    global_blocks: tuple[int, ...]
    window: int = 14
    table: tuple[int, int] = (64, 64)
    """Rows and columns of SAM's position table."""
    frozen: bool = True
    """Whether SAM's weights (neck included) and the statistics of ResNet's batch norms stay, as in the release."""
    dim: int = 256
    """Channels of SAM's embedding and of the fused features."""
    resnet: ResNetShape = field(default_factory=ResNetShape)
    widths: tuple[int, int, int] = (128, 64, 32)
    """Channels after the decoder's three blocks."""


PRESETS: dict[str, Preset] = {
    "vit_h": Preset(1280, 32, 16, (7, 15, 23, 31)),  # the published one
    "vit_l": Preset(1024, 24, 16, (5, 11, 17, 23)),
    "vit_b": Preset(768, 12, 12, (2, 5, 8, 11)),
    "compact": Preset(
        vit_dim=128,
        vit_depth=6,
        vit_heads=2,
        global_blocks=(2, 5),
        window=6,
        table=(24, 30),
        frozen=False,
        dim=128,
        resnet=ResNetShape("resnet18", (2, 2, 2, 2), (32, 64, 128, 256), stem="deep_tiered", stem_width=16),
        widths=(48, 32, 24),
    ),
}


class AdSam(nn.Module):
    """Camera image in, logits out, at any size from 64 x 64.

    Args:
        image_encoder: SAM's.
        neck: of the image encoder.
        resnet: gives maps at 1/4, 1/8, 1/16, 1/32.
        fusion: joins SAM's embedding with the coarsest of them.
        decoder: makes logits at 1/4 with the other three.
        frozen: SAM's weights get no gradients and the statistics of ResNet's batch norms stay, also in training.
    """

    def __init__(
        self,
        image_encoder: SamEncoder,
        neck: SamNeck,
        resnet: nn.Module,
        fusion: DeformableFusion,
        decoder: ProgressiveDecoder,
        frozen: bool,
    ) -> None:
        super().__init__()
        self.modalities = MODALITIES
        self.frozen = frozen
        self.image_encoder, self.neck = image_encoder, neck
        self.resnet, self.fusion, self.decoder = resnet, fusion, decoder
        if frozen:
            image_encoder.requires_grad_(False)
            neck.requires_grad_(False)

    def train(self, mode: bool = True) -> AdSam:
        """Switch between training and inference; what is frozen stays in inference."""
        super().train(mode)
        if self.frozen:
            norms = [m for m in self.resnet.modules() if isinstance(m, nn.BatchNorm2d)]
            for module in (self.image_encoder, self.neck, *norms):
                module.eval()
        return self

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        present: Mapping[str, Tensor] | None = None,
        embedding: Tensor | None = None,
    ) -> Tensor:
        """Segment.

        Args:
            inputs: "rgb" (B, 3, H, W) with ImageNet's mean and deviation, and nothing else.
            present: empty: the camera is always there.
            embedding: what `sam_embedding` returns for this image, where it is known already (frozen encoder only).

        Returns:
            Logits (B, K, H, W).

        Raises:
            InputError: no RGB, another modality, a side below 64, or an embedding of another size.
            SamsegError: an embedding for an encoder that learns.
        """
        logits = self._padded_logits(inputs, present or {}, embedding)
        h, w = inputs["rgb"].shape[2:]
        return F.interpolate(logits, scale_factor=4.0, mode="bilinear", align_corners=False)[..., :h, :w]

    def coarse_logits(
        self,
        inputs: Mapping[str, Tensor],
        present: Mapping[str, Tensor] | None = None,
        embedding: Tensor | None = None,
    ) -> Tensor:
        """Return logits (B, K, ceil(H / 4), ceil(W / 4)): what ``forward`` upsamples; arguments as there."""
        logits = self._padded_logits(inputs, present or {}, embedding)
        h, w = inputs["rgb"].shape[2:]
        return logits[..., : -(-h // 4), : -(-w // 4)]

    def sam_embedding(self, image: Tensor) -> Tensor:
        """Run SAM's branch alone: the costly part, which stays the same in training while its weights are frozen.

        Args:
            image: (B, 3, H, W) as in ``inputs``.

        Returns:
            (B, dim, 2 * ceil(H / 32), 2 * ceil(W / 32)).

        Raises:
            InputError: not three channels, or a side below 64.
        """
        _check({"rgb": image}, {})
        return self._embed(_padded(image))

    def _embed(self, padded: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            embedding: Tensor = self.neck(self.image_encoder(padded).permute(0, 3, 1, 2))
        return embedding

    def _padded_logits(
        self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor], embedding: Tensor | None
    ) -> Tensor:
        _check(inputs, present)
        image = _padded(inputs["rgb"])
        if embedding is None:
            embedding = self._embed(image)
        else:
            self._check_embedding(embedding, image)
        *skips, res4 = self.resnet(image)
        logits: Tensor = self.decoder(self.fusion(embedding, res4), skips)
        return logits

    def _check_embedding(self, embedding: Tensor, padded: Tensor) -> None:
        if not self.frozen:
            raise SamsegError("embedding: expected none, as the encoder of this preset learns; cache for vit_* only")
        b, _, h, w = padded.shape
        expected = (b, self.neck[0].out_channels, h // 16, w // 16)
        if embedding.shape != expected:
            raise InputError(
                "SAM embedding",
                expected=f"{expected} for an image of {b} x {h} x {w} (padded)",
                got=str(tuple(embedding.shape)),
                remedy="take it from sam_embedding of the same image, after the same augmentation",
            )


def _check(inputs: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> None:
    rgb = inputs.get("rgb")
    whole = rgb is not None and rgb.ndim == 4 and rgb.shape[1] == 3 and min(rgb.shape[2:]) >= 64
    if whole and len(inputs) == 1 and not present:
        return
    raise InputError(
        "network input",
        expected="'rgb' alone, (B, 3, H, W) with H, W >= 64",
        got=f"{ ({name: tuple(x.shape) for name, x in inputs.items()}) }, present: {list(present)}",
        remedy="leave other sensors away, resize the image to the network's size",
    )


def _padded(image: Tensor) -> Tensor:
    """Repeat the last row and column up to the next multiple of 32; lay out channels last (faster on a CPU)."""
    h, w = image.shape[2:]
    padded = F.pad(image, (0, -w % STRIDE, 0, -h % STRIDE), mode="replicate")
    return padded.contiguous(memory_format=torch.channels_last)


def build(preset: Preset, modalities: Sequence[str], classes: int, options: Mapping[str, str]) -> AdSam:
    """Build the network of one preset with fresh weights.

    Args:
        preset: the size.
        modalities: rgb.
        classes: number of classes K.
        options: a value for each of `OPTIONS`.

    Raises:
        SamsegError: other modalities.
    """
    if tuple(modalities) != MODALITIES:
        raise SamsegError(f"ad_sam sees the camera alone: expected modalities [rgb], got {list(modalities)}")
    convolution = CONVOLUTIONS[options["convolution"]]
    *skips, coarsest = preset.resnet.channels
    return AdSam(
        image_encoder=SamEncoder(
            preset.vit_dim, preset.vit_depth, preset.vit_heads, preset.global_blocks, preset.window, preset.table
        ),
        neck=SamNeck(preset.vit_dim, preset.dim),
        resnet=resnet(preset.resnet),
        fusion=DeformableFusion(preset.dim, coarsest, convolution),
        decoder=ProgressiveDecoder(preset.dim, skips, preset.widths, classes, convolution),
        frozen=preset.frozen,
    )
