from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def fakes() -> ModuleType:
    """The recording and the pipeline of fakes.py."""
    return _loaded("fakes.py")


@pytest.fixture(scope="session")
def toys() -> ModuleType:
    """The scores of toys.py."""
    return _loaded("toys.py")


def _loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"evaluation_{Path(name).stem}", Path(__file__).with_name(name))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
