"""Where dots lie in the plots: on the axes' scales, by hand."""

from types import ModuleType

import numpy as np
import pytest

from samseg_ros.evaluation.evaluation_plots import SMALL, SQUARE, reliability_plot, stress_plots


def test_a_run_that_is_always_sure_has_one_dot_at_the_right_edge(toys: ModuleType) -> None:
    plot = reliability_plot([toys.scored("a"), toys.scored("b", [None] * 4)])
    assert plot is not None
    (curve,) = plot["curves"]  # of the second run nothing is known
    ((x, y, right, said, share, _),) = curve["dots"]
    assert x == SQUARE["right"]
    height = SQUARE["bottom"] - SQUARE["top"]
    assert y == pytest.approx(SQUARE["bottom"] - height * (1 - 144 / 3072), abs=0.05)
    assert (said, right, share) == ("100.0", f"{100 * (1 - 144 / 3072):.1f}", "100.0")
    assert curve["ece"] == pytest.approx(100 * 144 / 3072) and curve["confidence"] == 100.0


def test_without_confidences_there_is_no_reliability_diagram(toys: ModuleType) -> None:
    assert reliability_plot([toys.scored("a", [None] * 4)]) is None


def test_stress_curves_share_a_scale_and_leave_out_runs_that_were_not_stressed() -> None:
    run = {"points": [(0, 80.0), (5, 40.0)], "mean": 40.0, "lost": 40.0}
    nothing = {"points": [], "mean": None, "lost": None}
    (plot,) = stress_plots([{"name": "fog", "runs": [run, nothing]}])
    (curve,) = plot["curves"]
    assert [tick["text"] for tick in plot["ticks"]] == ["0", "20", "40", "60", "80"]
    middle = (SMALL["top"] + SMALL["bottom"]) / 2
    assert curve["dots"] == [(SMALL["left"], SMALL["top"], 0, "80.0"), (SMALL["right"], middle, 5, "40.0")]


def test_a_model_that_knows_nothing_under_stress_is_drawn_at_the_bottom() -> None:
    (plot,) = stress_plots([{"name": "fog", "runs": [{"points": [(0, 0.0), (1, 0.0)], "mean": 0.0, "lost": 0.0}]}])
    assert {dot[1] for dot in plot["curves"][0]["dots"]} == {SMALL["bottom"]}
    assert np.isfinite([tick["y"] for tick in plot["ticks"]]).all()
