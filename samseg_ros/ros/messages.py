"""Arrays → outgoing messages. Buffers go in by one copy (``frombytes``): lists and views are 100 times slower."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from numpy.typing import NDArray
from sensor_msgs.msg import Image, PointCloud2, PointField
from std_msgs.msg import Header, String

from samseg_ros.labels import LabelSet, format_label_info
from samseg_ros.sensing import convert
from samseg_ros.sensing.run_length import run_lengths
from samseg_ros.types import Segmentation


def image_message(header: Header, array: NDArray[Any], encoding: str) -> Image:
    """Make an Image of (H, W) or (H, W, C)."""
    return _filled(Image(header=header), convert.image_fields(array, encoding))


def cloud_message(header: Header, fields: dict[str, Any]) -> PointCloud2:
    """Make a PointCloud2 of what ``convert.painted_cloud_fields`` returns."""
    specs = fields.pop("fields")
    message = PointCloud2(header=header)
    message.fields = [PointField(name=n, offset=o, datatype=t, count=1) for n, o, t in specs]
    return _filled(message, fields)


def _filled(message: Any, fields: dict[str, Any]) -> Any:
    data = fields.pop("data")
    for name, value in fields.items():
        setattr(message, name, value)
    message.data.frombytes(np.ascontiguousarray(data))
    return message


def run_length_message(header: Header, mask: NDArray[np.uint8]) -> Image:
    """Make an Image that says mono8 and the size of an (H, W) mask, its data packed as Autoware does it."""
    return _filled(Image(header=header), convert.image_fields(mask, "mono8") | {"data": run_lengths(mask)})


def label_info(labels: LabelSet, others: Mapping[str, LabelSet]) -> String:
    """Say which id is what, as JSON (`format_label_info`)."""
    return String(data=format_label_info(labels, others))


def class_confidence(header: Header, labels: LabelSet, segmentation: Segmentation) -> DiagnosticArray:
    """Say per class how much of the image it takes and how sure the model is of it (nan: absent)."""
    rows = zip(labels.names, segmentation.pixel_share, segmentation.mean_posterior, strict=True)
    return DiagnosticArray(
        header=header,
        status=[
            status(
                f"class/{name}",
                0,
                f"{share:.1%} of the image",
                {"id": str(index), "name": name, "pixel_share": f"{share:.6f}", "mean_posterior": f"{mean:.6f}"},
            )
            for index, (name, share, mean) in enumerate(rows)
        ],
    )


def status(name: str, level: int, message: str, values: dict[str, str], hardware_id: str = "") -> DiagnosticStatus:
    """Make one DiagnosticStatus."""
    return DiagnosticStatus(
        level=bytes([level]),
        name=name,
        message=message,
        hardware_id=hardware_id,
        values=[KeyValue(key=k, value=v) for k, v in values.items()],
    )
