"""Recordings of one's own as a data set: a folder a split, see `labelled_recording` for how they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from samseg_ros.config import Config, from_flat
from samseg_ros.datasets.bag import STORAGE
from samseg_ros.datasets.folders import require
from samseg_ros.datasets.labelled_recording import Info, LabelledBag, Reading, open_recordings
from samseg_ros.errors import SamsegError, nearest

SPLITS = ("train", "val", "test")
SETTINGS = "dataset.yaml"
EXPECTS = """\
labelled_bag expects a folder with recordings of your own:
  dataset.yaml                   labels: NAME (a shipped label set, or a CSV beside this file)
  {train,val,test}/RECORDING     one or more: a rosbag2 folder, an .mcap or a .db3; with ids as mono8 on a topic that
                                 has the camera's stamps, or else
  {train,val,test}/RECORDING_labels/STAMP.png    ids by stamp of the camera image, in nanoseconds (RECORDING without
                                                 its suffix)
dataset.yaml may also hold
  topics: {image: /front/image_raw, lidar: ""}   where the guess is wrong; an empty one is switched off; of image,
                                                 thermal, lidar, camera_info, thermal_info, labels, condition, tf_static
  calibration: FILE                              extrinsics; else /tf_static of the recording
  settings: {sync.lidar.noise_window_s: 0.1}     as in a parameter file; inputs.*, sync.* and projection.* are used
Ids are those of the label set, 255 = ignored."""

Input: TypeAlias = Literal["image", "thermal", "lidar", Info, "labels", "condition", "tf_static"]


class BagSettings(BaseModel):
    """What dataset.yaml holds, see `EXPECTS`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    labels: str
    topics: dict[Input, str] = {}
    calibration: str = ""
    settings: dict[str, Any] = {}


def open_labelled_bag(folder: Path, split: str) -> LabelledBag:
    """Open a split: one walk through each of its recordings.

    Raises:
        SamsegError: dataset.yaml, a recording or labels are missing or cannot be used; a LiDAR lacks its calibration.
    """
    require("labelled_bag", folder, (SETTINGS, split), EXPECTS)
    settings = _load(folder / SETTINGS)
    if settings.labels.endswith(".csv"):
        settings = settings.model_copy(update={"labels": str(folder / settings.labels)})
    reading = Reading(
        settings.labels,
        _config(folder, settings),
        dict[str, str | None](settings.topics.items()),
        EXPECTS,
        f'add it, or leave the LiDAR out with `topics: {{lidar: ""}}` in {SETTINGS}',
    )
    return open_recordings(_recordings(folder / split), reading)


def _config(folder: Path, settings: BagSettings) -> Config:
    config = from_flat(settings.settings, str(folder / SETTINGS))
    if not settings.calibration:
        return config
    own = {"calibration_path": str(folder / settings.calibration)}
    return config.model_copy(update={"projection": config.projection.model_copy(update=own)})


def _load(path: Path) -> BagSettings:
    try:
        return BagSettings.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SamsegError(f"{path}: cannot be read as YAML ({error})\n{EXPECTS}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"])) or "the file"
        hint = f"; {nearest(key, BagSettings.model_fields)}" if problem["type"] == "extra_forbidden" else ""
        raise SamsegError(f"{path}: {key}: {problem['msg']}{hint}\n{EXPECTS}") from None


def _recordings(home: Path) -> list[Path]:
    """Return the recordings of a split: what stands in its folder, or the folder itself."""
    if (home / "metadata.yaml").is_file():
        return [home]
    inside = sorted(path for path in home.iterdir() if not path.name.startswith((".", "_")))
    found = [p for p in inside if p.suffix in STORAGE or (p.is_dir() and not p.name.endswith("_labels"))]
    if not found:
        raise SamsegError(f"labelled_bag: no recording in {home}\n{EXPECTS}")
    return found
