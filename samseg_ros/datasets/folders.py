"""What datasets in folders share: lists of names, files that have to be there, images read strictly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samseg_ros.datasets.labelled import Labelled, Sample
from samseg_ros.errors import InputError, SamsegError
from samseg_ros.types import Frame

UNKNOWN_ID = 254
"""Entry of an `id_table` for an id that the dataset does not define."""
SHOWN = 5
"""Missing files that an error names."""


@dataclass(frozen=True, eq=False, slots=True)
class FolderDataset:
    """One split of a dataset in a folder: fulfils `samseg_ros.datasets.labelled.LabelledDataset`."""

    labels: str
    modalities: tuple[str, ...]
    samples: tuple[Sample, ...]
    read: Callable[[int], Labelled]
    """Sample's number -> frame and class ids; a `functools.partial` of a function can go to other processes."""

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Labelled:
        """Read one sample.

        Raises:
            IndexError: no such sample.
            SamsegError: a file is missing or damaged, holds ids outside the label set, or images differ in size.
        """
        if not 0 <= index < len(self.samples):
            raise IndexError(index)
        frame, ids = self.read(index)
        pictures = {"rgb": frame.image, "labels": ids, "thermal": frame.thermal, **frame.images}
        sizes = {name: picture.shape[:2] for name, picture in pictures.items() if picture is not None}
        if len(set(sizes.values())) > 1:
            raise InputError(
                f"sample {self.samples[index].name}",
                expected="images and labels of one size",
                got=", ".join(f"{name} {width}x{height}" for name, (height, width) in sizes.items()),
                remedy="download it again; files may belong to different versions of the dataset",
            )
        return frame, ids


def require(dataset_name: str, folder: Path, files: Iterable[str], expects: str) -> None:
    """Look whether every file (or folder) is there.

    Args:
        dataset_name: for the error.
        folder: the dataset's root.
        files: paths relative to it.
        expects: the layout, as the catalog shows it.

    Raises:
        SamsegError: something is missing: how many, the first few, and the expected layout.
    """
    wanted = list(dict.fromkeys(files))
    missing = [name for name in wanted if not (folder / name).exists()] if folder.is_dir() else wanted
    if not folder.is_dir():
        raise SamsegError(f"{dataset_name}: no folder {folder}\n{expects}")
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise SamsegError(
            f"{dataset_name}: {len(missing)} of {len(wanted)} files are missing under {folder}: "
            f"{', '.join(missing[:SHOWN])}{more}; download or unpack it again\n{expects}"
        )


def matched(dataset_name: str, folder: Path, parts: Mapping[str, str], between: str, expects: str) -> list[str]:
    """Return what the paths of a sample's files share, sorted: the part between the folder and the suffix.

    Args:
        dataset_name: for the error.
        folder: the dataset's root.
        parts: folder relative to it -> suffix of its files; a name found in one of them has to be in each.
        between: glob of the folders in which the files stand, ``*/`` for a folder a city, or nothing.
        expects: the layout, as the catalog shows it.

    Raises:
        SamsegError: a folder is missing, holds no such file, or lacks one that another has.
    """
    require(dataset_name, folder, parts, expects)
    names = {
        path.relative_to(folder / part).as_posix().removesuffix(suffix)
        for part, suffix in parts.items()
        for path in (folder / part).glob(f"{between}[!.]*{suffix}")
    }
    if not names:
        wanted = " or ".join(f"{part}/{between}*{suffix}" for part, suffix in parts.items())
        raise SamsegError(f"{dataset_name}: no {wanted} under {folder}\n{expects}")
    files = (f"{part}/{name}{suffix}" for name in sorted(names) for part, suffix in parts.items())
    require(dataset_name, folder, files, expects)
    return sorted(names)


def refuse_unlabelled(dataset_name: str, split: str, unlabelled: tuple[str, ...]) -> None:
    """Say why a split cannot be opened.

    Raises:
        SamsegError: the split is one whose labels are not public.
    """
    if split in unlabelled:
        raise SamsegError(
            f"{dataset_name}: the labels of {split} are not public: its benchmark's server scores masks; use val here"
        )


def read_list(path: Path, columns: int = 1) -> list[str]:
    """Return the names of a split's list: the first word of each line, blank lines skipped.

    Args:
        path: text file.
        columns: words that each line has to have.

    Raises:
        SamsegError: not a text file, no name in it, another number of words in a line, or a name twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SamsegError(f"{path}: cannot be read as a list of names ({error})") from None
    names: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        if len(words) != columns or not line.isprintable() or ".." in Path(words[0]).parts:
            raise SamsegError(f"{path}, line {number}: expected {columns} name(s), got {line[:80]!r}")
        if words[0] in names:
            raise SamsegError(f"{path}, line {number}: {words[0]} stands in line {names[words[0]]} already")
        names[words[0]] = number
    if not names:
        raise SamsegError(f"{path}: expected one name a line, got an empty list")
    return list(names)


def rgb_thermal(
    folder: Path, parts: tuple[str, str, str], names: Sequence[str], table: NDArray[np.uint8], index: int
) -> Labelled:
    """Read a sample of three files ``part/NAME.png``: colour, thermal, class ids.

    Raises:
        SamsegError: as `read_color`, `read_levels`, `read_ids` and `remap`.
    """
    color, thermal, labels = (folder / part / f"{names[index]}.png" for part in parts)
    return Frame(read_color(color), thermal=read_levels(thermal)), remap(read_ids(labels), table, labels)


def read_bands(path: Path, number: int) -> NDArray[np.uint8]:
    """Return an image of several channels as it is, (H, W, number).

    Raises:
        SamsegError: missing, damaged, or another number of channels.
    """
    mode, pixels = _decode(path)
    if pixels.dtype != np.uint8 or pixels.shape[2:] != (number,):
        raise _unexpected(path, f"{number} channels of 8 bits", mode, pixels)
    return pixels.astype(np.uint8, copy=False)


def read_color(path: Path) -> NDArray[np.uint8]:
    """Return an image as (H, W, 3) RGB, without its alpha channel; a grey one with three equal channels.

    Raises:
        SamsegError: missing, damaged, or no picture of 8 bits a channel.
    """
    mode, pixels = _decode(path)
    if pixels.dtype != np.uint8 or mode not in ("RGB", "RGBA", "L"):
        raise _unexpected(path, "an RGB picture of 8 bits a channel", mode, pixels)
    three = np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels[:, :, :3]
    return np.ascontiguousarray(three, np.uint8)


def read_levels(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return a grey image, (H, W) uint8 or uint16; one saved with three equal channels is grey too.

    Raises:
        SamsegError: missing, damaged, or in colour.
    """
    return _one_channel(path, "a grey picture of 8 or 16 bits", *_decode(path))


def read_ids(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return the ids of a label image, (H, W): grey levels (as `read_levels`), or a palette image's indices.

    Raises:
        SamsegError: missing, damaged, or an image of colours.
    """
    return _one_channel(path, "an image of class ids (grey or palette)", *_decode(path, palette=True))


def id_table(classes: Mapping[int, int]) -> NDArray[np.uint8]:
    """Return the (256,) lookup for `remap`: file's id -> class id or 255 (ignore); every other id is unknown."""
    table = np.full(256, UNKNOWN_ID, np.uint8)
    table[list(classes)] = list(classes.values())
    return table


def remap(ids: NDArray[np.generic], table: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
    """Return class ids (H, W) for a file's ids (H, W) by an `id_table`.

    Args:
        ids: uint8 or uint16.
        table: (256,), see `id_table`.
        path: of the file, for the error.

    Raises:
        SamsegError: the file holds ids that the table does not know.
    """
    small = np.minimum(ids, 255).astype(np.uint8)
    mapped: NDArray[np.uint8] = table[small]
    strange = mapped == UNKNOWN_ID
    if ids.dtype != np.uint8:
        strange |= np.asarray(ids, np.int64) > 255
    if strange.any():
        found = np.unique(ids[strange]).tolist()
        known = np.flatnonzero(table != UNKNOWN_ID).tolist()
        raise SamsegError(
            f"{path}: expected the ids {_ranges(known)}, got {', '.join(map(str, found[:SHOWN]))} as well"
            f" ({int(strange.sum())} pixels); is it the dataset's own label file?"
        )
    return mapped


def _ranges(numbers: Sequence[int]) -> str:
    """``[0, 1, 2, 255]`` -> ``0-2, 255``."""
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    return ", ".join(f"{a}-{b}" if a < b else f"{a}" for a, b in zip(starts, ends, strict=True))


def _decode(path: Path, palette: bool = False) -> tuple[str, NDArray[np.generic]]:
    """Return the image's mode (Pillow's) and pixels; a palette image as its indices or as colours.

    Pillow and not OpenCV: that one returns half a JPEG without an error, and turns a palette's indices into colours.
    """
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB") if opened.mode == "P" and not palette else opened
            pixels = np.array(image)
            mode = image.mode
    except FileNotFoundError:
        raise SamsegError(f"{path}: no such file; download or unpack the dataset again") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # SyntaxError: a broken PNG
        raise SamsegError(f"{path}: not a readable image ({error}); download or unpack it again") from None
    if mode == "I" and pixels.size and pixels.min() >= 0 and pixels.max() <= 65535:  # how Pillow before 10.3 gives I;16
        pixels = pixels.astype(np.uint16)
    return mode, pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _one_channel(
    path: Path, expected: str, mode: str, pixels: NDArray[np.generic]
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    grey = pixels if pixels.ndim == 2 else pixels[:, :, 0]
    colorful = pixels.ndim == 3 and mode != "LA" and bool((pixels[:, :, 1:3] != grey[:, :, None]).any())
    if colorful or grey.dtype not in (np.uint8, np.uint16):
        raise _unexpected(path, expected, mode, pixels)
    return np.ascontiguousarray(grey)


def _unexpected(path: Path, expected: str, mode: str, pixels: NDArray[np.generic]) -> InputError:
    got = f"{'x'.join(map(str, pixels.shape))} {pixels.dtype} (mode {mode})"
    return InputError(str(path), expected=expected, got=got, remedy="is it the file that the dataset came with?")
