"""Where everything lies in the plots of a page about an evaluation, in SVG units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from samseg_ros.evaluation.calibration import expected_calibration_error, reliability
from samseg_ros.evaluation.corruptions import SEVERITIES
from samseg_ros.evaluation.measures import Scored
from samseg_ros.evaluation.metrics import Counts
from samseg_ros.evaluation.page import percent, round_step

SQUARE = {"width": 400, "height": 412, "left": 44, "right": 390, "top": 10, "bottom": 286, "floor": 372}
"""Of the reliability diagram; the strip below it, down to ``floor``, shows how many pixels each bin has."""
SMALL = {"width": 290, "height": 190, "left": 34, "right": 280, "top": 10, "bottom": 158}
"""Of a stress curve."""
MAX_SEVERITY = SEVERITIES[-1]


def reliability_plot(runs: Sequence[Scored]) -> dict[str, Any] | None:
    """Lay out accuracy over confidence; None where no run says how sure it is."""
    counts = [run.measures.calibration.sum(0) for run in runs]
    if not any(c.any() for c in counts):
        return None
    curves = [{"run": i} | _curve(of_run) for i, of_run in enumerate(counts) if of_run.any()]
    ticks = [{"at": v, "x": _x(v, SQUARE), "y": _y(v, SQUARE)} for v in (0, 0.2, 0.4, 0.6, 0.8, 1)]
    return {**SQUARE, "curves": curves, "ticks": ticks}


def _curve(counts: Counts) -> dict[str, Any]:
    """Return ECE, mean confidence and accuracy (%) of one run's pixels, and a dot (x, y, texts, radius) a bin."""
    pixels, said, right = reliability(counts)
    share = pixels / pixels.sum()
    dots = [
        (
            _x(said[b], SQUARE),
            _y(right[b], SQUARE),
            *(f"{100 * v[b]:.1f}" for v in (right, said, share)),
            _radius(share[b]),
        )
        for b in np.flatnonzero(pixels)
    ]
    return {
        "ece": percent(float(expected_calibration_error(counts))),
        "confidence": percent(float(np.nansum(share * said))),
        "accuracy": percent(float(np.nansum(share * right))),
        "dots": dots,
        "strip": " ".join(f"{_x(said[b], SQUARE)},{_down(share[b])}" for b in np.flatnonzero(pixels)),
    }


def stress_plots(losses: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lay out mIoU over severity for each corruption, all on one scale."""
    highest = max([1.0, *(v for loss in losses for run in loss["runs"] for _, v in run["points"])])
    step = round_step(highest / 4)
    limit = step * int(np.ceil(highest / step))
    ticks = [{"y": _y(v / limit, SMALL), "text": f"{v:g}"} for v in np.arange(0, limit + step / 2, step)]
    severities = [{"x": _x(s / MAX_SEVERITY, SMALL), "text": str(s) if s else "none"} for s in range(MAX_SEVERITY + 1)]
    plots = []
    for loss in losses:
        curves = [
            {
                "run": i,
                "dots": [(_x(s / MAX_SEVERITY, SMALL), _y(v / limit, SMALL), s, f"{v:.1f}") for s, v in run["points"]],
            }
            for i, run in enumerate(loss["runs"])
            if run["points"]
        ]
        plots.append({**SMALL, "name": loss["name"], "ticks": ticks, "severities": severities, "curves": curves})
    return plots


def _x(share: float, plot: dict[str, int]) -> float:
    return round(plot["left"] + (plot["right"] - plot["left"]) * float(share), 1)


def _y(share: float, plot: dict[str, int]) -> float:
    return round(plot["bottom"] - (plot["bottom"] - plot["top"]) * float(share), 1)


def _down(share: float) -> float:
    """Return the height in the strip below the diagram."""
    return round(SQUARE["floor"] - (SQUARE["floor"] - SQUARE["bottom"] - 40) * float(share), 1)


def _radius(share: float) -> float:
    return round(1.5 + 4 * float(np.sqrt(share)), 1)
