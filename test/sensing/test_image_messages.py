"""Every encoding against hand-made pixels or OpenCV, padded rows and both byte orders; then what is refused."""

from __future__ import annotations

import array
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from samseg_ros.errors import InputError
from samseg_ros.sensing.convert import color_image, image_fields, thermal_image

H, W = 6, 8
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (H, W, 3), np.uint8)
GREY = RNG.integers(0, 256, (H, W), np.uint8)
SMOOTH = np.stack(np.meshgrid(np.linspace(0, 200, 64), np.linspace(30, 250, 48)), -1).astype(np.uint8)
SMOOTH_RGB = np.concatenate([SMOOTH, 255 - SMOOTH[..., :1]], axis=-1)


def message(rows: NDArray[Any], encoding: str, *, padding: int = 0, big: bool = False, **changes: Any) -> Any:
    """Image of (rows, ...) numbers as a driver would send it, each row followed by ``padding`` bytes of rubbish."""
    raw = np.ascontiguousarray(rows).view(np.uint8).reshape(rows.shape[0], -1)
    raw = np.hstack([raw, np.full((len(raw), padding), 0xAB, np.uint8)])
    fields = {
        "height": rows.shape[0],
        "width": rows.shape[1],
        "encoding": encoding,
        "is_bigendian": int(big),
        "step": raw.shape[1],
        "data": array.array("B", raw.tobytes()),
    }
    return SimpleNamespace(**{**fields, **changes})


def compressed(data: Any, form: str) -> Any:
    return SimpleNamespace(format=form, data=array.array("B", bytes(data)))


def encoded(image: NDArray[Any], extension: str, *options: int) -> bytes:
    return cv2.imencode(extension, image, list(options))[1].tobytes()


def rgb_of_yuv(y: NDArray[Any], u: NDArray[Any], v: NDArray[Any]) -> NDArray[np.uint8]:
    """ITU-R BT.601, studio range."""
    luma, u, v = 1.164 * (y.astype(float) - 16), u.astype(float) - 128, v.astype(float) - 128
    rgb = np.stack([luma + 1.596 * v, luma - 0.813 * v - 0.391 * u, luma + 2.018 * u], -1)
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def close(image: NDArray[Any], expected: NDArray[Any], tolerance: int) -> bool:
    return int(np.abs(image.astype(int) - expected.astype(int)).max()) <= tolerance


@pytest.mark.parametrize("padding", [0, 5])
def test_packed_colors_become_rgb(padding: int) -> None:
    alpha = np.full((H, W, 1), 7, np.uint8)
    sent = {
        "rgb8": RGB,
        "bgr8": RGB[..., ::-1],
        "rgba8": np.concatenate([RGB, alpha], -1),
        "bgra8": np.concatenate([RGB[..., ::-1], alpha], -1),
    }
    for encoding, pixels in sent.items():
        image = color_image(message(pixels, encoding, padding=padding))
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, RGB, err_msg=encoding)


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey_becomes_three_equal_channels(encoding: str) -> None:
    image = color_image(message(GREY, encoding, padding=3))
    np.testing.assert_array_equal(image, np.repeat(GREY[..., None], 3, -1))


def test_rgb8_is_a_view_of_the_message_that_cannot_be_written_through() -> None:
    msg = message(RGB, "rgb8", padding=4)
    image = color_image(msg)
    msg.data[0] ^= 0xFF
    assert image[0, 0, 0] == RGB[0, 0, 0] ^ 0xFF
    assert not image.flags.writeable


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize(
    ("encoding", "order"), [("yuv422", "uyvy"), ("uyvy", "uyvy"), ("yuv422_yuy2", "yuyv"), ("yuyv", "yuyv")]
)
def test_yuv422_becomes_rgb(encoding: str, order: str, padding: int) -> None:
    y = RNG.integers(16, 236, (H, W), np.uint8)
    u, v = (RNG.integers(16, 241, (H, W // 2), np.uint8) for _ in range(2))
    planes = {"u": u, "v": v, "y": None}
    first, second = y[:, 0::2], y[:, 1::2]
    lumas = iter((first, second))
    quad = np.stack([next(lumas) if c == "y" else planes[c] for c in order], -1)  # two pixels
    msg = message(quad.reshape(H, W, 2), encoding, padding=padding)
    expected = rgb_of_yuv(y, np.repeat(u, 2, 1), np.repeat(v, 2, 1))
    assert close(color_image(msg), expected, 2)


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
def test_nv12_has_one_and_a_half_times_the_rows_and_becomes_rgb(encoding: str, padding: int) -> None:
    y = RNG.integers(16, 236, (H, W), np.uint8)
    u, v = (RNG.integers(16, 241, (H // 2, W // 2), np.uint8) for _ in range(2))
    chroma = np.stack([u, v] if encoding == "nv12" else [v, u], -1).reshape(H // 2, W)
    msg = message(np.vstack([y, chroma]), encoding, padding=padding, height=H)
    image = color_image(msg)
    assert image.shape == (H, W, 3)
    assert close(image, rgb_of_yuv(y, *(c.repeat(2, 0).repeat(2, 1) for c in (u, v))), 2)


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_a_bayer_mosaic_of_one_color_gives_that_color_back(pattern: str, padding: int) -> None:
    color = {"r": 200, "g": 120, "b": 30}
    tile = np.array([[color[c] for c in pattern[:2]], [color[c] for c in pattern[2:]]], np.uint8)
    image = color_image(message(np.tile(tile, (H // 2, W // 2)), f"bayer_{pattern}8", padding=padding))
    np.testing.assert_array_equal(image[1:-1, 1:-1], np.broadcast_to([200, 120, 30], (H - 2, W - 2, 3)))


@pytest.mark.parametrize("padding", [0, 2, 5])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(
    ("encoding", "kind"), [("mono8", "u1"), ("8UC1", "u1"), ("mono16", "u2"), ("16UC1", "u2"), ("32FC1", "f4")]
)
def test_thermal_counts_survive_padding_and_both_byte_orders(encoding: str, kind: str, big: bool, padding: int) -> None:
    counts = RNG.uniform(0, 250 if kind == "u1" else 60_000, (H, W)).astype(kind)
    msg = message(counts.astype(counts.dtype.newbyteorder(">" if big else "<")), encoding, padding=padding, big=big)
    image = thermal_image(msg)
    assert image.dtype == np.dtype(kind)
    assert image.dtype.isnative
    assert image.flags.aligned
    np.testing.assert_array_equal(image, counts)


def test_thermal_counts_at_an_odd_address_are_aligned_by_a_copy() -> None:
    counts = RNG.integers(0, 60_000, (H, W), np.uint16)
    buffer = np.frombuffer(b"\0" + counts.tobytes(), np.uint8)
    image = thermal_image(message(counts, "16UC1", data=buffer[1:]))
    assert image.flags.aligned
    np.testing.assert_array_equal(image, counts)


def test_thermal_counts_are_a_view_where_they_can_be() -> None:
    msg = message(RNG.integers(0, 256, (H, W), np.uint16), "16UC1")
    image = thermal_image(msg)
    msg.data[0] ^= 1
    assert image[0, 0] == int.from_bytes(msg.data[:2], "little")


@pytest.mark.parametrize("form", ["jpeg", "rgb8; jpeg compressed bgr8", "bgr8; jpeg compressed bgr8", "jpg", ""])
def test_jpeg_becomes_rgb_whatever_its_format_is_called(form: str) -> None:
    msg = compressed(encoded(SMOOTH_RGB[..., ::-1], ".jpg", cv2.IMWRITE_JPEG_QUALITY, 98), form)
    assert close(color_image(msg), SMOOTH_RGB, 6)


def test_png_becomes_rgb_exactly_with_and_without_alpha() -> None:
    bgr = RGB[..., ::-1]
    bgra = np.concatenate([bgr, np.full((H, W, 1), 9, np.uint8)], -1)
    for pixels, form in ((bgr, "png"), (bgr, "rgb8; png compressed bgr8"), (bgra, "rgba8; png compressed bgra8")):
        np.testing.assert_array_equal(color_image(compressed(encoded(pixels, ".png"), form)), RGB)


def test_rgb_that_was_compressed_as_if_it_were_bgr_is_not_swapped_again() -> None:
    np.testing.assert_array_equal(color_image(compressed(encoded(RGB, ".png"), "rgb8; png compressed rgb8")), RGB)


def test_a_compressed_grey_image_and_a_compressed_mosaic_become_rgb() -> None:
    grey = color_image(compressed(encoded(GREY, ".png"), "mono8; png compressed "))
    np.testing.assert_array_equal(grey, np.repeat(GREY[..., None], 3, -1))
    mosaic = np.tile(np.array([[200, 120], [120, 30]], np.uint8), (H // 2, W // 2))
    image = color_image(compressed(encoded(mosaic, ".png"), "bayer_rggb8; png compressed "))
    np.testing.assert_array_equal(image[2, 3], [200, 120, 30])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_compressed_thermal_png_keeps_its_counts(kind: type) -> None:
    counts = RNG.integers(0, np.iinfo(kind).max, (H, W), kind)
    image = thermal_image(compressed(encoded(counts, ".png"), "16UC1; png compressed "))
    assert image.dtype == kind
    np.testing.assert_array_equal(image, counts)


def test_a_thermal_jpeg_with_three_equal_channels_is_grey_and_false_colors_are_refused() -> None:
    grey = np.repeat(SMOOTH[..., :1], 3, -1)
    image = thermal_image(compressed(encoded(grey, ".png"), "bgr8; png compressed bgr8"))
    np.testing.assert_array_equal(image, SMOOTH[..., 0])
    with pytest.raises(InputError, match=r"expected one channel of 8 or 16 bits, got .*false colours"):
        thermal_image(compressed(encoded(RGB, ".png"), "png"))


def test_a_jpeg_with_padding_behind_its_end_is_complete() -> None:
    data = encoded(SMOOTH_RGB[..., ::-1], ".jpg", cv2.IMWRITE_JPEG_QUALITY, 98) + b"\0" * 100
    assert close(color_image(compressed(data, "jpeg")), SMOOTH_RGB, 6)


@pytest.mark.parametrize("extension", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_cut_off_compressed_data_is_refused(extension: str, share: float) -> None:
    data = encoded(SMOOTH_RGB, extension)
    msg = compressed(data[: int(share * len(data))], f"bgr8; {extension[1:]} compressed bgr8")
    for convert in (color_image, thermal_image):
        with pytest.raises(
            InputError, match=r"compressed image: expected a complete JPEG or PNG, got \d+ bytes of format"
        ):
            convert(msg)


def test_compressed_depth_video_and_deep_colors_are_refused() -> None:
    for data, form in (
        (bytes(12) + encoded(GREY, ".png"), "32FC1; compressedDepth png"),
        (b"\0\0\0\1\x67" + bytes(50), "h264"),
    ):
        with pytest.raises(InputError, match=f"of format '{form}' that cannot be decoded"):
            color_image(compressed(data, form))
    with pytest.raises(InputError, match="expected 8 bits a channel, got uint16"):
        color_image(compressed(encoded(GREY.astype(np.uint16) * 9, ".png"), "mono16; png compressed "))


@pytest.mark.parametrize(
    ("convert", "encoding"), [(color_image, "rgb8"), (thermal_image, "16UC1"), (color_image, "nv12")]
)
def test_truncated_or_surplus_data_is_refused(convert: Any, encoding: str) -> None:
    step = {"rgb8": 3 * W, "16UC1": 2 * W, "nv12": W}[encoding]
    whole = step * (H + H // 2 if encoding == "nv12" else H)
    for size in (0, whole - 1, whole + 1):
        msg = message(GREY, encoding, step=step, data=array.array("B", bytes(size)))
        text = f"{W}x{H} {encoding} image data: expected {whole} bytes .*, got {size} bytes; the message is truncated"
        with pytest.raises(InputError, match=text):
            convert(msg)


@pytest.mark.parametrize(("convert", "encoding", "needed"), [(color_image, "rgb8", 24), (thermal_image, "32FC1", 32)])
def test_a_step_shorter_than_a_row_is_refused(convert: Any, encoding: str, needed: int) -> None:
    msg = message(GREY, encoding, step=needed - 1, data=array.array("B", bytes(H * (needed - 1))))
    with pytest.raises(InputError, match=f"step: expected at least {needed} bytes a row, got {needed - 1}; check"):
        convert(msg)


@pytest.mark.parametrize("convert", [color_image, thermal_image])
@pytest.mark.parametrize("size", [(0, W), (H, 0), (0, 0)])
def test_an_image_without_pixels_is_refused(convert: Any, size: tuple[int, int]) -> None:
    msg = message(GREY, "mono8", height=size[0], width=size[1], data=array.array("B"))
    with pytest.raises(InputError, match=f"expected width and height above 0, got {size[1]}x{size[0]}"):
        convert(msg)


@pytest.mark.parametrize(
    ("encoding", "height", "width"), [("yuyv", 4, 3), ("uyvy", 2, 1), ("nv12", 4, 3), ("nv12", 3, 4)]
)
def test_odd_sizes_of_shared_chroma_are_refused(encoding: str, height: int, width: int) -> None:
    planar = encoding == "nv12"
    step = width if planar else 2 * width
    data = array.array("B", bytes(step * int(height * 1.5) if planar else step * height))
    msg = message(GREY, encoding, height=height, width=width, step=step, data=data)
    with pytest.raises(
        InputError, match=f"{encoding} image size: expected an even width.*, got {width}x{height}; chroma"
    ):
        color_image(msg)


def test_an_unknown_encoding_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(
        InputError, match=r"color image encoding: expected rgb8 \| bgr8 .*nv12.*, got 'rgb565'; set one"
    ):
        color_image(message(GREY, "rgb565"))
    with pytest.raises(InputError, match=r"thermal image encoding: expected mono8 .* 32FC1, got 'rgb8'"):
        thermal_image(message(RGB, "rgb8"))


@pytest.mark.parametrize(
    ("pixels", "encoding", "step"),
    [
        (GREY, "mono8", W),
        (RGB, "rgb8", 3 * W),
        (GREY.astype(np.uint16) * 200, "16UC1", 2 * W),
        (GREY.astype(np.float32) / 7, "32FC1", 4 * W),
        (RNG.integers(0, 256, (H, W, 19), np.uint8), "8UC19", 19 * W),
    ],
)
def test_outgoing_images_hold_the_rows_one_after_the_other(pixels: NDArray[Any], encoding: str, step: int) -> None:
    fields = image_fields(pixels, encoding)
    assert {k: fields[k] for k in ("height", "width", "encoding", "step", "is_bigendian")} == {
        "height": H,
        "width": W,
        "encoding": encoding,
        "step": step,
        "is_bigendian": 0,
    }
    assert (fields["data"].ndim, fields["data"].dtype) == (1, np.uint8)
    assert fields["data"].tobytes() == pixels.tobytes()


def test_outgoing_images_survive_the_way_back_even_from_a_view() -> None:
    mirrored = RGB[:, ::-1]
    np.testing.assert_array_equal(color_image(SimpleNamespace(**image_fields(mirrored, "rgb8"))), mirrored)
    depth = np.where(GREY > 100, GREY, np.nan).astype(np.float32)
    np.testing.assert_array_equal(thermal_image(SimpleNamespace(**image_fields(depth, "32FC1"))), depth)


@pytest.mark.parametrize(
    ("pixels", "encoding", "text"),
    [
        (GREY, "rgb8", r"array for rgb8: expected \(H, W, 3\) uint8, got \(6, 8\) uint8"),
        (GREY, "32FC1", r"expected \(H, W\) float32, got \(6, 8\) uint8"),
        (GREY, "jpeg", "outgoing image encoding: expected .*, got 'jpeg'"),
    ],
)
def test_an_array_that_is_not_what_its_encoding_says_is_refused(pixels: NDArray[Any], encoding: str, text: str) -> None:
    with pytest.raises(InputError, match=text):
        image_fields(pixels, encoding)
