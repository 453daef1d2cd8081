"""Autoware's two sets of ids, and which of our classes becomes which.

The mask goes to Autoware's segmentation_pointcloud_fusion, which by default deletes the LiDAR points of some classes
near the vehicle. A wrong class there hides an obstacle: what is not known well enough becomes *unknown*, whose points
stay. The painted cloud goes to its label_based_euclidean_cluster, for which id 0 is a car: what has no counterpart
becomes 255.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from samseg_ros.config import AutowareConfig
from samseg_ros.errors import SamsegError
from samseg_ros.labels import LabelSet, load_labels, load_remap, remaps, shipped
from samseg_ros.types import UNLABELLED, Segmentation

MASK, CLOUD = "autoware", "autoware_cloud"
"""Label sets of the mask and of the painted cloud; a shipped table is called ``SOURCE_to_`` one of these."""
MASK_TOPIC, CLOUD_TOPIC = "output/mask_rle", "output/pointcloud"
UNKNOWN = 0
"""In the mask: neither deleted nor taken for anything."""
DELETED = frozenset({1, 2, 9, 14})
"""Building, wall, road, vegetation: classes of the mask whose points Autoware's default filter deletes."""
BARRIERS = ("fence", "pole", "guard", "railing", "barrier", "bollard")
"""Parts of the names of classes that a vehicle must not drive into, thin as they are: they are never deleted."""
ROAD_USERS = frozenset(
    """person people human pedestrian rider cyclist bicyclist motorcyclist child car van truck lorry bus trailer caravan
    train tram vehicle motorcycle motorbike bicycle bike scooter wheeler wheelchair stroller animal dog horse cow cone
    pickup suv""".split()  # noqa: SIM905
)
"""Words in the names of classes that live, drive or stand in the way: never deleted either."""
PLACES = frozenset(
    "lane crossing crosswalk area track park parking stop path way zone walk walkway line".split()  # noqa: SIM905
)
"""What ends a name makes it ground after all: a bike lane, a car park."""


@dataclass(frozen=True, eq=False, slots=True)
class AutowareIds:
    """Tables from the published classes to Autoware's ids; None where the settings do not ask for them."""

    mask: NDArray[np.uint8] | None
    """(256,) ids 0..15."""
    cloud: NDArray[np.uint8] | None
    """(256,) ids 0..11, 255 = invalid."""

    def topics(self) -> dict[str, LabelSet]:
        """Return which topics carry other ids than the mask, and of which set."""
        given = {MASK_TOPIC: (self.mask, MASK), CLOUD_TOPIC: (self.cloud, CLOUD)}
        return {topic: load_labels(name) for topic, (table, name) in given.items() if table is not None}

    def painted(self, class_id: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the ids of (N,) painted points as they are to be published."""
        return class_id if self.cloud is None else self.cloud[class_id]


NONE = AutowareIds(None, None)
"""Nothing is published in Autoware's ids."""


def load_ids(config: AutowareConfig, labels: LabelSet, own_classes: Mapping[str, int] | None = None) -> AutowareIds:
    """Read the tables that the settings ask for.

    Args:
        config: the settings.
        labels: classes that the masks are of.
        own_classes: the model's own classes by name, and which class of ``labels`` each is published as (255: none);
            None: they are ``labels``.

    Raises:
        SamsegError: the label set has no table and the settings name none, the table does not say of every class what
            it becomes, or it would have Autoware delete fences, poles, guard rails or whoever uses the road.
    """
    mask = _table("mask_remap_path", config.mask_remap_path, labels, MASK) if config.mask_rle else None
    cloud = _table("pointcloud_remap_path", config.pointcloud_remap_path, labels, CLOUD) if config.pointcloud else None
    if mask is not None:
        mask[mask == UNLABELLED] = UNKNOWN
        names = {name: index for index, name in enumerate(labels.names)}
        for name, published in (names | dict(own_classes or {})).items():
            _refuse_deleted_obstacle(name, int(mask[published]))
    return AutowareIds(mask, cloud)


def mask_ids(segmentation: Segmentation, table: NDArray[np.uint8], min_confidence: float) -> NDArray[np.uint8]:
    """Return the mask in Autoware's ids, (H, W).

    Args:
        segmentation: of one frame.
        table: (256,) of `AutowareIds`.
        min_confidence: pixels whose max posterior is below become 0 (unknown).
    """
    ids = np.asarray(cv2.LUT(segmentation.labels, table), np.uint8)
    is_sure = segmentation.confidence >= np.uint8(math.ceil(255 * min_confidence))
    np.multiply(ids, is_sure.view(np.uint8), out=ids)  # UNKNOWN is 0
    return ids


def _table(setting: str, given: str, labels: LabelSet, target: str) -> NDArray[np.uint8]:
    if not given:
        given = f"{labels.name}_to_{target}"
        is_ours = labels.name in shipped() and labels.names == load_labels(labels.name).names
        if not is_ours or given not in remaps():
            raise SamsegError(
                f"autoware.{setting}: expected a table from the classes of {labels.name} to Autoware's ids, there is "
                f"none for them; write a CSV (from,to) with a line for each class and name it here, ids and names of "
                f"either side: `samseg labels {labels.name}`, `samseg labels {target}`"
            )
    return load_remap(given, labels, load_labels(target))


def _refuse_deleted_obstacle(name: str, autoware_id: int) -> None:
    """Refuse to have the points of a class deleted by whose name it is an obstacle."""
    if autoware_id in DELETED and _names_an_obstacle(name):
        raise SamsegError(
            f"autoware.mask_rle: expected {name} to become an obstacle (3, or what it is), got {autoware_id}, whose "
            "points Autoware's default filter deletes; correct autoware.mask_remap_path or labels.remap_path"
        )


def _names_an_obstacle(name: str) -> bool:
    words = [word.lower() for word in re.findall("[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]  # TwoWheelers: two, wheelers
    singular = [word if word in ROAD_USERS else word.removesuffix("s") for word in words]
    if singular and singular[-1] in PLACES:
        return False
    return any(part in name.lower() for part in BARRIERS) or not ROAD_USERS.isdisjoint(singular)
