"""Counts of one frame by hand, and that frames add up however they are split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samseg_ros.datasets.labelled import Sample
from samseg_ros.errors import InputError, SamsegError
from samseg_ros.evaluation.boundary import boundary_counts
from samseg_ros.evaluation.calibration import calibration_counts
from samseg_ros.evaluation.measures import (
    BANDS,
    BANDS_M,
    Measures,
    Prediction,
    bands_of,
    concatenate,
    load,
    measure,
    save,
    select,
)
from samseg_ros.evaluation.metrics import confusion

TRUTH = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 255, 255], [2, 2, 255, 255]], np.uint8)
PREDICTED = np.array([[0, 0, 1, 0], [0, 1, 1, 255], [2, 2, 0, 1], [2, 1, 2, 255]], np.uint8)
FIELDS = tuple(Measures.__dataclass_fields__)


def _frame(seed: int) -> Measures:
    rng = np.random.default_rng(seed)
    truth, predicted = (rng.choice([0, 1, 2, 255], (12, 16)).astype(np.uint8) for _ in range(2))
    said = Prediction(
        predicted,
        rng.integers(0, 256, truth.shape).astype(np.uint8),
        "rgb" if seed % 2 else "rgb+lidar",
        float(seed),
        rng.normal(size=(3, 3, 4)).astype(np.float32),
    )
    depth_m = rng.choice([5.0, 15.0, 30.0, 99.0, np.nan], truth.shape).astype(np.float32)
    sample = Sample(f"{seed:03d}", "night" if seed % 3 else "day", "hard" if seed % 2 else "easy")
    return measure(said if seed % 5 else None, truth, sample, 3, depth_m, (0.5, 1.0))


def _assert_equal(found: Measures, expected: Measures) -> None:
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_a_4x4_frame_by_hand() -> None:
    depth_m = np.array([[5, 5, 15, 15]] * 2 + [[np.inf, np.nan, 1, 1]] * 2, np.float32)
    sample = Sample("one", "rain", "hard")
    found = measure(Prediction(PREDICTED, sensors="rgb", latency_ms=7.0), TRUTH, sample, 3, depth_m)
    assert found.bands[0, 0].tolist() == [[3, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]  # the left half above
    assert found.bands[0, 1].tolist() == [[0, 0, 0, 0], [1, 2, 0, 1], [0, 0, 0, 0]]  # the right half above
    assert found.bands[0, 2].sum() == 0
    assert found.bands[0, 3].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 2, 0]]  # the first column below
    assert found.bands[0, 4].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 1, 0]]  # the second: no depth there
    assert found.confusions.tolist() == [[[3, 1, 0, 0], [1, 2, 0, 1], [0, 1, 3, 0]]]
    assert (found.names, found.conditions, found.difficulties) == (("one",), ("rain",), ("hard",))
    assert (found.sensors, found.latency_ms.tolist(), found.dropped.tolist()) == (("rgb",), [7.0], [False])
    assert found.calibration.sum() == 0 and found.nll.shape == (1, 0)  # neither was told


def test_without_depth_every_pixel_is_in_the_last_band() -> None:
    found = measure(Prediction(PREDICTED), TRUTH, Sample("one"), 3)
    assert BANDS[-1] == "unknown" and len(BANDS) == len(BANDS_M) + 2
    np.testing.assert_array_equal(found.bands[0, -1], confusion(PREDICTED, TRUTH, 3))
    assert found.bands[0, :-1].sum() == 0


def test_borders_of_bands_belong_to_the_band_behind_them() -> None:
    depth_m = np.array([[0.0, 9.99, 10.0, 19.99, 20.0, 39.99, 40.0, np.inf, np.nan]], np.float32)
    assert bands_of(depth_m).tolist() == [[0, 0, 1, 1, 2, 2, 3, 3, 4]]


def test_boundaries_and_calibration_are_those_of_their_own_functions() -> None:
    confidence = np.arange(16, dtype=np.uint8).reshape(4, 4)
    found = measure(Prediction(PREDICTED, confidence), TRUTH, Sample("one"), 3)
    np.testing.assert_array_equal(found.boundary[0], boundary_counts(PREDICTED, TRUTH, 3))
    np.testing.assert_array_equal(found.calibration[0], calibration_counts(PREDICTED, confidence, TRUTH))


def test_a_dropped_frame_keeps_its_row_and_counts_nothing() -> None:
    found = measure(None, TRUTH, Sample("gone", "fog"), 3, temperatures=(1.0, 2.0))
    assert len(found) == 1 and found.conditions == ("fog",) and found.dropped.tolist() == [True]
    assert found.bands.sum() == found.boundary.sum() == found.calibration.sum() == found.nll_pixels.sum() == 0
    assert np.isnan(found.latency_ms).all() and found.nll.tolist() == [[0.0, 0.0]]


@given(st.lists(st.integers(0, 20), min_size=2, max_size=6), st.data())
def test_any_split_of_the_frames_gives_the_same_rows_and_sums(seeds: list[int], data: st.DataObject) -> None:
    frames = [_frame(seed) for seed in seeds]
    whole = concatenate(frames)
    cut = data.draw(st.integers(1, len(frames) - 1))
    _assert_equal(concatenate([concatenate(frames[:cut]), concatenate(frames[cut:])]), whole)
    for name in ("bands", "boundary", "calibration", "nll", "nll_pixels", "dropped"):
        np.testing.assert_array_equal(
            getattr(whole, name).sum(0), np.sum([getattr(frame, name)[0] for frame in frames], axis=0, dtype=None)
        )
    _assert_equal(select(whole, list(range(cut))), concatenate(frames[:cut]))
    chosen = np.array([name == whole.names[0] for name in whole.names])
    assert set(select(whole, chosen).names) == {whole.names[0]}


def test_what_is_written_is_read_again_and_nothing_else_is_left(tmp_path: Path) -> None:
    whole = concatenate([_frame(seed) for seed in range(4)])
    save(whole, tmp_path / "chunk.npz")
    _assert_equal(load(tmp_path / "chunk.npz"), whole)
    assert [path.name for path in tmp_path.iterdir()] == ["chunk.npz"]


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 half of one"])
def test_a_damaged_file_is_told_with_its_path(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "chunk.npz").write_bytes(content)
    with pytest.raises(SamsegError, match=r"chunk\.npz: cannot be read as scores .*; remove it and score again"):
        load(tmp_path / "chunk.npz")


def test_a_file_cut_short_or_with_a_column_missing_or_pickled_is_told(tmp_path: Path) -> None:
    path = tmp_path / "chunk.npz"
    save(_frame(1), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SamsegError, match="cannot be read as scores"):
        load(path)
    for content in ({"names": np.array(["a"])}, {name: np.array([{}], object) for name in FIELDS}):
        np.savez(path, **content)  # type: ignore[arg-type]
        with pytest.raises(SamsegError, match="cannot be read as scores"):
            load(path)


def test_parts_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(InputError, match="expected at least one frame, got none"):
        concatenate([])
    other = measure(Prediction(PREDICTED), TRUTH, Sample("one"), 4)
    with pytest.raises(InputError, match="expected 3 classes and 2 temperatures, got 4 and 0"):
        concatenate([_frame(1), other])


def test_masks_and_depths_of_another_size_are_refused() -> None:
    with pytest.raises(InputError, match=r"predicted mask: expected the size of the labels \(4, 4\), got \(3, 4\)"):
        measure(Prediction(PREDICTED[1:]), TRUTH, Sample("one"), 3)
    with pytest.raises(InputError, match=r"parts of the image: expected the size of the labels \(4, 4\), got \(2, 2\)"):
        measure(Prediction(PREDICTED), TRUTH, Sample("one"), 3, np.zeros((2, 2), np.float32))
