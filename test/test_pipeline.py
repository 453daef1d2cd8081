from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from samseg_ros.config import Config, ModelConfig, ThermalConfig, flatten, from_flat
from samseg_ros.errors import InputError, SamsegError
from samseg_ros.labels import LabelSet
from samseg_ros.models.windows import Windows
from samseg_ros.pipeline import Pipeline, network_size
from samseg_ros.posterior import posterior
from samseg_ros.runtime import Runner, choose_device, choose_dtype, has_amx
from samseg_ros.sensing.modalities import MODALITIES
from samseg_ros.types import Camera, Frame, PointCloud

ABC = LabelSet("abc", ("a", "b", "c"), np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], np.uint8))
FP32 = from_flat({"model.precision": "fp32", "model.device": "cpu"})


class BrightSide(nn.Module):
    """Class 0 where the image is dark, 1 where it is bright; each sensor besides adds a score of 10 to class 2."""

    def __init__(self, modalities: tuple[str, ...] = ("rgb", "thermal", "lidar")) -> None:
        super().__init__()
        self.modalities = modalities
        self.mean = nn.Conv2d(3, 1, 4, stride=4, bias=False)
        nn.init.constant_(self.mean.weight, 1 / 48)
        self.seen: list[dict[str, tuple[int, ...]]] = []

    def coarse_logits(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> Tensor:
        self.seen.append({name: tuple(x.shape) for name, x in inputs.items()})
        bright = self.mean(inputs["rgb"])
        there = [n for n in inputs if n != "rgb" and (present is None or bool(present[n]))]
        return torch.cat([-bright, bright, torch.full_like(bright, -20.0 + 10.0 * len(there))], 1)


@dataclass
class Spec:
    input_pixels: int = 128 * 192
    squash_to: tuple[int, int] | None = None
    pad_to: tuple[int, int] | None = None
    windows: Windows | None = None
    temperature: float = 1.0
    thermal: ThermalConfig | None = None


@dataclass
class Loaded:
    network: nn.Module
    labels: LabelSet = ABC
    spec: Spec = field(default_factory=Spec)


def pipeline(network: nn.Module | None = None, config: Config = FP32) -> Pipeline:
    return Pipeline(Loaded(network or BrightSide()), config)  # type: ignore[arg-type]


def frame(**parts: Any) -> Frame:
    """A camera image of 256 x 384, dark on the left and bright on the right."""
    image = np.zeros((256, 384, 3), np.uint8)
    image[:, 192:] = 255
    return Frame(image, stamp_ns=42, frame_id="camera_optical", **parts)


POINTS = PointCloud(np.random.default_rng(0).uniform([-3, -2, 5], [3, 2, 20], (500, 3)).astype(np.float32))
CAMERA = Camera(384, 256, np.array([[300.0, 0, 192], [0, 300, 128], [0, 0, 1]]))
SENSORS: dict[str, Any] = {
    "thermal": np.arange(256 * 384, dtype=np.uint16).reshape(256, 384),
    "points": POINTS,
    "camera": CAMERA,
    "camera_from_lidar": np.eye(4),
}


def test_a_camera_image_alone_is_segmented_at_camera_size() -> None:
    result = pipeline()(frame())
    assert result.labels.shape == result.confidence.shape == (256, 384)
    assert (result.labels[:, :186] == 0).all()
    assert (result.labels[:, 198:] == 1).all()
    assert result.pixel_share == pytest.approx([0.5, 0.5, 0], abs=0.02)
    assert (result.stamp_ns, result.frame_id) == (42, "camera_optical")
    assert result.sensors == ("rgb",)
    assert result.problems == {}


def test_a_network_sees_every_sensor_at_network_size_and_missing_ones_not_at_all() -> None:
    network = BrightSide()
    segment = pipeline(network)
    shape = (1, 3, 128, 192)
    assert segment(frame(**SENSORS)).sensors == ("rgb", "thermal", "lidar")
    assert segment(frame(**SENSORS | {"thermal": None})).sensors == ("rgb", "lidar")
    assert network.seen == [{"rgb": shape, "thermal": shape, "lidar": shape}, {"rgb": shape, "lidar": shape}]


def test_scores_are_kept_at_the_networks_stride() -> None:
    assert pipeline()(frame()).logits.shape == (3, 32, 48)


def test_a_temperature_changes_how_sure_the_pipeline_is_and_not_what_it_sees() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 384, 3), np.uint8)
    plain, warm = (Pipeline(Loaded(BrightSide(), spec=Spec(temperature=t)), FP32) for t in (1.0, 2.5))  # type: ignore[arg-type]
    before, after = plain(replace(frame(), image=noise)), warm(replace(frame(), image=noise))
    np.testing.assert_array_equal(after.labels, before.labels)
    np.testing.assert_allclose(after.logits, before.logits / 2.5, rtol=1e-6)
    expected = posterior(before.logits / np.float32(2.5), (256, 384), 0.0)
    np.testing.assert_array_equal(after.confidence, expected.confidence)
    assert after.confidence.mean() < before.confidence.mean() - 1
    assert after.mean_posterior[0] == pytest.approx(expected.mean_posterior[0])


def test_every_stage_is_timed() -> None:
    timings = pipeline()(frame()).timings_ms
    assert list(timings) == ["prepare", "model", "posterior"]
    assert all(t > 0 for t in timings.values())


@pytest.mark.parametrize(
    ("broken", "name", "message"),
    [
        ({"camera": None}, "lidar", "no camera_info"),
        ({"camera_from_lidar": None}, "lidar", "no transform"),
        ({"camera": replace(CAMERA, width=640, height=480)}, "lidar", "expected the image's size 384x256, got 640x480"),
        ({"points": PointCloud(np.full((3, 3), np.nan, np.float32))}, "lidar", "0 of them finite"),
        ({"thermal": np.full((64, 96), np.nan, np.float32)}, "thermal", "expected some finite values"),
    ],
)
def test_a_sensor_that_cannot_be_used_is_left_out_and_told(broken: dict[str, Any], name: str, message: str) -> None:
    result = pipeline()(frame(**SENSORS | broken))
    assert name not in result.sensors
    assert len(result.sensors) == 2
    assert list(result.problems) == [name]
    assert message in result.problems[name]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_sensor_whose_prepared_input_is_not_finite_is_left_out(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    broken = dict(MODALITIES) | {"thermal": lambda frame, size, config: np.full((3, *size), value, np.float32)}
    monkeypatch.setattr("samseg_ros.pipeline.MODALITIES", broken)
    result = pipeline()(frame(**SENSORS))
    assert result.sensors == ("rgb", "lidar")
    assert "thermal: expected finite input" in result.problems["thermal"]


def test_an_error_that_nobody_foresaw_in_a_sensor_leaves_only_that_sensor_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("samseg_ros.pipeline.MODALITIES", dict(MODALITIES) | {"lidar": fail})
    result = pipeline()(frame(**SENSORS))
    assert result.sensors == ("rgb", "thermal")
    assert result.problems == {"lidar": "unexpected ZeroDivisionError('oh')"}
    monkeypatch.setattr("samseg_ros.pipeline.MODALITIES", dict(MODALITIES) | {"rgb": fail})
    with pytest.raises(ZeroDivisionError):
        pipeline()(frame())


def test_scores_that_are_not_finite_are_an_error_and_no_mask() -> None:
    network = BrightSide()
    nn.init.constant_(network.mean.weight, np.nan)
    with pytest.raises(SamsegError, match="scores of the network: expected finite numbers"):
        pipeline(network)(frame())


def test_a_camera_image_that_cannot_be_used_is_an_error() -> None:
    with pytest.raises(InputError, match="camera image: expected"):
        pipeline()(Frame(np.zeros((256, 384), np.uint8)))


def test_an_empty_camera_image_is_an_error() -> None:
    with pytest.raises(InputError, match="camera image: expected at least one pixel"):
        pipeline()(Frame(np.zeros((0, 384, 3), np.uint8)))


def test_a_model_of_the_camera_alone_ignores_other_sensors() -> None:
    result = pipeline(BrightSide(("rgb",)))(frame(**SENSORS | {"camera": None}))
    assert (result.sensors, result.problems) == (("rgb",), {})


def test_settings_may_be_replaced_between_frames() -> None:
    segment = pipeline()
    grey = Frame(np.full((256, 384, 3), 115, np.uint8))  # nearly undecided
    assert (segment(grey).labels != 255).all()
    segment.config = from_flat({"publish.min_confidence": 0.99})
    assert (segment(grey).labels == 255).all()


EIGHT_BIT = ThermalConfig(normalization="fixed", fixed_low=0, fixed_high=255)


def as_the_weights_want_it(scaling: ThermalConfig | None, config: Config = FP32) -> Pipeline:
    return Pipeline(Loaded(BrightSide(), spec=Spec(thermal=scaling)), config)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("own", "settings", "expected"),
    [
        (EIGHT_BIT, {}, 0.2),  # 51 / 255
        (ThermalConfig(normalization="fixed", fixed_low=41, fixed_high=91), {}, 0.2),  # 10 / 50
        (None, {}, 0.0),  # the default: a constant image has no range
        (EIGHT_BIT, {"normalization": "minmax"}, 0.0),
        (EIGHT_BIT, {"normalization": "fixed", "fixed_low": 0.0, "fixed_high": 510.0}, 0.1),  # 51 / 510
        (EIGHT_BIT, {"percentile_low": 2.0}, 0.0),  # one setting of them, and the user's hold, all of them
        (None, {"normalization": "fixed", "fixed_low": 0.0, "fixed_high": 510.0}, 0.1),
    ],
)
def test_thermal_counts_are_scaled_as_the_weights_want_it_until_the_user_says_otherwise(
    own: ThermalConfig | None, settings: dict[str, Any], expected: float
) -> None:
    seen = frame(thermal=np.full((256, 384), 51, np.uint8))
    users = from_flat(flatten(FP32) | {f"thermal.{name}": value for name, value in settings.items()})
    segment = as_the_weights_want_it(own, users)
    np.testing.assert_allclose(segment.prepare(seen)[0]["thermal"], expected, rtol=1e-6)
    segment = as_the_weights_want_it(own)
    segment.config = users  # between two frames, as a node does
    np.testing.assert_allclose(segment.prepare(seen)[0]["thermal"], expected, rtol=1e-6)


def test_counts_outside_the_range_that_the_weights_want_are_told_and_the_camera_goes_on() -> None:
    result = as_the_weights_want_it(EIGHT_BIT)(frame(thermal=np.full((256, 384), 29315, np.uint16)))
    assert result.sensors == ("rgb",)
    assert result.problems["thermal"] == (
        "thermal image: expected values in thermal.fixed_low..fixed_high (0 to 255), got 29315 to 29315; "
        "set thermal.normalization: fixed and the range in the camera's own units, or minmax"
    )


def test_a_label_set_of_ones_own_renames_the_classes(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("id,name,r,g,b\n0,x,1,2,3\n1,y,4,5,6\n2,z,7,8,9\n")
    assert pipeline(config=from_flat({"labels.path": str(path)})).labels.names == ("x", "y", "z")
    assert pipeline().labels is ABC


def test_a_label_set_of_another_number_of_classes_is_refused() -> None:
    with pytest.raises(SamsegError, match=r"expected 3 classes as the model has \(abc\), got 19 in cityscapes"):
        pipeline(config=from_flat({"labels.path": "cityscapes"}))


def test_a_model_that_wants_an_unknown_modality_is_refused() -> None:
    with pytest.raises(SamsegError, match="wants a modality 'radar'"):
        pipeline(BrightSide(("rgb", "radar")))


def test_warming_up_goes_through_every_stage_with_every_sensor() -> None:
    network = BrightSide()
    segment = pipeline(network)
    assert segment.warm_up((120, 160)) > 0
    assert list(network.seen[0]) == ["rgb", "thermal", "lidar"]
    assert segment.modalities == ("rgb", "thermal", "lidar")
    fixed = BrightSide()
    pipeline(fixed, from_flat({"model.precision": "fp32", "thermal.normalization": "fixed"})).warm_up((120, 160))
    assert list(fixed.seen[0]) == ["rgb", "thermal", "lidar"]
    own = BrightSide()
    Pipeline(Loaded(own, spec=Spec(thermal=EIGHT_BIT)), FP32).warm_up((120, 160))  # type: ignore[arg-type]
    assert list(own.seen[0]) == ["rgb", "thermal", "lidar"]


def test_the_same_frame_gives_the_same_bytes() -> None:
    segment = pipeline()
    first, second = segment(frame(**SENSORS)), segment(frame(**SENSORS))
    assert first.labels.tobytes() == second.labels.tobytes()
    assert first.logits.tobytes() == second.logits.tobytes()


# The fused picture


class Fuses(BrightSide):
    """Makes a picture: red 1 on the left, green 0.2 everywhere, blue 1 at the bottom; counts how often."""

    made = 0

    def coarse_logits_and_fused(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        self.made += 1
        fused = torch.zeros_like(inputs["rgb"])
        fused[:, 0, :, : fused.shape[3] // 2], fused[:, 1], fused[:, 2, fused.shape[2] // 2 :] = 1.0, 0.2, 1.0
        return self.coarse_logits(inputs), fused


def test_a_fused_picture_is_rgb_in_0_to_255_at_camera_size() -> None:
    fused = pipeline(Fuses())(frame(**SENSORS), fused=True).fused
    assert fused is not None and (fused.shape, fused.dtype) == ((256, 384, 3), np.uint8)
    quarters = fused[:126, :190], fused[:126, 194:], fused[130:, :190], fused[130:, 194:]  # without the seams
    expected = (255, 51, 0), (0, 51, 0), (255, 51, 255), (0, 51, 255)  # 0.2 * 255 = 51
    assert all((quarter == color).all() for quarter, color in zip(quarters, expected, strict=True))


def test_a_fused_picture_is_made_only_where_asked_for_and_in_the_pass_of_the_mask() -> None:
    network = Fuses()
    segment = pipeline(network)
    plain = segment(frame(**SENSORS))
    assert plain.fused is None and (network.made, len(network.seen)) == (0, 1)
    with_picture = segment(frame(**SENSORS), fused=True)
    assert with_picture.fused is not None and (network.made, len(network.seen)) == (1, 2)
    assert with_picture.labels.tobytes() == plain.labels.tobytes()
    assert with_picture.logits.tobytes() == plain.logits.tobytes()
    assert with_picture.sensors == plain.sensors == ("rgb", "thermal", "lidar")


def test_a_network_that_makes_no_fused_picture_gives_none() -> None:
    network = BrightSide()
    segment = pipeline(network)
    assert segment(frame(), fused=True).fused is None
    assert len(network.seen) == 1
    assert (segment.makes_fused, pipeline(Fuses()).makes_fused) == (False, True)


def test_a_compiled_network_is_asked_for_its_picture_uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda function: compiled.append(function) or function)
    network = Fuses()
    run = Runner(network, ModelConfig(device="cpu", precision="fp32", compile=True))
    logits, planes = run.with_fused({"rgb": np.zeros((3, 64, 96), np.float32)})
    assert (logits.shape, planes.shape) == ((3, 16, 24), (3, 64, 96))
    assert compiled == [network.coarse_logits]
    assert network.seen == [{"rgb": (1, 3, 64, 96)}]  # not filled up as for a compiled graph


def test_a_runner_refuses_a_picture_that_its_network_does_not_make() -> None:
    run = Runner(BrightSide(), ModelConfig(device="cpu", precision="fp32"))
    with pytest.raises(SamsegError, match="the network makes no fused picture"):
        run.with_fused({"rgb": np.zeros((3, 64, 64), np.float32)})


# Network size


@pytest.mark.parametrize(
    ("camera", "pixels", "expected"),
    [
        ((480, 640), 480 * 640, (480, 640)),
        ((480, 640), 384 * 512, (384, 512)),
        ((1080, 1920), 480 * 640, (416, 736)),  # scale 0.3849: 415.7 x 739.0
        ((375, 1242), 384 * 512, (256, 800)),  # scale 0.6497: 243.6 x 806.9
        ((480, 640), 10**9, (480, 640)),
        ((375, 1242), 10**9, (352, 1216)),
        ((120, 160), 384 * 512, (96, 160)),
        ((40, 50), 384 * 512, (64, 64)),
    ],
)
def test_network_sizes_computed_by_hand(camera: tuple[int, int], pixels: int, expected: tuple[int, int]) -> None:
    assert network_size(camera, pixels) == expected


def test_squashed_weights_see_every_camera_at_their_size_and_masks_come_out_at_the_cameras() -> None:
    network = BrightSide()
    spec = Spec(squash_to=(128, 128))
    result = Pipeline(Loaded(network, spec=spec), FP32)(frame())  # type: ignore[arg-type]
    assert network.seen == [{"rgb": (1, 3, 128, 128)}]
    assert result.labels.shape == (256, 384)
    assert (result.labels[:, :184] == 0).all() and (result.labels[:, 200:] == 1).all()  # the edge stays in the middle


@pytest.mark.parametrize(
    ("camera", "expected"),
    [
        ((600, 800), (600, 800)),  # FMB as published
        ((1200, 1600), (600, 800)),
        ((400, 1600), (200, 800)),
        ((250, 333), (248, 332)),  # multiples of 4
    ],
)
def test_sizes_before_padding_computed_by_hand(camera: tuple[int, int], expected: tuple[int, int]) -> None:
    assert network_size(camera, 10**6, None, (800, 800)) == expected


def test_padded_weights_see_black_below_and_on_the_right_and_masks_are_of_the_image_alone() -> None:
    network, seen = BrightSide(), []
    spec = Spec(pad_to=(320, 512))
    pipe = Pipeline(Loaded(network, spec=spec), FP32)  # type: ignore[arg-type]
    black = Pipeline(Loaded(network, spec=Spec(input_pixels=320 * 512)), FP32)  # type: ignore[arg-type]
    seen = pipe.prepare(frame())[0]["rgb"]
    assert seen.shape == (3, 320, 512)
    np.testing.assert_array_equal(seen[:, :256, :384], black.prepare(frame())[0]["rgb"])
    dark = black.prepare(replace(frame(), image=np.zeros((256, 384, 3), np.uint8)))[0]["rgb"][:, :1, :1]
    np.testing.assert_allclose(seen[:, 256:], np.broadcast_to(dark, (3, 64, 512)), rtol=1e-6)
    np.testing.assert_allclose(seen[:, :, 384:], np.broadcast_to(dark, (3, 320, 128)), rtol=1e-6)
    result, whole = pipe(frame()), black(frame())
    assert result.logits.shape == (3, 64, 96)
    np.testing.assert_array_equal(result.labels, whole.labels)


def test_weights_that_see_windows_get_the_image_piece_by_piece() -> None:
    network = BrightSide()
    spec = Spec(input_pixels=256 * 384, windows=Windows(size=(128, 192), stride=(128, 192)))
    result = Pipeline(Loaded(network, spec=spec), FP32)(frame())  # type: ignore[arg-type]
    assert network.seen == [{"rgb": (1, 3, 128, 192)}] * 4
    whole = Pipeline(Loaded(BrightSide(), spec=Spec(input_pixels=256 * 384)), FP32)(frame())  # type: ignore[arg-type]
    np.testing.assert_allclose(result.logits, whole.logits, atol=1e-5)  # its network looks at cells alone


@given(st.integers(64, 4000), st.integers(64, 4000), st.integers(4096, 10**6))
def test_a_network_size_is_a_multiple_of_32_from_64_that_never_enlarges(height: int, width: int, pixels: int) -> None:
    h, w = network_size((height, width), pixels)
    assert h % 32 == w % 32 == 0
    assert 64 <= h <= height
    assert 64 <= w <= width


# Device and arithmetic


def runner_logits(**model: Any) -> np.ndarray:
    torch.manual_seed(0)
    network = BrightSide()
    nn.init.normal_(network.mean.weight, std=0.1)
    image = np.random.default_rng(0).standard_normal((3, 64, 64)).astype(np.float32)
    return Runner(network, ModelConfig(device="cpu", **model))({"rgb": image})


def test_bf16_gives_nearly_the_scores_of_fp32() -> None:
    exact, low = runner_logits(precision="fp32"), runner_logits(precision="bf16")
    assert low.dtype == np.float32
    np.testing.assert_allclose(low, exact, rtol=0.02, atol=0.02)
    assert not np.array_equal(low, exact)


def test_a_compiled_network_gets_every_modality_and_is_told_which_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function: function)
    network = BrightSide()
    run = Runner(network, ModelConfig(device="cpu", precision="fp32", compile=True))
    images = {name: np.zeros((3, 64, 64), np.float32) for name in ("rgb", "thermal", "lidar")}
    assert run({"rgb": images["rgb"], "lidar": images["lidar"]})[2, 0, 0] == -10
    assert run(images)[2, 0, 0] == 0
    assert [list(s) for s in network.seen] == [["rgb", "thermal", "lidar"]] * 2


def test_a_device_that_is_not_there_is_refused() -> None:
    for name in ("cuda:77", "toaster"):
        with pytest.raises(SamsegError, match=f"model.device: expected a device of this machine, got '{name}'"):
            choose_device(name)


def test_the_processor_is_always_there() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu sse2 amx_bf16 avx512f amx_tile amx_int8", True),
        ("fpu sse2 avx512f avx512_bf16", False),
        ("fpu amx_tile amx_int8", False),
        ("fpu amx_bf16x amx_tiles", False),
    ],
)
def test_amx_is_read_from_the_flags_of_the_processor(tmp_path: Path, flags: str, expected: bool) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: {flags}\nbugs\t\t: amx_bf16 amx_tile\n")
    assert has_amx(path) is expected


def test_a_machine_without_cpuinfo_has_no_amx(tmp_path: Path) -> None:
    assert has_amx(tmp_path / "none") is False


def test_precision_auto_follows_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    for amx, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr("samseg_ros.runtime.has_amx", lambda amx=amx: amx)
        assert choose_dtype("auto", torch.device("cpu")) == dtype
    assert choose_dtype("fp32", torch.device("cpu")) == torch.float32
    assert choose_dtype("bf16", torch.device("cpu")) == torch.bfloat16


def test_after_warming_up_no_kernel_is_compiled_again_whatever_kind_of_array_a_driver_gives() -> None:
    from samseg_ros.sensing import camera, modalities, projection, registration

    segment = pipeline(config=from_flat({"projection.thermal": "calibrated", "model.precision": "fp32"}))
    segment.warm_up((120, 160))
    kernels = [camera._project, projection._returned, projection._hide, projection._paint, modalities._average_areas]
    kernels.append(registration._place)
    before = [len(k.signatures) for k in kernels]
    packed = np.zeros((500, 5), np.float32)
    packed[:, :3] = POINTS.xyz
    packed.flags.writeable = False
    seen_from = {"thermal_camera": SENSORS["camera"], "camera_from_thermal": np.eye(4)}
    given = frame(**SENSORS | seen_from | {"points": PointCloud(packed[:, :3], packed[:, 3])})
    given.image.flags.writeable = False
    assert segment(given).sensors == ("rgb", "thermal", "lidar")
    assert [len(k.signatures) for k in kernels] == before


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """a and c become the second class of a set of two, b nothing."""
    (tmp_path / "two.csv").write_text("id,name,r,g,b\n0,never,1,2,3\n1,both,4,5,6\n")
    path = tmp_path / "mine.csv"
    path.write_text("from,to\n0,1\n1,255\n2,1\n")
    return path


def test_a_remap_changes_what_is_published_and_not_how_sure_it_is(table: Path) -> None:
    settings = {"labels.remap_path": str(table), "labels.remap_labels": str(table.with_name("two.csv"))}
    image = np.zeros((256, 384, 3), np.uint8)
    image[:, 192:] = 255  # dark: a, bright: b
    plain, remapped = pipeline()(Frame(image)), pipeline(config=from_flat(flatten(FP32) | settings))
    assert remapped.labels.names == ("never", "both")
    result = remapped(Frame(image))
    np.testing.assert_array_equal(result.labels, np.where(plain.labels == 1, 255, 1))
    np.testing.assert_array_equal(result.confidence, plain.confidence)
    np.testing.assert_array_equal(result.logits, plain.logits)
    assert result.pixel_share.tolist() == [0.0, 1.0]
    assert np.isnan(result.mean_posterior[0]) and result.mean_posterior[1] == pytest.approx(plain.mean_posterior[0])
    assert result.published_from_model is not None
    assert result.published_from_model.tolist() == [[0, 0, 0], [1, 0, 1]]
    assert plain.published_from_model is None


def test_a_remap_that_does_not_fit_the_models_classes_is_refused(table: Path) -> None:
    with pytest.raises(SamsegError, match=r"labels\.remap_labels: expected the label set"):
        pipeline(config=from_flat({"labels.remap_path": str(table)}))
    with pytest.raises(SamsegError, match="world_to_mfnet: expected the classes of world, got those of abc"):
        pipeline(config=from_flat({"labels.remap_path": "world_to_mfnet"}))
