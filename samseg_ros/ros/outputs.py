"""What the node publishes. Everything is computed for those who listen, and for nobody else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header, String

from samseg_ros import autoware, drawing, posterior
from samseg_ros.autoware import AutowareIds
from samseg_ros.config import AutowareConfig, Config
from samseg_ros.labels import LabelSet
from samseg_ros.ros import messages
from samseg_ros.ros.interop import optional
from samseg_ros.ros.qos import LATCHED, OUTPUT
from samseg_ros.sensing import convert
from samseg_ros.sensing.projection import LidarImage, project_to_camera
from samseg_ros.types import Camera, Frame, PointCloud, Segmentation


@dataclass(slots=True)
class Result:
    """One segmented frame on its way out."""

    header: Header
    """Of the camera image: its stamp and optical frame go on every output."""
    frame: Frame
    segmentation: Segmentation
    config: Config
    labels: LabelSet
    ids: AutowareIds = autoware.NONE
    """What is published in Autoware's ids."""
    stand_ins: Set[str] = frozenset()
    """Sensors of which an earlier message stands in (`on_missing: last`)."""
    _projection: LidarImage | None = None

    def projection(self) -> LidarImage | None:
        """Project the sweep at camera size, once; None without a LiDAR that can be projected."""
        if self._projection is None:
            self._projection = project_to_camera(self.frame, self.config.projection)
        return self._projection


def _mask(result: Result) -> Any:
    return messages.image_message(result.header, result.segmentation.labels, "mono8")


def _mask_rle(result: Result) -> Any:
    if result.ids.mask is None:
        return None
    ids = autoware.mask_ids(result.segmentation, result.ids.mask, result.config.autoware.min_confidence)
    return messages.run_length_message(result.header, ids)


def _confidence(result: Result) -> Any:
    confidence, encoding = result.segmentation.confidence, result.config.publish.confidence_encoding
    shown = confidence if encoding == "mono8" else confidence.astype(np.float32) / np.float32(255)
    return messages.image_message(result.header, shown, encoding)


def _class_probabilities(result: Result) -> Any:
    stride, segmentation = result.config.publish.probabilities_stride, result.segmentation
    cells = posterior.probabilities(segmentation.logits, result.frame.size, stride, segmentation.published_from_model)
    return messages.image_message(result.header, cells, f"8UC{cells.shape[2]}")


def _class_confidence(result: Result) -> Any:
    return messages.class_confidence(result.header, result.labels, result.segmentation)


def _painted_cloud(result: Result) -> Any:
    projection, points = result.projection(), result.frame.points
    if projection is None or points is None or "lidar" in result.stand_ins:  # old obstacles must not look new
        return None
    class_id, probability, entropy = posterior.at_pixels(result.segmentation, projection.pixels)
    painted = convert.painted_cloud_fields(points.xyz, result.ids.painted(class_id), probability, entropy)
    header = Header(stamp=result.header.stamp, frame_id=points.frame_id)
    return messages.cloud_message(header, painted)


def _overlay(result: Result) -> Any:
    alpha = result.config.publish.overlay_alpha
    picture = drawing.overlay(result.frame.image, result.segmentation.labels, result.labels.palette(), alpha)
    return messages.image_message(result.header, picture, "rgb8")


def _fused(result: Result) -> Any:
    picture = result.segmentation.fused  # None too where the listener came during inference
    return None if picture is None else messages.image_message(result.header, picture, "rgb8")


def _color_mask(result: Result) -> Any:
    picture = drawing.color_mask(result.segmentation.labels, result.labels.palette())
    return messages.image_message(result.header, picture, "rgb8")


def _lidar_depth(result: Result) -> Any:
    projection = result.projection()
    return None if projection is None else messages.image_message(result.header, projection.depth_m, "32FC1")


OUTPUTS: dict[str, tuple[type, Callable[[Result], Any]]] = {
    "~/output/mask": (Image, _mask),
    f"~/{autoware.MASK_TOPIC}": (Image, _mask_rle),
    "~/output/confidence": (Image, _confidence),
    "~/output/class_probabilities": (Image, _class_probabilities),
    "~/output/class_confidence": (DiagnosticArray, _class_confidence),
    f"~/{autoware.CLOUD_TOPIC}": (PointCloud2, _painted_cloud),
    "~/debug/fused": (Image, _fused),
    "~/debug/overlay": (Image, _overlay),
    "~/debug/color_mask": (Image, _color_mask),
    "~/debug/lidar_depth": (Image, _lidar_depth),
}
"""Topic → type, and what makes its message (None: nothing to say about this frame). The mask goes first."""


def warm_up(config: Config, labels: LabelSet) -> None:
    """Make every message once from a tiny frame, so that nothing is compiled when the first listener comes."""
    classes, side = len(labels), 8
    frame = Frame(
        image=np.zeros((side, side, 3), np.uint8),
        points=PointCloud(np.array([[0, 0, 1]], np.float32)),
        camera=Camera(side, side, np.diag([side, side, 1.0])),
        camera_from_lidar=np.eye(4),
    )
    blank = np.zeros(frame.size, np.uint8)
    logits, share = np.zeros((classes, 2, 2), np.float32), np.zeros(classes)
    segmentation = Segmentation(blank, blank, logits, share, share, fused=frame.image)
    result = Result(Header(), frame, segmentation, config, labels)
    for _, make in OUTPUTS.values():
        make(result)


class Outputs:
    """The publishers of one configured node.

    Args:
        node: the owner.
        labels: classes of the masks.
        makes_fused: whether the model makes a fused picture; if not, its topic is not offered.
        config: what is published in Autoware's ids.
        own_classes: the model's own classes, and the id that each is published as.

    Raises:
        SamsegError: there is no table from these classes to Autoware's ids (`autoware.load_ids`).
    """

    def __init__(
        self,
        node: LifecycleNode,
        labels: LabelSet,
        makes_fused: bool,
        config: AutowareConfig,
        own_classes: Mapping[str, int],
    ) -> None:
        self._node = node
        self._ids = autoware.load_ids(config, labels, own_classes)
        left_out: dict[Callable[[Result], Any], bool] = {_fused: not makes_fused, _mask_rle: self._ids.mask is None}
        self._makers: list[tuple[Any, Callable[[Result], Any]]] = []
        for topic, (kind, make) in OUTPUTS.items():
            if not left_out.get(make, False):
                self._makers.append((self._publisher(kind, topic), make))
        self._latched = [node.create_publisher(String, "~/output/label_info", LATCHED)]
        self._latched[0].publish(messages.label_info(labels, self._ids.topics()))
        vision = optional("vision_msgs.msg")
        if vision is not None:
            self._add_vision(vision, labels)

    def publish(self, result: Result) -> None:
        """Publish what somebody listens to."""
        result.ids = self._ids
        for publisher, make in self._makers:
            if publisher.get_subscription_count():
                message = make(result)
                if message is not None:
                    publisher.publish(message)

    def wants_fused(self) -> bool:
        """Whether somebody listens to the fused picture, which only the network can make."""
        return any(make is _fused and publisher.get_subscription_count() for publisher, make in self._makers)

    def close(self) -> None:
        """Take the topics back."""
        for publisher, _ in self._makers:
            self._node.destroy_lifecycle_publisher(publisher)
        for publisher in self._latched:
            self._node.destroy_publisher(publisher)

    def _publisher(self, kind: type, topic: str) -> Any:
        quiet = PublisherEventCallbacks(use_default_callbacks=False)  # each event costs the executor in every cycle
        return self._node.create_lifecycle_publisher(kind, topic, OUTPUT, event_callbacks=quiet)

    def _add_vision(self, vision: Any, labels: LabelSet) -> None:
        """Offer the same facts in vision_msgs types, beside ours and never instead of them."""
        latched = self._node.create_publisher(vision.LabelInfo, "~/output/vision/label_info", LATCHED)
        classes = [vision.VisionClass(class_id=i, class_name=n) for i, n in enumerate(labels.names)]
        latched.publish(vision.LabelInfo(class_map=classes))
        self._latched.append(latched)

        def classification(result: Result) -> Any:
            means = result.segmentation.mean_posterior
            found = [
                vision.ObjectHypothesis(class_id=name, score=float(mean))
                for name, mean in zip(labels.names, means, strict=True)
                if np.isfinite(mean)
            ]
            return vision.Classification(header=result.header, results=found)

        self._makers.append((self._publisher(vision.Classification, "~/output/vision/classification"), classification))
