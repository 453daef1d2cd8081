"""Who answers for a frame: a model that is run on it, or the recorded outputs of a node that saw it."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from samseg_ros.datasets.bag import Bag, open_bag
from samseg_ros.datasets.message_store import MessageWriter, Slot
from samseg_ros.errors import InputError, SamsegError, nearest
from samseg_ros.evaluation.dataset_table import class_table, only
from samseg_ros.evaluation.measures import Prediction
from samseg_ros.evaluation.own_files import is_own
from samseg_ros.evaluation.recording import IMAGE, NODE, STORE
from samseg_ros.labels import LabelSet, parse_label_info
from samseg_ros.pipeline import Pipeline
from samseg_ros.sensing import convert
from samseg_ros.types import Frame

MASK, CONFIDENCE, LABEL_INFO = "output/mask", "output/confidence", "output/label_info"
"""How the node's topics end."""
ROWS = "result.jsonl"
"""What a replay writes beside its outputs."""
MAX_AGE_MS = 10_000.0
"""A mask that was recorded later than this after its image was not recorded on the image's clock."""


class Predictor(Protocol):
    """Answers for one frame after another."""

    @property
    def damage(self) -> str:
        """What could not be read of what it answers from; empty: nothing."""
        ...

    def __call__(self, frame: Frame) -> Prediction | None:
        """Return the mask in the dataset's classes; None: the frame was dropped."""
        ...


class PipelinePredictor:
    """Runs a model.

    Args:
        pipeline: the model.
        labels: the dataset's classes.
        sensors: what it is given of each frame; empty: everything.
        remap: which of the dataset's classes each of the model's counts as, see `load_remap`; empty: they are the same.

    Raises:
        SamsegError: the classes differ, or as `load_remap`.
    """

    damage = ""

    def __init__(self, pipeline: Pipeline, labels: LabelSet, sensors: Sequence[str] = (), remap: str = "") -> None:
        self._pipeline, self._sensors = pipeline, tuple(sensors)
        table = class_table(pipeline.labels, labels, remap)
        self._table = table if remap else None

    def __call__(self, frame: Frame) -> Prediction:
        """Segment the frame.

        Raises:
            SamsegError: the camera image cannot be used, or the network's scores are not finite.
        """
        seen = only(frame, self._sensors) if self._sensors else frame
        started = time.perf_counter()
        result = self._pipeline(seen)
        latency_ms = (time.perf_counter() - started) * 1e3
        sensors = "+".join(result.sensors)
        if self._table is not None:
            return Prediction(self._table[result.labels], result.confidence, sensors, latency_ms)
        return Prediction(result.labels, result.confidence, sensors, latency_ms, result.logits)


class RecordedPredictor:
    """Looks masks up by the stamp of the camera image, in any recording of a node's outputs.

    The recording is walked through once; masks and confidences are copied, as they are, into a temporary file. Where a
    stamp comes twice (a recording that was looped), the last one counts. How long a mask took is taken from the
    ``result.jsonl`` of the replay beside it, else it is the time from the stamp to the recording, where that can be.

    Args:
        path: rosbag2 folder, .mcap or .db3 with the topics of one node; outputs.mcap of a replay is one.
        labels: the dataset's classes.
        mask_topic: where the masks are; empty: the one that ends in output/mask.

    Raises:
        SamsegError: the recording cannot be read, has no such topic or several, or says that it is of other classes.
    """

    def __init__(self, path: Path, labels: LabelSet, mask_topic: str = "") -> None:
        self._store = tempfile.TemporaryFile(prefix="samseg-outputs-")  # noqa: SIM115 lives as long as this object
        self._slots: dict[str, dict[int, Slot]] = {MASK: {}, CONFIDENCE: {}}
        writer = MessageWriter(self._store)
        with open_bag(path) as bag:
            mask = _mask_topic(bag, mask_topic)
            node = mask.removesuffix(MASK)
            _refuse_other_classes(bag, node + LABEL_INFO, labels)
            for message in bag.messages((mask, node + CONFIDENCE)):
                slots = self._slots[MASK if message.topic == mask else CONFIDENCE]
                slots[message.stamp_ns] = writer.keep(message)
            self.damage = bag.damage
        self._rows = _rows(path)

    @property
    def stamps_ns(self) -> frozenset[int]:
        """Stamps of the frames that have a mask."""
        return frozenset(self._slots[MASK])

    def __call__(self, frame: Frame) -> Prediction | None:
        """Return what was recorded for the frame's stamp.

        Raises:
            SamsegError: a message is damaged, or of an encoding that the node does not use.
        """
        mask, confidence = self._image(MASK, frame.stamp_ns), self._image(CONFIDENCE, frame.stamp_ns)
        if mask is None:
            return None
        if mask.dtype != np.uint8:
            raise InputError("recorded mask", expected="mono8", got=str(mask.dtype), remedy="record the node's own")
        if confidence is not None and confidence.dtype.kind == "f":
            confidence = np.rint(255 * np.clip(np.nan_to_num(confidence), 0, 1)).astype(np.uint8)
        row = self._rows.get(frame.stamp_ns, {})
        age_ms = (self._slots[MASK][frame.stamp_ns].log_ns - frame.stamp_ns) * 1e-6
        latency_ms = row.get("latency_ms") or (age_ms if 0 < age_ms < MAX_AGE_MS else np.nan)
        return Prediction(mask, confidence, "+".join(row.get("sensors", ())), latency_ms)

    def _image(self, kind: str, stamp_ns: int) -> NDArray[Any] | None:
        slot = self._slots[kind].get(stamp_ns)
        if slot is None:
            return None
        self._store.seek(slot.offset)
        raw = self._store.read(slot.size)
        try:
            message = STORE.deserialize_cdr(raw, IMAGE)
        except Exception as error:  # a reader fed with damaged bytes may raise anything
            raise SamsegError(f"{kind} of frame {stamp_ns}: cannot be decoded ({error}); record it again") from None
        return np.asarray(convert.thermal_image(message))  # any image of one channel


def _mask_topic(bag: Bag, wanted: str) -> str:
    if wanted in bag.topics:
        return wanted
    if wanted:
        raise SamsegError(f"{bag.path}: no topic {wanted!r}; {nearest(wanted, bag.topics)}")
    found = [name for name, topic in bag.topics.items() if name.endswith(MASK) and topic.type == IMAGE and topic.count]
    if len(found) != 1:
        raise InputError(
            f"{bag.path}: recorded masks",
            expected=f"one topic of images that ends in {MASK}, as {NODE}/{MASK}",
            got=", ".join(found) or "none",
            remedy="record the outputs of one node by itself",
        )
    return found[0]


def _refuse_other_classes(bag: Bag, topic: str, labels: LabelSet) -> None:
    """The recording says its classes where the latched topic was recorded; where not, the ids are taken as they are."""
    info = bag.first(topic) if topic in bag.topics else None
    if info is not None:
        class_table(parse_label_info(info.data), labels)


def _rows(path: Path) -> Mapping[int, Mapping[str, Any]]:
    """Return stamp -> line of the replay's own result.jsonl."""
    file = path.parent / ROWS
    if path.is_dir() or not file.is_file() or is_own(file):  # an evaluation's has the same name
        return {}
    try:
        return {int(row["stamp_ns"]): row for row in map(json.loads, file.read_text().splitlines())}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SamsegError(f"{file}: expected a line a frame, as a replay writes them ({error}); remove it") from None
