"""Commands about weights: import, random, install, list, fetch, card. They hang in what cli.py builds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape
from rich.table import Column, Table

from samseg_ros.errors import SamsegError, nearest
from samseg_ros.progress import bar

if TYPE_CHECKING:
    from samseg_ros.models import ModelSpec
    from samseg_ros.models.artefact import Artefact

out = Console()
app = typer.Typer(help="Bring in, make up, install, list, fetch and describe weights.", no_args_is_help=True)
SHORT_DIGEST = 8
MODEL = Annotated[str, typer.Option("--model", "-m", help="Model, one of `samseg models`.")]
PRESET = Annotated[str, typer.Option(help="Preset of the model.")]
MODALITIES = Annotated[str, typer.Option(help="As rgb,lidar.")]
LABELS = Annotated[str, typer.Option(help="Label set of the outputs, a name or a CSV.")]
OPTION = Annotated[list[str], typer.Option(help="Option of the model, as fusion=add; repeatable.")]
INPUT_SIZE = Annotated[str, typer.Option(help="Height x width trained at, as 1024x1024.")]
SQUASH = Annotated[
    bool, typer.Option("--squash", help="Images were squashed to --input-size, as AD-SAM's release does.")
]
PRECISION = Annotated[Literal["fp16", "fp32"], typer.Option(help="Of the file written.")]


def register(parent: typer.Typer) -> None:
    """Add the group of commands."""
    parent.add_typer(app, name="weights")


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="SAM's, the MM SAM-adapter authors', or our own .pt, .safetensors.")],
    folder: Annotated[Path, typer.Option("--out", "-o", help="Folder of weights, model.yaml and card.")],
    model: MODEL = "",
    preset: PRESET = "",
    modalities: MODALITIES = "",
    labels: LABELS = "",
    option: OPTION = [],  # noqa: B006 typer copies it
    input_size: INPUT_SIZE = "",
    squash: SQUASH = False,
    entries: Annotated[
        list[str], typer.Option("--set", "-s", help="Another entry of model.yaml, as pad_to=[800,800]; repeatable.")
    ] = [],  # noqa: B006 typer copies it
    licence: Annotated[str, typer.Option(help="Licence of the weights.")] = "",
    data: Annotated[str, typer.Option(help="What they were trained on.")] = "",
    precision: PRECISION = "fp16",
) -> None:
    """Turn a checkpoint into safetensors with model.yaml and card; whose it is, its keys tell.

    What is not given is taken from a model.yaml beside the file. A file that has to run code to be read is refused.
    """
    from samseg_ros.models.card import CARD_FILE, make_card
    from samseg_ros.models.import_weights import complete_spec, import_sam, import_weights, open_source

    found = open_source(source)
    if found.kind == "sam":
        path = import_sam(found, folder, precision)
        out.print(
            f"SAM, every key accounted for: {path}; train with it as sam_checkpoint", soft_wrap=True, markup=False
        )
        return
    given = _given(model, preset, modalities, labels, option, input_size, squash)
    given |= {"licence": licence, "data": data, **_entries(entries)}
    spec = import_weights(found, complete_spec(found, given), folder, precision)
    (folder / CARD_FILE).write_text(make_card(folder))
    _show_written(folder, spec)


@app.command()
def random(
    folder: Annotated[Path, typer.Option("--out", "-o", help="Folder of weights, model.yaml and card.")],
    model: MODEL,
    preset: PRESET,
    modalities: MODALITIES,
    labels: LABELS,
    input_size: INPUT_SIZE = "1024x1024",
    option: OPTION = [],  # noqa: B006 typer copies it
    squash: SQUASH = False,
    seed: Annotated[int, typer.Option(help="Of the random numbers.")] = 0,
    precision: PRECISION = "fp16",
) -> None:
    """Write fresh weights of any size, to try its speed and memory before trained ones are there."""
    from samseg_ros.models.card import CARD_FILE, make_card
    from samseg_ros.models.random_weights import random_weights

    given = _given(model, preset, modalities, labels, option, input_size, squash)
    spec = random_weights(given, folder, seed, precision)
    (folder / CARD_FILE).write_text(make_card(folder))
    _show_written(folder, spec)


@app.command()
def install(
    folder: Annotated[Path, typer.Argument(help="Folder of weights, or of a training run.")],
    replace: Annotated[bool, typer.Option("--replace", help="In the place of weights installed before.")] = False,
) -> None:
    """Put weights where a model is looked for by its name alone ($SAMSEG_MODELS, else the user's data folder)."""
    from samseg_ros.config import model_settings
    from samseg_ros.models import SPEC_FILE, read_spec
    from samseg_ros.models.install import install as put

    target = put(folder, replace)
    spec = read_spec(target / SPEC_FILE)
    changed = [f"{name}={value}" for name, value in model_settings(spec.name, spec.preset).items()]
    out.print(f"installed: {target}; used with {', '.join(changed) or 'the defaults'}", soft_wrap=True, markup=False)


@app.command("list")
def list_(
    folder: Annotated[list[Path], typer.Option(help="A folder of your own, looked through; repeatable.")] = [],  # noqa: B006
) -> None:
    """List the weights that are shipped or installed, and those in folders of your own."""
    from samseg_ros.models import SPEC_FILE
    from samseg_ros.resources import installed_models_dir, models_dir

    name = Column("folder", overflow="fold", min_width=min(25, out.width // 3))
    table = Table(name, Column("weights", overflow="fold"), show_lines=True)  # 80 columns do
    installed = installed_models_dir()
    for root in (models_dir(), *([installed] if installed.is_dir() else []), *folder):
        if not root.is_dir():
            raise SamsegError(f"no folder {root} to look for {SPEC_FILE} in")
        for path in sorted(root.rglob(SPEC_FILE)):
            shown = path.parent if root == installed else path.parent.relative_to(root.parent)
            table.add_row(escape(str(shown)), _facts(path))
    out.print(table)


@app.command()
def fetch(
    what: Annotated[str, typer.Argument(help="A known name or a URL (https, http, file); default: list them.")] = "",
    folder: Annotated[Path, typer.Option("--out", "-o", help="Folder of the file.")] = Path("weights"),
    digest: Annotated[str, typer.Option("--sha256", help="What the file has to be; of known ones it is known.")] = "",
) -> None:
    """Download weights; a download that broke off goes on where it stood. Nothing else here ever downloads."""
    from samseg_ros.models.fetch import KNOWN, resolve
    from samseg_ros.models.fetch import fetch as download

    if not what:
        table = Table("name", "what", "licence", "sha256", Column("URL", overflow="fold"))
        for name, row in KNOWN.items():
            table.add_row(name, row.about, row.licence, row.sha256[:SHORT_DIGEST], row.url)
        out.print(table)
        return
    url, known = resolve(what)
    name = Path(unquote(urlsplit(url).path)).name
    if not name:
        raise SamsegError(f"{url}: expected a URL that ends in the name of a file")
    with bar("fetching (MiB)") as advance:
        found = download(
            url, folder / name, digest or known, lambda done, total: advance(done >> 20, max(done, total) >> 20)
        )
    out.print(f"written: {folder / name}, sha256 {found}", soft_wrap=True, markup=False)
    if not (digest or known):
        out.print("[yellow]nothing proved that this is the right file: compare its sha256[/]", soft_wrap=True)


@app.command()
def card(
    what: Annotated[str, typer.Argument(help="A model, or a folder of weights or of a run.")],
    write: Annotated[bool, typer.Option("--write", help="Write card.md into the folder.")] = False,
) -> None:
    """Show a model's card, or make one for a folder of trained weights from what lies beside them."""
    from samseg_ros.models import MODELS
    from samseg_ros.models.card import CARD_FILE, make_card, model_folder
    from samseg_ros.resources import models_dir

    folder = Path(what)
    shipped = models_dir() / what / CARD_FILE
    if not folder.is_dir() and not shipped.is_file():
        known = [name for name in MODELS if (models_dir() / name / CARD_FILE).is_file()]
        raise SamsegError(f"no card of {what!r} and no such folder; {nearest(what, known)}")
    if not folder.is_dir():
        out.print(Markdown(shipped.read_text()))
        return
    path = model_folder(folder) / CARD_FILE
    if write and path.exists():
        raise SamsegError(f"{path} is there already, and may hold what only you know; remove it to write it anew")
    text = path.read_text() if path.exists() else make_card(folder)
    out.print(Markdown(text))
    if write:
        path.write_text(text)
        out.print(f"written: {path}", soft_wrap=True, markup=False)


def _facts(path: Path) -> str:
    """Return what one model.yaml says in four lines, or what is wrong with it."""
    from samseg_ros.models import read_spec

    try:
        spec = read_spec(path)
    except SamsegError as error:
        return f"[red]{escape(str(error))}[/]"
    sees = f"{', '.join(spec.modalities)} → {spec.labels}"
    about = "; ".join(filter(None, (spec.data, spec.licence)))
    size = _size_of(path.parent / spec.weights, spec.artefact)
    return escape("\n".join((_named(spec), sees, f"{size}; sha256 {spec.sha256[:SHORT_DIGEST]}", about)))


def _size_of(weights: Path, artefact: Artefact | None) -> str:
    from samseg_ros.models.card import file_facts

    if not weights.exists():
        return "missing"
    if artefact is not None:
        (h, w), megabytes = artefact.input_size, weights.stat().st_size / 1e6
        return f"exported ({artefact.format}, sees {h}x{w} at once), {megabytes:.1f} MB"
    try:
        facts = file_facts(weights)
    except SamsegError:
        return "damaged"
    return f"{facts.parameters / 1e6:.1f}M parameters, {facts.megabytes:.1f} MB"


def _named(spec: ModelSpec) -> str:
    return ", ".join([spec.name, spec.preset, *(f"{name}={value}" for name, value in spec.options.items())])


def _entries(texts: list[str]) -> dict[str, Any]:
    """Read name=value pairs, the values as YAML."""
    import yaml

    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            found[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            equals = ""
        if not equals:
            raise SamsegError(f"--set {text}: expected NAME=VALUE, the value as in YAML")
    return found


def _given(
    model: str, preset: str, modalities: str, labels: str, option: list[str], input_size: str, squash: bool
) -> dict[str, Any]:
    """Return entries of a model.yaml."""
    if squash and not input_size:
        raise SamsegError("--squash: expected the size that images were squashed to; give --input-size too")
    return {
        "name": model,
        "preset": preset,
        "options": _options(option),
        "labels": labels,
        "modalities": tuple(filter(None, (name.strip() for name in modalities.split(",")))),
        "input_pixels": _pixels(input_size),
        **({"squash_to": _size(input_size)} if squash else {}),
    }


def _show_written(folder: Path, spec: ModelSpec) -> None:
    out.print(
        f"written: {folder / spec.weights}, sha256 {spec.sha256}; how to use it: samseg weights card {folder}",
        soft_wrap=True,
    )


def _options(assignments: list[str]) -> dict[str, str]:
    options = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise SamsegError(f"--option {assignment}: expected NAME=VALUE, such as fusion=add")
        options[name.strip()] = value.strip()
    return options


def _pixels(size: str) -> int:
    """``1024x1024`` to 1048576; 0 where nothing is given."""
    height, width = _size(size) or (0, 0)
    return height * width


def _size(size: str) -> tuple[int, int] | None:
    """``1024x1024`` to (1024, 1024); None where nothing is given."""
    if not size:
        return None
    height, _, width = size.lower().partition("x")
    if not all(side.isascii() and side.isdigit() for side in (height, width)):
        raise SamsegError(f"--input-size {size}: expected HEIGHTxWIDTH in pixels, such as 1024x1024")
    return int(height), int(width)
