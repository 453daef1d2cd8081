"""Extrinsics from a YAML file, for machines without TF: who stands where, looked up like TF does.

.. code-block:: yaml

    transforms:
      - target: base_link        # target_from_source: maps points of source into target
        source: lidar            # (TF: target is the parent, source the child)
        translation: [1.2, 0.0, 1.8]
        rotation_xyzw: [0.0, 0.0, 0.0, 1.0]
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from scipy.spatial.transform import Rotation

from samseg_ros.errors import InputError, SamsegError, nearest

_TOLERANCE = 1e-3
"""Written by hand with four digits, a unit quaternion is this close to length 1; a typo mostly is not."""


def pose_matrix(
    translation: Sequence[float], rotation_xyzw: Sequence[float], tolerance: float = _TOLERANCE
) -> NDArray[np.float64]:
    """Return (4, 4) of a translation (metres) and a unit quaternion (x, y, z, w).

    Raises:
        InputError: a number is not finite, or the quaternion's length is further than ``tolerance`` from 1.
    """
    length = float(np.linalg.norm(rotation_xyzw))
    if not np.isfinite([*translation, *rotation_xyzw]).all() or abs(length - 1) > tolerance:
        raise InputError(
            "transform",
            expected="finite numbers and a rotation quaternion (x, y, z, w) of length 1",
            got=f"translation {list(translation)}, rotation {list(rotation_xyzw)} of length {length:.6g}",
            remedy="check the order (w comes last) and the digits",
        )
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_quat(rotation_xyzw).as_matrix()
    matrix[:3, 3] = translation
    return matrix


def inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the inverse of a rigid (4, 4)."""
    result = np.eye(4)
    result[:3, :3] = matrix[:3, :3].T
    result[:3, 3] = -matrix[:3, :3].T @ matrix[:3, 3]
    return result


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Extrinsic(_Part):
    """One rigid transform ``target_from_source``."""

    target: str
    source: str
    translation: tuple[float, float, float]
    """Origin of the source frame in the target frame, metres."""
    rotation_xyzw: tuple[float, float, float, float]
    """Unit quaternion; kept as written, normalised when used."""

    @field_validator("target", "source")
    @classmethod
    def _named(cls, frame: str) -> str:
        if not frame.strip("/"):
            raise ValueError("a frame needs a name")
        return frame.lstrip("/")  # as tf2 does

    @model_validator(mode="after")
    def _usable(self) -> Extrinsic:
        if self.target == self.source:
            raise ValueError(f"target and source are the same frame {self.target!r}")
        self.matrix()
        return self

    def matrix(self) -> NDArray[np.float64]:
        """Return (4, 4) target_from_source."""
        return pose_matrix(self.translation, self.rotation_xyzw)


class Calibration(_Part):
    """A set of extrinsics, which may be chained."""

    transforms: tuple[Extrinsic, ...]

    @model_validator(mode="after")
    def _each_pair_once(self) -> Calibration:
        seen: set[frozenset[str]] = set()
        for t in self.transforms:
            pair = frozenset((t.target, t.source))
            if pair in seen:
                raise ValueError(f"the transform between {t.target!r} and {t.source!r} is given twice")
            seen.add(pair)
        return self

    @classmethod
    def from_messages(cls, transforms: Iterable[Any]) -> Calibration:
        """Make one of geometry_msgs/TransformStamped (what /tf_static holds); of a repeated pair the last one counts.

        Raises:
            InputError: a transform cannot be used.
        """
        latest: dict[frozenset[str], Extrinsic] = {}
        for stamped in transforms:
            parent, child = stamped.header.frame_id, stamped.child_frame_id
            t, r = stamped.transform.translation, stamped.transform.rotation
            rotation = np.array([r.x, r.y, r.z, r.w], np.float64)
            length = float(np.linalg.norm(rotation))
            if 0 < abs(length - 1) <= 1e-2:  # what tf2 tolerates; the file is stricter
                rotation = rotation / length
            try:
                extrinsic = Extrinsic(
                    target=parent, source=child, translation=(t.x, t.y, t.z), rotation_xyzw=tuple(rotation.tolist())
                )
            except ValidationError as error:
                raise SamsegError(f"transform from {child!r} to {parent!r}: {_explained(error)}") from None
            latest[frozenset((parent, child))] = extrinsic
        return cls(transforms=tuple(latest.values()))

    def frames(self) -> tuple[str, ...]:
        """Names of all frames."""
        return tuple(sorted({f for t in self.transforms for f in (t.target, t.source)}))

    def lookup(self, target: str, source: str) -> NDArray[np.float64]:
        """Return (4, 4) target_from_source: given, inverted, or chained over the fewest transforms.

        Raises:
            InputError: a frame is unknown, or the two are not connected; names both.
        """
        target, source = target.lstrip("/"), source.lstrip("/")
        if target == source != "":
            return np.eye(4)
        known = self.frames()
        if target in known and source in known:
            found = self._search(target, source)
            if found is not None:
                return found
            got = f"two groups of frames that nothing connects (frames: {', '.join(known)})"
            remedy = "add a transform between the groups"
        else:
            unknown = [f for f in (target, source) if f not in known]
            got = f"no frame {' and no frame '.join(map(repr, unknown))}"
            remedy = nearest(unknown[0], known) if known else "the calibration is empty: add transforms"
        raise InputError("calibration", expected=f"a transform to {target!r} from {source!r}", got=got, remedy=remedy)

    def _search(self, target: str, source: str) -> NDArray[np.float64] | None:
        """Breadth first from the target: target_from_frame for ever more frames."""
        steps: dict[str, list[tuple[str, NDArray[np.float64]]]] = {f: [] for f in self.frames()}
        for t in self.transforms:
            steps[t.target].append((t.source, t.matrix()))
            steps[t.source].append((t.target, inverse(t.matrix())))
        reached = {target: np.eye(4)}
        queue = deque([target])
        while queue and source not in reached:
            frame = queue.popleft()
            for neighbour, frame_from_neighbour in steps[frame]:
                if neighbour not in reached:
                    reached[neighbour] = reached[frame] @ frame_from_neighbour
                    queue.append(neighbour)
        return reached.get(source)


def load_calibration(path: str | Path) -> Calibration:
    """Read a calibration file.

    Raises:
        SamsegError: the file cannot be read, is no YAML, has an unknown key (with the nearest valid one), lacks one,
            holds a transform that is none, or no transform at all.
    """
    try:
        tree = yaml.safe_load(Path(path).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SamsegError(
            f"{path}: cannot be read as YAML ({error}); give a calibration file with `transforms:`"
        ) from None
    if not isinstance(tree, dict):
        raise SamsegError(f"{path}: expected a mapping with `transforms:`, got {type(tree).__name__}")
    try:
        calibration = Calibration.model_validate(tree)
    except ValidationError as error:
        raise SamsegError(f"{path}: {_explained(error)}") from None
    if not calibration.transforms:
        raise SamsegError(f"{path}: transforms: expected at least one transform, got none; write the extrinsics there")
    return calibration


def save_calibration(path: str | Path, calibration: Calibration) -> None:
    """Write a calibration file; every digit survives."""
    Path(path).write_text(yaml.safe_dump(calibration.model_dump(mode="json"), sort_keys=False, default_flow_style=None))


def _explained(error: ValidationError) -> str:
    problems = error.errors()
    wrong_keys = [p for p in problems if p["type"] == "extra_forbidden"]  # explains the missing key beside it
    return _explained_one((wrong_keys or problems)[0])


def _explained_one(problem: ErrorDetails) -> str:
    parts = problem["loc"]
    if problem["type"] == "extra_forbidden":
        known = Extrinsic.model_fields if len(parts) > 1 else Calibration.model_fields
        parts, message = parts[:-1], f"unknown key {parts[-1]!r}; {nearest(str(parts[-1]), known)}"
    else:
        message = problem["msg"].removeprefix("Value error, ")
    place = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in parts).lstrip(".")
    return f"{place}: {message}" if place else message
