"""sensor_msgs/Image and CompressedImage to arrays and back. Duck-typed: rclpy's and rosbags' messages alike.

OpenCV names a Bayer pattern by the second row and column of the sensor, ROS by the first pixel. We use OpenCV's newer
aliases (``COLOR_BayerRGGB2RGB`` = ``COLOR_BayerBG2RGB``), which agree with ROS.
"""

from __future__ import annotations

import re
import sys
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from samseg_ros.errors import InputError

Bytes: TypeAlias = NDArray[np.uint8]
Counts: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]

PACKED: dict[str, tuple[int, int | None]] = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "8UC1": (1, cv2.COLOR_GRAY2RGB),
    "yuv422": (2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2RGB_YUYV),
    "yuyv": (2, cv2.COLOR_YUV2RGB_YUYV),
    "bayer_rggb8": (1, cv2.COLOR_BayerRGGB2RGB),
    "bayer_bggr8": (1, cv2.COLOR_BayerBGGR2RGB),
    "bayer_gbrg8": (1, cv2.COLOR_BayerGBRG2RGB),
    "bayer_grbg8": (1, cv2.COLOR_BayerGRBG2RGB),
}
"""Colour encodings of one plane: bytes a pixel, and OpenCV's conversion to RGB (None: it is RGB)."""

PLANAR = {"nv12": cv2.COLOR_YUV2RGB_NV12, "nv21": cv2.COLOR_YUV2RGB_NV21}
"""Full-size luma rows followed by half as many rows of interleaved chroma, all ``step`` bytes apart."""

THERMAL: dict[str, str] = {"mono8": "u1", "8UC1": "u1", "mono16": "u2", "16UC1": "u2", "32FC1": "f4"}
"""Thermal encodings and their number type."""

_SUBSAMPLED = ("yuv422", "uyvy", "yuv422_yuy2", "yuyv")  # two pixels share their chroma
_GENERIC = re.compile(r"(8U|16U|16S|32S|32F|64F)C(\d+)")
_GENERIC_TYPES = {"8U": "u1", "16U": "u2", "16S": "i2", "32S": "i4", "32F": "f4", "64F": "f8"}
_NAMED_CHANNELS = {"mono8": 1, "rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4}


def color_image(msg: Any) -> Bytes:
    """Return (H, W, 3) RGB of an Image or CompressedImage; for ``rgb8`` a read-only view of the message's buffer.

    Raises:
        InputError: no pixels, an encoding we do not know, rows or data of the wrong length, or data that no JPEG or PNG
            decoder takes.
    """
    if hasattr(msg, "format"):
        return _decoded_color(msg)
    if msg.encoding in PLANAR:
        rows = _rows(msg, msg.width, planes=1.5)
        _require_even(msg)
        return _rgb(rows, PLANAR[msg.encoding])
    if msg.encoding not in PACKED:
        raise _unknown_encoding("color image", msg.encoding, [*PACKED, *PLANAR])
    channels, code = PACKED[msg.encoding]
    rows = _rows(msg, msg.width * channels)
    if msg.encoding in _SUBSAMPLED:
        _require_even(msg)
    pixels = rows if channels == 1 else rows.reshape(msg.height, msg.width, channels)
    return pixels if code is None else _rgb(pixels, code)


def thermal_image(msg: Any) -> Counts:
    """Return (H, W) uint8, uint16 (raw counts) or float32 of an Image or CompressedImage, in this machine's byte order.

    A read-only view of the message's buffer where byte order and alignment allow it.

    Raises:
        InputError: as for `color_image`; also a false-colour image, whose temperatures cannot be recovered.
    """
    if hasattr(msg, "format"):
        return _decoded_thermal(msg)
    if msg.encoding not in THERMAL:
        raise _unknown_encoding("thermal image", msg.encoding, THERMAL)
    kind = np.dtype(THERMAL[msg.encoding])
    rows = _rows(msg, msg.width * kind.itemsize)
    counts = rows.view(kind.newbyteorder(">" if msg.is_bigendian else "<"))
    # A bag's buffer may start anywhere, but torch and numba take aligned numbers only.
    native: Counts = np.require(counts.astype(kind, copy=False), requirements="A")
    return native


def image_fields(array: NDArray[Any], encoding: str) -> dict[str, Any]:
    """Return what an Image message holds beside its header.

    Args:
        array: (H, W) or (H, W, C).
        encoding: mono8, rgb8, bgr8, rgba8, bgra8, mono16, or OpenCV's form such as 8UC19, 16UC1, 32FC1.

    Returns:
        height, width, encoding, is_bigendian, step, and data as a 1-D uint8 array.

    Raises:
        InputError: the array's shape or type is not what the encoding says, or the encoding is unknown.
    """
    kind, channels = _layout(encoding)
    shape = array.shape if array.ndim == 3 else (*array.shape, 1)
    if array.ndim not in (2, 3) or shape[2] != channels or array.dtype != kind:
        raise InputError(
            f"array for {encoding}",
            expected=f"(H, W{f', {channels}' if channels > 1 else ''}) {kind}",
            got=f"{array.shape} {array.dtype}",
            remedy="convert it, or choose the encoding that fits",
        )
    height, width, _ = shape
    return {
        "height": height,
        "width": width,
        "encoding": encoding,
        "is_bigendian": int(sys.byteorder == "big"),
        "step": width * channels * kind.itemsize,
        "data": np.ascontiguousarray(array).reshape(-1).view(np.uint8),
    }


def _layout(encoding: str) -> tuple[np.dtype[Any], int]:
    if encoding in _NAMED_CHANNELS:
        return np.dtype(np.uint8), _NAMED_CHANNELS[encoding]
    match = _GENERIC.fullmatch("16UC1" if encoding == "mono16" else encoding)
    if match is None:
        raise _unknown_encoding(
            "outgoing image", encoding, [*_NAMED_CHANNELS, "mono16", "8UC{n}", "16UC{n}", "32FC{n}"]
        )
    return np.dtype(_GENERIC_TYPES[match[1]]), int(match[2])


def message_bytes(data: Any) -> Bytes:
    """View any message's data (rclpy's array.array, rosbags' ndarray, bytes) as 1-D uint8 without copying."""
    view: Bytes = np.frombuffer(data, np.uint8)
    view.flags.writeable = False  # others may read the same message
    return view


def _rows(msg: Any, row_bytes: int, planes: float = 1.0) -> Bytes:
    """View the data as (rows, row_bytes), the padding at the end of each row cut off."""
    if msg.width <= 0 or msg.height <= 0:
        raise InputError(
            "image size",
            expected="width and height above 0",
            got=f"{msg.width}x{msg.height}",
            remedy="check the camera driver",
        )
    what = f"{msg.width}x{msg.height} {msg.encoding} image"
    if msg.step < row_bytes:
        raise InputError(
            f"{what} step",
            expected=f"at least {row_bytes} bytes a row",
            got=str(msg.step),
            remedy="check the camera driver's encoding and step",
        )
    data, rows = message_bytes(msg.data), int(msg.height * planes)
    if data.size != rows * msg.step:
        raise InputError(
            f"{what} data",
            expected=f"{rows * msg.step} bytes ({rows} rows of {msg.step})",
            got=f"{data.size} bytes",
            remedy="the message is truncated or its height, step or encoding is wrong: check the driver",
        )
    return data.reshape(rows, msg.step)[:, :row_bytes]


def _require_even(msg: Any) -> None:
    if msg.width % 2 or (msg.encoding in PLANAR and msg.height % 2):
        raise InputError(
            f"{msg.encoding} image size",
            expected="an even width" + (" and height" if msg.encoding in PLANAR else ""),
            got=f"{msg.width}x{msg.height}",
            remedy="chroma is shared between neighbours: crop the image or publish rgb8",
        )


def _rgb(pixels: NDArray[Any], code: int) -> Bytes:
    return np.asarray(cv2.cvtColor(pixels, code), np.uint8)


def _decoded(msg: Any) -> NDArray[Any]:
    """Decode a CompressedImage as it is: (H, W) or (H, W, C in OpenCV's BGR order), 8 or 16 bits."""
    data = message_bytes(msg.data)
    image = None
    # compressedDepth carries 12 bytes of its own in front of a PNG of quantised inverse depth.
    if "compressedDepth" not in msg.format and _is_whole(data):
        try:
            image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        except cv2.error:  # the decoders raise for some kinds of damage and return None for others
            image = None
    if image is None:
        raise InputError(
            "compressed image",
            expected="a complete JPEG or PNG",
            got=f"{data.size} bytes of format {msg.format!r} that cannot be decoded",
            remedy="check the driver (truncated data?), or publish it with image_transport's compressed plugin",
        )
    return np.asarray(image)


def _is_whole(data: Bytes) -> bool:
    """Whether a JPEG or PNG has its end. OpenCV 4 fills up what is cut off of a JPEG with grey and says nothing."""
    raw = data.tobytes()
    if raw.startswith(b"\xff\xd8"):  # a thumbnail has an end of its own, hence: an end behind the last start of scan
        return raw.rfind(b"\xff\xd9") > raw.rfind(b"\xff\xda")
    return bool(raw) and (not raw.startswith(b"\x89PNG") or b"IEND" in raw[-64:])


def _decoded_color(msg: Any) -> Bytes:
    image = _decoded(msg)
    if image.dtype != np.uint8:
        raise InputError(
            "compressed color image",
            expected="8 bits a channel",
            got=f"{image.dtype} (format {msg.format!r})",
            remedy="publish the color image with 8 bits; 16 bits are for thermal images",
        )
    source, _, stored = msg.format.partition(";")
    if image.ndim == 2:  # grey, or a Bayer mosaic that was compressed as it was
        code = PACKED[source][1] if source.startswith("bayer_") and source in PACKED else None
        return _rgb(image, cv2.COLOR_GRAY2RGB if code is None else code)
    if image.shape[2] == 4:
        return _rgb(image, cv2.COLOR_BGRA2RGB)
    # image_transport writes "rgb8; jpeg compressed bgr8". "compressed rgb8" means that the encoder was handed RGB as if
    # it were BGR, and what comes out of the decoder is RGB already.
    return np.asarray(image, np.uint8) if "compressed rgb" in stored else _rgb(image, cv2.COLOR_BGR2RGB)


def _decoded_thermal(msg: Any) -> Counts:
    image = _decoded(msg)
    if image.ndim == 3 and (image == image[..., :1]).all():  # many encoders write grey as three equal channels
        image = np.ascontiguousarray(image[..., 0])
    if image.ndim == 3 or image.dtype not in (np.uint8, np.uint16, np.float32):
        raise InputError(
            "compressed thermal image",
            expected="one channel of 8 or 16 bits",
            got=f"{image.shape} {image.dtype} (format {msg.format!r})",
            remedy="publish counts (16UC1, PNG) or grey levels instead of false colours",
        )
    return image


def _unknown_encoding(what: str, encoding: str, known: Any) -> InputError:
    return InputError(
        f"{what} encoding", expected=" | ".join(known), got=repr(encoding), remedy="set one of these in the driver"
    )
