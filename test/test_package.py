"""package.xml, setup.py and the tree agree, and everything that is said stands in one place."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import runpy
import stat
import sys
from pathlib import Path
from typing import Any

import catkin_pkg.package
import pytest
import setuptools
from catkin_pkg.package_version import get_forthcoming_label

ROOT = Path(__file__).resolve().parents[1]
DECLARED_AS = {
    "PIL": "pillow",
    "backports": "backports-zstd",
    "builtin_interfaces": "std_msgs",
    "cv2": "opencv-python-headless",
    "pydantic_core": "pydantic",
    "sklearn": "scikit-learn",
    "tf2_ros": "tf2_ros_py",
    "yaml": "pyyaml",
}
"""Where a module's name is not that of what brings it."""

STANDARD_LATER = {"compression"}
"""Standard modules of a Python newer than the oldest that we run on."""


def distribution(requirement: str) -> str:
    """``backports.zstd>=1; ...`` -> ``backports-zstd``."""
    return re.sub(r"[._]", "-", re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower())


def imported(path: Path) -> set[str]:
    """Top-level names of all that a module imports from outside its own folder."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names]
    names += [n.module or "" for n in nodes if isinstance(n, ast.ImportFrom) and not n.level]
    return {name.partition(".")[0] for name in names}


@pytest.fixture(scope="module")
def manifest() -> catkin_pkg.package.Package:
    return catkin_pkg.package.parse_package(ROOT / "package.xml")


@pytest.fixture
def setup_arguments(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The keyword arguments that setup.py hands to setuptools, called as pip and colcon do: from the project's root."""
    arguments: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", arguments.update)
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(ROOT / "setup.py"))
    return arguments


def test_package_xml_is_valid_in_format_3(manifest: catkin_pkg.package.Package) -> None:
    warnings: list[str] = []
    manifest.validate(warnings)
    assert (manifest.package_format, warnings) == (3, [])


def test_package_xml_says_ament_python(manifest: catkin_pkg.package.Package) -> None:
    assert [(e.tagname, e.content) for e in manifest.exports] == [("build_type", "ament_python")]


def test_setup_py_says_what_package_xml_says(
    manifest: catkin_pkg.package.Package, setup_arguments: dict[str, Any]
) -> None:
    said = {k: setup_arguments[k] for k in ("name", "version", "description", "license", "maintainer_email")}
    assert said == {
        "name": manifest.name,
        "version": manifest.version,
        "description": manifest.description,
        "license": manifest.licenses[0],
        "maintainer_email": manifest.maintainers[0].email,
    }


def test_the_version_stands_in_package_xml_alone(manifest: catkin_pkg.package.Package) -> None:
    files = [ROOT / "setup.py", ROOT / "setup.cfg", ROOT / "pyproject.toml", *(ROOT / "samseg_ros").rglob("*.py")]
    version = re.compile(rf"(?<![\d.]){re.escape(manifest.version)}(?![\d.])")
    assert [f.name for f in files if version.search(f.read_text())] == []


def test_the_changelog_has_what_a_catkin_release_will_look_for(manifest: catkin_pkg.package.Package) -> None:
    text = (ROOT / "CHANGELOG.rst").read_text()
    assert f"Changelog for package {manifest.name}" in text
    assert get_forthcoming_label(text) == "Forthcoming" or f"\n{manifest.version} (" in text


def test_every_console_script_names_a_function(setup_arguments: dict[str, Any]) -> None:
    for script in setup_arguments["entry_points"]["console_scripts"]:
        module, function = script.split(" = ")[1].split(":")
        tree = ast.parse((ROOT / Path(*module.split("."))).with_suffix(".py").read_text())
        names = [n.name for n in tree.body if isinstance(n, ast.FunctionDef)]
        assert function in names, f"{script}: no such function"


def test_ros2_run_finds_an_executable_wrapper_for_every_node(setup_arguments: dict[str, Any]) -> None:
    scripts = dict(s.split(" = ") for s in setup_arguments["entry_points"]["console_scripts"])
    nodes = {name: target for name, target in scripts.items() if ".ros." in target}
    wrappers = dict(setup_arguments["data_files"])["lib/samseg_ros"]
    assert sorted(wrappers) == sorted(f"scripts/{name}" for name in nodes)
    for name, target in nodes.items():
        wrapper = ROOT / "scripts" / name
        assert wrapper.stat().st_mode & stat.S_IXUSR, f"chmod +x {wrapper.name}"
        assert f"from {target.replace(':', ' import ')}\n" in wrapper.read_text()


def test_ament_finds_the_package_by_its_marker_and_its_package_xml(setup_arguments: dict[str, Any]) -> None:
    installed = dict(setup_arguments["data_files"])
    assert installed["share/ament_index/resource_index/packages"] == ["resource/samseg_ros"]
    assert "package.xml" in installed["share/samseg_ros"]


def test_every_file_of_config_launch_models_and_schema_is_installed_where_it_stands(
    setup_arguments: dict[str, Any],
) -> None:
    for folder, files in setup_arguments["data_files"]:
        if folder.startswith("share/samseg_ros/"):
            assert {f.rpartition("/")[0] for f in files} == {folder.removeprefix("share/samseg_ros/")}
    installed = {f for _, files in setup_arguments["data_files"] for f in files}
    wanted = [f for d in ("config", "launch", "models", "schema") for f in (ROOT / d).rglob("*")]
    names = {f.relative_to(ROOT).as_posix() for f in wanted if f.is_file() and f.suffix != ".pyc"}
    assert "config/labels/world.csv" in names
    assert names <= installed


def test_every_folder_with_modules_is_installed(setup_arguments: dict[str, Any]) -> None:
    folders = {f.parent.relative_to(ROOT) for f in (ROOT / "samseg_ros").rglob("*.py")}
    assert {".".join(f.parts) for f in folders} == set(setup_arguments["packages"])


def test_everything_that_is_imported_is_declared_in_setup_py_or_package_xml(
    manifest: catkin_pkg.package.Package, setup_arguments: dict[str, Any]
) -> None:
    extras = setup_arguments["extras_require"]
    optional = [*extras["export"], *extras["metrics"], *extras["ray"]]
    declared = {distribution(r) for r in [*setup_arguments["install_requires"], *optional]}
    declared |= {d.name.replace("_", "-") for d in manifest.exec_depends}
    missing = set()
    for path in [*(ROOT / "samseg_ros").rglob("*.py"), *(ROOT / "launch").rglob("*.py")]:
        third_party = imported(path) - sys.stdlib_module_names - STANDARD_LATER - {manifest.name}
        missing |= {
            (path.name, name) for name in third_party if DECLARED_AS.get(name, name).replace("_", "-") not in declared
        }
    assert missing == set()


def test_colcon_runs_the_tests_because_an_extra_asks_for_pytest(setup_arguments: dict[str, Any]) -> None:
    assert "pytest" in {distribution(r) for r in setup_arguments["extras_require"]["test"]}


def test_ros_is_never_pulled_over_an_installed_distribution(setup_arguments: dict[str, Any]) -> None:
    assert [r for r in setup_arguments["install_requires"] if r.startswith("ros-")] == []
    assert all("==" in r and "platform_machine" in r for r in setup_arguments["extras_require"]["ros"])


def test_the_installed_version_is_that_of_package_xml(manifest: catkin_pkg.package.Package) -> None:
    import samseg_ros

    try:
        installed = importlib.metadata.version("samseg_ros")
    except importlib.metadata.PackageNotFoundError:
        installed = "0+source"
    assert samseg_ros.__version__ == installed
    assert installed in (manifest.version, "0+source"), "the environment is stale: make venv"
