from __future__ import annotations

import numpy as np

from samseg_ros.datasets.world.dataset import WorldDataset
from samseg_ros.datasets.world.labelled import LabelledWorld, open_world


def test_its_samples_are_the_scenes_with_their_conditions() -> None:
    world = LabelledWorld(WorldDataset("val", 3, first=2, conditions=("day", "fog")))
    assert [(s.name, s.condition) for s in world.samples] == [("000002", "day"), ("000003", "fog"), ("000004", "day")]
    assert len(world) == 3


def test_it_renders_what_the_world_renders() -> None:
    scenes = WorldDataset("test", 1, size=(48, 64))
    frame, ids = LabelledWorld(scenes)[0]
    expected, labels = scenes[0]
    np.testing.assert_array_equal(frame.image, expected.image)
    np.testing.assert_array_equal(ids, labels)


def test_a_split_has_as_many_scenes_as_asked_for() -> None:
    assert len(open_world("train", 5000)) == 5000
    assert len(open_world("test")) == 360
