"""Pages that are made from the code say what the code says."""

import ast
from pathlib import Path
from typing import Any

import pytest

from samseg_ros.schema import markdown

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_of_parameters_is_the_table_of_settings() -> None:
    assert markdown() in (ROOT / "docs" / "parameters.md").read_text()


def test_the_readme_shows_only_files_that_exist() -> None:
    text = (ROOT / "README.md").read_text()
    targets = [part.split(")")[0] for part in text.split("](")[1:]]
    assert [t for t in targets if not t.startswith("http") and not (ROOT / t).exists()] == []


def arguments_table(name: str) -> str:
    """A launch file's ARGUMENTS, read without launch, as Markdown."""
    module = ast.parse((ROOT / "launch" / f"{name}.launch.py").read_text())
    values: dict[str, Any] = {}
    for node in module.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            values[node.targets[0].id] = eval(ast.unparse(node.value), {}, values)
    lines = ["| argument | default | what |", "|---|---|---|"]
    for argument, (default, about) in values["ARGUMENTS"].items():
        lines.append(f"| `{argument}` | {'to be given' if default is None else default} | {about} |")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", ["fusion", "replay"])
def test_the_page_of_launch_files_has_every_argument(name: str) -> None:
    assert arguments_table(name) in (ROOT / "docs" / "launch.md").read_text()
