"""What the folder datasets share: files that are there, lists, strict reading of images, ids."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from PIL import Image

from samseg_ros.datasets.folders import (
    FolderDataset,
    id_table,
    matched,
    read_bands,
    read_color,
    read_ids,
    read_levels,
    read_list,
    remap,
    require,
    rgb_thermal,
)
from samseg_ros.datasets.labelled import Sample
from samseg_ros.errors import InputError, SamsegError
from samseg_ros.types import Frame

TABLE = id_table({0: 0, 1: 7, 11: 255})


def test_what_is_missing_is_counted_and_the_first_few_named_with_the_layout(tmp_path: Path) -> None:
    (tmp_path / "there.png").touch()
    files = ["there.png", *(f"{i}.png" for i in range(8))]
    with pytest.raises(SamsegError) as error:
        require("toy", tmp_path, files, "toy expects NAME.png")
    assert "toy: 8 of 9 files are missing" in str(error.value)
    assert "0.png, 1.png, 2.png, 3.png, 4.png and 3 more;" in str(error.value)
    assert str(error.value).endswith("\ntoy expects NAME.png")


def test_a_whole_folder_passes_and_an_absent_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "there.png").touch()
    require("toy", tmp_path, ["there.png"], "x")
    with pytest.raises(SamsegError, match=r"toy: no folder .*nowhere\nx"):
        require("toy", tmp_path / "nowhere", ["there.png"], "x")


def test_a_file_that_one_of_the_paired_folders_lacks_is_named(tmp_path: Path) -> None:
    for file in ("a/2.png", "a/1.png", "b/1.png", "b/2.png", "b/.hidden.png", "b/notes.txt"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    assert matched("toy", tmp_path, {"a": ".png", "b": ".png"}, "", "x") == ["1", "2"]
    (tmp_path / "b" / "1.png").unlink()
    with pytest.raises(SamsegError, match=r"toy: 1 of 4 files are missing under .*: b/1\.png;"):
        matched("toy", tmp_path, {"a": ".png", "b": ".png"}, "", "x")


def test_paired_folders_without_any_sample_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(SamsegError, match=r"toy: no a/\*\.png under"):
        matched("toy", tmp_path, {"a": ".png"}, "", "x")
    with pytest.raises(SamsegError, match=r"toy: 1 of 2 files are missing under .*: b;"):
        matched("toy", tmp_path, {"a": ".png", "b": ".png"}, "", "x")


def test_a_list_gives_the_first_word_of_each_line_whatever_ends_the_line(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\r\n two \nthree")
    assert read_list(path) == ["one", "two", "three"]
    path.write_text("/a/one.png /b/one.png\n/a/two.png /b/two.png\n")
    assert read_list(path, columns=2) == ["/a/one.png", "/a/two.png"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"one\none two\n", r"train\.txt, line 2: expected 1 name\(s\), got 'one two'"),
        (b"../secret\n", "line 1: expected"),
        (b"a\x00b\n", "line 1: expected"),
        (b"one\ntwo\none\n", "line 3: one stands in line 1 already"),
        (b"\n \n", "got an empty list"),
        (b"\x89PNG\r\n\x1a\n\xff", "cannot be read as a list of names"),
    ],
)
def test_a_list_with_a_bad_line_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "train.txt"
    path.write_bytes(content)
    with pytest.raises(SamsegError, match=message):
        read_list(path)


def test_colours_come_in_the_order_red_green_blue_and_without_alpha(tmp_path: Path) -> None:
    orange = np.full((2, 3, 3), (250, 120, 10), np.uint8)
    for channels, name in ((orange, "rgb"), (np.dstack([orange, np.full((2, 3), 9, np.uint8)]), "rgba")):
        Image.fromarray(channels).save(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(read_color(tmp_path / f"{name}.png"), orange)
    cv2.imwrite(str(tmp_path / "cv.png"), orange[:, :, ::-1])
    np.testing.assert_array_equal(read_color(tmp_path / "cv.png"), orange)


def test_a_grey_or_palette_picture_becomes_three_channels(tmp_path: Path) -> None:
    grey = np.array([[0, 9, 255]], np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_color(tmp_path / "grey.png"), np.dstack([grey] * 3))
    indexed = Image.fromarray(np.array([[0, 1]], np.uint8), mode=None).convert("P")
    indexed.putpalette([1, 2, 3, 4, 5, 6])
    indexed.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_color(tmp_path / "palette.png"), [[[1, 2, 3], [4, 5, 6]]])


def test_thermal_levels_keep_their_bits(tmp_path: Path) -> None:
    for levels in (np.array([[0, 255]], np.uint8), np.array([[0, 40000]], np.uint16)):
        Image.fromarray(levels).save(tmp_path / "t.png")
        read = read_levels(tmp_path / "t.png")
        assert read.dtype == levels.dtype and read.dtype.isnative
        np.testing.assert_array_equal(read, levels)


def test_levels_saved_as_equal_channels_are_grey_and_others_refused(tmp_path: Path) -> None:
    grey = np.array([[5, 6], [7, 8]], np.uint8)
    Image.fromarray(np.dstack([grey] * 3)).save(tmp_path / "t.png")
    np.testing.assert_array_equal(read_levels(tmp_path / "t.png"), grey)
    Image.fromarray(np.dstack([grey, grey, grey + 1])).save(tmp_path / "t.png")
    with pytest.raises(InputError, match=r"t\.png: expected a grey picture .*, got 2x2x3 uint8 \(mode RGB\)"):
        read_levels(tmp_path / "t.png")


def test_ids_of_a_palette_image_are_its_indices_not_its_colours(tmp_path: Path) -> None:
    ids = np.array([[0, 3, 11]], np.uint8)
    image = Image.fromarray(ids).convert("P")
    image.putpalette([i * 7 % 256 for i in range(768)])
    image.save(tmp_path / "labels.png")
    np.testing.assert_array_equal(read_ids(tmp_path / "labels.png"), ids)


def test_labels_drawn_in_colour_are_refused(tmp_path: Path, trees: ModuleType) -> None:
    trees.save(tmp_path / "labels.png", trees.picture(0))
    with pytest.raises(InputError, match="expected an image of class ids"):
        read_ids(tmp_path / "labels.png")


def test_one_bit_and_wide_pixels_are_refused(tmp_path: Path, trees: ModuleType) -> None:
    Image.fromarray(np.eye(2, dtype=bool)).save(tmp_path / "bits.png")
    with pytest.raises(InputError, match=r"got 2x2 bool \(mode 1\)"):
        read_ids(tmp_path / "bits.png")
    trees.save(tmp_path / "wide.png", np.array([[1, 70]], np.uint16))
    with pytest.raises(InputError, match="expected an RGB picture of 8 bits a channel"):
        read_color(tmp_path / "wide.png")


def test_the_number_of_bands_is_held(tmp_path: Path, trees: ModuleType) -> None:
    trees.save(tmp_path / "four.png", trees.picture(0, 4))
    np.testing.assert_array_equal(read_bands(tmp_path / "four.png", 4), trees.picture(0, 4))
    with pytest.raises(InputError, match=r"four\.png: expected 3 channels of 8 bits, got 2x3x4"):
        read_bands(tmp_path / "four.png", 3)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_a_truncated_image_is_refused_by_its_path(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    for read in (read_color, read_levels, read_ids):
        with pytest.raises(SamsegError, match=rf"cut\.{suffix}: not a readable image"):
            read(path)


def test_a_png_with_one_wrong_byte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hit.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80), np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(SamsegError, match=r"hit\.png: not a readable image"):
        read_ids(path)


def test_an_absent_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(SamsegError, match=r"none\.png: no such file"):
        read_color(tmp_path / "none.png")


def test_ids_are_looked_up() -> None:
    np.testing.assert_array_equal(remap(np.array([[0, 1, 11]], np.uint8), TABLE, Path("x")), [[0, 7, 255]])
    np.testing.assert_array_equal(remap(np.array([[1, 0]], np.uint16), TABLE, Path("x")), [[7, 0]])


def test_an_id_without_a_class_is_refused_with_the_file_and_the_ids() -> None:
    with pytest.raises(SamsegError, match=r"a/b\.png: expected the ids 0-1, 11, got 2, 200 as well \(3 pixels\)"):
        remap(np.array([[0, 2, 200, 200]], np.uint8), TABLE, Path("a/b.png"))


def test_an_id_beyond_255_is_no_ignored_pixel() -> None:
    table = id_table({0: 0, 255: 255})
    with pytest.raises(SamsegError, match="got 256 as well"):
        remap(np.array([[0, 255, 256]], np.uint16), table, Path("x"))


def _frame(index: int) -> tuple[Frame, np.ndarray]:
    shapes = [((2, 3), (2, 3)), ((2, 3), (4, 6)), ((3, 2), (2, 3))]
    labels, thermal = shapes[index]
    return Frame(np.zeros((2, 3, 3), np.uint8), thermal=np.zeros(thermal, np.uint8)), np.zeros(labels, np.uint8)


def test_a_sample_whose_images_differ_in_size_is_refused_by_name() -> None:
    dataset = FolderDataset("camvid", ("rgb", "thermal"), tuple(Sample(name) for name in "abc"), _frame)
    assert dataset[0][1].shape == (2, 3)
    with pytest.raises(InputError, match=r"sample b: .* got rgb 3x2, labels 3x2, thermal 6x4"):
        dataset[1]
    with pytest.raises(InputError, match=r"sample c: .* got rgb 3x2, labels 2x3, thermal 3x2"):
        dataset[2]


def test_a_ready_made_picture_of_another_size_is_refused() -> None:
    frame = Frame(np.zeros((2, 3, 3), np.uint8), images={"lidar": np.zeros((2, 4, 3), np.uint8)})
    dataset = FolderDataset("camvid", ("rgb",), (Sample("a"),), lambda _: (frame, np.zeros((2, 3), np.uint8)))
    with pytest.raises(InputError, match="lidar 4x2"):
        dataset[0]


def test_there_is_nothing_before_the_first_and_behind_the_last_sample() -> None:
    dataset = FolderDataset("camvid", ("rgb",), (Sample("a"),), _frame)
    assert len(dataset) == len(list(dataset)) == 1
    for index in (-1, 1):
        with pytest.raises(IndexError):
            dataset[index]


def test_a_dataset_can_go_to_another_process(tmp_path: Path, trees: ModuleType) -> None:
    trees.msrs(tmp_path)
    parts = ("test/vi", "test/ir", "test/Segmentation_labels")
    read = partial(rgb_thermal, tmp_path, parts, ("00008N",), id_table({i: i for i in range(9)}))
    there = pickle.loads(pickle.dumps(FolderDataset("mfnet", ("rgb",), (Sample("00008N"),), read)))
    np.testing.assert_array_equal(there[0][0].image, trees.picture(0))
