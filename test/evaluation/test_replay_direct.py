"""A recording in, everything that a person wants to see out, without ROS."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from samseg_ros.config import Config, from_flat, load
from samseg_ros.datasets.bag import open_bag
from samseg_ros.datasets.world import write_recording
from samseg_ros.errors import SamsegError
from samseg_ros.evaluation.recording import CLASS_CONFIDENCE, CLOUD_OUT, FUSED, LABEL_INFO, LIDAR_DEPTH, MASK, OVERLAY
from samseg_ros.evaluation.replay import ReplayOptions, Watcher
from samseg_ros.evaluation.replay_direct import replay_direct
from samseg_ros.sensing import convert
from samseg_ros.types import Frame, Segmentation


def _run(fakes: ModuleType, bag: Path, out: Path, **options: object) -> dict:
    config = options.pop("config", Config())
    return replay_direct(ReplayOptions(bag, out, config, **options), segmenter=fakes.FakeSegmenter())


@pytest.fixture(scope="module")
def replayed(fakes: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("replay")
    return folder / "out", _run(fakes, fakes.write_small_bag(folder / "small.mcap"), folder / "out")


def test_every_frame_is_counted_with_the_sensors_that_were_fused(replayed: tuple[Path, dict]) -> None:
    _, measured = replayed
    assert measured["frames"] == {"received": 6, "published": 6, "dropped": 0}
    assert measured["sensors"] == {"rgb+thermal+lidar": 4, "rgb+lidar": 2}
    assert measured["modalities"] == {"rgb": 6, "thermal": 4, "lidar": 6}
    assert measured["mode"] == "direct"
    assert 20 < measured["peak_memory_mib"] < 2**20  # Python with its libraries, and no unit mistaken
    assert measured["topics"]["lidar"] == "/lidar/points"
    assert list(measured["stages_ms"]) == ["convert", "prepare", "model", "posterior"]
    assert [measured["stages_ms"][s] for s in ("prepare", "model", "posterior")] == [1.0, 2.0, 3.0]
    assert measured["latency_ms"]["p50"] <= measured["latency_ms"]["p95"] <= measured["latency_ms"]["max"]


def test_scores_are_those_of_the_masks_on_disk(fakes: ModuleType, replayed: tuple[Path, dict]) -> None:
    out, measured = replayed
    truth = np.full((fakes.HEIGHT, fakes.WIDTH), 0, np.uint8)
    truth[: fakes.HEIGHT // 2], truth[:, :4] = 2, 255
    hits, unions = np.zeros(3), np.zeros(3)
    masks = [cv2.imread(str(out / "masks" / f"{i:06d}.png"), cv2.IMREAD_UNCHANGED) for i in range(6)]
    for mask in masks:
        for k in range(3):
            hits[k] += ((mask == k) & (truth == k)).sum()
            unions[k] += (((mask == k) | (truth == k)) & (truth != 255)).sum()
    scored = measured["labels"]
    assert scored["frames"] == 6
    assert scored["iou"] == {n: pytest.approx(v) for n, v in zip(("road", "car", "sky"), hits / unions, strict=True)}
    assert scored["miou"] == pytest.approx((hits / unions).mean())
    assert {name: c["frames"] for name, c in scored["conditions"].items()} == {"day": 3, "night": 3}


def test_all_files_are_written_and_agree(replayed: tuple[Path, dict]) -> None:
    out, measured = replayed
    assert json.loads((out / "metrics.json").read_text()) == measured
    rows = [json.loads(line) for line in (out / "result.jsonl").read_text().splitlines()]
    assert [row["index"] for row in rows] == list(range(6))
    assert [row["condition"] for row in rows] == ["day"] * 3 + ["night"] * 3
    assert rows[2]["sensors"] == ["rgb", "lidar"] and rows[2]["offsets_s"] == {"lidar": 0.0}
    per_class = list(csv.DictReader((out / "per_class.csv").open()))
    assert [float(row["iou"]) for row in per_class] == pytest.approx(list(measured["labels"]["iou"].values()), abs=1e-6)
    confusion = list(csv.reader((out / "confusion.csv").open()))
    assert confusion[0] == ["true \\ predicted", "road", "car", "sky", "unlabelled"]
    assert sum(int(v) for row in confusion[1:] for v in row[1:]) == 6 * 48 * 60
    assert load(out / "config.yaml") == Config()
    assert len(list((out / "overlays").glob("*.png"))) == 6
    assert not list(out.glob("*.partial"))


def test_the_recording_of_the_outputs_holds_what_a_node_would_publish(replayed: tuple[Path, dict]) -> None:
    out, _ = replayed
    with open_bag(out / "outputs.mcap") as bag:
        counts = {name: topic.count for name, topic in bag.topics.items()}
        assert counts.pop("/tf_static") == counts.pop(LABEL_INFO) == 1
        assert set(counts.values()) == {6}
        mask = next(bag.messages([MASK]))
        on_disk = cv2.imread(str(out / "masks" / "000000.png"), cv2.IMREAD_UNCHANGED)
        assert (convert.thermal_image(bag.decode(mask)) == on_disk).all()
        assert mask.stamp_ns == mask.log_ns == 1_700_000_000 * 10**9
        cloud = bag.first(CLOUD_OUT)
        assert (cloud.point_step, cloud.width, cloud.header.frame_id) == (24, 200, "lidar")
        assert [field.name for field in cloud.fields] == ["x", "y", "z", "class_id", "probability", "entropy"]
        depth = convert.thermal_image(bag.first(LIDAR_DEPTH))
        assert depth.dtype == np.float32 and np.nanmin(depth) >= 4 and np.nanmax(depth) <= 20
        assert bag.first(OVERLAY).encoding == "rgb8"
        statuses = bag.first(CLASS_CONFIDENCE).status
        assert [s.name for s in statuses] == ["class/road", "class/car", "class/sky"]
        shares = [float(next(v.value for v in s.values if v.key == "pixel_share")) for s in statuses]
        assert sum(shares) == pytest.approx(1.0, abs=1e-5)
        assert json.loads(bag.first(LABEL_INFO).data)["classes"][1] == {"id": 1, "name": "car", "color": [0, 0, 142]}


def test_fused_pictures_are_recorded_written_drawn_and_measured(fakes: ModuleType, tmp_path: Path) -> None:
    options = ReplayOptions(fakes.write_small_bag(tmp_path / "small.mcap"), tmp_path / "out", Config(), pictures=2)
    measured = replay_direct(options, segmenter=fakes.FakeSegmenter("fuses"))
    out = tmp_path / "out"
    rows = [json.loads(line) for line in (out / "result.jsonl").read_text().splitlines()]
    assert [row["fused"] for row in rows] == [f"fused/{i:06d}.png" for i in range(6)]
    with open_bag(options.bag) as bag, open_bag(out / "outputs.mcap") as outputs:
        images = [convert.color_image(bag.decode(m)) for m in bag.messages(["/camera/image_raw"])]
        recorded = [outputs.decode(m) for m in outputs.messages([FUSED])]
    assert len(recorded) == 6 and recorded[0].encoding == "rgb8"
    on_disk = [cv2.imread(str(out / row["fused"]))[..., ::-1] for row in rows]
    for message, picture, image in zip(recorded, on_disk, images, strict=True):
        assert (convert.color_image(message) == picture).all()
        assert (picture[..., 1:] == image[..., 1:]).all()
    assert (on_disk[2] == images[2]).all()  # no thermal image
    assert (on_disk[1][24:, :, 0] == images[1][24:, :, 0] + np.uint8(2)).all()  # counts of 2 there
    names = {"frames", "thermal_frames", "entropy_bits", "spatial_frequency", "ssim_camera", "ssim_thermal"}
    assert names <= measured["fusion"].keys()
    assert (measured["fusion"]["frames"], measured["fusion"]["thermal_frames"]) == (2, 2)
    assert 0.9 < measured["fusion"]["ssim_camera"] < 1
    tile = cv2.imread(str(out / "overlays" / "000000.png"))[..., ::-1]  # 3 x 3, the fourth is the fused one
    assert (tile[24 + 72 : 24 + 72 + 48, :64] == on_disk[0]).all()
    assert "Fused pictures" in (out / "report.html").read_text()


def test_without_fused_pictures_nothing_speaks_of_them(replayed: tuple[Path, dict]) -> None:
    out, measured = replayed
    assert "fusion" not in measured and not (out / "fused").exists()
    assert "used pictures" not in (out / "report.html").read_text()
    with open_bag(out / "outputs.mcap") as bag:
        assert FUSED not in bag.topics


def test_two_replays_give_the_same_masks(fakes: ModuleType, replayed: tuple[Path, dict], tmp_path: Path) -> None:
    out, measured = replayed
    again = _run(fakes, Path(measured["bag"]), tmp_path / "again")
    for mask in sorted((out / "masks").iterdir()):
        assert mask.read_bytes() == (tmp_path / "again" / "masks" / mask.name).read_bytes()
    assert again["labels"] == measured["labels"]


def test_a_second_replay_into_the_same_folder_leaves_nothing_of_the_first(fakes: ModuleType, tmp_path: Path) -> None:
    _run(fakes, fakes.write_small_bag(tmp_path / "long.mcap"), tmp_path / "out")
    _run(fakes, fakes.write_small_bag(tmp_path / "short.mcap", frames=2), tmp_path / "out")
    assert (
        len(list((tmp_path / "out" / "masks").iterdir())) == len(list((tmp_path / "out" / "overlays").iterdir())) == 2
    )


@pytest.mark.parametrize(
    ("topics", "settings", "sensors"),
    [
        ({"thermal": "", "lidar": ""}, {}, {"rgb": 6}),
        ({}, {"inputs.thermal": False}, {"rgb+lidar": 6}),
        ({"lidar": "/lidar/points", "thermal": ""}, {}, {"rgb+lidar": 6}),
    ],
)
def test_inputs_can_be_switched_off(
    fakes: ModuleType, tmp_path: Path, topics: dict, settings: dict, sensors: dict
) -> None:
    bag = fakes.write_small_bag(tmp_path / "small.mcap")
    measured = _run(fakes, bag, tmp_path / "out", topics=topics, config=from_flat(settings))
    assert measured["sensors"] == sensors


def test_a_cloud_that_is_painted_only_is_not_counted_as_fused(fakes: ModuleType, tmp_path: Path) -> None:
    class CameraAlone(fakes.FakeSegmenter):  # type: ignore[name-defined, misc]
        def __call__(self, frame: Frame, fused: bool = False) -> Segmentation:
            return replace(super().__call__(frame, fused), sensors=("rgb",))

    bag = fakes.write_small_bag(tmp_path / "small.mcap", frames=2)
    measured = replay_direct(ReplayOptions(bag, tmp_path / "out", Config()), segmenter=CameraAlone())
    assert measured["sensors"] == {"rgb": 2}
    with open_bag(tmp_path / "out" / "outputs.mcap") as outputs:
        assert outputs.topics[CLOUD_OUT].count == 2


def test_a_thermal_camera_of_its_own_is_shown_in_the_cameras_view_where_it_is_calibrated(
    fakes: ModuleType, tmp_path: Path
) -> None:
    bag = write_recording(tmp_path / "bag", "test", ("night",), 1, size=(96, 128), thermal_offset=(0.3, 10.0))
    topics, left = {}, {}
    for name in ("aligned", "calibrated"):
        measured = _run(fakes, bag, tmp_path / name, config=from_flat({"projection.thermal": name}))
        topics[name] = measured["topics"]["thermal_info"]
        picture = cv2.imread(str(tmp_path / name / "overlays" / "000000.png"))
        left[name] = picture[24 : 24 + 96, 128 : 128 + 12]  # of the second panel, below its caption
    assert topics == {"aligned": "", "calibrated": "/thermal/camera_info"}
    assert left["aligned"].max() > 50
    assert not left["calibrated"].any()  # turned to the right, it does not see that


def test_without_labels_there_are_no_scores_and_no_tables(fakes: ModuleType, tmp_path: Path) -> None:
    bag = fakes.write_small_bag(tmp_path / "small.mcap", frames=2, without=("ground_truth",))
    measured = _run(fakes, bag, tmp_path / "out")
    assert "labels" not in measured
    assert not (tmp_path / "out" / "confusion.csv").exists()
    assert (tmp_path / "out" / "report.html").exists()


def test_labels_of_another_label_set_end_the_scoring_but_not_the_replay(fakes: ModuleType, tmp_path: Path) -> None:
    bag = fakes.write_small_bag(tmp_path / "small.mcap", frames=3, truth_id=18)
    measured = _run(fakes, bag, tmp_path / "out")
    assert measured["frames"]["published"] == 3 and "labels" not in measured
    assert "expected class ids below 3, or 255, got id 18" in measured["notes"][0]


def test_a_sweep_that_cannot_be_projected_is_named_and_the_frames_go_on(fakes: ModuleType, tmp_path: Path) -> None:
    bag = fakes.write_small_bag(tmp_path / "small.mcap", frames=2, without=("tf_static",))
    measured = _run(fakes, bag, tmp_path / "out")
    assert measured["sensors"] == {"rgb+thermal": 2}
    ((trouble, number),) = measured["troubles"].items()
    assert number == 2 and "name a file of extrinsics in projection.calibration_path" in trouble


def test_a_calibration_file_serves_where_the_recording_has_none(fakes: ModuleType, tmp_path: Path) -> None:
    bag = fakes.write_small_bag(tmp_path / "small.mcap", frames=2, without=("tf_static",))
    file = tmp_path / "rig.yaml"
    file.write_text(
        "transforms: [{target: lidar, source: camera, translation: [0, 0, 0], rotation_xyzw: [-0.5, 0.5, -0.5, 0.5]}]"
    )
    assert _run(fakes, bag, tmp_path / "out", calibration=str(file))["sensors"] == {"rgb+thermal+lidar": 2}


def test_a_recording_that_is_cut_off_is_replayed_up_to_the_cut(fakes: ModuleType, tmp_path: Path) -> None:
    bag = fakes.write_small_bag(tmp_path / "small.mcap", frames=20)
    whole = bag.read_bytes()
    bag.write_bytes(whole[: len(whole) * 3 // 5])
    measured = _run(fakes, bag, tmp_path / "out")
    assert 5 <= measured["frames"]["published"] < 20
    assert "cut off" in measured["notes"][0]


def test_the_watcher_hears_about_every_frame(fakes: ModuleType, tmp_path: Path) -> None:
    heard: list = []

    class Ear(Watcher):
        def opened(self, replay: object) -> None:
            heard.append(replay.topics.image)

        def progress(self, done: int, frames: int) -> None:
            heard.append((done, frames))

    bag = fakes.write_small_bag(tmp_path / "small.mcap", frames=3)
    replay_direct(ReplayOptions(bag, tmp_path / "out", Config()), Ear(), fakes.FakeSegmenter())
    assert heard == ["/camera/image_raw", (1, 3), (2, 3), (3, 3)]


def test_pictures_are_evenly_spread_when_there_are_too_many_frames(fakes: ModuleType, tmp_path: Path) -> None:
    bag = fakes.write_small_bag(tmp_path / "small.mcap", frames=9)
    _run(fakes, bag, tmp_path / "out", pictures=3)
    assert sorted(p.name for p in (tmp_path / "out" / "overlays").iterdir()) == [
        "000000.png",
        "000003.png",
        "000006.png",
    ]
    _run(fakes, bag, tmp_path / "out", pictures=0)
    assert not list((tmp_path / "out" / "overlays").iterdir())


def test_an_output_folder_that_cannot_be_made_is_refused(fakes: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SamsegError, match="cannot be written"):
        _run(fakes, fakes.write_small_bag(tmp_path / "small.mcap", frames=1), tmp_path / "file" / "out")


def test_motion_compensation_is_refused_because_a_replay_has_no_tf(fakes: ModuleType, tmp_path: Path) -> None:
    config = from_flat({"projection.motion_compensation": True})
    with pytest.raises(SamsegError, match="motion_compensation: expected false"):
        _run(fakes, fakes.write_small_bag(tmp_path / "small.mcap", frames=1), tmp_path / "out", config=config)


def test_the_painted_cloud_of_the_autoware_preset_is_the_nodes(fakes: ModuleType, tmp_path: Path) -> None:
    table = tmp_path / "cloud.csv"
    table.write_text("from,to\n0,8\n1,0\n2,255\n")
    config = from_flat({"autoware.pointcloud": True, "autoware.pointcloud_remap_path": str(table)})
    bag = fakes.write_small_bag(tmp_path / "small.mcap")
    seen = {}
    for name, settings in (("plain", Config()), ("preset", config)):
        _run(fakes, bag, tmp_path / name, config=settings)
        with open_bag(tmp_path / name / "outputs.mcap") as outputs:
            clouds = [outputs.decode(m) for m in outputs.messages([CLOUD_OUT])]
            infos = [json.loads(outputs.decode(m).data) for m in outputs.messages([LABEL_INFO])]
        seen[name] = np.concatenate([np.asarray(c.data).reshape(-1, 24)[:, 12] for c in clouds]), infos[0]
    became = np.full(256, 255, np.uint8)
    became[:3] = 8, 0, 255
    np.testing.assert_array_equal(seen["preset"][0], became[seen["plain"][0]])
    assert len(np.unique(seen["preset"][0])) > 1
    assert seen["preset"][1]["classes"] == seen["plain"][1]["classes"]
    assert seen["preset"][1]["topics"]["output/pointcloud"]["name"] == "autoware_cloud"
