"""The authors' parameter names of MM SAM-adapter, and ours.

Their checkpoints hold two modalities; ``x`` says which of our X modalities theirs becomes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from samseg_ros.errors import SamsegError

_FUSION_PARTS = {
    r"global_feature_encoder_rgb\.(\d)\.norm1\.body\.": r"\1.global_rgb.norm1.",
    r"global_feature_encoder_rgb\.(\d)\.": r"\1.global_rgb.",
    r"global_feature_encoder_sne\.(\d)\.norm1\.body\.": r"\1.global_x.norm1.",
    r"global_feature_encoder_sne\.(\d)\.": r"\1.global_x.",
    r"local_feature_encoder_rgb\.(\d)\.": r"\1.local_rgb.",
    r"local_feature_encoder_sne\.(\d)\.": r"\1.local_x.",
    r"fuse_blocks\.(\d)\.gammax\.scale": r"\1.cross.gamma_rgb",
    r"fuse_blocks\.(\d)\.gammay\.scale": r"\1.cross.gamma_x",
    r"fuse_blocks\.(\d)\.norm\.": r"\1.norm.",
    r"enhance_blocks\.(\d)\.conv_atten\.": r"\1.recalibrate.",
    r"detail_feature_extractions\.(\d)\.": r"\1.local_path.",
    r"scale_layers\.(\d)\.scale1": r"\1.scale_global",
    r"scale_layers\.(\d)\.scale2": r"\1.scale_local",
    r"ca_blocks\.(\d)\.coord_atten\.": r"\1.coordinate.",
}
_BOTTLENECK = {"bottleneckBlock.0.": "expand.", "bottleneckBlock.2.": "depthwise.", "bottleneckBlock.4.": "reduce."}
_STEM_PARTS = {
    r"downsample_layers_[xy]\.0\.": "stem.",
    r"downsample_layers_[xy]\.(\d)\.": r"stages.\1.downsample.",
    r"stages_[xy]\.(\d)\.(\d+)\.depthwise_conv\.": r"stages.\1.blocks.\2.conv_dw.",
    r"stages_[xy]\.(\d)\.(\d+)\.pointwise_conv(\d)\.": r"stages.\1.blocks.\2.mlp.fc\3.",
    r"stages_[xy]\.(\d)\.(\d+)\.": r"stages.\1.blocks.\2.",
    r"norm_[xy](\d)\.": r"norms.\1.",
}


def our_key(theirs: str, x: str) -> str:
    """Translate one key of the authors' ``state_dict`` (with or without ``module.``, ``backbone.``).

    Raises:
        SamsegError: no such key in their model.
    """
    key = theirs.removeprefix("module.").removeprefix("backbone.")
    if key.startswith("decode_head."):
        return key
    if key.startswith("spm.smart_fusion."):
        return "backbone.prior.fusions." + _fusion_key(key.removeprefix("spm.smart_fusion."), theirs)
    if key.startswith("spm.twin_conv."):
        inner = key.removeprefix("spm.twin_conv.")
        stem = "rgb_stem" if re.match(r"\w+_x", inner) else f"x_stems.{x}"
        return f"backbone.prior.{stem}.{_first_match(_STEM_PARTS, inner, theirs)}"
    if match := re.fullmatch(r"spm\.fc(\d)\.(\w+)", key):
        return f"backbone.prior.projections.{int(match[1]) - 1}.{match[2]}"
    if match := re.fullmatch(r"norm(\d)\.(\w+)", key):
        return f"backbone.norms.{int(match[1]) - 1}.{match[2]}"
    if key.startswith(("pos_embed", "patch_embed.", "blocks.")):
        return f"backbone.encoder.{key}"
    if key.startswith(("level_embed", "up.", "interactions.")):
        return f"backbone.{key}"
    raise SamsegError(f"{theirs!r} is no parameter of the authors' MM SAM-adapter; is this another model's checkpoint?")


def _fusion_key(inner: str, theirs: str) -> str:
    key = _first_match(_FUSION_PARTS, inner, theirs)
    for old, new in _BOTTLENECK.items():
        key = key.replace(old, new)
    return key


def _first_match(table: Mapping[str, str], key: str, theirs: str) -> str:
    for pattern, replacement in table.items():
        translated, count = re.subn(f"^{pattern}", replacement, key)
        if count:
            return translated
    raise SamsegError(f"{theirs!r} is no parameter of the authors' MM SAM-adapter; is this another model's checkpoint?")


def our_state(theirs: Mapping[str, Tensor], x: str) -> dict[str, Tensor]:
    """Translate all keys of the authors' ``state_dict``; ours has ``gates.*`` beside, for an absent X."""
    return {our_key(key, x): value.float() if value.is_floating_point() else value for key, value in theirs.items()}
