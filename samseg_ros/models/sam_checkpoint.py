"""SAM's own checkpoints, ``sam_vit_{b,l,h}*.pth``: which one it is, every key accounted for, and where it goes.

Source: Kirillov et al., *Segment Anything* (2023). The package ``segment-anything`` defines the format: names and
shapes are taken from the networks that it builds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from segment_anything import sam_model_registry
from torch import Tensor, nn

from samseg_ros.errors import SamsegError
from samseg_ros.models.checkpoints import misfits, shortened
from samseg_ros.networks.class_token_decoder import ClassTokenDecoder
from samseg_ros.networks.sam_encoder import SamEncoder
from samseg_ros.networks.sam_prompts import SamPrompts

ENCODER, NECK = "image_encoder.", "image_encoder.neck."


@dataclass(frozen=True, slots=True)
class SamSize:
    """What tells SAM's three image encoders apart."""

    dim: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]


SIZES: dict[str, SamSize] = {
    "vit_b": SamSize(768, 12, 12, (2, 5, 8, 11)),
    "vit_l": SamSize(1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": SamSize(1280, 32, 16, (7, 15, 23, 31)),
}


@dataclass(frozen=True, slots=True)
class SamCheckpoint:
    """A whole SAM, taken apart: encoder, neck and rest hold every key of the checkpoint once."""

    size: str
    """Row of `SIZES`."""
    encoder: dict[str, Tensor]
    """State of our `SamEncoder`."""
    neck: dict[str, Tensor]
    """What follows the encoder's blocks there: two convolutions and their norms, dim to 256 channels."""
    rest: dict[str, Tensor]
    """``prompt_encoder.*`` and ``mask_decoder.*`` under their full names."""


def is_sam(state: Mapping[str, Tensor]) -> bool:
    """Whether a checkpoint looks like a whole SAM (it may still be one that we do not know)."""
    return f"{ENCODER}pos_embed" in state


def sam_encoder_state(state: Mapping[str, Tensor]) -> SamCheckpoint:
    """Recognise one of SAM's three checkpoints and take it apart.

    Raises:
        SamsegError: no SAM, one of another size, or keys that are missing, unknown or of another shape (named).
    """
    size = _size(state)
    if faults := misfits(state, _official_shapes(size)):
        raise SamsegError(f"expected the keys of SAM {size}, got {faults}; is it another SAM's checkpoint?")
    encoder = {k.removeprefix(ENCODER): v for k, v in state.items() if k.startswith(ENCODER) and not k.startswith(NECK)}
    neck = {k.removeprefix(NECK): v for k, v in state.items() if k.startswith(NECK)}
    return SamCheckpoint(size, encoder, neck, {k: v for k, v in state.items() if not k.startswith(ENCODER)})


def build_encoder(size: str) -> SamEncoder:
    """Build SAM's image encoder, without the neck, with fresh weights; ``size`` is a row of `SIZES`."""
    shape = SIZES[size]
    return SamEncoder(shape.dim, shape.depth, shape.heads, shape.global_blocks)


def load_sam_encoder(network: nn.Module, checkpoint: SamCheckpoint) -> None:
    """Put SAM's encoder into a network that holds one, every key strictly.

    It is ``backbone.encoder`` (MM SAM-adapter), or ``image_encoder`` with its ``neck`` (AD-SAM, FusionSAM). FusionSAM
    takes prompt encoder and mask decoder too (`load_sam_decoder`).

    Raises:
        SamsegError: the network has no such encoder, or one of another size.
    """
    encoder = getattr(getattr(network, "backbone", network), "encoder", getattr(network, "image_encoder", None))
    if not isinstance(encoder, SamEncoder):
        raise SamsegError(f"{type(network).__name__} has no SAM encoder to put a SAM checkpoint into")
    if faults := misfits(checkpoint.encoder, {name: value.shape for name, value in encoder.state_dict().items()}):
        raise SamsegError(
            f"SAM {checkpoint.size} does not fit the network's encoder of width {encoder.dim} and depth "
            f"{len(encoder.blocks)}: {faults}; choose the preset that is made for this checkpoint"
        )
    encoder.load_state_dict(checkpoint.encoder)
    if isinstance(neck := getattr(network, "neck", None), nn.Module):
        neck.load_state_dict(checkpoint.neck)
    prompts, decoder = getattr(network, "prompts", None), getattr(network, "decoder", None)
    if isinstance(prompts, SamPrompts) and isinstance(decoder, ClassTokenDecoder):
        load_sam_decoder(prompts, decoder, checkpoint.rest)


def load_sam_decoder(prompts: SamPrompts, decoder: ClassTokenDecoder, rest: Mapping[str, Tensor]) -> None:
    """Put SAM's prompt encoder, two-way transformer and upscaling into FusionSAM's.

    SAM's four mask tokens with their hypernetworks and the token of mask quality have no counterpart: a class has a
    token of its own, which is learnt.

    Args:
        prompts, decoder: of SAM's own width, 256.
        rest: ``prompt_encoder.*`` and ``mask_decoder.*`` of a SAM.

    Raises:
        SamsegError: the network's parts are of another size.
    """
    for part, prefix in (
        (prompts.encoder, "prompt_encoder."),
        (decoder.transformer, "mask_decoder.transformer."),
        (decoder.output_upscaling, "mask_decoder.output_upscaling."),
    ):
        state = {name.removeprefix(prefix): value for name, value in rest.items() if name.startswith(prefix)}
        if faults := misfits(state, {name: value.shape for name, value in part.state_dict().items()}):
            raise SamsegError(f"SAM's {prefix.rstrip('.')} does not fit the network's: {faults}")
        part.load_state_dict(state)


def _size(state: Mapping[str, Tensor]) -> str:
    positions = state.get(f"{ENCODER}pos_embed")
    if positions is None:
        raise SamsegError(f"expected a SAM checkpoint (with {ENCODER}pos_embed), got the keys {shortened(list(state))}")
    width = positions.shape[-1]
    depth = len({k.split(".")[2] for k in state if k.startswith(f"{ENCODER}blocks.")})
    for name, shape in SIZES.items():
        if (shape.dim, shape.depth) == (width, depth):
            return name
    known = ", ".join(f"{name} ({shape.dim}, {shape.depth})" for name, shape in SIZES.items())
    raise SamsegError(f"expected SAM's encoder of (width, depth) {known}, got ({width}, {depth}); another SAM's file?")


@cache
def _official_shapes(size: str) -> dict[str, torch.Size]:
    """Names and shapes of a checkpoint, from the package that defines them; nothing is allocated."""
    with torch.device("meta"):
        sam = sam_model_registry[size]()
    return {name: value.shape for name, value in sam.state_dict().items()}
