"""torch.export's files (.pt2), read without running anything that stands in them.

``torch.export.load`` trusts its file: tensors and example inputs may be pickled (and are unpickled without limits),
operators are looked up by name in all of ``torch`` (``torch.os.system`` is one), shapes are expressions that are
evaluated. So a file is read only after all of it was held against what an exported network of ours consists of: raw
tensors, operators of ``aten``, and shapes of a few sums and products. PyTorch may change the layout of its files; one
that is not known is refused as well.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.pt2_archive._package import load_pt2

from samseg_ros.errors import InputError, SamsegError

GRAPH = "models/model.json"
CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
EXAMPLES = "data/sample_inputs/model.pt"
RECORDS = re.compile(
    "|".join(map(re.escape, (GRAPH, *CONFIGS, EXAMPLES)))
    + r"|data/weights/weight_\d+|data/constants/tensor_\d+|archive_(format|version)|byteorder|(\.data/)?version"
    r"|\.data/serialization_id|\.format_version|\.storage_alignment"
)
OPERATORS = re.compile(
    r"torch\.ops\.aten\.(?!from_file\b)\w+\.\w+|torch\.ops\.higher_order\.wrap_with_autocast|_operator\.(add|sub|mul|floordiv|mod|neg|pow|eq|ne|lt|le|gt|ge|getitem)"
)
"""from_file would open a file; what autocast wraps is a graph of its own, checked as the whole."""
WORDS = re.compile(
    r"\s*(Symbol|Integer|Add|Mul|Pow|Mod|PythonMod|FloorDiv|CleanDiv|Max|Min|True|positive|integer|nonnegative|'?[su]\d+'?"
    r"|-?\d+|[(),=])\s*"
)
"""What shapes are written with."""
SPECS = (None, "null", "[]", "builtins.tuple", "builtins.list", "builtins.dict")
"""Kinds of containers that arguments come in."""
PLAIN = re.compile(r"[\w.,:+> -]*")
"""Names and other texts. They become a part of Python source, so nothing is allowed that a call could be made of."""
RAW = re.compile(r"(weight|tensor)_\d+")
EMPTY = (
    *("metadata", "guards_code", "treespec_namedtuple_fields"),
    *("use_pickle", "as_custom_obj", "as_operator"),
)
"""Entries that `save_program` never fills."""
SHOWN = 80


def save_program(program: ExportedProgram, path: Path) -> None:
    """Write a program without example inputs, code of guards, and names of source files and modules of this machine."""
    program.example_inputs = None
    program._guards_code = []  # they compare the batches of the inputs
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta = {key: value for key, value in node.meta.items() if key == "val"}
    torch.export.save(program, path)


def load_program(path: Path) -> ExportedProgram:
    """Read a program of `save_program`; nothing is unpickled, looked up or evaluated before everything was checked.

    Raises:
        InputError: the file holds something that `save_program` does not write; nothing of it was run.
        SamsegError: it is damaged, or of another version of PyTorch.
    """
    try:
        content = io.BytesIO(path.read_bytes())  # once: what was checked is what is loaded
        faults = list(_faults(content))
    except Exception as error:  # a damaged archive raises nearly anything
        raise SamsegError(f"{path} cannot be read as an exported program ({_line(error)}); export it again") from None
    if faults:
        raise InputError(
            str(path),
            expected="nothing but tensors and operators of aten",
            got=f"{faults[0][:SHOWN]} (refused, and nothing of it was run)",
            remedy=f"export it again with this PyTorch ({torch.__version__}), or ask for the weights",
        )
    try:
        # Not torch.export.load: where this fails, it reads the file again as an older format, with another parser of
        # archives, which may find other records in it, and pickles.
        program: ExportedProgram = load_pt2(content).exported_programs["model"]
        return program
    except Exception as error:
        raise SamsegError(
            f"{path} cannot be loaded by PyTorch {torch.__version__} ({_line(error)}); export it again with it"
        ) from None


def _faults(content: io.BytesIO) -> Iterator[str]:
    """Yield what does not belong into the archive, read as PyTorch itself reads it."""
    archive = torch._C.PyTorchFileReader(content)
    names = archive.get_all_records()
    yield from (f"a record {name!r}" for name in names if not RECORDS.fullmatch(name))
    if EXAMPLES in names and archive.get_record_size(EXAMPLES):
        yield "pickled example inputs"
    for name in (GRAPH, *CONFIGS):
        yield from _tree_faults(json.loads(archive.get_record(name)))
    content.seek(0)


def _tree_faults(tree: Any, name: str = "") -> Iterator[str]:
    """Yield what is wrong in the part of a tree that stands under ``name``."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _tree_faults(key)
            if key in _WRONG and _WRONG[key](value):
                yield f"{key} {value!r}"
            yield from _tree_faults(value, key)
    elif isinstance(tree, list):
        for item in tree:
            yield from _tree_faults(item, name)
    elif isinstance(tree, str) and name not in ("expr_str", "in_spec", "out_spec") and not PLAIN.fullmatch(tree):
        yield f"{name} {tree!r}"


def _kinds(spec: Any) -> Iterator[Any]:
    """Yield type and context of every container of a written argument structure."""
    if isinstance(spec, list):
        for item in spec:
            yield from _kinds(item)
    elif isinstance(spec, dict):
        yield from (value for key, value in spec.items() if key != "children_spec")
        yield from _kinds(spec.get("children_spec"))


def _unknown_container(spec: Any) -> bool:
    return isinstance(spec, str) and any(kind not in SPECS for kind in _kinds(json.loads(spec)))


_WRONG: dict[str, Callable[[Any], bool]] = {
    "target": lambda value: not OPERATORS.fullmatch(str(value)),
    "expr_str": lambda value: WORDS.sub("", str(value)) != "",
    "path_name": lambda value: not RAW.fullmatch(str(value)),
    "in_spec": _unknown_container,
    "out_spec": _unknown_container,
    **dict.fromkeys(EMPTY, bool),
}
"""Name of an entry, wherever in the tree it stands, to whether its value does not belong there."""


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
