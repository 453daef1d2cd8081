"""Live replay over real DDS to the real node in another process, around a pipeline that takes no time to load."""

import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from samseg_ros.config import Config, from_flat, load
from samseg_ros.datasets.bag import open_bag
from samseg_ros.datasets.world import write_recording
from samseg_ros.errors import SamsegError
from samseg_ros.evaluation.recording import (
    CLASS_CONFIDENCE,
    CLOUD_OUT,
    CONFIDENCE,
    FUSED,
    LABEL_INFO,
    LIDAR_DEPTH,
    MASK,
    OVERLAY,
)
from samseg_ros.evaluation.replay import ReplayOptions, Watcher, open_replay
from samseg_ros.evaluation.replay_direct import replay_direct
from samseg_ros.ros.player import play
from samseg_ros.ros.replay import label_set, main, replay_live
from samseg_ros.ros.replay_node import LOCKSTEP_DEPTH, NodeProcess, parameters, private_domain
from samseg_ros.ros.replay_wire import spinning

FAKES = Path(__file__).parents[1] / "evaluation" / "fakes.py"


@pytest.fixture(scope="module")
def fakes() -> ModuleType:
    spec = importlib.util.spec_from_file_location("replay_fakes", FAKES)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _live(bag: Path, out: Path, mode: str = "", config: Config | None = None, **options: object) -> dict:
    command = [sys.executable, str(FAKES), *([mode] if mode else [])]
    return replay_live(ReplayOptions(bag, out, config or Config(), **options), command=command)


def _masks(out: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((out / "masks").iterdir())]


@pytest.fixture(scope="module")
def both(fakes: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, dict]:
    """The same recording, live and direct: folder, what was measured live, what directly."""
    folder = tmp_path_factory.mktemp("both")
    bag = fakes.write_small_bag(folder / "small.mcap")
    live = _live(bag, folder / "live")
    direct = replay_direct(ReplayOptions(bag, folder / "direct", Config()), segmenter=fakes.FakeSegmenter())
    return folder, live, direct


def test_lockstep_gives_the_masks_of_a_direct_replay_byte_for_byte(both: tuple[Path, dict, dict]) -> None:
    folder, live, direct = both
    assert live["frames"] == direct["frames"] == {"received": 6, "published": 6, "dropped": 0}
    assert _masks(folder / "live") == _masks(folder / "direct")
    assert live["sensors"] == direct["sensors"] == {"rgb+thermal+lidar": 4, "rgb+lidar": 2}
    assert live["labels"] == direct["labels"]


def test_lockstep_registers_a_thermal_camera_as_a_direct_replay_does(fakes: ModuleType, tmp_path: Path) -> None:
    bag = write_recording(tmp_path / "bag", "test", ("day",), 2, size=(48, 64), thermal_offset=(0.3, 2.0))
    config = from_flat({"projection.thermal": "calibrated"})
    live = _live(bag, tmp_path / "live", config=config)
    direct = replay_direct(ReplayOptions(bag, tmp_path / "direct", config), segmenter=fakes.FakeSegmenter())
    assert live["sensors"] == direct["sensors"] == {"rgb+thermal+lidar": 2}
    assert _masks(tmp_path / "live") == _masks(tmp_path / "direct")
    assert live["troubles"] == direct["troubles"] == {} and "thermal_info" in live["node"]


def test_what_the_node_published_is_recorded_as_a_direct_replay_records_it(both: tuple[Path, dict, dict]) -> None:
    folder, _, _ = both
    with open_bag(folder / "live" / "outputs.mcap") as live, open_bag(folder / "direct" / "outputs.mcap") as direct:
        assert {n: (t.type, t.count) for n, t in live.topics.items()} == {
            n: (t.type, t.count) for n, t in direct.topics.items()
        }
        for topic in (MASK, CONFIDENCE, CLASS_CONFIDENCE, CLOUD_OUT, OVERLAY, LIDAR_DEPTH, LABEL_INFO):
            ours, theirs = ([(m.log_ns, str(bag.decode(m))) for m in bag.messages([topic])] for bag in (live, direct))
            assert ours == theirs, topic


def test_fused_pictures_are_those_of_a_direct_replay_byte_for_byte(
    fakes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.image", None)  # takes seconds to import
    bag = fakes.write_small_bag(tmp_path / "small.mcap", frames=3)
    live = _live(bag, tmp_path / "live", "fuses")
    direct = replay_direct(ReplayOptions(bag, tmp_path / "direct", Config()), segmenter=fakes.FakeSegmenter("fuses"))
    written = [[p.read_bytes() for p in sorted((tmp_path / way / "fused").iterdir())] for way in ("live", "direct")]
    assert len(written[0]) == 3 and written[0] == written[1]
    assert live["fusion"] == direct["fusion"] and live["fusion"]["frames"] == 3
    recorded = []
    for way in ("live", "direct"):
        with open_bag(tmp_path / way / "outputs.mcap") as outputs:
            recorded.append([(m.log_ns, str(outputs.decode(m))) for m in outputs.messages([FUSED])])
    assert recorded[0] == recorded[1]


def test_a_live_replay_leaves_pictures_results_the_nodes_log_and_its_parameters(both: tuple[Path, dict, dict]) -> None:
    out, measured = both[0] / "live", both[1]
    assert json.loads((out / "metrics.json").read_text()) == measured
    assert measured["mode"] == "live, lockstep"
    assert measured["node"]["model"]["values"]["state"] == "active"
    assert len(list((out / "overlays").iterdir())) == 6
    assert "active: fusing image, thermal, lidar" in (out / "node.log").read_text()
    assert load(out / "config.yaml") == Config()
    assert load(out / "node.param.yaml").drop_policy == "none"
    (extrinsic,) = yaml.safe_load((out / "calibration.yaml").read_text())["transforms"]
    assert (extrinsic["target"], extrinsic["source"]) == ("lidar", "camera")
    rows = [json.loads(line) for line in (out / "result.jsonl").read_text().splitlines()]
    assert all(row["latency_ms"] > 0 for row in rows)


def test_in_real_time_a_slow_node_drops_frames_and_they_are_counted(fakes: ModuleType, tmp_path: Path) -> None:
    bag = fakes.write_small_bag(tmp_path / "small.mcap", frames=16)
    measured = _live(bag, tmp_path / "out", "slow", rate=2.0)  # 20 frames/s offered, about 3 possible
    frames = measured["frames"]
    assert frames["received"] == 16
    assert 1 <= frames["published"] <= 8
    assert frames["dropped"] == 16 - frames["published"]
    assert measured["mode"] == "live, real time" and measured["rate"] == 2.0
    assert measured["labels"]["frames"] == frames["published"]


def test_a_node_that_dies_is_reported_with_its_last_words_and_the_rest_is_kept(
    fakes: ModuleType, tmp_path: Path
) -> None:
    bag = fakes.write_small_bag(tmp_path / "small.mcap")
    with pytest.raises(SamsegError, match=r"(?s)ended with exit code 7.*the GPU caught fire"):
        _live(bag, tmp_path / "out", "dies")
    measured = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert measured["frames"]["published"] == 2
    with open_bag(tmp_path / "out" / "outputs.mcap") as outputs:
        assert outputs.topics[MASK].count == 2


def test_a_node_that_cannot_be_configured_says_why(fakes: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SamsegError, match="the node cannot start: configuring failed: no weights for this model"):
        _live(fakes.write_small_bag(tmp_path / "small.mcap", frames=1), tmp_path / "out", "broken")


@pytest.mark.slow
def test_a_node_that_is_too_slow_for_the_timeout_costs_only_its_frames(fakes: ModuleType, tmp_path: Path) -> None:
    bag = fakes.write_small_bag(tmp_path / "small.mcap", frames=2)
    measured = _live(bag, tmp_path / "out", "slow", timeout_s=0.05)
    assert measured["frames"]["received"] == 2
    assert all("no mask within 0.05 s" in error for error in measured["errors"])


def test_lockstep_parameters_change_only_what_the_wire_needs(fakes: ModuleType, tmp_path: Path) -> None:
    bag = fakes.write_small_bag(tmp_path / "small.mcap", frames=1, without=("thermal",))
    config = from_flat({"publish.min_confidence": 0.25, "sync.lidar.timeout_s": 7.0, "max_rate_hz": 5.0})
    with open_replay(ReplayOptions(bag, tmp_path, config)) as replay:
        lockstep = parameters(replay, None, lockstep=True)
        real_time = parameters(replay, None, lockstep=False)
    assert lockstep["publish"]["min_confidence"] == 0.25
    assert lockstep["inputs"] == {"thermal": False, "lidar": True}
    assert lockstep["sync"]["lidar"]["timeout_s"] == 7.0
    assert lockstep["qos"]["depth"] == LOCKSTEP_DEPTH and lockstep["max_rate_hz"] == 0.0
    assert real_time == {**config.model_dump(), "inputs": {"thermal": False, "lidar": True}}


def test_the_node_of_a_replay_is_told_what_the_recordings_topics_tell(tmp_path: Path, fakes: ModuleType) -> None:
    bag = fakes.write_small_bag(tmp_path / "small.mcap", frames=1)
    with open_replay(ReplayOptions(bag, tmp_path, Config())) as replay:
        renamed = replace(replay, topics=replace(replay.topics, image="/camera/image_rect"))
        given = [parameters(one, None, lockstep=False)["projection"]["rectified"] for one in (replay, renamed)]
    assert given == ["auto", "yes"]


def test_a_replay_has_a_domain_of_its_own_and_gives_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "42")
    monkeypatch.delenv("FASTRTPS_DEFAULT_PROFILES_FILE", raising=False)
    with private_domain(tmp_path / "fastdds.xml") as domain:
        assert os.environ["ROS_DOMAIN_ID"] == str(domain) and 1 <= domain <= 100
        assert os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
        profile = Path(os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"]).read_text()
        assert "<heartbeatPeriod><sec>0</sec><nanosec>20000000</nanosec>" in profile
    assert os.environ["ROS_DOMAIN_ID"] == "42" and "FASTRTPS_DEFAULT_PROFILES_FILE" not in os.environ


def test_a_node_that_ignores_the_polite_signal_is_ended_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samseg_ros.ros.replay_node.END_S", 0.3)
    stubborn = (
        "import signal, time\n"
        "for s in (2, 15): signal.signal(s, signal.SIG_IGN)\n"
        "print('here', flush=True)\n"
        "time.sleep(60)"
    )
    with NodeProcess("/x", tmp_path / "p.yaml", tmp_path / "log", command=[sys.executable, "-c", stubborn]) as process:
        while "here" not in process.tail():
            time.sleep(0.05)
        process.check()
    with pytest.raises(SamsegError, match="was killed by signal 9"):
        process.check()


def test_label_info_is_read_from_its_bytes(fakes: ModuleType, tmp_path: Path) -> None:
    with open_bag(_direct_outputs(fakes, tmp_path)) as bag:
        labels = label_set(next(bag.messages([LABEL_INFO])).raw)
    assert labels.names == ("road", "car", "sky") and labels.colors[1].tolist() == [0, 0, 142]


def _direct_outputs(fakes: ModuleType, folder: Path) -> Path:
    bag = fakes.write_small_bag(folder / "small.mcap", frames=1)
    replay_direct(ReplayOptions(bag, folder / "out", Config()), segmenter=fakes.FakeSegmenter())
    return folder / "out" / "outputs.mcap"


def test_publish_only_plays_the_recordings_own_topics_to_whoever_listens(fakes: ModuleType, tmp_path: Path) -> None:
    bag = fakes.write_small_bag(tmp_path / "small.mcap")
    heard: dict[str, int] = {}
    done = threading.Event()
    kinds = {"/camera/image_raw": Image, "/camera/camera_info": CameraInfo, "/lidar/points": PointCloud2}

    def count(topic: str) -> None:
        heard[topic] = heard.get(topic, 0) + 1
        if heard == dict.fromkeys(kinds, 6):
            done.set()

    with spinning("listener") as node:
        for topic, kind in kinds.items():
            node.create_subscription(kind, topic, lambda _, t=topic: count(t), 20)
        play(ReplayOptions(bag, tmp_path / "none", Config(), {"thermal": ""}, rate=4.0))
        assert done.wait(10.0), heard
    assert not (tmp_path / "none").exists()


def test_a_player_waits_for_a_listener_says_so_and_plays_at_last_to_nobody(
    fakes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("samseg_ros.ros.player.WORD_EVERY_S", 0.2)
    bag = fakes.write_small_bag(tmp_path / "small.mcap", frames=1)
    play(ReplayOptions(bag, tmp_path / "none", Config(), rate=100.0), wait_s=1.0)
    said = capfd.readouterr().err
    assert "waiting for a node to load its model and subscribe to /camera/image_raw" in said
    assert "nobody subscribed to /camera/image_raw within 1 s; playing all the same" in said


def test_the_replay_executable_refuses_what_is_no_recording(tmp_path: Path) -> None:
    assert main([str(tmp_path / "nowhere")]) == 2


def test_the_replay_executable_ends_well_where_launch_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("samseg_ros.ros.replay.play", interrupted)
    assert main([str(tmp_path)]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kitti_seq_db3", "rgbt_msrs_mcap"])
def test_real_recordings_give_the_same_masks_live_and_directly(
    shared_data: Path, fakes: ModuleType, tmp_path: Path, name: str
) -> None:
    bag = shared_data / "bags" / name
    script = (
        "import sys; from pathlib import Path; from samseg_ros.config import Config\n"
        "from samseg_ros.evaluation.replay import ReplayOptions\n"
        "from samseg_ros.ros.replay import replay_live\n"
        "options = ReplayOptions(Path(sys.argv[1]), Path(sys.argv[2]), Config())\n"
        "replay_live(options, command=[sys.executable, sys.argv[3]])"
    )  # a process of its own: Fast DDS reads its transport profile once per process
    subprocess.run(
        [sys.executable, "-c", script, str(bag), str(tmp_path / "live"), str(FAKES)], check=True, timeout=300
    )
    replay_direct(ReplayOptions(bag, tmp_path / "direct", Config()), Watcher(), fakes.FakeSegmenter())
    assert _masks(tmp_path / "live") == _masks(tmp_path / "direct") != []
