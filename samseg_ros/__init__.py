"""Multi-sensor semantic segmentation for ROS 2 with SAM-based fusion models."""

import os
from importlib.metadata import PackageNotFoundError, version

# Read when torch loads OpenMP, so it has to stand here. By default waiting threads spin; where any other process wants
# a core (a bag player, a second node), the network then takes several times as long. Sleeping costs next to nothing.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

try:
    __version__ = version("samseg_ros")
except PackageNotFoundError:  # running from a source tree that was not installed
    __version__ = "0+source"
