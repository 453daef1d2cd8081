"""FusionSAM: camera and thermal image fused into a picture that SAM segments.

Source: *FusionSAM: Latent Space driven Segment Anything Model for Multimodal Fusion and Segmentation* (arXiv
2408.13980). ``PRESETS`` holds every size, ``OPTIONS`` the paper's ablations. The prompts come from the network's own
coarse head: nothing here ever sees a label (the authors' scripts prompt with ground truth, so their numbers are not
comparable). Beyond the paper: any image size (the authors' is 1024), and the thermal image may be missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samseg_ros.errors import InputError, SamsegError
from samseg_ros.networks.class_token_decoder import ClassTokenDecoder
from samseg_ros.networks.fusion_prompts import FULL_TOKENS, ConcatFusion, FusionMask, FusionPrompts
from samseg_ros.networks.latent_tokens import LatentTokens, TokenOutputs
from samseg_ros.networks.sam_encoder import SamEncoder
from samseg_ros.networks.sam_neck import SamNeck
from samseg_ros.networks.sam_prompts import CoarseHead, Prompts, SamPrompts, propose_prompts
from samseg_ros.networks.vqgan import PlainTokens, TokenShape, Vqgan
from samseg_ros.sensing.modalities import IMAGENET_MEAN, IMAGENET_STD

MODALITIES = ("rgb", "thermal")
STRIDE = 32
"""Inputs are padded to a multiple of this: 8 tokens at 1/4 fill a window of the fusion."""
OPTIONS: dict[str, tuple[str, ...]] = {
    "lstg": ("vqgan", "conv"),
    "fmp": ("attention", "concat"),
    "latents": ("quantized", "continuous"),
}
"""lstg conv is the paper's ablation A, fmp concat its B; latents continuous is what the authors' release does."""


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
    frozen_encoder: bool = True
    """Whether SAM's image encoder (neck included) keeps its weights, as in the paper."""
    dim: int = 256
    """Channels of SAM's embeddings."""
    fusion_dim: int = 256
    """Channels of the fused features z_f."""
    full_tokens: int = FULL_TOKENS
    """Up to so many tokens the fusion attends to all of them, above it within windows."""
    tokens: TokenShape = field(default_factory=TokenShape)
    decoder_depth: int = 2
    decoder_heads: int = 8
    decoder_mlp: int = 2048


PRESETS: dict[str, Preset] = {
    "vit_h": Preset(1280, 32, 16, (7, 15, 23, 31)),
    "vit_l": Preset(1024, 24, 16, (5, 11, 17, 23)),
    "vit_b": Preset(768, 12, 12, (2, 5, 8, 11)),
    "compact": Preset(
        vit_dim=128,
        vit_depth=8,
        vit_heads=4,
        global_blocks=(3, 7),
        window=6,
        table=(18, 24),
        frozen_encoder=False,
        dim=128,
        fusion_dim=64,
        full_tokens=0,  # it learns from crops and is used on whole images: windows in both, and far quicker
        tokens=TokenShape(latent=32, widths=(32, 64), blocks=(1, 1)),
        decoder_mlp=256,
    ),
}


@dataclass(slots=True)  # not frozen: Lightning Fabric puts converted tensors into what a shared module returns
class FusionSamOutputs:
    """Everything that the losses need; h, w are H / 4, W / 4 rounded up."""

    logits: Tensor
    """(B, K, h, w) class scores, what ``coarse_logits`` returns."""
    auxiliary_logits: Tensor
    """(B, K, h, w) class scores of the coarse head that makes the prompts."""
    fused: Tensor
    """(B, 3, H, W) fused picture I_f in 0..1."""
    z_f: Tensor
    """(B, fusion_dim, h, w) fused features."""
    images: Mapping[str, Tensor]
    """(B, 3, H, W) in 0..1 per modality handed in: what fused picture and reconstructions are compared with."""
    present: Mapping[str, Tensor]
    """(B,) bool per modality."""
    reconstructions: Mapping[str, Tensor]
    """(B, 3, H, W) per modality handed in; empty without a codebook."""
    commitment: Mapping[str, Tensor]
    """Scalar per modality handed in, without its beta; empty without a codebook."""
    perplexity: Mapping[str, Tensor]
    """Scalar per modality handed in: codes in effective use in this batch; empty without a codebook."""


@dataclass(frozen=True, slots=True)
class _Pass:
    """One way through the network, padded sizes."""

    tokens: TokenOutputs
    z_f: Tensor
    fused: Tensor
    auxiliary: Tensor
    logits: Tensor


class FusionSam(nn.Module):
    """Camera and thermal image in, logits and a fused picture out, at any size from 64 x 64.

    Args:
        tokens: LSTG.
        fusion: FMP, or what takes its place.
        fusion_mask: makes the picture I_f.
        coarse: scores classes on z_f for the prompts.
        image_encoder: SAM's.
        neck: of the image encoder.
        prompts: SAM's prompt encoder.
        decoder: SAM's mask decoder with class tokens.
        modalities: what it is given; without thermal it is the baseline of the camera alone, of the same size.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        tokens: LatentTokens,
        fusion: FusionPrompts | ConcatFusion,
        fusion_mask: FusionMask,
        coarse: CoarseHead,
        image_encoder: SamEncoder,
        neck: SamNeck,
        prompts: SamPrompts,
        decoder: ClassTokenDecoder,
        modalities: Sequence[str] = MODALITIES,
    ) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.tokens, self.fusion, self.fusion_mask, self.coarse = tokens, fusion, fusion_mask, coarse
        self.image_encoder, self.neck = image_encoder, neck
        self.prompts, self.decoder = prompts, decoder
        for name, value in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):  # SAM's are the same, times 255
            self.register_buffer(name, torch.tensor(value.tolist()).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> Tensor:
        """Segment.

        Args:
            inputs: (B, 3, H, W) per modality as `samseg_ros.sensing.modalities` makes them: "rgb" always, with
                ImageNet's mean and deviation; "thermal" 0..1, may be missing.
            present: "thermal" to (B,) bool: in which samples it is there (default: in all).

        Returns:
            Logits (B, K, H, W).

        Raises:
            InputError: no RGB, an unknown modality (or rgb in ``present``), sizes that differ, or a side below 64.
        """
        logits = self._pass(inputs, present or {}).logits
        h, w = inputs["rgb"].shape[2:]
        return F.interpolate(logits, scale_factor=4.0, mode="bilinear", align_corners=False)[..., :h, :w]

    def coarse_logits(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return logits (B, K, ceil(H / 4), ceil(W / 4)): what ``forward`` upsamples."""
        return self.coarse_logits_and_fused(inputs, present)[0]

    def coarse_logits_and_fused(
        self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the coarse logits and the fused picture (B, 3, H, W) in 0..1 of the same pass."""
        done = self._pass(inputs, present or {})
        h, w = inputs["rgb"].shape[2:]
        return done.logits[..., : _quarter(h), : _quarter(w)], done.fused[..., :h, :w]

    def forward_details(
        self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None
    ) -> FusionSamOutputs:
        """Return everything that the losses need, reconstructions included; arguments as ``forward``."""
        done = self._pass(inputs, present or {})
        h, w = inputs["rgb"].shape[2:]
        quarter = (..., slice(_quarter(h)), slice(_quarter(w)))
        return FusionSamOutputs(
            logits=done.logits[quarter],
            auxiliary_logits=done.auxiliary,
            fused=done.fused[..., :h, :w],
            z_f=done.z_f[quarter],
            images={name: x[..., :h, :w] for name, x in done.tokens.images.items()},
            present=done.tokens.present,
            reconstructions={name: x[..., :h, :w] for name, x in self.tokens.reconstruct(done.tokens).items()},
            commitment={name: codes.commitment for name, codes in done.tokens.codes.items()},
            perplexity={name: codes.perplexity for name, codes in done.tokens.codes.items()},
        )

    def tokenise(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> TokenOutputs:
        """Run LSTG alone, on inputs padded to multiples of 32.

        ``network.tokens.reconstruct`` makes the reconstructions of what it returns.
        """
        self._check(inputs, present or {})
        thermal = inputs.get("thermal")
        rgb = _padded(inputs["rgb"] * self.std + self.mean)
        return self.tokens(  # type: ignore[no-any-return]
            rgb, None if thermal is None else _padded(thermal), (present or {}).get("thermal")
        )

    def _pass(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> _Pass:
        """LSTG, FMP, picture, prompts, SAM."""
        tokens = self.tokenise(inputs, present)
        z_f = self.fusion(tokens.tokens["rgb"], tokens.tokens["thermal"])
        fused = self.fusion_mask(z_f)
        h, w = (_quarter(side) for side in inputs["rgb"].shape[2:])
        auxiliary = self.coarse(z_f)[..., :h, :w]
        sparse, dense = self.prompts(_onto(propose_prompts(auxiliary), z_f))
        embedding = self.neck(self.image_encoder((fused - self.mean) / self.std).permute(0, 3, 1, 2))
        positions = self.prompts.dense_positions(*embedding.shape[2:])
        return _Pass(tokens, z_f, fused, auxiliary, self.decoder(embedding, positions, sparse, dense))

    def _check(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> None:
        rgb = inputs.get("rgb")
        whole = rgb is not None and rgb.ndim == 4 and rgb.shape[1] == 3 and min(rgb.shape[2:]) >= 64
        known = all(name in MODALITIES for name in inputs) and all(name == "thermal" for name in present)
        if rgb is not None and whole and known and all(x.shape == rgb.shape for x in inputs.values()):
            return
        raise InputError(
            "network input",
            expected="'rgb' and perhaps 'thermal', both (B, 3, H, W) of one size with H, W >= 64",
            got=f"{ ({name: tuple(x.shape) for name, x in inputs.items()}) }, present: {list(present)}",
            remedy="resize every modality to the network's size",
        )


def _quarter(side: int) -> int:
    return -(-side // 4)


def _padded(image: Tensor) -> Tensor:
    """Repeat the last row and column up to the next multiple of 32; lay out channels last (faster on a CPU).

    Repeated and not zero: the group norms of LSTG see the whole map.
    """
    h, w = image.shape[2:]
    padded = F.pad(image, (0, -w % STRIDE, 0, -h % STRIDE), mode="replicate")
    return padded.contiguous(memory_format=torch.channels_last)


def _onto(prompts: Prompts, like: Tensor) -> Prompts:
    """Extend the mask to the padded size of ``like``; 0 is neither rare nor common."""
    rows, columns = (like.shape[i] - prompts.mask.shape[i] for i in (2, 3))
    return replace(prompts, mask=F.pad(prompts.mask, (0, columns, 0, rows)))


def build(preset: Preset, modalities: Sequence[str], classes: int, options: Mapping[str, str]) -> FusionSam:
    """Build the network of one preset with fresh weights.

    Args:
        preset: the size.
        modalities: rgb and thermal, or rgb alone.
        classes: number of classes K.
        options: a value for each of `OPTIONS`.

    Raises:
        SamsegError: other modalities, or continuous latents where there is no codebook.
    """
    if tuple(modalities) not in (MODALITIES, MODALITIES[:1]):
        raise SamsegError(f"fusionsam: expected modalities {list(MODALITIES)}, got {list(modalities)}")
    encoder = SamEncoder(
        preset.vit_dim, preset.vit_depth, preset.vit_heads, preset.global_blocks, preset.window, preset.table
    )
    neck = SamNeck(preset.vit_dim, preset.dim)
    if preset.frozen_encoder:
        encoder.requires_grad_(False)
        neck.requires_grad_(False)
    latent, fused, dim = preset.tokens.latent, preset.fusion_dim, preset.dim
    return FusionSam(
        tokens=LatentTokens(_tokens(preset, options), _tokens(preset, options), latent),
        fusion=FusionPrompts(latent, fused, preset.full_tokens)
        if options["fmp"] == "attention"
        else ConcatFusion(latent, fused),
        fusion_mask=FusionMask(fused),
        coarse=CoarseHead(fused, classes),
        image_encoder=encoder,
        neck=neck,
        prompts=SamPrompts(dim),
        decoder=ClassTokenDecoder(classes, dim, preset.decoder_depth, preset.decoder_heads, preset.decoder_mlp),
        modalities=modalities,
    )


def _tokens(preset: Preset, options: Mapping[str, str]) -> Vqgan | PlainTokens:
    quantized = options["latents"] == "quantized"
    if options["lstg"] == "vqgan":
        return Vqgan(preset.tokens, quantized)
    if not quantized:
        raise SamsegError("fusionsam: option latents: continuous is for lstg: vqgan; lstg: conv has no codebook")
    return PlainTokens(preset.tokens)
