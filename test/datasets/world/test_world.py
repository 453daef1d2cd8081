"""What a user of the world relies on: agreement of the sensors, determinism, held-out test scenes, a genuine bag."""

import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from samseg_ros.config import Config
from samseg_ros.datasets.bag import open_bag
from samseg_ros.datasets.bag_frames import bag_calibration
from samseg_ros.datasets.bag_topics import guess_topics
from samseg_ros.datasets.world import CONDITIONS, WorldDataset, drive, make_rig, write_recording
from samseg_ros.datasets.world.primitives import CLASS, FAMILY, World
from samseg_ros.datasets.world.scene import make_scene
from samseg_ros.datasets.world.sensors import COUNTS_PER_K, KELVIN, beside
from samseg_ros.errors import SamsegError
from samseg_ros.sensing.convert import color_image, point_cloud, thermal_image, transform_matrix
from samseg_ros.sensing.projection import project
from samseg_ros.types import Camera

SMALL = (96, 128)


def shot(split="test", seed=3, condition="day", size=(240, 320)):
    return next(drive(split, condition, seed, 1, make_rig(size)))


def test_the_same_seed_gives_the_same_bytes():
    one, two, other = shot(size=SMALL), shot(size=SMALL), shot(seed=4, size=SMALL)
    for name in ("image", "thermal"):
        assert np.array_equal(getattr(one.frame, name), getattr(two.frame, name))
        assert not np.array_equal(getattr(one.frame, name), getattr(other.frame, name))
    assert np.array_equal(one.frame.points.xyz, two.frame.points.xyz)


def test_lidar_points_lie_on_the_depth_image_under_the_calibration():
    capture = shot()
    frame = capture.frame
    image = project(frame.points, frame.camera, frame.camera_from_lidar, frame.size, Config().projection)
    seen = image.pixels[:, 0] >= 0
    rows, columns = image.pixels[seen].T
    xyz = np.c_[frame.points.xyz[seen], np.ones(seen.sum())] @ frame.camera_from_lidar.T
    error = np.abs(capture.depth[rows, columns] - xyz[:, 2])
    # Edges of objects and the clutter of the air differ; surfaces agree to the noise of 2 cm and the pixel grid.
    assert seen.sum() > 1000
    assert np.median(error) < 0.05
    assert (error < 0.5).mean() > 0.9


def test_people_are_warmer_than_walls_and_the_sky_is_coldest_at_night():
    heat: dict[int, list[float]] = {int(c): [] for c in (World.PEDESTRIAN, World.BUILDING, World.SKY)}
    for seed in range(6):
        capture = shot(seed=seed, condition="night", size=(180, 240))
        celsius = capture.frame.thermal / COUNTS_PER_K - KELVIN
        for label, values in heat.items():
            values.extend(celsius[capture.labels == label].tolist())
    person, wall, sky = (np.median(heat[int(c)]) for c in (World.PEDESTRIAN, World.BUILDING, World.SKY))
    assert person > wall + 3
    assert sky < wall - 5


def test_depth_is_infinite_exactly_where_the_label_is_sky():
    capture = shot(size=SMALL)
    assert np.array_equal(np.isinf(capture.depth), capture.labels == World.SKY)


def test_the_test_split_shows_facades_that_training_never_shows():
    def families(split):
        rows = np.concatenate([make_scene(split, seed).primitives(0.0) for seed in range(12)])
        return set(rows[rows[:, CLASS] == World.BUILDING][:, FAMILY])

    assert families("train") & {4.0, 5.0} == set()
    assert {4.0, 5.0} <= families("test")


def test_every_class_occurs_in_a_dozen_test_scenes():
    dataset = WorldDataset("test", 12, size=SMALL)
    seen = set()
    for i in range(len(dataset)):
        seen |= set(np.unique(dataset[i][1]).tolist())
    assert seen == set(range(12))


def test_conditions_take_turns():
    dataset = WorldDataset("train", 12)
    assert [dataset.condition_of(i) for i in range(6)] == list(CONDITIONS)
    assert dataset.condition_of(6) == "day"


def test_nobody_stands_in_the_ego_vehicle_during_a_long_drive():
    for seed in range(4):
        for capture in drive("train", "day", seed, 30, make_rig((48, 64), beams=2, columns=8)):
            assert capture.depth.min() > 0.6


def test_an_unknown_condition_or_split_is_refused_with_the_nearest_name():
    with pytest.raises(SamsegError, match="did you mean 'night'"):
        next(drive("test", "nigth", 0, 1, make_rig(SMALL)))
    with pytest.raises(SamsegError, match="did you mean 'test'"):
        make_scene("tset", 0)


def test_a_recording_holds_what_was_rendered(tmp_path):
    path = write_recording(tmp_path / "bag", "test", ("day", "night"), 2, seed=1, size=SMALL)
    rig = make_rig(SMALL)
    expected = list(drive("test", "day", 101_000, 2, rig, 1_700_000_000_000_000_000))
    stamps: dict[str, list[int]] = {}
    with AnyReader([path]) as reader:
        for connection, stamp, raw in reader.messages():
            stamps.setdefault(connection.topic, []).append(stamp)
            message = reader.deserialize(raw, connection.msgtype)
            if len(stamps[connection.topic]) > 1:
                continue
            if connection.topic == "/camera/image_raw":
                assert np.array_equal(color_image(message), expected[0].frame.image)
            elif connection.topic == "/thermal/image_raw":
                assert np.array_equal(thermal_image(message), expected[0].frame.thermal)
            elif connection.topic == "/lidar/points":
                assert np.array_equal(point_cloud(message).xyz, expected[0].frame.points.xyz)
            elif connection.topic == "/tf_static":
                poses = {t.child_frame_id: transform_matrix(t.transform) for t in message.transforms}
                camera_from_lidar = np.linalg.inv(poses["camera_optical"]) @ poses["lidar"]
                assert np.allclose(camera_from_lidar, rig.camera_from_lidar, atol=1e-12)
    times = stamps.pop("/camera/image_raw")
    assert np.diff(times).tolist() == [100_000_000] * 3
    assert stamps.pop("/tf_static") == stamps.pop("/ground_truth/label_info") == times[:1]
    assert all(other == times for other in stamps.values())
    with pytest.raises(SamsegError, match="exists already"):
        write_recording(path)


def test_a_recording_with_a_thermal_camera_beside_the_camera_says_where_it_stands(tmp_path):
    path = write_recording(tmp_path / "bag", "test", ("night",), 1, size=SMALL, thermal_offset=(0.3, 90.0))
    with open_bag(path) as bag:
        topics = guess_topics(bag)
        assert (
            bag.first(topics.thermal).header.frame_id
            == bag.first(topics.thermal_info).header.frame_id
            == "thermal_optical"
        )
        pose = bag_calibration(bag, topics).lookup("camera_optical", "thermal_optical")
    assert pose @ [0, 0, 1, 1] == pytest.approx([1.3, 0, 0, 1])  # a metre ahead of it is further to the right


def test_a_thermal_camera_of_its_own_changes_no_other_sensor():
    own = Camera(64, 48, np.array([[50.0, 0, 31.5], [0, 50, 23.5], [0, 0, 1]]))
    rig = make_rig(SMALL, camera_from_thermal=beside(0.3, 2.0), thermal_camera=own)
    usual, moved = shot(size=SMALL), next(drive("test", "day", 3, 1, rig))
    assert np.array_equal(usual.frame.image, moved.frame.image) and np.array_equal(usual.labels, moved.labels)
    assert usual.frame.thermal_camera is usual.frame.camera_from_thermal is None
    assert moved.frame.thermal.shape == (48, 64)
    assert moved.frame.thermal_camera.k.tolist() == own.k.tolist()


@pytest.mark.parametrize(("split", "conditions"), [("tset", ("day",)), ("test", ("day", "foo"))])
def test_a_recording_of_an_unknown_split_or_condition_leaves_nothing_behind(tmp_path, split, conditions):
    with pytest.raises(SamsegError, match=r"no world split 'tset'|no condition 'foo'"):
        write_recording(tmp_path / "bag", split, conditions, 1, size=SMALL)
    assert not list(tmp_path.iterdir())


def test_recordings_of_other_drives_share_no_stamp_and_of_the_same_drive_all(tmp_path):
    def stamps(name, conditions, seed):
        path = write_recording(tmp_path / name, "test", conditions, 2, seed=seed, size=SMALL)
        with open_bag(path) as bag:
            return [message.stamp_ns for message in bag.messages(["/camera/image_raw"])]

    first = stamps("first", ("day",), 1)
    assert stamps("again", ("day",), 1) == first
    for name, conditions, seed in (("seed", ("day",), 2), ("condition", ("fog",), 1), ("longer", ("day", "fog"), 1)):
        assert set(stamps(name, conditions, seed)).isdisjoint(first), name
