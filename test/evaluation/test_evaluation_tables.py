"""Every number of the page's tables from four frames whose pixels can be counted by hand."""

from types import ModuleType

import numpy as np
import pytest

from samseg_ros.evaluation.evaluation_tables import groupings, latency, losses, overview, per_class

# Of 4 x 384 road pixels the first model takes 0 + 24 + 48 + 72 = 144 for car.
ROAD, CAR = (1536 - 144) / 1536, 1536 / (1536 + 144)


def test_the_overview_pools_the_pixels_of_all_frames(toys: ModuleType) -> None:
    (row,) = overview([toys.scored("a")])
    assert row["miou"] == pytest.approx(50 * (ROAD + CAR))
    assert row["zero"] == pytest.approx(100 * (ROAD + CAR) / 3)
    assert row["accuracy"] == pytest.approx(100 * (1 - 144 / 3072))
    assert row["ece"] == pytest.approx(100 * 144 / 3072)  # it claims 100 % everywhere
    assert row["low"] < row["miou"] < row["high"] and row["gain"] is None and row["frames"] == 4


def test_a_run_is_held_against_the_first_on_the_same_frames(toys: ModuleType) -> None:
    perfect, same = toys.scored("b", [toys.TRUTH] * 4), toys.scored("c")
    _, better, equal = overview([toys.scored("a"), perfect, same])
    assert better["gain"]["value"] == pytest.approx(100 - 50 * (ROAD + CAR))
    assert better["gain"]["low"] <= better["gain"]["value"] <= better["gain"]["high"]
    assert equal["gain"] == {"value": 0.0, "low": 0.0, "high": 0.0, "verdict": "unclear"}
    _, worse = overview([perfect, toys.scored("a", [toys.eaten(3)] * 4)])
    assert worse["gain"]["verdict"] == "worse" and worse["gain"]["low"] == worse["gain"]["high"]
    _, better = overview([toys.scored("a", [toys.eaten(3)] * 4), perfect])
    assert better["gain"]["verdict"] == "better"


def test_a_dropped_frame_counts_as_dropped_and_leaves_the_comparison(toys: ModuleType) -> None:
    first = toys.scored("a", [*toys.MASKS[:3], None])
    other = toys.scored("b", [None, toys.TRUTH, toys.TRUTH, toys.eaten(16)])
    row, against = overview([first, other])
    assert (row["frames"], row["dropped"]) == (3, 1)
    pooled = 50 * ((768 - 72) / 768 + 768 / (768 + 72))  # frames 1 and 2 of the first: what both have
    assert against["gain"]["value"] == pytest.approx(100 - pooled)


def test_frames_are_grouped_by_condition_and_by_what_was_fused(toys: ModuleType) -> None:
    runs = [toys.scored("a"), toys.scored("b", [toys.TRUTH] * 4)]
    condition, sensors = groupings(runs)
    assert [group["name"] for group in condition["groups"]] == ["day", "night"]
    day, perfect = condition["groups"][0]["rows"]  # frames 0 and 2: 48 of 768 road pixels wrong
    expected = 50 * ((768 - 48) / 768 + 768 / (768 + 48))
    assert day["miou"] == pytest.approx(expected) and day["frames"] == 2 and day["gain"] is None
    assert perfect["gain"]["value"] == pytest.approx(100 - expected)
    assert sensors["name"] == "sensors fused" and [group["name"] for group in sensors["groups"]] == ["rgb"]


def test_runs_that_fused_different_sensors_stand_in_groups_of_their_own(toys: ModuleType) -> None:
    from dataclasses import replace

    first, other = toys.scored("a"), toys.scored("b")
    other = replace(other, measures=replace(other.measures, sensors=("rgb+lidar",) * 4))
    groups = groupings([first, other])[-1]["groups"]
    assert [(g["name"], [row["run"] for row in g["rows"]], g["rows"][0]["gain"]) for g in groups] == [
        ("rgb", [0], None),
        ("rgb+lidar", [1], None),
    ]


def test_distance_is_shown_where_some_depth_is_known(toys: ModuleType) -> None:
    depth = np.full(toys.TRUTH.shape, 5.0, np.float32)
    depth[:, :16] = np.nan  # of the road nothing is known
    groups = groupings([toys.scored("a", depth=depth)])[-1]
    assert groups["name"] == "distance"
    near, unknown = groups["groups"]
    assert (near["name"], near["rows"][0]["miou"]) == ("0-10 m", 100.0)
    assert unknown["name"] == "unknown"
    assert unknown["rows"][0]["miou"] == pytest.approx(50 * ROAD)  # IoU of road, and 0 of car, which is only predicted


def test_scores_of_classes_say_which_run_is_best_and_what_is_absent(toys: ModuleType) -> None:
    scores = per_class([toys.scored("a"), toys.scored("b", [toys.TRUTH] * 4)])
    assert [s["name"] for s in scores] == ["IoU", "boundary F"]
    road, _, ghost = scores[0]["rows"]
    assert road["cells"] == [{"value": pytest.approx(100 * ROAD), "best": False}, {"value": 100.0, "best": True}]
    assert [cell["value"] for cell in ghost["cells"]] == [None, None]
    assert not any(cell["best"] for row in per_class([toys.scored("a")])[0]["rows"] for cell in row["cells"])


def test_latency_is_of_the_frames_that_were_timed(toys: ModuleType) -> None:
    (row,) = latency([toys.scored("a")])  # 10, 20, 30, 40 ms
    assert (row["p50"], row["p95"], row["p99"]) == (25.0, pytest.approx(38.5), pytest.approx(39.7))
    assert row["bar"] == pytest.approx([100 * 25 / 39.7, 100 * 38.5 / 39.7, 100])
    assert latency([toys.scored("a", [None])]) == []


def test_a_stress_curve_begins_without_the_corruption_and_costs_what_is_lost_on_average(toys: ModuleType) -> None:
    clean = [toys.scored("a", [toys.TRUTH] * 4), toys.scored("b", [toys.TRUTH] * 4)]
    fog = [toys.scored("a", [toys.eaten(n)] * 4, corruption="fog", severity=s) for s, n in ((5, 8), (2, 4))]
    (loss,) = losses(clean, fog)
    at = [100.0, 50 * (288 / 384 + 384 / 480), 50 * (192 / 384 + 384 / 576)]
    assert loss["name"] == "fog"
    assert loss["runs"][0]["points"] == [(0, at[0]), (2, pytest.approx(at[1])), (5, pytest.approx(at[2]))]
    assert loss["runs"][0]["lost"] == pytest.approx(100 - (at[1] + at[2]) / 2)
    assert loss["runs"][1] == {"points": [], "mean": None, "lost": None}
