"""Multi-sensor semantic segmentation for ROS 2 with SAM-based fusion models."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("samseg_ros")
except PackageNotFoundError:  # running from a source tree that was not installed
    __version__ = "0+source"
