"""`samseg`: thin commands over the library. Heavy imports stand inside the commands, so that `--help` is quick."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.table import Table

from samseg_ros import cli_datasets, cli_doctor, cli_evaluate, cli_export, cli_models, cli_training, cli_weights
from samseg_ros.cli_settings import MODEL, PARAMS, SET, chosen_config
from samseg_ros.errors import SamsegError
from samseg_ros.progress import bar

if TYPE_CHECKING:
    from samseg_ros.evaluation.replay import Replay, ReplayOptions, Watcher

app = typer.Typer(
    help="Camera + thermal + LiDAR segmentation with SAM-based fusion models, on real ROS 2.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
out = Console()
err = Console(stderr=True)

SEED = Annotated[int, typer.Option(help="Of the generated scenes.")]
TOPIC_HELP = "in the recording; '' switches it off; default: guessed."


def _show_version(wanted: bool) -> None:
    if wanted:
        from samseg_ros import __version__
        from samseg_ros.provenance import revision

        out.print(f"samseg_ros {__version__} {revision()}".strip(), highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and revision.")
    ] = False,
) -> None:
    pass


def _terminated(number: int, _: object) -> None:
    """End as after an error, so that temporary files go; asked again, end at once."""
    signal.signal(number, signal.SIG_DFL)
    sys.exit(128 + number)


def main() -> None:
    """Run the command line; errors that a user can act on become one red line and exit code 2."""
    signal.signal(signal.SIGTERM, _terminated)
    logging.basicConfig(
        level=logging.WARNING, format="%(message)s", handlers=[RichHandler(console=err, show_path=False)]
    )
    try:
        app()
    except SamsegError as error:
        err.print(f"[bold red]error:[/] [red]{escape(str(error))}[/]", soft_wrap=True, highlight=False)
        sys.exit(2)
    except OSError as error:  # a folder that cannot be written, a full disk
        err.print(f"[bold red]error:[/] [red]{escape(str(error))}[/]", soft_wrap=True, highlight=False)
        sys.exit(2)
    except KeyboardInterrupt:
        err.print("[red]stopped[/]")
        sys.exit(130)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--out", "-o", help="Folder of everything that is written.")] = Path(
        "out/demo"
    ),
    frames: Annotated[int, typer.Option(help="Frames of each of the six conditions.", min=1)] = 8,
    model: MODEL = "",
    params: PARAMS = None,
    seed: SEED = 0,
    direct: Annotated[bool, typer.Option("--direct", help="Without ROS.")] = False,
) -> None:
    """Generate a drive, send it through the live ROS 2 node, score it and write a report."""
    import shutil

    from samseg_ros.datasets.world import write_recording
    from samseg_ros.evaluation.replay import ReplayOptions

    config = chosen_config(model, params)
    recording = folder / "recording"
    if (recording / "metadata.yaml").is_file():  # of an earlier demo; anything else is not ours to remove
        shutil.rmtree(recording)
    with bar("generating a drive", err) as advance:
        write_recording(recording, frames_per_condition=frames, seed=seed, progress=advance)
    options = ReplayOptions(recording, folder, config, title="Demo: a generated drive, camera + thermal + LiDAR")
    measured = _replay(options, direct)
    _show(measured, folder)
    if not measured["frames"]["published"]:
        raise SamsegError(f"no mask came out; see {folder / 'node.log'}")


@app.command()
def replay(
    bag: Annotated[Path, typer.Argument(help="rosbag2 folder, .mcap or .db3.")],
    folder: Annotated[Path, typer.Option("--out", "-o", help="Folder of the results.")] = Path("out/replay"),
    model: MODEL = "",
    params: PARAMS = None,
    settings: SET = [],  # noqa: B006 typer copies it
    direct: Annotated[bool, typer.Option("--direct", help="Read the recording without ROS: the reference.")] = False,
    rate: Annotated[float, typer.Option(help="Live: times real time; 0: lockstep, no frame is lost.", min=0.0)] = 0.0,
    timeout: Annotated[float, typer.Option(help="Live: longest wait for a mask, s.", min=0.1)] = 10.0,
    image_topic: Annotated[Optional[str], typer.Option(help=f"Camera image {TOPIC_HELP}")] = None,  # noqa: UP045
    thermal_topic: Annotated[Optional[str], typer.Option(help=f"Thermal image {TOPIC_HELP}")] = None,  # noqa: UP045
    lidar_topic: Annotated[Optional[str], typer.Option(help=f"Point cloud {TOPIC_HELP}")] = None,  # noqa: UP045
    labels_topic: Annotated[Optional[str], typer.Option(help=f"Class ids to score with {TOPIC_HELP}")] = None,  # noqa: UP045
    calibration: Annotated[str, typer.Option(help="Extrinsics (YAML); default: the recording's /tf_static.")] = "",
    pictures: Annotated[int, typer.Option(help="Overlay pictures at most, evenly spread.", min=0)] = 60,
    publish_only: Annotated[
        bool, typer.Option("--publish-only", help="Only play the topics, to whatever nodes are running.")
    ] = False,
    loop: Annotated[bool, typer.Option("--loop", help="With --publish-only: start again at the end.")] = False,
) -> None:
    """Replay a recording, through the live node or directly; masks, pictures, scores and a report come out."""
    from samseg_ros.evaluation.replay import ReplayOptions

    topics = {"image": image_topic, "thermal": thermal_topic, "lidar": lidar_topic, "labels": labels_topic}
    options = ReplayOptions(
        bag, folder, chosen_config(model, params, settings), topics, calibration, rate, timeout, pictures
    )
    if publish_only:
        from samseg_ros.ros.player import play

        with _watcher() as watcher:
            play(options, watcher, loop=loop)
        return
    if loop:
        raise SamsegError("--loop is for --publish-only: a replay that is scored shows every frame once")
    measured = _replay(options, direct)
    _show(measured, folder)
    if not measured["frames"]["published"]:
        raise SamsegError(f"no mask came out of {bag}; see {folder / 'report.html'}")


@app.command()
def world(
    folder: Annotated[Path, typer.Argument(help="Folder of the bag; must not exist.")],
    split: Annotated[str, typer.Option(help="train, val or test: scenes, shapes and textures differ.")] = "test",
    conditions: Annotated[str, typer.Option(help="Comma-separated; default: all.")] = "",
    frames: Annotated[int, typer.Option(help="Frames of each condition.", min=1)] = 10,
    seed: SEED = 0,
    thermal_offset: Annotated[
        tuple[float, float], typer.Option(help="Thermal camera beside the camera: metres and degrees to the right.")
    ] = (0.0, 0.0),
) -> None:
    """Write a generated drive as a rosbag2 (MCAP): camera, thermal, LiDAR, /tf_static and ground truth."""
    from samseg_ros.datasets.world import CONDITIONS, write_recording

    if folder.suffix in (".mcap", ".db3"):
        raise SamsegError(f"{folder}: expected the name of a folder for the recording; leave out {folder.suffix}")
    names = tuple(filter(None, (name.strip() for name in conditions.split(",")))) or tuple(CONDITIONS)
    with bar("generating", err) as advance:
        write_recording(folder, split, names, frames, seed, progress=advance, thermal_offset=thermal_offset)
    out.print(f"written: {folder}", markup=False)


@app.command()
def models(
    name: Annotated[str, typer.Argument(help="A model; default: list them.")] = "",
    sensors: Annotated[str, typer.Option(help="Comma-separated; default: the model's own choice of two.")] = "",
    classes: Annotated[int, typer.Option(help="Number of classes.", min=1)] = 25,
) -> None:
    """List the models, or the presets, sizes and options of one."""
    from samseg_ros.models import MODELS, model_entry, sizes

    if not name:
        table = Table("model", "about", "presets")
        for row, entry in MODELS.items():
            table.add_row(row, escape(entry.about), ", ".join(entry.presets))
        out.print(table)
        return
    entry = model_entry(name)
    chosen = tuple(filter(None, (s.strip() for s in sensors.split(",")))) or entry.sensors
    out.print(f"[bold]{name}[/]: {escape(entry.about)} {entry.paper}", highlight=False)
    beside = f" and any of {', '.join(entry.auxiliaries)}" if entry.auxiliaries else ""
    out.print(
        f"inputs: rgb{beside}, (B, 3, H, W) each, from 64 x 64 pixels; output: logits (B, K, H, W)", highlight=False
    )
    table = Table("preset", "parameters", "learn", "parts", title=f"sizes for {' + '.join(chosen)}, {classes} classes")
    for preset in entry.presets:
        size = sizes(name, preset, chosen, classes)
        parts = ", ".join(f"{part} {count / 1e6:.2f}M" for part, count in size.parts.items())
        table.add_row(preset, f"{size.total / 1e6:.2f}M", f"{size.trained / 1e6:.2f}M", parts)
    out.print(table)
    for option, values in entry.options.items():
        out.print(f"option {option}: [bold]{values[0]}[/]" + "".join(f" | {v}" for v in values[1:]), highlight=False)


@app.command()
def labels(
    name: Annotated[str, typer.Argument(help="A shipped label set or a CSV; default: list them.")] = "",
) -> None:
    """List the label sets, or the classes of one."""
    from samseg_ros.labels import load_labels, shipped

    table = Table("id", "class", "colour") if name else Table("label set", "classes")
    if name:
        label_set = load_labels(name)
        for index, (label, color) in enumerate(zip(label_set.names, label_set.colors, strict=True)):
            r, g, b = (int(c) for c in color)
            table.add_row(str(index), label, f"[on rgb({r},{g},{b})]    [/] {r} {g} {b}")
    else:
        for shipped_name in shipped():
            table.add_row(shipped_name, str(len(load_labels(shipped_name))))
    out.print(table)


@app.command()
def schema() -> None:
    """Print the JSON schema of all settings."""
    import json

    from samseg_ros.schema import json_schema

    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")


def _replay(options: ReplayOptions, direct: bool) -> dict[str, Any]:
    with _watcher() as watcher:
        if direct:
            from samseg_ros.evaluation.replay_direct import replay_direct

            return replay_direct(options, watcher)
        try:
            from samseg_ros.ros.replay import replay_live
        except ModuleNotFoundError as error:
            raise SamsegError(
                f"ROS 2 for Python is not here ({error}): source a ROS 2 distribution, install the wheels "
                "(pip install 'samseg_ros[ros]'), or replay without ROS: --direct"
            ) from None
        return replay_live(options, watcher)


@contextmanager
def _watcher() -> Iterator[Watcher]:
    """Show how a replay gets on."""
    from samseg_ros.evaluation.replay import Watcher

    with bar("frames", err) as advance:

        class Shown(Watcher):
            def opened(self, replay: Replay) -> None:
                _show_topics(replay)

            def starting(self, what: str) -> None:
                err.print(what, style="dim")

            def progress(self, done: int, frames: int) -> None:
                advance(done, frames)

        yield Shown()


def _show_topics(replay: Replay) -> None:
    """Print what serves as what; the flags that change it stand beside."""
    topics = {"image": "--image-topic", "thermal": "--thermal-topic", "lidar": "--lidar-topic"}
    topics |= {
        "camera_info": "",
        "thermal_info": "",
        "labels": "--labels-topic",
        "condition": "",
        "tf_static": "--calibration",
    }
    table = Table(title=escape(str(replay.bag.path)), title_justify="left")
    for column in ("input", "topic", "messages", "type", "change with"):
        table.add_column(column, overflow="fold")
    for field, flag in topics.items():
        name = getattr(replay.topics, field)
        topic = replay.bag.topics.get(name)
        count, kind = (str(topic.count), topic.type.rpartition("/")[2]) if topic else ("", "")
        table.add_row(field, name or "[dim]none[/]", count, kind, f"[dim]{flag}[/]")
    err.print(table)
    for note in filter(None, (replay.bag.damage, _others(replay))):
        err.print(f"[yellow]{escape(note)}[/]", soft_wrap=True)


def _others(replay: Replay) -> str:
    return f"also in the recording, not used: {', '.join(replay.cameras)}" if replay.cameras else ""


def _show(measured: Mapping[str, Any], folder: Path) -> None:
    """Print what was measured and where the report is."""
    scored = measured.get("labels")
    if scored:
        table = Table("condition", "mIoU %", "95 % interval", "accuracy %", "frames")
        for name, s in [*scored["conditions"].items(), ("all", scored)]:
            low, high = s["miou_interval"]
            interval = "" if low is None else f"{100 * low:.1f} – {100 * high:.1f}"
            table.add_row(name, _percent(s["miou"]), interval, _percent(s["accuracy"]), str(s["frames"]))
        out.print(table)
    frames, latency = measured["frames"], measured["latency_ms"]
    line = f"frames received {frames['received']}, masks {frames['published']}, dropped {frames['dropped']}"
    if latency["p50"] is not None:
        line += f"; latency p50 {latency['p50']:.0f} ms, p95 {latency['p95']:.0f} ms; {measured['fps']:.1f} masks/s"
    out.print(line, highlight=False, soft_wrap=True)
    sensors = ", ".join(f"{number} × {name.replace('+', ' + ')}" for name, number in measured["sensors"].items())
    out.print(f"fused: {sensors or 'nothing'}", highlight=False, soft_wrap=True)
    if fusion := measured.get("fusion"):
        from samseg_ros.evaluation.fusion_metrics import named

        numbers = ", ".join(f"{name} {value}" for name, value in named(fusion))
        out.print(f"fused pictures ({fusion['frames']} measured): {numbers}", highlight=False, soft_wrap=True)
    for note in (*measured["notes"], *measured["errors"], *measured["troubles"]):
        err.print(f"[yellow]{escape(note)}[/]", soft_wrap=True)
    out.print(f"report: {folder / 'report.html'}", highlight=False, soft_wrap=True, markup=False)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


for part in (cli_evaluate, cli_models, cli_training, cli_export, cli_datasets, cli_weights, cli_doctor):
    part.register(app)

if __name__ == "__main__":
    main()
