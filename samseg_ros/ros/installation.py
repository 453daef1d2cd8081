"""What is installed and how ROS is set up here, as rows of checks. ROS is not imported before it is looked at."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from samseg_ros import __version__
from samseg_ros.config import Config
from samseg_ros.ros.health import ERROR, OK, WARN, Check, failure

PROVIDERS = {
    "message_filters": "plain subscriptions feed the collector",
    "cv_bridge": "the common encodings are read without it",
    "sensor_msgs_py.point_cloud2": "clouds are read without it",
    "tf2_ros": "extrinsics come from projection.calibration_path",
    "vision_msgs.msg": "its outputs are not offered, label_info and class_confidence are",
}
"""Package of a full ROS 2 installation that is used where it is → what is without it."""
RANGES = ("SUBNET", "LOCALHOST", "OFF", "SYSTEM_DEFAULT")
"""Values of ROS_AUTOMATIC_DISCOVERY_RANGE, the default first."""
MOST_DOMAIN = 232
"""Of the domains above, the ports would be beyond the last one."""


def installation_checks() -> Iterator[Check]:
    """Look at Python, ROS and torch; an ERROR of ROS, or of discovery, means that no node can be made."""
    yield Check("python", OK, f"{platform.python_version()}, samseg_ros {__version__}")
    yield _ros()
    yield _discovery()
    yield _torch()


def provider_checks() -> Iterator[Check]:
    """Say which optional packages of ROS serve (rclpy is there)."""
    from samseg_ros.ros.interop import optional

    for name, without in PROVIDERS.items():
        package = name.partition(".")[0]
        yield Check(package, OK, "used" if optional(name) is not None else f"not installed: {without}")


def model_checks(config: Config, load: Callable[[Config], Any]) -> tuple[Check, Any]:
    """Load the model; return the row, and the pipeline or None."""
    model = config.model
    try:
        pipeline = load(config)
    except Exception as error:  # whatever it is, the other rows are wanted too
        return failure("model", error), None
    about = f"{model.name} ({model.config}) on {pipeline.runs_on}"
    return Check(
        "model", OK, f"{about}: {len(pipeline.labels)} classes from {', '.join(pipeline.modalities)}"
    ), pipeline


def _ros() -> Check:
    try:
        import rclpy  # noqa: F401
        from rclpy.utilities import get_rmw_implementation_identifier

        middleware = get_rmw_implementation_identifier()
    except Exception as error:  # the middleware that RMW_IMPLEMENTATION names is looked for here
        remedy = "source a ROS 2 distribution, or pip install 'samseg_ros[ros]'; is RMW_IMPLEMENTATION installed?"
        return Check("rclpy", ERROR, f"cannot be used ({error})", remedy)
    distribution = os.environ.get("ROS_DISTRO") or f"wheels {_version('ros-rclpy')}".strip()
    return Check("rclpy", OK, f"{distribution}, {middleware}")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _discovery() -> Check:
    wanted = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE") or RANGES[0]
    domain = os.environ.get("ROS_DOMAIN_ID") or "0"
    if not domain.strip().isdecimal() or int(domain) > MOST_DOMAIN:  # a middleware may end the process over it
        return Check("discovery", ERROR, f"ROS_DOMAIN_ID is {domain!r}", f"set it to a number of 0 to {MOST_DOMAIN}")
    found = f"domain {domain}, range {wanted}"
    if os.environ.get("ROS_LOCALHOST_ONLY") == "1":  # older, and wins over the range
        found = f"domain {domain}, ROS_LOCALHOST_ONLY=1"
    if wanted == "OFF":
        return Check("discovery", WARN, found, "nodes do not find each other: set ROS_AUTOMATIC_DISCOVERY_RANGE=SUBNET")
    if wanted not in RANGES:
        return Check("discovery", WARN, found, f"set ROS_AUTOMATIC_DISCOVERY_RANGE to one of {', '.join(RANGES)}")
    return Check("discovery", OK, found)


def _torch() -> Check:
    try:
        import torch

        cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
    except Exception as error:  # a broken build raises whatever it likes
        return Check(
            "torch", ERROR, f"cannot be used ({error})", "install the package's requirements (docs/install.md)"
        )
    return Check("torch", OK, f"{torch.__version__}, {cuda}")
