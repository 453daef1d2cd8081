"""The one table of settings: YAML file = ROS parameters = JSON schema (`samseg_ros.schema`).

Every default stands here and nowhere else. ``settings()`` flattens the tree into dotted names
(``sync.lidar.timeout_s``), which are the ROS parameter names. A parameter file has ROS's own form
(``/**: ros__parameters: ...``); a plain tree is read as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from samseg_ros.errors import SamsegError, nearest


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


FilePath = Annotated[str, AfterValidator(os.path.expanduser)]
"""A path (or a shipped name), in which ~ is the user's home: no shell reads it in a file, or behind an equals sign."""


def _runtime(default: Any, description: str, **limits: Any) -> Any:
    """Declare a field that may change while the node is active."""
    return Field(default, description=description, json_schema_extra={"runtime": True}, **limits)


class ModelConfig(_Section):
    name: str = Field("mm_sam_adapter", description="Model, one of `samseg models`.")
    config: str = Field("compact", description="Preset of the model.")
    checkpoint: FilePath = Field(
        "",
        description="Weights (.safetensors) or a folder with model.yaml; empty: those shipped, or installed.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="Arithmetic; auto: bf16 on CUDA and on CPUs with AMX, else fp32."
    )
    device: str = Field("auto", description="torch device; auto: cuda where there is one, else cpu.")
    compile: bool = Field(False, description="torch.compile the network in configure (minutes the first time).")
    threads: int = Field(0, ge=0, le=256, description="CPU threads of the network; 0: half the cores.")


def model_settings(name: str, preset: str, checkpoint: str = "") -> dict[str, str]:
    """Return the settings that choose weights, without those that are the default."""
    default = ModelConfig()
    chosen = {"model.name": (name, default.name), "model.config": (preset, default.config)}
    chosen["model.checkpoint"] = (checkpoint, default.checkpoint)
    return {setting: value for setting, (value, usual) in chosen.items() if value != usual}


class LabelsConfig(_Section):
    path: FilePath = Field(
        "", description="Label set: a shipped name or a CSV (id,name,r,g,b); empty: the model's own."
    )
    remap_path: FilePath = Field(
        "",
        description="Remap of everything that is published by class (mask, class_probabilities, class_confidence, "
        "painted cloud, colours, label_info): a shipped name or a CSV (from,to), 255 where a class has no counterpart; "
        "empty: none.",
    )
    remap_labels: str = Field(
        "",
        description="Label set that remap_path leads to: a shipped name or a CSV; empty: what stands in the remap's "
        "name behind _to_.",
    )


class InputsConfig(_Section):
    thermal: bool = Field(True, description="Subscribe to the thermal camera; false: run without it.")
    lidar: bool = Field(
        True, description="Subscribe to the LiDAR where model, registration or publish.pointcloud use it; false: never."
    )


class InputSyncConfig(_Section):
    noise_window_s: float = Field(0.05, ge=0.0, le=10.0, description="Largest |stamp difference| to the camera, s.")
    offset_s: float = Field(
        0.0, ge=-10.0, le=10.0, description="This input's stamp minus the camera's for the same moment, s."
    )
    timeout_s: float = Field(0.1, ge=0.0, le=60.0, description="Longest wait for this input after the image came, s.")
    on_missing: Literal["zero", "last", "skip"] = Field(
        "zero",
        description="zero: run without it; last: reuse its last message, up to max_age_s old (not for "
        "~/output/pointcloud); skip: drop the frame.",
    )
    max_age_s: float = Field(
        0.5, gt=0.0, le=60.0, description="With on_missing: last: how old a message may stand in, s."
    )
    required: bool = Field(False, description="Drop frames without this input, whatever on_missing says.")


class SyncConfig(_Section):
    thermal: InputSyncConfig = InputSyncConfig()
    lidar: InputSyncConfig = InputSyncConfig()
    time_jump_reset_s: float = Field(
        2.0, gt=0.0, le=3600.0, description="A jump of the camera's stamps beyond this empties the queues, s."
    )


class ProjectionConfig(_Section):
    rectified: Literal["auto", "yes", "no"] = Field(
        "auto",
        description="Whether images are rectified; auto: where the topic is called image_rect…, as image_proc does, or "
        "camera_info has an all-zero D.",
    )
    thermal: Literal["aligned", "calibrated"] = Field(
        "aligned",
        description="aligned: the thermal image shares the camera's view; calibrated: it is brought there by both "
        "camera_info and the transform, with the LiDAR's depth where there is one.",
    )
    thermal_rectified: Literal["auto", "yes", "no"] = Field(
        "auto", description="As rectified, of the thermal image (calibrated)."
    )
    thermal_distance_m: float = Field(
        30.0,
        ge=0.0,
        le=10000.0,
        description="Distance of everything where there is no LiDAR (calibrated), 0: infinite; 30 m with 0.3 m between "
        "the cameras and a focal length of 500 px is at most 5 px off from 15 m to the horizon, m.",
    )
    motion_compensation: bool = Field(
        False, description="Move LiDAR points to the image's stamp through fixed_frame (full profile)."
    )
    fixed_frame: str = Field("odom", description="Frame that does not move, for motion compensation.")
    deskew: Literal["auto", "off"] = Field(
        "auto",
        description="With motion_compensation; auto: each LiDAR point by its own time, where the cloud has times "
        "(t, time, timestamp, time_stamp, offset_time); off: the sweep as one.",
    )
    calibration_path: FilePath = Field("", description="YAML of extrinsics, used where TF is not available.")
    max_range_m: float = Field(
        80.0, gt=0.0, le=1000.0, description="Points beyond are dropped; scale of the range channel, m."
    )
    max_intensity: float = Field(
        1.0, gt=0.0, description="Intensity that maps to 1 (Velodyne, Ouster raw: 255 or more)."
    )
    dilation_px: int = Field(2, ge=1, le=9, description="Side of the square that each point fills at network size.")
    occlusion: bool = Field(True, description="Drop points that shine through a nearer surface.")


class ThermalConfig(_Section):
    normalization: Literal["percentile", "fixed", "minmax"] = Field(
        "percentile",
        description="How counts become 0..1: per-image percentiles, a fixed range, or the image's extremes. While all "
        "of thermal.* are the defaults, weights that want another scaling (thermal in their model.yaml) have it.",
    )
    percentile_low: float = Field(1.0, ge=0.0, le=50.0, description="Percentile that becomes 0.")
    percentile_high: float = Field(99.0, ge=50.0, le=100.0, description="Percentile that becomes 1.")
    fixed_low: float = Field(27315.0, description="Counts that become 0 (fixed).")
    fixed_high: float = Field(31315.0, description="Counts that become 1 (fixed).")

    @model_validator(mode="after")
    def _range_is_not_empty(self) -> ThermalConfig:
        if self.normalization == "fixed" and not self.fixed_low < self.fixed_high:
            raise ValueError(f"expected fixed_low below fixed_high ({self.fixed_low:g} and {self.fixed_high:g})")
        return self


class PublishConfig(_Section):
    confidence_encoding: Literal["mono8", "32FC1"] = Field("mono8", description="Encoding of ~/output/confidence.")
    pointcloud: Literal["auto", "always"] = Field(
        "auto",
        description="auto: ~/output/pointcloud comes with models that take the LiDAR, and with autoware.pointcloud; "
        "always: with other models too, whose masks then wait for the clouds.",
    )
    probabilities_stride: int = Field(4, ge=1, le=32, description="Pixels per cell of ~/output/class_probabilities.")
    min_confidence: float = _runtime(0.0, "Pixels whose posterior is below become 255.", ge=0.0, le=1.0)
    overlay_alpha: float = _runtime(0.55, "Opacity of the class colours in ~/debug/overlay.", ge=0.0, le=1.0)


class AutowareConfig(_Section):
    mask_rle: bool = Field(False, description="Offer ~/output/mask_rle: Autoware's 16 ids, run-length packed.")
    pointcloud: bool = Field(
        False, description="Publish ~/output/pointcloud in the ids of Autoware's label_based_euclidean_cluster."
    )
    min_confidence: float = _runtime(
        0.5, "Pixels whose posterior is below become 0 (unknown) in ~/output/mask_rle.", ge=0.0, le=1.0
    )
    mask_remap_path: FilePath = Field(
        "",
        description="Which class becomes which of the 16 ids: a shipped name or a CSV (from,to); empty: the table that "
        "is shipped for the label set.",
    )
    pointcloud_remap_path: FilePath = Field("", description="As mask_remap_path, for the painted cloud.")


class QosConfig(_Section):
    reliability: Literal["auto", "reliable", "best_effort"] = Field(
        "auto", description="Of the inputs; auto: reliable if every publisher offers it, else best effort."
    )
    depth: int = Field(2, ge=1, le=100, description="History depth of the inputs.")


class DiagnosticsConfig(_Section):
    period_s: float = _runtime(1.0, "Seconds between /diagnostics messages.", ge=0.05, le=60.0)
    max_allowed_processing_time_ms: float = _runtime(500.0, "A slower frame is a WARN.", gt=0.0)
    max_acceptable_consecutive_delay_ms: float = _runtime(2000.0, "Slower frames for this long are an ERROR.", gt=0.0)
    input_timeout_s: float = _runtime(1.0, "An input silent for longer is reported missing, s.", gt=0.0)


class Config(_Section):
    """Everything that a user can choose."""

    model: ModelConfig = ModelConfig()
    labels: LabelsConfig = LabelsConfig()
    inputs: InputsConfig = InputsConfig()
    sync: SyncConfig = SyncConfig()
    projection: ProjectionConfig = ProjectionConfig()
    thermal: ThermalConfig = ThermalConfig()
    publish: PublishConfig = PublishConfig()
    autoware: AutowareConfig = AutowareConfig()
    qos: QosConfig = QosConfig()
    diagnostics: DiagnosticsConfig = DiagnosticsConfig()
    max_rate_hz: float = _runtime(0.0, "Upper limit of processed frames per second; 0: none.", ge=0.0, le=1000.0)
    drop_policy: Literal["newest", "none"] = Field(
        "newest",
        description="newest: while the model runs only the newest set waits; none: sets queue, up to 256 (replay).",
    )
    autostart: bool = Field(True, description="Configure and activate the lifecycle node by itself.")
    tune_malloc: bool = Field(True, description="Keep large message buffers in the heap (glibc only).")


def as_trained(config: Config, thermal: ThermalConfig | None) -> Config:
    """Return the settings with thermal counts scaled as weights want it (`ModelSpec.thermal`), unless the user says."""
    ours = thermal is None or config.thermal != ThermalConfig()
    return config if ours else config.model_copy(update={"thermal": thermal})


@dataclass(frozen=True, slots=True)
class Setting:
    """One leaf of the tree."""

    name: str
    """Dotted name, which is the ROS parameter's name."""
    default: Any
    description: str
    choices: tuple[str, ...]
    """Allowed values, empty where any will do."""
    minimum: float | None
    maximum: float | None
    runtime: bool
    """Whether it may change while the node is active."""


def settings(section: type[BaseModel] = Config, prefix: str = "") -> Iterator[Setting]:
    """Yield every leaf of the tree in the order of declaration."""
    for name, info in section.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from settings(info.annotation, f"{prefix}{name}.")
        else:
            yield _setting(prefix + name, info)


def _setting(name: str, info: FieldInfo) -> Setting:
    limits = {key: getattr(m, key) for m in info.metadata for key in ("ge", "gt", "le", "lt") if hasattr(m, key)}
    extra = info.json_schema_extra
    return Setting(
        name=name,
        default=info.default,
        description=info.description or "",
        choices=tuple(get_args(info.annotation)),
        minimum=limits.get("ge", limits.get("gt")),
        maximum=limits.get("le", limits.get("lt")),
        runtime=isinstance(extra, dict) and bool(extra.get("runtime")),
    )


def flatten(config: Config) -> dict[str, Any]:
    """Return the tree as dotted names and values (what a ROS node declares)."""
    return {s.name: _lookup(config, s.name) for s in settings()}


def _lookup(config: BaseModel, dotted: str) -> Any:
    value: Any = config
    for part in dotted.split("."):
        value = getattr(value, part)
    return value


def from_flat(values: Mapping[str, Any], source: str = "parameters") -> Config:
    """Build the tree from dotted names; what is not named keeps its default.

    Raises:
        SamsegError: an unknown name (with the nearest valid one), a wrong type, or a value outside its range.
    """
    tree: dict[str, Any] = {}
    known = {s.name for s in settings()}
    for name, value in values.items():
        if name not in known:
            raise SamsegError(f"{source}: unknown setting {name!r}; {nearest(name, known)}")
        *parents, leaf = name.split(".")
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
        node[leaf] = value
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise SamsegError(f"{source}: {where}: {message}, got {first['input']!r}") from None


def _flatten_tree(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten_tree(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


NODE_NAME = "fusion_node"
"""Sections of a parameter file that end in this name, and the wildcard's, are ours."""
ROS_OWN = ("use_sim_time", "qos_overrides.")
"""Parameters of rclpy itself that a parameter file may hold beside ours."""


def load(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a parameter file (ROS form or plain tree) and lay ``overrides`` (dotted names) over it.

    Raises:
        SamsegError: the file is missing or no YAML mapping, a setting is unknown or out of range, or something stands
            beside ROS's sections.
    """
    path = Path(path)
    try:
        tree = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SamsegError(
            f"{path}: cannot be read as YAML ({error}); give a parameter file like config/*.param.yaml"
        ) from None
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise SamsegError(f"{path}: expected a mapping of settings, got {type(tree).__name__}")
    flat = {k: v for part in _parts(tree, path) for k, v in _flatten_tree(part) if not k.startswith(ROS_OWN)}
    return from_flat({**flat, **(overrides or {})}, source=str(path))


def _parts(tree: Mapping[str, Any], path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the sections that hold for the node (of a file that names only other nodes: all), or the plain tree."""
    sections = {k: v for k, v in tree.items() if isinstance(v, dict) and "ros__parameters" in v}
    if not sections:
        yield tree
        return
    strays = [*(tree.keys() - sections.keys()), *(k for v in sections.values() for k in v if k != "ros__parameters")]
    if strays:
        raise SamsegError(
            f"{path}: expected nothing beside ros__parameters, got {', '.join(sorted(map(str, strays)))}; "
            "move it under ros__parameters"
        )
    ours = [k for k in sections if str(k).rsplit("/", 1)[-1] in ("**", NODE_NAME)]
    for name in ours or sections:
        part = sections[name]["ros__parameters"]
        if not isinstance(part, dict | None):
            raise SamsegError(f"{path}: {name}.ros__parameters: expected a mapping of settings, got {part!r}")
        yield part or {}
