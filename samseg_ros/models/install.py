"""Put weights where a model is looked for by its name alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from samseg_ros.config import ModelConfig
from samseg_ros.errors import SamsegError
from samseg_ros.models import SPEC_FILE, ModelSpec, installed_folder, load_model, read_spec, write_spec
from samseg_ros.models.card import CARD_FILE, model_folder
from samseg_ros.models.import_weights import absolute_labels, with_labels_beside
from samseg_ros.resources import models_dir


def install(source: Path, replace: bool = False) -> Path:
    """Copy weights with their model.yaml, label set and card to the user's models; return the folder.

    From then on ``model.name`` and ``model.config`` (the preset) are enough to use them.

    Args:
        source: folder of weights, or of a training run.
        replace: put them in the place of others of the same model and preset.

    Raises:
        SamsegError: no model.yaml, an exported network, weights that do not load, weights of that model and preset that
            are shipped (they come first), or others that are installed already.
    """
    folder = model_folder(source)
    spec = read_spec(folder / SPEC_FILE)
    if spec.artefact:
        raise SamsegError(
            f"{folder}: expected weights, got a network exported for one camera size; name it in model.checkpoint"
        )
    shipped = models_dir() / spec.name / SPEC_FILE
    if shipped.is_file() and read_spec(shipped).preset == spec.preset:
        raise SamsegError(
            f"{spec.name} ({spec.preset}) is shipped, and that comes first; name {folder} in model.checkpoint instead"
        )
    target = installed_folder(spec.name, spec.preset)
    if (target.exists() or target.is_symlink()) and not replace:
        raise SamsegError(f"{target} is there already; give --replace to put these weights in its place")
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".installing-", dir=target.parent) as scratch:
        part = Path(scratch) / "new"
        _copy(folder, spec, part)
        load_model(ModelConfig(name=spec.name, config=spec.preset, checkpoint=str(part)))
        if target.exists() or target.is_symlink():
            target.rename(Path(scratch) / "old")  # a link goes, what it leads to stays
        part.rename(target)
    return target


def _copy(folder: Path, spec: ModelSpec, part: Path) -> None:
    """Copy what a model consists of under names of our own, so that nothing can lie over something else."""
    own = with_labels_beside(part, absolute_labels(spec, folder / SPEC_FILE))
    own = own.model_copy(update={"weights": f"{spec.preset}.safetensors"})
    try:
        weights = (folder / spec.weights).open("rb")
    except OSError as error:
        raise SamsegError(
            f"{folder / spec.weights} cannot be read ({error.strerror}); train or import it again"
        ) from None
    try:
        with weights, (part / own.weights).open("wb") as target:
            shutil.copyfileobj(weights, target)
    except OSError as error:
        place = part.parent.parent
        raise SamsegError(f"{place}: cannot be written ({error.strerror}); make room, or set SAMSEG_MODELS") from None
    if (folder / CARD_FILE).is_file():
        shutil.copyfile(folder / CARD_FILE, part / CARD_FILE)
    write_spec(part, own)
