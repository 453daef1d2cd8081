"""The temperature that makes a model's confidence honest, kept with its weights."""

from __future__ import annotations

from pathlib import Path

from samseg_ros.config import ModelConfig
from samseg_ros.errors import SamsegError
from samseg_ros.models import locate, read_spec, write_spec


def store_temperature(config: ModelConfig, factor: float) -> Path:
    """Multiply the temperature in the model.yaml of the weights that the settings mean; return that file.

    Args:
        config: names the weights.
        factor: what was fitted to scores that the stored temperature already divides (`Pipeline` does).

    Raises:
        SamsegError: no such weights, none that a model.yaml names, the temperature leaves what a model.yaml may hold,
            or the file cannot be written.
    """
    path, others = locate(config)
    if others is not None:
        raise SamsegError(
            f"{others}: expected weights that a model.yaml beside them names, to keep their temperature in; "
            "name the folder that training wrote"
        )
    spec = read_spec(path)
    tree = spec.model_dump() | {"temperature": round(spec.temperature * factor, 6)}
    try:
        write_spec(path.parent, type(spec).model_validate(tree))
    except ValueError as error:  # pydantic's is one
        raise SamsegError(f"{path}: no temperature can be {spec.temperature * factor:g} ({error})") from None
    except OSError as error:
        raise SamsegError(f"{path}: cannot be written ({error.strerror}); copy the folder and name the copy") from None
    return path
