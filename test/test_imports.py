"""The import direction, and who may import ROS, print or exit: held over the syntax tree of every module."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "samseg_ros"
SOURCES = Path(__file__).resolve().parents[1] / PACKAGE

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "provenance", "resources", "types", "config", "labels", "autoware", "schema"),
    ("drawing",),
    ("sensing",),
    ("networks",),
    ("models",),
    ("posterior", "pipeline", "runtime"),
    ("datasets",),
    ("training", "evaluation"),
    ("ros",),
    (
        "cli",
        "cli_datasets",
        "cli_doctor",
        "cli_evaluate",
        "cli_evaluate_options",
        "cli_evaluate_world",
        "cli_export",
        "cli_models",
        "cli_settings",
        "cli_training",
        "cli_weights",
        "progress",
    ),
)
"""From the foundation up: a part imports from its own row and from the rows above it here, never from one below."""

RANK = {part: rank for rank, row in enumerate(LAYERS) for part in row}
ROS_MODULE = re.compile(
    r"(rclpy|rosidl_\w+|std_srvs|cv_bridge|message_filters|sensor_msgs_py|tf2_\w+|launch\w*|\w+_(msgs|interfaces))$"
)
MAY_EXIT = ("ros", *LAYERS[-1])
EXITS = {"print", "exit", "quit", "sys.exit", "os._exit", "SystemExit"}


def modules() -> dict[str, tuple[ast.Module, bool]]:
    """Dotted name -> (syntax tree, whether it is a folder's __init__) of every module in the package."""
    found = {}
    for path in sorted(SOURCES.rglob("*.py")):
        parts = path.relative_to(SOURCES.parent).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        found[".".join(parts[:-1] if is_package else parts)] = ast.parse(path.read_text(), str(path)), is_package
    return found


def imports(tree: ast.AST, module: str, is_package: bool = False) -> Iterator[tuple[str, int]]:
    """Yield (dotted name, line) of everything that a module imports, inside functions too, relative names resolved."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")
            parents = parents[: len(parents) - node.level + is_package] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)


def part(name: str) -> str | None:
    """``samseg_ros.sensing.camera`` -> ``sensing``; None for the package's root and for other packages."""
    head, _, rest = name.partition(".")
    return rest.partition(".")[0] or None if head == PACKAGE else None


def wrong_directions(tree: ast.AST, module: str, is_package: bool = False) -> list[str]:
    here = part(module)
    if here is None:
        return []
    return [
        f"{module}:{line} imports {name}"
        for name, line in imports(tree, module, is_package)
        if (there := part(name)) in RANK and RANK[there] > RANK[here]
    ]


def ros_imports(tree: ast.AST, module: str, is_package: bool = False) -> list[str]:
    if part(module) == "ros":
        return []
    return [
        f"{module}:{line} imports {name}"
        for name, line in imports(tree, module, is_package)
        if ROS_MODULE.match(name.partition(".")[0])
    ]


def rude_statements(tree: ast.AST, module: str) -> list[str]:
    """``assert`` anywhere, printing and exiting outside the command line and the nodes' entry points."""
    found = [f"{module}:{node.lineno} assert" for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    if part(module) not in MAY_EXIT:
        names = [n for n in ast.walk(tree) if isinstance(n, (ast.Name, ast.Attribute))]
        found += [f"{module}:{n.lineno} {ast.unparse(n)}" for n in names if ast.unparse(n) in EXITS]
    return found


MODULES = modules()


def test_every_part_of_the_package_has_a_layer() -> None:
    parts = {p for name in MODULES if (p := part(name))}
    assert parts <= RANK.keys(), f"give {sorted(parts - RANK.keys())} a row in LAYERS"


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_its_own_layer_and_those_below_it(name: str) -> None:
    assert wrong_directions(MODULES[name][0], name, MODULES[name][1]) == []


@pytest.mark.parametrize("name", MODULES)
def test_only_the_ros_part_imports_ros(name: str) -> None:
    assert ros_imports(MODULES[name][0], name, MODULES[name][1]) == []


@pytest.mark.parametrize("name", MODULES)
def test_the_library_raises_instead_of_asserting_printing_or_exiting(name: str) -> None:
    assert rude_statements(MODULES[name][0], name) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    def target(name: str) -> str:
        return name if name in MODULES else name.rpartition(".")[0]

    graph = {
        name: {target(n) for n, _ in imports(tree, name, package) if target(n) in MODULES and target(n) != name}
        for name, (tree, package) in MODULES.items()
    }
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("samseg_ros.sensing.camera", "from samseg_ros.ros import fusion_node", True),
        ("samseg_ros.sensing.camera", "def f():\n    import samseg_ros.cli", True),
        ("samseg_ros.sensing.camera", "from ..ros.fusion_node import main", True),
        ("samseg_ros.sensing.camera", "from samseg_ros import pipeline", True),
        ("samseg_ros.sensing.camera", "from . import projection", False),
        ("samseg_ros.ros.fusion_node", "from samseg_ros.pipeline import Pipeline", False),
        ("samseg_ros.pipeline", "from samseg_ros.posterior import posterior", False),
    ],
)
def test_the_check_of_directions_finds_what_is_wrong_and_nothing_else(module: str, source: str, wrong: bool) -> None:
    assert bool(wrong_directions(ast.parse(source), module)) is wrong


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("samseg_ros.pipeline", "import rclpy", True),
        ("samseg_ros.pipeline", "from sensor_msgs.msg import Image", True),
        ("samseg_ros.pipeline", "from rcl_interfaces.msg import Parameter", True),
        ("samseg_ros.pipeline", "from rosbags.highlevel import AnyReader", False),
        ("samseg_ros.ros.fusion_node", "import rclpy", False),
        ("samseg_ros.cli", "import rclpy", True),
    ],
)
def test_the_check_of_ros_imports_finds_what_is_wrong_and_nothing_else(module: str, source: str, wrong: bool) -> None:
    assert bool(ros_imports(ast.parse(source), module)) is wrong


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("samseg_ros.pipeline", "print('x')", True),
        ("samseg_ros.pipeline", "sys.exit(1)", True),
        ("samseg_ros.pipeline", "raise SystemExit", True),
        ("samseg_ros.pipeline", "console.print('x')", False),
        ("samseg_ros.cli", "print('x')", False),
        ("samseg_ros.cli", "assert x", True),
    ],
)
def test_the_check_of_rude_statements_finds_what_is_wrong_and_nothing_else(
    module: str, source: str, wrong: bool
) -> None:
    assert bool(rude_statements(ast.parse(source), module)) is wrong
