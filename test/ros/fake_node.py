"""The real node around a pipeline that takes no time to load: class 1 where the image is bright, class 0 elsewhere.

As a script it is a `fusion_node` in a process of its own. A first argument ``--frame-seconds S`` makes the model slow.
"""

from __future__ import annotations

import sys
import threading
import time

import numpy as np

from samseg_ros.labels import LabelSet
from samseg_ros.posterior import posterior
from samseg_ros.ros.fusion_node import main
from samseg_ros.types import Frame, Segmentation

LABELS = LabelSet("fake", ("dark", "bright", "never"), np.array([[0, 0, 255], [255, 255, 0], [9, 9, 9]], np.uint8))


class FakePipeline:
    """Labels by brightness; remembers what it saw; can be held up."""

    labels = LABELS
    modalities = ("rgb", "thermal", "lidar")
    makes_fused = False
    own_classes = {name: i for i, name in enumerate(LABELS.names)}  # noqa: RUF012
    runs_on = "nothing, bool"

    def __init__(self, config=None, frame_seconds=0.0):
        self.config = config
        self.frame_seconds = frame_seconds
        self.frames: list[Frame] = []
        self.asked_for_fused: list[bool] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.failure: Exception | None = None
        self.problems: dict[str, str] = {}

    def warm_up(self, size):
        pass

    def __call__(self, frame, fused=False):
        self.frames.append(frame)
        self.asked_for_fused.append(fused)
        self.go_on.wait()
        time.sleep(self.frame_seconds)
        if self.failure is not None:
            raise self.failure
        bright = frame.image[::4, ::4].mean(-1) > 127
        logits = np.stack([np.where(bright, -4.0, 4.0), np.where(bright, 4.0, -4.0), np.full(bright.shape, -8.0)])
        logits = logits.astype(np.float32)
        best = posterior(logits, frame.size, self.config.publish.min_confidence if self.config else 0.0)
        present = {"thermal": frame.thermal, "lidar": frame.points}
        return Segmentation(
            best.labels,
            best.confidence,
            logits,
            best.pixel_share,
            best.mean_posterior,
            frame.stamp_ns,
            frame.frame_id,
            ("rgb", *(name for name, data in present.items() if data is not None)),
            {"prepare": 0.1, "model": 0.2, "posterior": 0.3},
            dict(self.problems),
            fused=255 - frame.image if fused and self.makes_fused else None,
        )


if __name__ == "__main__":
    arguments = sys.argv[1:]
    seconds = 0.0
    if arguments[:1] == ["--frame-seconds"]:
        seconds, arguments = float(arguments[1]), arguments[2:]
    sys.exit(main([sys.argv[0], *arguments], lambda config: FakePipeline(config, seconds)))
