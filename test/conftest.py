"""What every test needs: ROS kept apart from the rest of the world, few threads, and the way to real recordings."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

# Before anything imports rclpy, torch or matplotlib. Children (nodes in processes of their own) inherit it.
_NO_MODELS = tempfile.TemporaryDirectory(prefix="samseg-models-")
_ROS_LOGS = tempfile.TemporaryDirectory(prefix="samseg-roslog-", ignore_cleanup_errors=True)
os.environ.update(
    ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST",
    ROS_DOMAIN_ID=str(os.getpid() % 100 + 1),
    ROS_LOG_DIR=_ROS_LOGS.name,
    MPLBACKEND="Agg",
    SAMSEG_MODELS=_NO_MODELS.name,  # what the user installed is not what is tested
)
os.environ.pop("COLUMNS", None)  # 80 in pytest-xdist's processes; consoles would keep that width
for _threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

# Where ROS 2's launch is installed, loggers made after its import keep their records from pytest's caplog.
with contextlib.suppress(ImportError):
    importlib.import_module("launch.logging")
logging.setLoggerClass(logging.Logger)

import hypothesis  # noqa: E402
import pytest  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
ROS_TESTS = ROOT / "test" / "ros"

# No deadline: a shared machine is slow at times. The same examples in every run: a failure in CI is one here.
hypothesis.settings.register_profile("samseg", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("samseg")


@pytest.fixture(scope="session")
def project_root() -> Path:
    """Folder of package.xml."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real recordings beside the project; the test is skipped where it is absent."""
    path = ROOT.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip("real recordings are absent: no ../shared/data beside the project")
    return path


@pytest.fixture(scope="session")
def evaluating() -> ModuleType:
    """What tests of `samseg evaluate` share: evaluating.py."""
    spec = importlib.util.spec_from_file_location("evaluating", Path(__file__).with_name("evaluating.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def evaluate(evaluating: ModuleType) -> Callable[..., Any]:
    """The command: arguments to its result."""
    return evaluating.evaluate


@pytest.fixture
def weights(evaluating: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of weights of a very small network; ``others`` beside it are of another."""
    return evaluating.make_weights(tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def bags(evaluating: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two recordings of two and three frames, not to be changed."""
    return evaluating.make_bags(tmp_path_factory.mktemp("bags"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if ROS_TESTS in item.path.parents:
            item.add_marker("ros")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share tests out by file, all over ROS to one process: they wait for real time, and go by domains of their own.

    pytest-xdist's own groups (``--dist loadgroup``) come to nothing with pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return "ros" if file.startswith("test/ros/") else file

    return ByFile(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    passed = [r for r in terminalreporter.getreports("passed") if r.when == "call"]
    ros = sum("ros" in report.keywords for report in passed)
    terminalreporter.write_line(f"{len(passed)} tests passed, {ros} of them with real rclpy over DDS")
