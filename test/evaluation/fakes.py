"""A small recording with everything in it, and a pipeline without a network. As a script: the real node around it.

The masks depend on every sensor that was fused (the values of the thermal image, the points of the sweep), so that a
replay that fuses other messages makes other masks. The first argument may be ``slow`` (0.3 s a frame), ``dies`` (at the
third frame), ``broken`` (cannot be configured) or ``fuses`` (makes a fused picture: red is the sum of both sensors).
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from samseg_ros.errors import SamsegError
from samseg_ros.evaluation.recording import CLOUD, IMAGE, STORE, STRING, TF, OutputBag, image, painted_cloud, serialize
from samseg_ros.labels import LabelSet
from samseg_ros.posterior import posterior
from samseg_ros.types import Frame, PointCloud, Segmentation

LABELS = LabelSet("toy", ("road", "car", "sky"), np.array([[128, 64, 128], [0, 0, 142], [70, 130, 180]], np.uint8))
HEIGHT, WIDTH = 48, 64
START_NS, PERIOD_NS = 1_700_000_000 * 10**9, 10**8


class FakeSegmenter:
    """Sky above, road below, and cars in a column that the thermal image's mean and the sweep's length choose."""

    labels = LABELS
    own_classes = {name: i for i, name in enumerate(LABELS.names)}  # noqa: RUF012
    modalities = ("rgb", "thermal", "lidar")

    def __init__(self, mode: str = "") -> None:
        self._mode, self._frames = mode, 0
        self.makes_fused = mode == "fuses"
        if mode == "broken":
            raise SamsegError("no weights for this model; train it first")

    def warm_up(self, size: tuple[int, int]) -> float:
        return 0.0

    def __call__(self, frame: Frame, fused: bool = False) -> Segmentation:
        self._frames += 1
        if self._mode == "slow":
            time.sleep(0.3)
        if self._mode == "dies" and self._frames == 3:
            sys.stderr.write("the GPU caught fire\n")
            sys.stderr.flush()
            os._exit(7)
        height, width = frame.size
        column = 0
        sensors = ["rgb"]
        if frame.thermal is not None:
            column += int(np.asarray(frame.thermal, np.float64).mean())
            column += 0 if frame.camera_from_thermal is None else 3
            sensors.append("thermal")
        if frame.points is not None:
            column += len(frame.points.xyz)
            sensors.append("lidar")
        logits = np.zeros((3, height // 4, width // 4), np.float32)
        logits[2, : height // 8] = 3.0
        logits[0, height // 8 :] = 3.0
        logits[1, :, column % (width // 4)] = 5.0
        best = posterior(logits, frame.size, 0.0)
        return Segmentation(
            best.labels,
            best.confidence,
            logits,
            best.pixel_share,
            best.mean_posterior,
            frame.stamp_ns,
            frame.frame_id,
            tuple(sensors),
            {"prepare": 1.0, "model": 2.0, "posterior": 3.0},
            fused=fused_picture(frame) if fused and self.makes_fused else None,
        )


def fused_picture(frame: Frame) -> np.ndarray:
    picture = frame.image.copy()
    if frame.thermal is not None:
        picture[..., 0] += np.asarray(frame.thermal, np.uint8)
    return picture


def write_small_bag(path: Path, frames: int = 6, without: tuple[str, ...] = (), truth_id: int = 0) -> Path:
    """Write frames at 10 Hz; the sweep comes 30 ms behind its image, every third frame has no thermal image."""
    with OutputBag(path) as bag:
        for at_ns, topic, kind, message in sorted(_messages(frames, truth_id), key=lambda m: m[0]):
            if topic.strip("/").partition("/")[0] not in without:
                bag.write(topic, kind, at_ns, serialize(kind, message))
    return path


def _messages(frames: int, truth_id: int) -> list[tuple[int, str, str, Any]]:
    rng = np.random.default_rng(0)
    found = [(START_NS, "/tf_static", TF, _transforms())]
    for i in range(frames):
        stamp = START_NS + i * PERIOD_NS
        picture = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        found.append((stamp, "/camera/image_raw", IMAGE, image(stamp, "camera", picture, "rgb8")))
        found.append((stamp, "/camera/camera_info", "sensor_msgs/msg/CameraInfo", _camera_info(stamp)))
        if i % 3 != 2:
            thermal = np.full((HEIGHT, WIDTH), 2 * i, np.uint16)
            thermal[: HEIGHT // 2] += 4
            found.append((stamp, "/thermal/image_raw", IMAGE, image(stamp, "camera", thermal, "16UC1")))
        points = PointCloud(rng.uniform((4, -3, -2), (20, 3, 2), (200 + i, 3)).astype(np.float32), None, "lidar")
        unknown = np.zeros(200 + i, np.uint8), np.zeros(200 + i, np.float32), np.zeros(200 + i, np.float32)
        found.append((stamp + 3 * 10**7, "/lidar/points", CLOUD, painted_cloud(stamp, points, *unknown)))
        truth = np.full((HEIGHT, WIDTH), truth_id, np.uint8)
        truth[: HEIGHT // 2], truth[:, :4] = 2, 255
        found.append((stamp, "/ground_truth/labels", IMAGE, image(stamp, "camera", truth, "mono8")))
        note = STORE.types[STRING](data="day" if i < frames // 2 else "night")
        found.append((stamp, "/ground_truth/condition", STRING, note))
    return found


def _camera_info(stamp_ns: int) -> Any:
    k = np.array([[60.0, 0, WIDTH / 2], [0, 60.0, HEIGHT / 2], [0, 0, 1]])
    p = np.hstack([k, np.zeros((3, 1))])
    header = image(stamp_ns, "camera", np.zeros((1, 1), np.uint8), "mono8").header
    roi = STORE.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    matrices = np.zeros(5), k.ravel(), np.eye(3).ravel(), p.ravel()
    return STORE.types["sensor_msgs/msg/CameraInfo"](header, HEIGHT, WIDTH, "plumb_bob", *matrices, 0, 0, roi)


def _transforms() -> Any:
    """lidar_from_camera: the camera looks along the LiDAR's x."""
    geometry = "geometry_msgs/msg/"
    transform = STORE.types[geometry + "Transform"](
        STORE.types[geometry + "Vector3"](0.0, 0.0, 0.0), STORE.types[geometry + "Quaternion"](-0.5, 0.5, -0.5, 0.5)
    )
    header = image(START_NS, "lidar", np.zeros((1, 1), np.uint8), "mono8").header
    stamped = STORE.types[geometry + "TransformStamped"](header, "camera", transform)
    return STORE.types[TF](transforms=[stamped])


if __name__ == "__main__":
    from samseg_ros.ros.fusion_node import main

    mode = sys.argv[1] if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else ""
    sys.exit(main([sys.argv[0], *sys.argv[1 + bool(mode) :]], lambda config: FakeSegmenter(mode)))
