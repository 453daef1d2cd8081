"""Install with pip or colcon. Name, version, description, maintainer and licence stand in package.xml alone."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
PACKAGE = ElementTree.parse(ROOT / "package.xml").getroot()
NAME = PACKAGE.findtext("name", "")
MAINTAINER = PACKAGE.find("maintainer")

# Lower bounds: the oldest releases that the suite was run with. torch is held from 2.13.0 because a CPU-only build of
# that version is in circulation for which no torchvision works, and timm and segment-anything need torchvision.
REQUIRES = [
    "torch>=2.6,!=2.13.0",
    "torchvision>=0.21",
    "timm>=1.0.16",
    "segment-anything>=1.0",
    "segmentation-models-pytorch>=0.4",
    "kornia>=0.7.4",
    "lightning-fabric>=2.4",
    "tensorboard>=2.17",
    "safetensors>=0.4.3",
    "numpy>=1.26",
    "numba>=0.60",
    "scipy>=1.11",
    "scikit-learn>=1.4",
    "opencv-python-headless>=4.9",
    "pillow>=10",
    "pydantic>=2.8",
    "pyyaml>=6.0.1",
    "typer>=0.16",
    "rich>=13",
    "rosbags>=0.11",
    "lz4>=4",  # with the next, what rosbags unpacks MCAP with: we read bags that are cut off
    "backports.zstd>=1; python_version < '3.14'",
    "matplotlib>=3.8",
    "jinja2>=3.1",
]

# Real ROS 2 Jazzy as wheels. An extra, because a machine with a ROS 2 distribution has all of it already. Exact pins,
# because unpinned names give a later distribution; x86_64 Linux is all that the wheels are built for.
WHEELS_EXIST = "sys_platform == 'linux' and platform_machine == 'x86_64'"
ROS = [
    "ros-rclpy[fastrtps]==7.1.6",
    "ros-std-msgs==5.3.6",
    "ros-sensor-msgs==5.3.6",
    "ros-diagnostic-msgs==5.3.6",
    "ros-geometry-msgs==5.3.6",
]

# What `samseg export --format onnx` writes with, and what runs the result: on a GPU, onnxruntime-gpu in its place. The
# lower bounds are the releases that know what is written (opset 20); the suite was run with onnx 1.23, onnxscript 0.7,
# onnxruntime 1.31.
EXPORT = ["onnx>=1.16", "onnxscript>=0.2", "onnxruntime>=1.18"]

# VIF of fused pictures; replays do without where it is absent.
METRICS = ["torchmetrics>=1.4"]

# `samseg evaluate --ray`: scoring on the machines of a cluster.
RAY = ["ray>=2.40"]


def share(folder: str) -> list[tuple[str, list[str]]]:
    """Return (target folder, files) for every folder below ``folder``, as ``data_files`` wants them."""
    files = [f for f in sorted((ROOT / folder).rglob("*")) if f.is_file() and "__pycache__" not in f.parts]
    folders = sorted({f.parent.relative_to(ROOT) for f in files})
    return [
        (f"share/{NAME}/{d.as_posix()}", [f.relative_to(ROOT).as_posix() for f in files if f.parent == ROOT / d])
        for d in folders
    ]


setup(
    name=NAME,
    version=PACKAGE.findtext("version", ""),
    description=PACKAGE.findtext("description", ""),
    license=PACKAGE.findtext("license", ""),
    maintainer=MAINTAINER.text if MAINTAINER is not None else "",
    maintainer_email=MAINTAINER.get("email", "") if MAINTAINER is not None else "",
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={NAME: ["py.typed"], f"{NAME}.evaluation": ["*.j2"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        *share("config"),
        *share("launch"),
        *share("models"),
        *share("schema"),
        # ros2 run and ros2 launch look here; pip leaves out setup.cfg's install_scripts, so the wrappers are data.
        (f"lib/{NAME}", [f"scripts/{f.name}" for f in sorted((ROOT / "scripts").iterdir()) if f.is_file()]),
    ],
    install_requires=REQUIRES,
    extras_require={
        "ros": [f"{requirement}; {WHEELS_EXIST}" for requirement in ROS],
        "export": EXPORT,
        "metrics": METRICS,
        "ray": RAY,
        # colcon test runs pytest only where an extra of this very name asks for it.
        # selenium drives the browser that the report of an evaluation is tested in, where there is one.
        "test": [
            "pytest>=7.4",
            "pytest-xdist>=3.5",
            "hypothesis>=6.100",
            "catkin-pkg>=1.0",
            "setuptools>=68",
            "selenium>=4.20",
            *EXPORT,
            *METRICS,
        ],
        "dev": ["ruff>=0.8", "mypy>=1.13", "types-PyYAML"],
    },
    entry_points={
        "console_scripts": [
            f"samseg = {NAME}.cli:main",
            f"fusion_node = {NAME}.ros.fusion_node:main",
            f"replay = {NAME}.ros.replay:main",
        ]
    },
    zip_safe=False,
)
