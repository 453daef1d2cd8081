"""Recordings whole, cut off, empty, and things that are no recordings."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer

from samseg_ros.datasets.bag import Message, open_bag, raw_stamp_ns
from samseg_ros.errors import InputError, SamsegError
from samseg_ros.evaluation.recording import IMAGE, STORE, STRING, image, serialize

PLUGINS = {"mcap": StoragePlugin.MCAP, "db3": StoragePlugin.SQLITE3}


def _write(path: Path, storage: str, frames: int = 8, version: int = 8) -> Path:
    """Images of noise (they do not compress), stamped i seconds, recorded i seconds and 1 ns."""
    rng = np.random.default_rng(0)
    with Writer(path, version=version, storage_plugin=PLUGINS[storage]) as writer:
        camera = writer.add_connection("/camera", IMAGE, typestore=STORE)
        note = writer.add_connection("/note", STRING, typestore=STORE)
        for i in range(1, frames + 1):
            picture = rng.integers(0, 256, (300, 400, 3), np.uint8)
            writer.write(camera, i * 10**9 + 1, serialize(IMAGE, image(i * 10**9, "cam", picture, "rgb8")))
            text = STORE.types[STRING](data=f"note {i}")
            writer.write(note, i * 10**9 + 1, serialize(STRING, text))
    return path


@pytest.mark.parametrize("storage", PLUGINS)
def test_messages_come_in_recorded_order_with_their_stamps(tmp_path: Path, storage: str) -> None:
    with open_bag(_write(tmp_path / "bag", storage)) as bag:
        assert bag.damage == ""
        assert {name: (t.type, t.count) for name, t in bag.topics.items()} == {
            "/camera": (IMAGE, 8),
            "/note": (STRING, 8),
        }
        messages = list(bag.messages(["/camera"]))
        assert [m.log_ns for m in messages] == [i * 10**9 + 1 for i in range(1, 9)]
        assert [m.stamp_ns for m in messages] == [i * 10**9 for i in range(1, 9)]
        assert bag.decode(messages[2]).width == 400
        assert bag.first("/note").data == "note 1"
        assert bag.first("/none") is None


@pytest.mark.parametrize("storage", PLUGINS)
def test_a_folder_without_metadata_and_a_single_file_are_read_too(tmp_path: Path, storage: str) -> None:
    path = _write(tmp_path / "bag", storage)
    (path / "metadata.yaml").unlink()
    file = next(path.glob(f"*.{storage}"))
    for source in (path, file):
        with open_bag(source) as bag:
            assert bag.topics["/camera"].count == 8
            assert bag.damage == ""


@pytest.mark.parametrize("storage", PLUGINS)
@pytest.mark.parametrize("share", [0.6, 0.9])
def test_of_a_file_that_is_cut_off_everything_before_the_cut_is_read(
    tmp_path: Path, storage: str, share: float
) -> None:
    path = _write(tmp_path / "bag", storage)
    file = next(path.glob(f"*.{storage}"))
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    with open_bag(path) as bag:
        stamps = [m.stamp_ns for m in bag.messages(["/camera"])]
        assert stamps == [i * 10**9 for i in range(1, len(stamps) + 1)]
        assert 8 * share - 2.5 <= len(stamps) < 8
        assert bag.topics["/camera"].count == len(stamps)
        assert bag.decode(next(bag.messages(["/camera"]))).height == 300
        assert "cut off" in bag.damage and "ros2 bag reindex" in bag.damage and str(path) in bag.damage


def test_a_compressed_mcap_that_is_cut_off_inside_a_chunk_keeps_the_messages_before(
    shared_data: Path, tmp_path: Path
) -> None:
    whole = (shared_data / "bags" / "kitti_seq_mcap" / "kitti_seq_mcap.mcap").read_bytes()
    file = tmp_path / "cut.mcap"
    file.write_bytes(whole[: len(whole) // 2])
    with open_bag(file) as bag:
        clouds = [m.stamp_ns for m in bag.messages(["/velodyne_points"])]
        assert 13 <= len(clouds) <= 15
        assert np.diff(clouds).tolist() == [10**8] * (len(clouds) - 1)


def test_damage_in_the_middle_stops_the_reading_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = _write(tmp_path / "bag", "mcap", frames=12)
    file = next(path.glob("*.mcap"))
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2_000_000] = bytes(2_000_000)  # over records' heads, while index and footer stay intact
    file.write_bytes(content)
    with open_bag(path) as bag:
        messages = list(bag.messages(["/camera"]))
        assert 0 < len(messages) < 12
        assert "damaged, stopped there" in bag.damage
        assert "damaged, stopped there" in caplog.text


@pytest.mark.parametrize("storage", PLUGINS)
def test_a_file_of_which_nothing_is_left_is_refused_with_the_remedy(tmp_path: Path, storage: str) -> None:
    path = _write(tmp_path / "bag", storage)
    file = next(path.glob(f"*.{storage}"))
    file.write_bytes(file.read_bytes()[:64])
    with pytest.raises(InputError, match=r"expected a readable rosbag2 recording.*ros2 bag reindex"):
        open_bag(path)


@pytest.mark.parametrize("storage", PLUGINS)
def test_a_recording_without_messages_is_refused(tmp_path: Path, storage: str) -> None:
    with pytest.raises(InputError, match="expected recorded messages, got none"):
        open_bag(_write(tmp_path / "bag", storage, frames=0))


def test_what_is_no_recording_is_refused_and_says_what_was_found(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got nothing; check the path"):
        open_bag(tmp_path / "nowhere")
    with pytest.raises(InputError, match="got a folder without any of them"):
        open_bag(tmp_path)
    text = tmp_path / "notes.txt"
    text.write_text("x")
    with pytest.raises(InputError, match=r"got a \.txt file"):
        open_bag(text)
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    with pytest.raises(InputError, match="got a ROS 1 bag; convert it: rosbags-convert"):
        open_bag(tmp_path / "old.bag")
    (tmp_path / "fake.mcap").write_bytes(b"not an mcap at all")
    with pytest.raises(InputError, match="expected a readable rosbag2 recording"):
        open_bag(tmp_path / "fake.mcap")


def test_a_message_that_cannot_be_decoded_names_topic_and_time(tmp_path: Path) -> None:
    with open_bag(_write(tmp_path / "bag", "mcap")) as bag:
        message = next(bag.messages(["/camera"]))
        cut = Message(message.topic, message.type, message.log_ns, message.raw[:100])
        with pytest.raises(SamsegError, match="Image on /camera recorded at 1000000001 cannot be decoded"):
            bag.decode(cut)


def test_a_split_recording_is_read_in_the_order_of_its_parts(tmp_path: Path) -> None:
    path = _write(tmp_path / "bag", "mcap", frames=3)
    later = _write(tmp_path / "later", "mcap", frames=4)
    shutil.copy(later / "later.mcap", path / "bag_10.mcap")
    (path / "metadata.yaml").unlink()
    with open_bag(path) as bag:
        assert bag.topics["/camera"].count == 7
        assert [m.log_ns for m in bag.messages(["/camera"])] == sorted(m.log_ns for m in bag.messages(["/camera"]))


@pytest.mark.parametrize(("flag", "order"), [(1, "little"), (0, "big")])
def test_the_stamp_is_read_in_either_byte_order(flag: int, order: str) -> None:
    raw = bytes([0, flag, 0, 0]) + (-5).to_bytes(4, order, signed=True) + (7).to_bytes(4, order)
    assert raw_stamp_ns(raw) == -5 * 10**9 + 7


@pytest.mark.parametrize(("name", "frames"), [("kitti_seq_mcap", 30), ("kitti_seq_db3", 6)])
def test_real_recordings_of_both_storages_open(shared_data: Path, name: str, frames: int) -> None:
    with open_bag(shared_data / "bags" / name) as bag:
        assert bag.topics["/camera/image_rect/compressed"].count == frames
        cloud = bag.first("/velodyne_points")
        assert cloud.width * cloud.height == len(cloud.data) / cloud.point_step == 56609


def test_a_message_without_room_for_a_stamp_is_refused() -> None:
    with pytest.raises(InputError, match=r"at least 12 bytes.*got 1 bytes"):
        raw_stamp_ns(b"\0")
