"""The calibration file: what it gives back, how it is searched, and what it does not take."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from samseg_ros.errors import InputError, SamsegError
from samseg_ros.sensing.calibration import (
    Calibration,
    Extrinsic,
    inverse,
    load_calibration,
    pose_matrix,
    save_calibration,
)

HALF = 0.7071067811865476
FILE = """
transforms:
  - target: base_link
    source: lidar
    translation: [1, 0, 2]
    rotation_xyzw: [0, 0, 0, 1]
  - {target: base_link, source: camera, translation: [0.5, 0, 1.5], rotation_xyzw: [-0.5, 0.5, -0.5, 0.5]}
"""


def unit(numbers: tuple[float, ...]) -> tuple[float, ...]:
    return tuple((np.array(numbers) / np.linalg.norm(numbers)).tolist())


NUMBERS = st.floats(-100, 100)
QUATERNIONS = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 1e-3).map(unit)
POSES = st.tuples(st.tuples(NUMBERS, NUMBERS, NUMBERS), QUATERNIONS)


def slow_matrix(translation: tuple[float, ...], rotation: tuple[float, ...]) -> NDArray[np.float64]:
    """Rodrigues' formula, from the quaternion's axis and angle."""
    axis, w = np.array(rotation[:3]), rotation[3]
    sine = np.linalg.norm(axis)
    x, y, z = axis / sine if sine else axis
    angle = 2 * np.arctan2(sine, w)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    matrix = np.eye(4)
    matrix[:3, :3] += np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    matrix[:3, 3] = translation
    return matrix


def calibration(*links: tuple[str, str, tuple[float, ...], tuple[float, ...]]) -> Calibration:
    return Calibration.model_validate(
        {"transforms": [{"target": t, "source": s, "translation": p, "rotation_xyzw": q} for t, s, p, q in links]}
    )


@given(POSES)
def test_a_pose_is_the_matrix_of_its_quaternion(pose: tuple[Any, Any]) -> None:
    matrix = pose_matrix(*pose)
    np.testing.assert_allclose(matrix, slow_matrix(*pose), atol=1e-12)
    np.testing.assert_allclose(inverse(matrix) @ matrix, np.eye(4), atol=1e-10)


def test_an_optical_frame_looks_forward(tmp_path: Path) -> None:
    path = tmp_path / "calibration.yaml"
    path.write_text(FILE)
    camera_from_lidar = load_calibration(path).lookup("camera", "lidar")
    # 10 m ahead of the LiDAR, 1 m to its left, at its height: x right = -1, y down = -0.5, z forward = 10 + 1 - 0.5.
    np.testing.assert_allclose(camera_from_lidar @ [10, 1, 0, 1], [-1, -0.5, 10.5, 1], atol=1e-12)


@given(st.lists(POSES, min_size=3, max_size=3))
def test_lookups_are_direct_inverse_or_chained(poses: list[tuple[Any, Any]]) -> None:
    a_from_b, c_from_b, c_from_d = (slow_matrix(*pose) for pose in poses)
    c = calibration(("a", "b", *poses[0]), ("c", "b", *poses[1]), ("c", "d", *poses[2]))
    np.testing.assert_allclose(c.lookup("a", "b"), a_from_b, atol=1e-10)
    np.testing.assert_allclose(c.lookup("b", "a"), np.linalg.inv(a_from_b), atol=1e-10)
    np.testing.assert_allclose(c.lookup("a", "d"), a_from_b @ np.linalg.inv(c_from_b) @ c_from_d, atol=1e-9)
    np.testing.assert_array_equal(c.lookup("d", "d"), np.eye(4))


def test_the_shortest_chain_is_taken() -> None:
    one, five, still = (1.0, 0.0, 0.0), (5.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)
    short = [("a", "e", five, still), ("e", "d", five, still)]
    long = [("a", "b", one, still), ("b", "c", one, still), ("c", "d", one, still)]
    for links in (short + long, long + short):
        assert calibration(*links).lookup("a", "d")[0, 3] == 10.0


def test_a_leading_slash_is_of_no_account() -> None:
    c = calibration(("/base_link", "lidar", (1, 2, 3), (0, 0, 0, 1)))
    np.testing.assert_array_equal(c.lookup("base_link", "/lidar")[:3, 3], [1, 2, 3])


@given(st.lists(POSES, min_size=1, max_size=4))
def test_a_file_gives_back_what_was_saved(
    tmp_path_factory: pytest.TempPathFactory, poses: list[tuple[Any, Any]]
) -> None:
    saved = calibration(*((f"frame{i}", f"frame{i + 1}", *pose) for i, pose in enumerate(poses)))
    path = tmp_path_factory.mktemp("calibration") / "calibration.yaml"
    save_calibration(path, saved)
    loaded = load_calibration(path)
    for first, second in zip(saved.transforms, loaded.transforms, strict=True):
        assert (first.target, first.source) == (second.target, second.source)
        np.testing.assert_allclose(second.matrix(), first.matrix(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("translation: [1", "translaton: [1", "transforms[0]: unknown key 'translaton'; did you mean 'translation'?"),
        ("transforms:", "transform:", "unknown key 'transform'; did you mean 'transforms'?"),
        ("rotation_xyzw: [-", "rotation: [-", "transforms[1]: unknown key 'rotation'; did you mean 'rotation_xyzw'?"),
        ("    source: lidar\n", "", "transforms[0].source: Field required"),
        ("[1, 0, 2]", "[1, 0]", "transforms[0].translation[2]: Field required"),
        ("[1, 0, 2]", "[1, 0, far]", "transforms[0].translation[2]: Input should be a valid number"),
        ("[1, 0, 2]", "[1, 0, .nan]", "transforms[0]: transform: expected finite numbers"),
        ("[0, 0, 0, 1]", "[0, 0, 0, 2]", "rotation [0.0, 0.0, 0.0, 2.0] of length 2; check the order (w comes last)"),
        ("source: lidar", "source: base_link", "transforms[0]: target and source are the same frame 'base_link'"),
        ("source: lidar", "source: camera", "the transform between 'base_link' and 'camera' is given twice"),
        ("source: lidar", "source: ''", "transforms[0].source: a frame needs a name"),
        (FILE, "[1, 2]", "expected a mapping with `transforms:`, got list"),
        (FILE, "a: [", "cannot be read as YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place_and_a_remedy(tmp_path: Path, old: str, new: str, text: str) -> None:
    path = tmp_path / "calibration.yaml"
    assert old in FILE
    path.write_text(FILE.replace(old, new))
    with pytest.raises(SamsegError) as caught:
        load_calibration(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert text in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SamsegError, match=r"absent\.yaml: cannot be read as YAML"):
        load_calibration(tmp_path / "absent.yaml")


def test_an_unknown_frame_is_refused_with_both_frames_and_the_nearest_name() -> None:
    c = calibration(("base_link", "lidar", (0, 0, 0), (0, 0, 0, 1)))
    with pytest.raises(InputError) as caught:
        c.lookup("base_link", "lidar_top")
    assert str(caught.value) == (
        "calibration: expected a transform to 'base_link' from 'lidar_top', got no frame 'lidar_top'; "
        "did you mean 'lidar'?"
    )


def test_frames_that_nothing_connects_are_refused() -> None:
    still = ((0, 0, 0), (0, 0, 0, 1))
    c = calibration(("base_link", "lidar", *still), ("rig", "camera", *still))
    with pytest.raises(InputError, match="to 'camera' from 'lidar', got two groups of frames that nothing connects"):
        c.lookup("camera", "lidar")


def test_an_empty_calibration_says_so() -> None:
    with pytest.raises(InputError, match="no frame 'a' and no frame 'b'; the calibration is empty"):
        Calibration(transforms=()).lookup("a", "b")


def stamped(parent: str, child: str, translation: tuple[float, ...], rotation: tuple[float, ...]) -> Any:
    pose = SimpleNamespace(
        translation=SimpleNamespace(**dict(zip("xyz", translation, strict=True))),
        rotation=SimpleNamespace(**dict(zip("xyzw", rotation, strict=True))),
    )
    return SimpleNamespace(header=SimpleNamespace(frame_id=parent), child_frame_id=child, transform=pose)


def test_tf_messages_become_parent_from_child_and_the_last_of_a_pair_counts() -> None:
    c = Calibration.from_messages(
        [
            stamped("base_link", "lidar", (9, 9, 9), (0, 0, 0, 1)),
            stamped("base_link", "lidar", (1, 2, 3), (0, 0, HALF, HALF)),
            stamped("/base_link", "camera", (0, 0, 1), (0, 0, 0, 1.005)),
        ]
    )
    assert len(c.transforms) == 2
    np.testing.assert_allclose(c.lookup("base_link", "lidar") @ [1, 0, 0, 1], [1, 3, 3, 1], atol=1e-12)
    np.testing.assert_allclose(c.lookup("camera", "lidar")[:3, 3], [1, 2, 2], atol=1e-12)


def test_a_tf_message_that_is_no_transform_is_refused_with_its_frames() -> None:
    with pytest.raises(SamsegError, match="transform from 'lidar' to 'base_link': transform: expected finite numbers"):
        Calibration.from_messages([stamped("base_link", "lidar", (1, 2, 3), (0, 0, 0, 0))])


def test_an_extrinsic_cannot_be_changed() -> None:
    extrinsic = Extrinsic(target="a", source="b", translation=(0, 0, 0), rotation_xyzw=(0, 0, 0, 1))
    with pytest.raises(ValueError, match="frozen"):
        extrinsic.source = "c"  # type: ignore[misc]


def test_a_file_without_any_transform_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("transforms: []\n")
    with pytest.raises(SamsegError, match=r"empty\.yaml: transforms: expected at least one transform, got none"):
        load_calibration(path)
