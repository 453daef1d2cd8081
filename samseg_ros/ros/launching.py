"""What the launch files make of their arguments: cameras, topics, the parameter file.

`ros2 launch` runs on the distribution's own python, which need not be the one that has torch and pydantic: nothing but
the standard library may be imported here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from samseg_ros.errors import InputError, SamsegError, nearest
from samseg_ros.resources import config_dir

PLACEHOLDER = "{camera}"
"""Stands for the camera's name in the arguments below."""
OF_ONE_CAMERA = ("camera", "thermal", "camera_info", "thermal_info")
"""Topics that two cameras never share."""
PATTERNS = (*OF_ONE_CAMERA, "lidar", "calibration_path", "params_file")
"""Arguments that may hold the placeholder."""
YES_NO = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
PARAMETER_FILE = ".param.yaml"
AUTO = "auto"


def is_true(given: Mapping[str, str], name: str) -> bool:
    """Read an argument as yes or no.

    Raises:
        SamsegError: it is neither.
    """
    value = given[name].strip().lower()
    if value not in YES_NO:
        raise SamsegError(f"{name}: expected true or false, got {given[name]!r}")
    return YES_NO[value]


def one_per_camera(given: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the arguments of every node: one a camera, in a namespace of that name, the placeholder filled in.

    Args:
        given: arguments of the launch; ``cameras`` is a list parted by commas, empty: one node, as it stands.

    Raises:
        SamsegError: a camera's name cannot be a namespace, or several cameras would share a topic.
    """
    names = [name.strip() for name in given["cameras"].split(",") if name.strip()]
    if not names:
        _refuse_placeholders(given)
        return [dict(given)]
    _check_names(names)
    if len(names) > 1:
        _refuse_shared_topics(given)
    return [_of_camera(given, name) for name in names]


def _of_camera(given: Mapping[str, str], camera: str) -> dict[str, str]:
    filled = {name: given[name].replace(PLACEHOLDER, camera) for name in PATTERNS}
    return {**given, **filled, "namespace": f"{given['namespace'].rstrip('/')}/{camera}"}


def _refuse_placeholders(given: Mapping[str, str]) -> None:
    for name in PATTERNS:
        if PLACEHOLDER in given[name]:
            raise SamsegError(f"{name} holds {PLACEHOLDER}, but no camera is named; add cameras:=front,left,right")


def _check_names(names: list[str]) -> None:
    for name in names:
        if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) or names.count(name) > 1:
            raise InputError(
                "cameras",
                expected="different names of letters, digits and underscores, parted by commas",
                got=repr(",".join(names)),
                remedy="each is a node's namespace, as in cameras:=front,left,right",
            )


def _refuse_shared_topics(given: Mapping[str, str]) -> None:
    for name in OF_ONE_CAMERA:
        if given[name] and PLACEHOLDER not in given[name]:
            raise InputError(
                name,
                expected=f"a topic with {PLACEHOLDER} in it, since there are several cameras",
                got=repr(given[name]),
                remedy=f"give a pattern, as in {name}:=/{PLACEHOLDER}/{given[name].rpartition('/')[2]}",
            )


def input_topics(given: Mapping[str, str]) -> dict[str, str]:
    """Return the node's input → topic on the robot, of the inputs that the arguments name.

    Raises:
        SamsegError: no camera is named.
    """
    if not given["camera"]:
        raise SamsegError("camera is empty, but every frame starts from its image; name a topic, or leave it out")
    camera, thermal = (given[name].removesuffix("/compressed") for name in ("camera", "thermal"))
    topics = {
        "~/input/image": camera,
        "~/input/image/camera_info": given["camera_info"] or beside(camera),
        "~/input/thermal": thermal,
        "~/input/thermal/camera_info": given["thermal_info"] or (thermal and beside(thermal)),
        "~/input/pointcloud": given["lidar"],
    }
    return {name: topic for name, topic in topics.items() if topic}


def beside(topic: str) -> str:
    """Return the camera_info beside an image."""
    parent, slash, _ = topic.rpartition("/")
    return f"{parent}{slash}camera_info"


def parameter_file(model: str, params_file: str) -> Path | None:
    """Choose the parameter file: the one named, else the one shipped for the model, else none (the defaults).

    Raises:
        SamsegError: no such file, or no such model.
    """
    if params_file:
        path = Path(params_file).expanduser()
        if not path.is_file():
            raise SamsegError(f"params_file: there is no {path}; {config_dir()} holds those that are shipped")
        return path
    if not model:
        return None
    shipped = {f.name.removesuffix(PARAMETER_FILE): f for f in config_dir().glob(f"*{PARAMETER_FILE}")}
    if model not in shipped:
        raise SamsegError(f"model: no parameter file is shipped for {model!r}; {nearest(model, shipped)}")
    return shipped[model]


def network_threads(given: Mapping[str, str], cameras: int) -> int | None:
    """Return model.threads of each node; None: as its parameter file or the default says.

    Several nodes that each take half of the cores, the default, would be in each other's way on a CPU. Who names a
    parameter file of their own has decided for themselves.

    Raises:
        SamsegError: ``threads`` is neither a number of threads nor ``auto``.
    """
    value = given["threads"].strip()
    if value == AUTO:
        return max(1, (os.cpu_count() or 1) // cameras) if cameras > 1 and not given["params_file"] else None
    if not (value.isascii() and value.isdecimal()):
        raise InputError(
            "threads",
            expected="auto or a number",
            got=repr(value),
            remedy="leave it out to divide the cores among the cameras; 0 is half of the cores for each",
        )
    return int(value)


def node_path(given: Mapping[str, str]) -> str:
    """Return the node's full name."""
    return "/" + f"{given['namespace']}/{given['node_name']}".lstrip("/")
