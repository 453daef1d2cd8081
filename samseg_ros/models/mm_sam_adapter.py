"""MM SAM-adapter: camera image plus any of the X modalities, semantic segmentation.

Source: *Multimodal SAM-adapter for Semantic Segmentation* (arXiv 2509.10408). ``PRESETS`` holds every size and
``OPTIONS`` the paper's ablations, each in one table. Beyond the paper: more than two modalities, any of them missing,
per sample (see ``ModalityGate``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samseg_ros.errors import InputError, SamsegError
from samseg_ros.networks.adapter import Extractor, Injector, Interaction
from samseg_ros.networks.adapter_prior import RGB, STRIDES, AuxiliaryPrior, Fusion, MultimodalPrior
from samseg_ros.networks.convnext_stem import ConvNextStem, StemShape
from samseg_ros.networks.mm_adapter_backbone import STRIDE, MmAdapterBackbone
from samseg_ros.networks.modality_gate import MERGING, ModalityGate
from samseg_ros.networks.plain_fusion import Addition, Concatenation
from samseg_ros.networks.road_fusion import FusionShape, RoadFusion
from samseg_ros.networks.sam_encoder import SamEncoder
from samseg_ros.networks.sam_pyramid import SamPyramid
from samseg_ros.networks.segformer_head import SegformerHead


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
    training_size: tuple[int, int] = (1024, 1024)
    """(height, width) in pixels that Road-Fusion's norms over space belong to; resized for any other."""
    rgb_stem: StemShape = field(default_factory=StemShape)
    x_stem: StemShape = field(default_factory=StemShape)
    """Same channels as the RGB stem."""
    fusion: FusionShape = field(default_factory=FusionShape)
    fusion_strides: tuple[int, int, int, int] = (1, 1, 1, 1)
    interactions: int = 4
    extra_extractors: int = 2
    heads: int = 16
    """Of the deformable attention."""
    points: int = 4
    value_ratio: float = 0.5
    ffn_ratio: float = 0.25
    ffn_drop_path: float = 0.3
    injector_scale: float = 1e-6
    """Initial gamma of the injectors."""
    first_width: int = 0
    """Channels of level 1/4; 0: as wide as the encoder."""
    head_width: int = 512
    dropout: float = 0.1

    @property
    def widths(self) -> tuple[int, int, int, int]:
        """Channels of the four levels."""
        return (self.first_width or self.vit_dim, self.vit_dim, self.vit_dim, self.vit_dim)


def _small_stem(depths: tuple[int, int, int, int]) -> StemShape:
    return StemShape((32, 64, 128, 144), depths, kernel=3, entry="overlap_tiered", layer_scale=None, drop_path=0.0)


PRESETS: dict[str, Preset] = {
    "compact": Preset(
        vit_dim=128,
        vit_depth=8,
        vit_heads=4,
        global_blocks=(3, 7),
        window=6,
        table=(18, 24),
        training_size=(288, 384),
        rgb_stem=_small_stem((1, 2, 3, 1)),
        x_stem=_small_stem((1, 2, 2, 1)),
        fusion=FusionShape(qkv_groups=0, heads=4, scale=0.5, mean_similarity=True),
        fusion_strides=(2, 1, 1, 1),
        interactions=2,
        extra_extractors=0,
        heads=4,
        ffn_drop_path=0.0,
        injector_scale=0.1,
        first_width=64,
        head_width=64,
        dropout=0.0,
    ),
    "vit_b": Preset(vit_dim=768, vit_depth=12, vit_heads=12, global_blocks=(2, 5, 8, 11)),
    "vit_l": Preset(vit_dim=1024, vit_depth=24, vit_heads=16, global_blocks=(5, 11, 17, 23)),  # the published one
    "vit_h": Preset(vit_dim=1280, vit_depth=32, vit_heads=16, global_blocks=(7, 15, 23, 31)),
}

OPTIONS: dict[str, tuple[str, ...]] = {
    # How RGB and X meet at each level (Table 11): Road-Fusion, their sum, or both side by side.
    "fusion": ("road_fusion", "add", "concat"),
    # What the adapter sees (Table 9): RGB and X, X alone, or there is no adapter and RGB goes through SAM only.
    "adapter": ("rgb_x", "x_only", "none"),
    # The stems (Table 10): the preset's, or ConvNeXt-B for ConvNeXt-S, which brings the auxiliary branch near SAM's
    # number of parameters. [R] At any preset: 4/3 as wide. compact's auxiliary branch is larger than its SAM already.
    "branches": ("asymmetric", "symmetric"),
    # How more than one X stream becomes one before Road-Fusion (ours, docs/adr/0001-more-than-two-modalities.md).
    "merging": MERGING,
    # Whether SAM's weights learn (Table 13).
    "encoder": ("trained", "frozen"),
}
"""The paper's ablations and ours; the first value of each is its full model."""


class MmSamAdapter(nn.Module):
    """Modalities in, logits out, at any size from 64 x 64.

    Args:
        backbone: SAM encoder with its adapter, or alone.
        head: makes logits at 1/4.
        modalities: "rgb" first, then the X modalities.
    """

    def __init__(
        self, backbone: MmAdapterBackbone | SamPyramid, head: SegformerHead, modalities: Sequence[str]
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.decode_head = head
        self.modalities = tuple(modalities)

    def forward(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> Tensor:
        """Segment.

        Args:
            inputs: (B, 3, H, W) per modality; "rgb" always; any other may be missing.
            present: (B,) bool per modality: in which samples it is there (default: in all).

        Returns:
            Logits (B, K, H, W).

        Raises:
            InputError: no RGB, an unknown modality (or rgb in ``present``), sizes that differ, or a side below 64.
        """
        logits = self._padded_logits(inputs, present or {})
        h, w = inputs[RGB].shape[2:]
        return F.interpolate(logits, scale_factor=4.0, mode="bilinear", align_corners=False)[..., :h, :w]

    def coarse_logits(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return logits (B, K, ceil(H / 4), ceil(W / 4)): what ``forward`` upsamples."""
        logits = self._padded_logits(inputs, present or {})
        h, w = inputs[RGB].shape[2:]
        return logits[..., : -(-h // 4), : -(-w // 4)]

    def _padded_logits(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        self._check(inputs, present)
        h, w = inputs[RGB].shape[2:]
        padded = {name: _channels_last(F.pad(x, (0, -w % STRIDE, 0, -h % STRIDE))) for name, x in inputs.items()}
        logits: Tensor = self.decode_head(self.backbone(padded, present))
        return logits

    def _check(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> None:
        rgb = inputs.get(RGB)
        whole = rgb is not None and rgb.ndim == 4 and rgb.shape[1] == 3 and min(rgb.shape[2:]) >= 64
        known = all(name in self.modalities for name in inputs) and all(name in self.modalities[1:] for name in present)
        if rgb is not None and whole and known and all(x.shape == rgb.shape for x in inputs.values()):
            return
        raise InputError(
            "network input",
            expected=f"'rgb' and any of {self.modalities[1:]}, all (B, 3, H, W) of one size with H, W >= 64",
            got=f"{ ({name: tuple(x.shape) for name, x in inputs.items()}) }, present: {list(present)}",
            remedy="resize every modality to the network's size",
        )


def _channels_last(x: Tensor) -> Tensor:
    """Lay out as (B, H, W, C) in memory: convolutions and channel norms run several times faster so on a CPU."""
    return x.contiguous(memory_format=torch.channels_last)


def build(
    preset: Preset, modalities: Sequence[str], classes: int, options: Mapping[str, str] | None = None
) -> MmSamAdapter:
    """Build the network of one preset with fresh weights.

    Args:
        preset: the size.
        modalities: "rgb" first, then the X modalities (one as in the paper, more through ``ModalityGate``, or none).
        classes: number of classes K.
        options: what differs from the first values of `OPTIONS`.

    Raises:
        SamsegError: options that contradict each other or the modalities.
    """
    chosen = {**{name: values[0] for name, values in OPTIONS.items()}, **(options or {})}
    _check_options(chosen, modalities)
    if chosen["branches"] == "symmetric":
        preset = replace(preset, rgb_stem=_widened(preset.rgb_stem), x_stem=_widened(preset.x_stem))
    backbone = _backbone(preset, modalities[1:], chosen)
    if chosen["encoder"] == "frozen":
        backbone.encoder.requires_grad_(False)
    head = SegformerHead(preset.widths, preset.head_width, classes, preset.dropout)
    return MmSamAdapter(backbone, head, modalities)


def _check_options(options: Mapping[str, str], modalities: Sequence[str]) -> None:
    """Refuse what would be ignored: a choice about a part that the network does not have."""
    adapter = options["adapter"]
    if adapter == "none" and len(modalities) > 1:
        raise SamsegError(f"adapter none sees the camera alone: expected modalities [rgb], got {list(modalities)}")
    if adapter == "x_only" and len(modalities) == 1:
        raise SamsegError("adapter x_only: expected an X modality beside rgb (thermal, lidar, ...), got rgb alone")
    if options["merging"] != MERGING[0] and len(modalities) < 3:
        raise SamsegError(f"merging {options['merging']}: expected two or more X modalities, got {list(modalities)}")
    absent = {"rgb_x": (), "x_only": ("fusion",), "none": ("fusion", "branches")}[adapter]
    for name in absent:
        if options[name] != OPTIONS[name][0]:
            raise SamsegError(f"adapter {adapter} has no {name}: leave option {name} away, got {options[name]!r}")


def _widened(stem: StemShape) -> StemShape:
    """Widen by 4/3, to multiples of 16 for Road-Fusion's groups: ConvNeXt-S becomes ConvNeXt-B."""
    first, second, third, fourth = (16 * round(c / 12) for c in stem.channels)
    return replace(stem, channels=(first, second, third, fourth))


def _backbone(preset: Preset, names: Sequence[str], options: Mapping[str, str]) -> MmAdapterBackbone | SamPyramid:
    encoder = SamEncoder(
        preset.vit_dim, preset.vit_depth, preset.vit_heads, preset.global_blocks, preset.window, preset.table
    )
    if options["adapter"] == "none":
        return SamPyramid(encoder, preset.interactions, preset.widths)
    interactions = [_interaction(preset, i == preset.interactions - 1) for i in range(preset.interactions)]
    prior = _x_prior(preset, names, options) if options["adapter"] == "x_only" else _prior(preset, names, options)
    return MmAdapterBackbone(encoder, prior, interactions, preset.widths)


def _prior(preset: Preset, names: Sequence[str], options: Mapping[str, str]) -> MultimodalPrior:
    channels = preset.rgb_stem.channels
    return MultimodalPrior(
        rgb_stem=ConvNextStem(preset.rgb_stem),
        x_stems={name: ConvNextStem(preset.x_stem) for name in names},
        gates=[ModalityGate(names, c, options["merging"]) for c in channels],
        fusions=[_FUSIONS[options["fusion"]](preset, level) for level in range(len(channels))],
        widths=preset.widths,
    )


def _x_prior(preset: Preset, names: Sequence[str], options: Mapping[str, str]) -> AuxiliaryPrior:
    channels = preset.x_stem.channels
    return AuxiliaryPrior(
        x_stems={name: ConvNextStem(preset.x_stem) for name in names},
        gates=[ModalityGate(names, c, options["merging"]) for c in channels],
        channels=channels,
        widths=preset.widths,
    )


def _road_fusion(preset: Preset, level: int) -> RoadFusion:
    height, width = preset.training_size
    grid = (height // STRIDES[level], width // STRIDES[level])
    return RoadFusion(preset.rgb_stem.channels[level], grid, preset.fusion, preset.fusion_strides[level])


_FUSIONS: dict[str, Callable[[Preset, int], Fusion]] = {
    "road_fusion": _road_fusion,
    "add": lambda preset, level: Addition(preset.rgb_stem.channels[level]),
    "concat": lambda preset, level: Concatenation(preset.rgb_stem.channels[level]),
}
"""(preset, level) to the fusion of that level."""


def _interaction(preset: Preset, last: bool) -> Interaction:
    deformable = (preset.vit_dim, preset.heads, preset.points, preset.value_ratio)
    extractors = [
        Extractor(*deformable, preset.ffn_ratio, preset.ffn_drop_path)
        for _ in range(1 + (preset.extra_extractors if last else 0))
    ]
    return Interaction(Injector(*deformable, preset.injector_scale), extractors[0], extractors[1:])
