"""Label sets: class ids, names and colours, read from CSV (``id,name,r,g,b``)."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samseg_ros.errors import SamsegError, nearest
from samseg_ros.resources import config_dir
from samseg_ros.types import UNLABELLED


@dataclass(frozen=True, eq=False, slots=True)
class LabelSet:
    """Classes 0..K-1 in the order of the network's outputs."""

    name: str
    names: tuple[str, ...]
    colors: NDArray[np.uint8]
    """(K, 3) RGB."""

    def __len__(self) -> int:
        return len(self.names)

    def palette(self) -> NDArray[np.uint8]:
        """Return (256, 3) RGB, black for every id without a class (255 = unlabelled among them)."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self)] = self.colors
        return table


def shipped() -> tuple[str, ...]:
    """Names of the label sets under config/labels."""
    return tuple(sorted(p.stem for p in (config_dir() / "labels").glob("*.csv")))


def load_labels(name_or_path: str) -> LabelSet:
    """Read a shipped set by name or any CSV by path.

    Raises:
        SamsegError: no such set, a file that is no UTF-8 CSV, a header other than ``id,name,r,g,b``, ids that are not
            0..K-1, a colour outside 0..255, or more than 255 classes.
    """
    path = Path(name_or_path)
    if path.suffix != ".csv":
        path = config_dir() / "labels" / f"{name_or_path}.csv"
    if not path.is_file():
        raise SamsegError(f"no label set {name_or_path!r}; {nearest(name_or_path, shipped())}")
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            header, rows = reader.fieldnames, list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SamsegError(f"{path}: cannot be read as CSV ({error}); save it as UTF-8") from None
    if header != ["id", "name", "r", "g", "b"]:
        raise SamsegError(f"{path}: expected the header id,name,r,g,b, got {header}")
    try:
        ids = [int(r["id"]) for r in rows]
        colors = np.array([[int(r[c]) for c in "rgb"] for r in rows], np.int64).reshape(-1, 3)
    except (TypeError, ValueError) as error:
        raise SamsegError(f"{path}: ids and colours have to be whole numbers ({error})") from None
    if ids != list(range(len(ids))) or not 0 < len(ids) <= UNLABELLED:
        raise SamsegError(f"{path}: expected ids 0, 1, 2, ... below {UNLABELLED}, got {ids[:8]}")
    if colors.min() < 0 or colors.max() > 255:
        raise SamsegError(f"{path}: colours have to lie in 0..255")
    return LabelSet(path.stem, tuple(r["name"] for r in rows), colors.astype(np.uint8))
