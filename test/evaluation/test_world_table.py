"""The card's table, on confusions that can be summed by hand."""

import numpy as np
import pytest

from samseg_ros.datasets.world import WorldDataset
from samseg_ros.errors import SamsegError
from samseg_ros.evaluation.world_table import WorldTable, comparisons, score_world, sensor_sets


def confusions(*hits: int) -> np.ndarray:
    """Frames of 10 pixels of each of two classes; `hits` of class 0's are right, the rest is called class 1."""
    return np.array([[[h, 10 - h, 0], [0, 10, 0]] for h in hits])


TABLE = WorldTable(
    {"all": confusions(10, 10, 5), "rgb": confusions(5, 5, 5)}, ("day", "night", "night"), ("road", "sky")
)


def test_each_condition_sums_its_own_frames() -> None:
    # day: perfect. night: class 0 has 15 of 20 right; class 1 has 20 hits and 5 false alarms.
    night = 100 * (15 / 20 + 20 / 25) / 2
    assert TABLE.summary()["all"] == pytest.approx({"day": 100.0, "night": night, "all": 100 * (25 / 30 + 30 / 35) / 2})


def test_the_difference_to_the_baseline_stands_in_the_last_row() -> None:
    lines = TABLE.markdown([("all", "rgb")]).splitlines()
    assert lines[0] == "| sensors | day | night | all |"
    # Baseline by day: class 0 half right, class 1 with 5 false alarms: (5 / 10 + 10 / 15) / 2.
    assert lines[-1].startswith(f"| **all − rgb** | {100 - 100 * (0.5 + 2 / 3) / 2:+.1f} | ")  # one frame: no interval


def test_every_auxiliary_is_left_out_once_and_then_all_of_them() -> None:
    assert list(sensor_sets(("rgb", "thermal", "lidar"))) == ["rgb+thermal+lidar", "rgb+lidar", "rgb+thermal", "rgb"]
    assert list(sensor_sets(("rgb",))) == ["rgb"]


def test_a_fused_net_is_compared_with_every_other_net_and_on_its_sensors_alone() -> None:
    pairs = comparisons([("rgb",), ("rgb", "lidar")], ("rgb", "thermal", "lidar"))
    assert pairs == [
        ("rgb+thermal+lidar", "rgb-only net"),
        ("rgb+thermal+lidar", "rgb+lidar-only net"),
        ("rgb", "rgb-only net"),
        ("rgb+lidar", "rgb+lidar-only net"),
    ]


@pytest.mark.parametrize("sensors", [[("rgb", "depth")], [("rgb",), ("rgb",)]])
def test_a_baseline_that_cannot_be_compared_is_refused(sensors: list[tuple[str, ...]]) -> None:
    with pytest.raises(SamsegError, match="baselines: expected one net for some of the sensor sets"):
        comparisons(sensors, ("rgb", "thermal", "lidar"))


def test_scoring_nothing_is_refused() -> None:
    with pytest.raises(SamsegError, match="at least one frame"):
        score_world({}, WorldDataset("test", 1, size=(96, 128)))
