"""Which frames are pictured, in what order, within what bounds; and that nothing of a mask is lost on the way."""

import base64
import zlib
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from samseg_ros.errors import InputError
from samseg_ros.evaluation import evaluation_pictures
from samseg_ros.evaluation.evaluation_pictures import Shown, by_score, collect, top_frames, wanted


def test_frames_of_a_cell_come_by_its_pixels(toys: ModuleType) -> None:
    tops = top_frames(toys.scored("a").measures.confusions, 2)
    assert tops[0, 1] == [(3, 72), (2, 48)]
    assert tops[0, 0] == [(0, 384), (1, 360)]
    assert (1, 0) not in tops and (2, 2) not in tops


def test_frames_without_any_label_are_neither_worst_nor_best() -> None:
    counts = np.zeros((3, 2, 3), np.int64)
    counts[0, 0, 1], counts[2, 0, 0] = 5, 5
    assert by_score(counts) == [0, 2]


def test_the_worst_and_the_best_come_first_then_mistakes_then_what_is_right() -> None:
    counts = np.zeros((12, 2, 3), np.int64)
    counts[:, 0, 0] = 100 + np.arange(12)
    counts[:, 0, 1] = 60 - 5 * np.arange(12)  # frame 0 worst, frame 11 best
    counts[5, 1, 0], counts[6, 1, 1] = 7, 9  # the two frames in which the other class occurs
    order = list(dict.fromkeys(wanted([counts], set())))
    worst_first = by_score(counts)
    assert order[:8] == [frame for pair in zip(worst_first[:4], worst_first[:-5:-1], strict=True) for frame in pair]
    assert sorted(order) == list(range(12))
    # With every frame but 5 and 6 held, the cells that only they show are asked for before anything else.
    rest = [frame for frame in wanted([counts], set(range(12)) - {5, 6})][8:]
    assert rest[:2] == [6, 5] or rest[:2] == [5, 6]


def test_a_page_asks_for_a_bounded_number_of_pictures(toys: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_pictures, "MAX_PICTURES", 6)
    runs, asked = [toys.scored("a"), toys.scored("b")], []
    give = toys.picture_of({"a": toys.MASKS, "b": toys.MASKS})

    def picture(run: Any, index: int) -> Shown:
        asked.append((run.model, index))
        result: Shown = give(run, index)
        return result

    album = collect(runs, picture)
    assert len(asked) == 6 and len(album.entries) == 3  # each frame as both models saw it
    assert asked[:4] == [("a", 3), ("b", 3), ("a", 0), ("b", 0)]  # worst, best
    assert len(collect(runs, picture, share=0.5).entries) == 1


def test_a_page_takes_in_a_bounded_number_of_bytes(toys: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    give = toys.picture_of({"a": toys.MASKS})
    album = collect([toys.scored("a")], give)
    sizes = [len(e["jpeg"]) + len(e["truth"]) + len(e["masks"][0]) for e in album.entries]
    assert len(sizes) == 4
    monkeypatch.setattr(evaluation_pictures, "MAX_BYTES", sum(sizes[:2]) + sizes[2] - 1)
    assert len(collect([toys.scored("a")], give).entries) == 2


def test_a_frame_that_cannot_be_had_again_is_left_out(toys: ModuleType) -> None:
    give = toys.picture_of({"a": toys.MASKS, "b": toys.MASKS})
    album = collect([toys.scored("a")], lambda run, i: None if i == 3 else give(run, i))
    assert sorted(album.place) == [0, 1, 2]
    album = collect([toys.scored("a"), toys.scored("b")], lambda run, i: None if run.model == "a" else give(run, i))
    assert [mask is None for mask in album.entries[0]["masks"]] == [True, False]


def test_masks_come_back_pixel_by_pixel_and_large_pictures_are_made_smaller(toys: ModuleType) -> None:
    album = collect([toys.scored("a")], toys.picture_of({"a": toys.MASKS}))
    entry = album.entries[album.place[3]]
    back = np.frombuffer(zlib.decompress(base64.b64decode(entry["masks"][0])), np.uint8)
    assert (back.reshape(24, 32) == toys.MASKS[3]).all() and (entry["width"], entry["height"]) == (32, 24)

    rng = np.random.default_rng(0)
    ids = rng.integers(0, 3, (900, 1600)).astype(np.uint8)
    shown = Shown(np.full((900, 1600, 3), (200, 100, 50), np.uint8), ids, ids)
    entry = collect([toys.scored("a")], lambda *_: shown).entries[0]
    assert (entry["width"], entry["height"]) == (640, 360)
    assert len(zlib.decompress(base64.b64decode(entry["truth"]))) == 640 * 360
    jpeg = cv2.imdecode(np.frombuffer(base64.b64decode(entry["jpeg"]), np.uint8), cv2.IMREAD_COLOR)
    assert jpeg is not None and jpeg.shape == (360, 640, 3)
    assert np.abs(jpeg.reshape(-1, 3).mean(0) - (50, 100, 200)).max() < 3  # OpenCV reads BGR


def test_a_mask_of_another_size_than_the_image_is_refused() -> None:
    with pytest.raises(InputError, match=r"picture of a frame, mask.*\(4, 6\).*\(2, 3\)"):
        Shown(np.zeros((4, 6, 3), np.uint8), np.zeros((2, 3), np.uint8), np.zeros((4, 6), np.uint8))
