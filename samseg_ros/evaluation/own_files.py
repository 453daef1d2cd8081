"""Whose the files in an output folder are: an evaluation replaces what an evaluation wrote, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from samseg_ros.errors import InputError
from samseg_ros.models.weights import sha256
from samseg_ros.training.lock import locked

MARKS = ".samseg-evaluate.json"
"""File in the output folder: what evaluations wrote there, path to digests. What was changed since is the user's."""
UNFINISHED = ".samseg-unfinished"
"""Folder in the output folder in which results are written before they take the place of older ones."""
FILES = ("metrics.json", "table.md", "per_class.csv", "confusion.csv", "result.jsonl", "report.html", "config.yaml")
"""Names of all that an evaluation writes."""


def is_own(path: Path) -> bool:
    """Say whether an evaluation wrote a file into its folder, and nobody has changed it since."""
    return _digest(path) in _marks(path.parent).get(path.name, [])


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Hold a folder for one evaluation, from before it scores until its results are written.

    Raises:
        SamsegError: another evaluation holds it, it cannot be written, or its results are somebody else's.
    """
    with locked(out, "another evaluation writes there; wait for it, or choose another folder with --out"):
        _refuse_strangers(out, FILES)
        yield


@contextmanager
def replaced(out: Path, keep: bool = False) -> Iterator[Path]:
    """Yield an empty folder for results; at the end they take the place of those of earlier evaluations, all of them.

    After an error everything is as it was.

    Args:
        out: the output folder, made where it is not there.
        keep: older results stay, where they are not replaced.

    Raises:
        InputError: a file of somebody else's stands where a result belongs.
    """
    part = out / UNFINISHED
    shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
    part.mkdir(parents=True)
    try:
        yield part
        found = sorted(str(file.relative_to(part)) for file in part.rglob("*") if file.is_file())
        _refuse_strangers(out, found)
        old, new = _marks(out), {name: [_digest(part / name)] for name in found}
        _mark(out, {name: old.get(name, []) + new.get(name, []) for name in old | new})  # first: whatever comes is ours
        for name in found:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).replace(out / name)
        if not keep:
            _remove(out, {name: digests for name, digests in old.items() if name not in new})
        _mark(out, (old if keep else {}) | new)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _refuse_strangers(out: Path, names: tuple[str, ...] | list[str]) -> None:
    marks = _marks(out)
    for name in names:
        above = [out / part for part in Path(name).parents if part.parts]
        in_the_way = [str(place.relative_to(out)) for place in above if place.exists() and not place.is_dir()]
        if (out / name).exists() and _digest(out / name) not in marks.get(name, []):
            in_the_way.append(name)
        if in_the_way:
            raise InputError(
                f"--out {out}",
                expected="a folder without results, or with those of an earlier evaluation as it wrote them",
                got=f"{in_the_way[0]} of something else",
                remedy="choose another folder, or move that file away",
            )


def _remove(out: Path, marks: Mapping[str, list[str]]) -> None:
    """Remove what was written, and the folders below that are empty then."""
    for name, digests in marks.items():
        file = out / name
        if _digest(file) not in digests:
            continue
        file.unlink()
        for folder in list(file.parents)[: len(Path(name).parts) - 1]:
            with suppress(OSError):  # it holds more
                folder.rmdir()


def _marks(out: Path) -> dict[str, list[str]]:
    with suppress(OSError, ValueError):  # none, or not ours
        found = json.loads((out / MARKS).read_text())
        if isinstance(found, dict):
            ours = {name: digests for name, digests in found.items() if isinstance(digests, list)}
            return {name: digests for name, digests in ours.items() if Path(name).name in FILES and _is_below(name)}
    return {}


def _mark(out: Path, marks: Mapping[str, list[str]]) -> None:
    new = out / f"{MARKS}.new"  # a disk that is full must not cost the marks of what is there
    try:
        new.write_text(json.dumps(marks, indent=1) + "\n")
        new.replace(out / MARKS)
    finally:
        new.unlink(missing_ok=True)


def _is_below(name: str) -> bool:
    path = Path(name)
    return not path.is_absolute() and ".." not in path.parts


def _digest(path: Path) -> str:
    """Return the digest of a file, nothing where there is none."""
    return sha256(path) if path.is_file() and not path.is_symlink() else ""
