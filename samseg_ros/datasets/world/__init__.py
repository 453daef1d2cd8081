"""The world: a seeded, ray-cast driving scene generator in which camera, thermal, LiDAR, labels and depth agree."""

from samseg_ros.datasets.world.dataset import WorldDataset, drive
from samseg_ros.datasets.world.recording import write_recording
from samseg_ros.datasets.world.sensors import Capture, Rig, capture, make_rig
from samseg_ros.datasets.world.weather import CONDITIONS

__all__ = ["CONDITIONS", "Capture", "Rig", "WorldDataset", "capture", "drive", "make_rig", "write_recording"]
