from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from samseg_ros.sensing.run_length import run_lengths


def decode(data: bytes, height: int, width: int) -> NDArray[np.uint8]:
    """As the format is described: repeats of uint8 label and int32 little-endian length, row by row."""
    pixels: list[int] = []
    for start in range(0, len(data), 5):
        label, length = struct.unpack("<Bi", data[start : start + 5])
        assert length > 0
        pixels += [label] * length
    assert len(pixels) == height * width
    return np.array(pixels, np.uint8).reshape(height, width)


def test_two_rows_are_packed_as_by_hand() -> None:
    mask = np.array([[9, 9, 3], [3, 0, 255]], np.uint8)  # the run of 3 goes on over the end of the row
    packed = bytes.fromhex("09 02000000  03 02000000  00 01000000  ff 01000000")
    assert run_lengths(mask).tobytes() == packed


def test_a_run_longer_than_two_bytes_keeps_its_length() -> None:
    assert run_lengths(np.full((1080, 1920), 7, np.uint8)).tobytes() == struct.pack("<Bi", 7, 1080 * 1920)


def test_an_empty_mask_has_no_runs() -> None:
    assert run_lengths(np.zeros((0, 5), np.uint8)).tobytes() == b""


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 3)))
def test_whatever_is_packed_comes_back(mask: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(decode(run_lengths(mask).tobytes(), *mask.shape), mask)


@pytest.mark.parametrize("view", [np.s_[:, ::2], np.s_[::-1], np.s_[5:9, 3:7]])
def test_a_mask_that_is_not_contiguous_is_packed_by_its_rows_all_the_same(view: tuple[slice, ...]) -> None:
    mask = np.random.default_rng(1).integers(0, 3, (20, 31), np.uint8)[view]
    np.testing.assert_array_equal(decode(run_lengths(mask).tobytes(), *mask.shape), mask)
