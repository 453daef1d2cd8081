"""The published size through the node's pipeline, on a real frame."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from samseg_ros.config import Config, from_flat
from samseg_ros.datasets.bag import open_bag
from samseg_ros.datasets.bag_frames import bag_calibration, build_frame, steps
from samseg_ros.datasets.bag_topics import guess_topics
from samseg_ros.labels import load_labels
from samseg_ros.models import LoadedModel, ModelSpec, build_network
from samseg_ros.pipeline import Pipeline
from samseg_ros.types import Frame

SIDE = 1024
SPEC = ModelSpec(
    name="mm_sam_adapter",
    preset="vit_l",
    labels="cityscapes",
    modalities=("rgb", "lidar"),
    input_pixels=SIDE * SIDE,
    weights="vit_l.safetensors",
    licence="Apache-2.0",
)


def _kitti_squared(shared_data: Path) -> Frame:
    """The first set of a real recording, its 1242 x 375 image and its camera brought to 1024 x 1024."""
    config = Config()
    with open_bag(shared_data / "bags" / "kitti_seq_db3") as bag:
        topics = guess_topics(bag, {})
        step = next(step for step in steps(bag, topics, config.sync) if step.matched is not None)
        troubles: list[tuple[str, str]] = []
        calibration = bag_calibration(bag, topics)
        frame = build_frame(bag, step, calibration, config, lambda name, what: troubles.append((name, what)))
    assert frame.camera is not None and not troubles
    scale = np.diag([SIDE / frame.size[1], SIDE / frame.size[0], 1.0])
    camera = replace(frame.camera, width=SIDE, height=SIDE, k=scale @ frame.camera.k)
    return replace(frame, image=cv2.resize(frame.image, (SIDE, SIDE)).astype(np.uint8), camera=camera)


@pytest.mark.slow
def test_vit_l_segments_a_real_frame_at_1024_pixels(shared_data: Path) -> None:
    torch.manual_seed(0)
    frame, labels = _kitti_squared(shared_data), load_labels(SPEC.labels)
    network = build_network(SPEC.name, SPEC.preset, SPEC.modalities, len(labels))
    pipeline = Pipeline(LoadedModel(network, labels, SPEC), from_flat({"model.precision": "fp32"}))
    seen, _ = pipeline.prepare(frame)
    assert {name: array.shape for name, array in seen.items()} == dict.fromkeys(("rgb", "lidar"), (3, SIDE, SIDE))
    assert seen["lidar"].any()
    segmentation = pipeline(frame)
    assert segmentation.sensors == ("rgb", "lidar") and not segmentation.problems
    assert segmentation.logits.shape == (19, SIDE // 4, SIDE // 4) and np.isfinite(segmentation.logits).all()
    assert segmentation.labels.shape == (SIDE, SIDE) and segmentation.labels.max() < 19
