"""Label sets: class ids, names and colours, read from CSV (``id,name,r,g,b``)."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
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


def load_remap(name_or_path: str, source: LabelSet, target: LabelSet) -> NDArray[np.uint8]:
    """Read which class of one set becomes which of another: a shipped table by name, or any CSV (``from,to``) by path.

    Returns:
        (256,) ids of ``target``; 255 where a class has no counterpart (``to`` is 255).

    Raises:
        SamsegError: no such table, a shipped one of other classes than these, one that is no CSV of that header, an id
            that its set lacks, or a class of ``source`` without a line or with two.
    """
    path = Path(name_or_path)
    is_shipped = path.suffix != ".csv"
    if is_shipped:
        path = config_dir() / "remaps" / f"{name_or_path}.csv"
    if not path.is_file():
        raise SamsegError(f"no remap {name_or_path!r}; {nearest(name_or_path, remaps())}")
    if is_shipped:
        _require_sets(name_or_path, source, target)
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            header, rows = reader.fieldnames, [(int(r["from"]), int(r["to"])) for r in reader]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise SamsegError(f"{path}: expected a CSV of whole numbers under from,to ({error})") from None
    if header != ["from", "to"]:
        raise SamsegError(f"{path}: expected the header from,to, got {header}")
    given = [old for old, _ in rows]
    if sorted(given) != list(range(len(source))):
        lacking = sorted(set(range(len(source))) - set(given))
        wrong = sorted(old for old in set(given) if given.count(old) > 1 or not 0 <= old < len(source))
        raise SamsegError(
            f"{path}: from: expected each of the {len(source)} ids of {source.name} once; missing: {lacking}, "
            f"doubled or unknown: {wrong}"
        )
    if wrong := [new for _, new in rows if new != UNLABELLED and not 0 <= new < len(target)]:
        raise SamsegError(f"{path}: to: expected ids of {target.name} (below {len(target)}) or 255, got {wrong[0]}")
    table = np.full(256, UNLABELLED, np.uint8)
    for old, new in rows:
        table[old] = new
    return table


def _require_sets(remap: str, source: LabelSet, target: LabelSet) -> None:
    """Refuse a shipped table for other classes: as numbers alone its ids would fit, and mean something else."""
    for name, given in zip(remap.split("_to_"), (source, target), strict=True):
        if load_labels(name).names != given.names:
            raise SamsegError(
                f"remap {remap}: expected the classes of {name}, got those of {given.name}; choose the table of your "
                "two sets, or write one (CSV from,to)"
            )


def remap_target(remap: str, named: str) -> LabelSet:
    """Return the set that a remap leads to.

    Args:
        remap: name or path of the table, ``SOURCE_to_TARGET``.
        named: name or path of the set; empty: TARGET.

    Raises:
        SamsegError: as `load_labels`, and where neither says which set it is.
    """
    target = named or Path(remap).stem.partition("_to_")[2]
    if not target:
        raise SamsegError(
            f"labels.remap_labels: expected the label set that {remap} leads to, got nothing; name a shipped set or a "
            "CSV (id,name,r,g,b), or call the table SOURCE_to_TARGET.csv"
        )
    return load_labels(target)


def format_label_info(labels: LabelSet, others: Mapping[str, LabelSet] | None = None) -> str:
    """Write ids, names and colours as the JSON that ``~/output/label_info`` and recordings carry.

    Args:
        labels: of the mask, and of every topic that ``others`` does not name.
        others: topics (``output/pointcloud``) whose ids are of another set.
    """
    tree = {**_as_tree(labels), "unlabelled": UNLABELLED}
    if others:
        tree["topics"] = {topic: _as_tree(own) for topic, own in others.items()}
    return json.dumps(tree)


def _as_tree(labels: LabelSet) -> dict[str, object]:
    classes = [
        {"id": index, "name": name, "color": [int(c) for c in color]}
        for index, (name, color) in enumerate(zip(labels.names, labels.colors, strict=True))
    ]
    return {"name": labels.name, "classes": classes}


def parse_label_info(text: str) -> LabelSet:
    """Read what `format_label_info` wrote.

    Raises:
        SamsegError: it is another JSON, or none, or its ids are not 0, 1, 2, ...
    """
    try:
        tree = json.loads(text)
        classes = sorted(tree["classes"], key=lambda c: int(c["id"]))
        names = tuple(str(c["name"]) for c in classes)
        colors = np.array([c["color"] for c in classes], np.uint8)
        ids = [int(c["id"]) for c in classes]
        name = str(tree["name"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise SamsegError(f"label info: expected JSON with name and classes, got {text[:60]!r} ({error!r})") from None
    if ids != list(range(len(ids))) or not ids or colors.shape != (len(ids), 3):
        raise SamsegError(f"label info: expected ids 0, 1, 2, ... with a colour each, got ids {ids[:8]}")
    return LabelSet(name, names, colors)


def shipped() -> tuple[str, ...]:
    """Names of the label sets under config/labels."""
    return tuple(sorted(p.stem for p in (config_dir() / "labels").glob("*.csv")))


def remaps() -> tuple[str, ...]:
    """Names of the tables under config/remaps."""
    return tuple(sorted(p.stem for p in (config_dir() / "remaps").glob("*.csv")))


def load_labels(name_or_path: str) -> LabelSet:
    """Read a shipped set by name or any CSV by path.

    Raises:
        SamsegError: no such set, a file that is no UTF-8 CSV, a header other than ``id,name,r,g,b``, ids that are not
            0..K-1, a class without a name or two of one name, a colour outside 0..255, or more than 255 classes.
    """
    path = Path(name_or_path)
    if path.suffix != ".csv":
        path = config_dir() / "labels" / f"{name_or_path}.csv"
    if not path.is_file():
        raise SamsegError(f"no label set {name_or_path!r}; {nearest(name_or_path, shipped())}")
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:  # spreadsheets begin with a byte order mark
            reader = csv.DictReader(stream)
            header, rows = reader.fieldnames, list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SamsegError(f"{path}: cannot be read as CSV ({error}); save it as UTF-8") from None
    if header != ["id", "name", "r", "g", "b"]:
        raise SamsegError(f"{path}: expected the header id,name,r,g,b, got {header}")
    try:
        ids = [int(r["id"]) for r in rows]
        colors = np.array([[int(r[c]) for c in "rgb"] for r in rows], np.int64).reshape(-1, 3)
    except (TypeError, ValueError, OverflowError) as error:
        raise SamsegError(f"{path}: ids and colours have to be whole numbers ({error})") from None
    if ids != list(range(len(ids))) or not 0 < len(ids) <= UNLABELLED:
        raise SamsegError(f"{path}: expected ids 0, 1, 2, ... below {UNLABELLED}, got {ids[:8]}")
    if colors.min() < 0 or colors.max() > 255:
        raise SamsegError(f"{path}: colours have to lie in 0..255")
    names = tuple(r["name"] for r in rows)
    if wrong := [name for name in names if not name.strip() or names.count(name) > 1]:
        raise SamsegError(f"{path}: expected a name of its own for each class, got {wrong[0]!r}")
    return LabelSet(path.stem, names, colors.astype(np.uint8))
