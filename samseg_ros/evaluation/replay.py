"""What a live and a direct replay have in common: opening the recording, choosing topics, settings and extrinsics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path

from samseg_ros.config import Config
from samseg_ros.datasets.bag import Bag, open_bag
from samseg_ros.datasets.bag_frames import bag_calibration, require_still
from samseg_ros.datasets.bag_topics import BagTopics, other_cameras, used_topics
from samseg_ros.errors import SamsegError
from samseg_ros.evaluation.results import Run
from samseg_ros.sensing.calibration import Calibration

LEFT_OUT = "left out by the synchroniser: a required input is missing, or the stamp is refused"
"""Why an image has no set."""


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What a user asks for."""

    bag: Path
    out: Path
    """Folder of the results; files of an earlier replay in it are replaced."""
    config: Config
    topics: Mapping[str, str | None] = field(default_factory=dict)
    """Fields of `BagTopics` that the user named; see `guess_topics`."""
    calibration: str = ""
    """File of extrinsics; empty: the one in the settings, else /tf_static of the recording."""
    rate: float = 0.0
    """Live: times real time; 0 is lockstep."""
    timeout_s: float = 10.0
    """Live: longest wait for a mask."""
    pictures: int = 60
    """Overlay pictures at most, evenly spread."""
    title: str = ""
    """Heading of the report."""


@dataclass(frozen=True, eq=False, slots=True)
class Replay:
    """An opened recording, ready to be replayed."""

    options: ReplayOptions
    bag: Bag
    topics: BagTopics
    config: Config
    """The user's settings, with inputs that the recording lacks switched off."""
    calibration: Calibration | None
    cameras: tuple[str, ...]
    """Other camera topics, not chosen."""

    @property
    def frames(self) -> int:
        """Number of camera images."""
        return self.bag.topics[self.topics.image].count

    def run(self, mode: str, *notes: str) -> Run:
        """Describe the run for the results."""
        model, topics = self.config.model, {f.name: getattr(self.topics, f.name) for f in fields(self.topics)}
        name = f"{model.name} ({model.config})"
        notes = tuple(filter(None, (self.bag.damage, *notes)))
        return Run(str(self.options.bag), mode, name, topics, self.config, self.options.rate, notes)


class Watcher:
    """Told how a replay gets on; this one keeps it to itself."""

    def opened(self, replay: Replay) -> None:
        """Take the recording, with the topics chosen."""

    def starting(self, what: str) -> None:
        """Take one line about what is going on before the first frame."""

    def progress(self, done: int, frames: int) -> None:
        """Take how many of the camera images are done."""


@contextmanager
def open_replay(options: ReplayOptions, makes_folder: bool = True) -> Iterator[Replay]:
    """Open the recording, choose topics, and make the output folder (or not).

    Raises:
        SamsegError: the recording, a topic, or the calibration cannot be used, or motion compensation is asked for.
    """
    if makes_folder:  # a mere player leaves fusing to others
        require_still(options.config.projection)
    with open_bag(options.bag) as bag:
        switched_off: dict[str, str] = {}
        if makes_folder and options.config.projection.thermal == "aligned":  # a mere player plays it all the same
            switched_off["thermal_info"] = ""
        topics = used_topics(bag, options.config, {**options.topics, **switched_off})
        inputs = options.config.inputs.model_copy(update={"thermal": bool(topics.thermal), "lidar": bool(topics.lidar)})
        path = options.calibration or options.config.projection.calibration_path
        calibration = bag_calibration(bag, topics, path)
        if makes_folder:
            _make_folder(options.out)
        config = options.config.model_copy(update={"inputs": inputs})
        yield Replay(options, bag, topics, config, calibration, other_cameras(bag, topics))


def _make_folder(out: Path) -> None:
    """Make the output folder, and remove what an earlier replay left: its pictures and scores may not come again."""
    try:
        for name in ("per_class.csv", "confusion.csv", "metrics.json", "report.html"):
            (out / name).unlink(missing_ok=True)
        for name in ("masks", "overlays"):
            (out / name).mkdir(parents=True, exist_ok=True)
        for name in ("masks", "overlays", "fused"):
            for file in (out / name).glob("*.png"):
                file.unlink()
    except OSError as error:
        raise SamsegError(f"{out}: cannot be written ({error.strerror}); choose another folder with --out") from None
