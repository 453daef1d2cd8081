"""The authors' parameter names of AD-SAM's fusion, decoder and head, and ours."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from samseg_ros.errors import SamsegError

_PREFIXES = {
    "fusion_layers.0.": "fusion.",
    "up1.": "decoder.up1.",
    "up2.": "decoder.up2.",
    "up3.": "decoder.up3.",
    "classifier.": "decoder.classifier.",
}


def our_key(theirs: str) -> str:
    """Translate one key of the authors' ``state_dict`` (with or without ``module.``).

    Raises:
        SamsegError: no such key among these parts of their model.
    """
    key = theirs.removeprefix("module.")
    for old, new in _PREFIXES.items():
        if key.startswith(old):
            return new + key.removeprefix(old)
    raise SamsegError(
        f"{theirs!r} is no parameter of the fusion, decoder or head of the authors' AD-SAM; "
        "is this another model's checkpoint?"
    )


def our_state(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate all keys of a ``state_dict`` with the authors' fusion, decoder and head."""
    return {our_key(key): value.float() if value.is_floating_point() else value for key, value in theirs.items()}
