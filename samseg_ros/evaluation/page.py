"""What our pages are made of: rendering, and the parts that the report of a run and that of an evaluation share."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import jinja2
import numpy as np
from numpy.typing import NDArray

from samseg_ros.evaluation.metrics import Counts
from samseg_ros.labels import LabelSet


def render(template: str, values: Mapping[str, Any]) -> str:
    """Fill a template that lies beside this file; every value is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("samseg_ros.evaluation", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template(template).render(values)


def tile(name: str, value: str, unit: str = "", warn: bool = False, color: int | None = None) -> dict[str, Any]:
    """Return a number that stands large at the top of a page; ``color``: of the run that it is of."""
    return {"name": name, "value": value, "unit": unit, "warn": warn, "color": color}


def percent(share: float | None) -> float | None:
    """Return a share as %; None and NaN: None."""
    return None if share is None or np.isnan(share) else 100.0 * float(share)


def classes(labels: LabelSet) -> list[dict[str, str]]:
    """Return name and CSS colour of every class."""
    return [{"name": n, "color": css(c)} for n, c in zip(labels.names, labels.colors, strict=True)]


def css(color: Sequence[int]) -> str:
    """Write RGB as CSS does."""
    return "#{:02x}{:02x}{:02x}".format(*(int(c) for c in color))


def heat(counts: Counts, labels: LabelSet, unlabelled: bool) -> dict[str, Any]:
    """Return the row-normalised confusion (K, K + 1) as a table; ``unlabelled``: with the last column."""
    columns = [*labels.names, "unlabelled"][: len(labels) + unlabelled]
    counts = counts[:, : len(columns)]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    rows = []
    for name, pixels, row in zip(labels.names, counts.tolist(), shares.tolist(), strict=True):
        cells = [
            {"alpha": v, "share": f"{100 * v:.1f}", "text": f"{100 * v:.0f}" if v >= 0.005 else "", "pixels": n}
            for n, v in zip(pixels, row, strict=True)
        ]
        rows.append({"name": name, "cells": cells})
    return {"columns": columns, "rows": rows}


def round_step(value: float) -> float:
    """Return the next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(max(value, 1e-9)))
    return float(next(power * m for m in (1, 2, 5, 10) if power * m >= value))


def jpeg(picture: NDArray[np.uint8], quality: int) -> str:
    """Return an (H, W, 3) BGR picture as base64 of a JPEG."""
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return base64.b64encode(data.tobytes()).decode()
