from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"dataset_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def trees() -> ModuleType:
    """The tiny trees of trees.py."""
    return _module("trees")


@pytest.fixture(scope="session")
def trees_b() -> ModuleType:
    """The tiny trees of trees_b.py."""
    return _module("trees_b")
