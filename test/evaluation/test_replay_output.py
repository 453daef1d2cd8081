"""What comes out late, twice or never; and a recording of the outputs that survives an error."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml

from samseg_ros.config import Config, ThermalConfig, from_flat
from samseg_ros.datasets.bag import open_bag
from samseg_ros.datasets.bag_frames import steps
from samseg_ros.datasets.world import write_recording
from samseg_ros.errors import SamsegError
from samseg_ros.evaluation import replay_output
from samseg_ros.evaluation.recording import IMAGE, MASK, OutputBag, image, serialize
from samseg_ros.evaluation.replay import ReplayOptions, open_replay
from samseg_ros.evaluation.replay_output import ReplayOutput
from samseg_ros.labels import load_labels
from samseg_ros.resources import models_dir


def _mask(fakes: ModuleType, stamp_ns: int) -> bytes:
    return serialize(IMAGE, image(stamp_ns, "camera", np.zeros((fakes.HEIGHT, fakes.WIDTH), np.uint8), "mono8"))


def test_a_mask_that_comes_late_is_counted_scored_and_pictured_and_one_that_never_comes_is_dropped(
    fakes: ModuleType, tmp_path: Path
) -> None:
    bag = fakes.write_small_bag(tmp_path / "small.mcap", frames=4)
    options = ReplayOptions(bag, tmp_path / "out", Config())
    with open_replay(options) as replay, ReplayOutput(replay, "test", fakes.LABELS) as output:
        walked = list(steps(replay.bag, replay.topics, replay.config.sync, output.aside))
        rows = [output.went_in(step) for step in walked]
        rows[1].error = "no mask within 1 s"
        output.draw(but_newest=1)
        for i in (0, 2, 1):  # 1 comes late, 3 never
            output.came_out(MASK, _mask(fakes, walked[i].image.stamp_ns), walked[i].image.stamp_ns)
        stranger = fakes.START_NS - 1
        output.came_out(MASK, _mask(fakes, stranger), stranger)  # of no image of ours: recorded, not counted
        measured = output.finish()
    assert measured["frames"] == {"received": 4, "published": 3, "dropped": 1}
    assert measured["errors"] == {}
    assert measured["labels"]["frames"] == 3
    for folder in ("masks", "overlays"):
        names = sorted(p.name for p in (tmp_path / "out" / folder).iterdir())
        assert names == ["000000.png", "000001.png", "000002.png"]
    rows_on_disk = [json.loads(line) for line in (tmp_path / "out" / "result.jsonl").read_text().splitlines()]
    assert [row["published"] for row in rows_on_disk] == [True, True, True, False]
    with open_bag(tmp_path / "out" / "outputs.mcap") as outputs:
        assert outputs.topics[MASK].count == 4


def test_the_recording_is_complete_up_to_an_error_and_replaces_an_older_one(fakes: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "outputs.mcap"
    path.write_text("an older one")
    with pytest.raises(RuntimeError), OutputBag(path) as bag:
        bag.write(MASK, IMAGE, 5, _mask(fakes, 5))
        raise RuntimeError
    with open_bag(path) as bag:
        assert bag.damage == ""
        assert [m.stamp_ns for m in bag.messages([MASK])] == [5]
    assert [p.name for p in tmp_path.iterdir()] == ["outputs.mcap"]


def test_labels_that_match_no_mask_are_said_in_a_note(fakes: ModuleType, tmp_path: Path) -> None:
    bag = fakes.write_small_bag(tmp_path / "small.mcap", frames=2)
    with (
        open_replay(ReplayOptions(bag, tmp_path / "out", Config())) as replay,
        ReplayOutput(replay, "test", fakes.LABELS) as output,
    ):
        for step in steps(replay.bag, replay.topics, replay.config.sync, output.aside):
            output.went_in(step)
        measured = output.finish()
    assert "labels" not in measured
    assert measured["notes"] == ["not scored: 2 labels, 0 matched a mask of equal stamp"]


@pytest.mark.parametrize("own", [True, False])
def test_labels_of_other_classes_than_the_masks_are_neither_scored_nor_drawn(
    own: bool, fakes: ModuleType, tmp_path: Path
) -> None:
    bag = write_recording(tmp_path / "world", conditions=["day"], frames_per_condition=1, size=(96, 128))
    labels = load_labels("world" if own else "camvid")
    with (
        open_replay(ReplayOptions(bag, tmp_path / "out", Config())) as replay,
        ReplayOutput(replay, "test", labels) as output,
    ):
        (step,) = steps(replay.bag, replay.topics, replay.config.sync, output.aside)
        output.went_in(step)
        mask = image(step.image.stamp_ns, "camera", np.zeros((96, 128), np.uint8), "mono8")
        output.came_out(MASK, serialize(IMAGE, mask), step.image.stamp_ns)
        measured = output.finish()
    told = "not scored: the recording's labels are of world (12 classes), the masks of camvid (11)"
    assert measured["notes"] == ([] if own else [told])
    assert ("labels" in measured) == own


def test_a_recording_whose_first_image_is_damaged_is_refused_with_the_reason(
    fakes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag = fakes.write_small_bag(tmp_path / "small.mcap", frames=2)
    with (
        open_replay(ReplayOptions(bag, tmp_path / "out", Config())) as replay,
        ReplayOutput(replay, "test", fakes.LABELS) as output,
    ):
        replay.bag.damage = "damaged, stopped there"
        monkeypatch.setattr(replay.bag, "messages", lambda topics: iter(()))
        with pytest.raises(SamsegError, match="no image on /camera/image_raw can be read: damaged, stopped there"):
            output.write_label_info(b"")


def test_the_thermal_image_that_a_fused_picture_is_held_against_is_scaled_as_the_weights_want_it(
    tmp_path: Path,
) -> None:
    spec = yaml.safe_load((models_dir() / "fusionsam" / "model.yaml").read_text())
    own = ThermalConfig(normalization="fixed", fixed_low=0, fixed_high=255)
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(spec | {"thermal": own.model_dump()}))
    config = from_flat({"model.name": "fusionsam", "model.checkpoint": str(tmp_path)})
    assert replay_output._scaled_by_weights(config).thermal == own
    users = from_flat({"model.name": "fusionsam", "model.checkpoint": str(tmp_path), "thermal.percentile_low": 2.0})
    assert replay_output._scaled_by_weights(users) == users
