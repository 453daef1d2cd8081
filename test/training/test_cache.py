"""Rendered frames are kept, rendered again where they were lost, and never taken from damaged files."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from samseg_ros.errors import SamsegError
from samseg_ros.training import cache


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """Open a cache of two frames whose rendering is told to a list."""
    rendered = []

    def render(i, dataset, size):
        rendered.append(i)
        return {name: np.full((*size, n), i + 1, kind) for name, (n, kind) in cache.LAYOUT.items()}

    monkeypatch.setattr(cache, "ProcessPoolExecutor", ThreadPoolExecutor)
    monkeypatch.setattr(cache, "_render", render)

    def run():
        rendered.clear()
        data = cache.open_cache(tmp_path, "train", 2, (4, 6), 1)
        return data, list(rendered), next(tmp_path.iterdir())

    return run


def test_what_is_there_is_not_rendered_again_and_what_was_deleted_is(opened):
    assert opened()[1] == [0, 1]
    _, rendered, folder = opened()
    assert rendered == []
    (folder / "lidar.npy").unlink()
    data, rendered, _ = opened()
    assert rendered == [0, 1]
    assert data.arrays["lidar"][:, 0, 0, 0].tolist() == [1, 2]


@pytest.mark.parametrize("name", ["done.json", "rgb.npy"])
def test_a_damaged_file_is_named(opened, name):
    folder = opened()[2]
    file = folder / name
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(SamsegError, match=f"{name} is damaged"):
        opened()


def test_another_world_has_another_cache(opened, monkeypatch, tmp_path):
    source = tmp_path.parent / f"{tmp_path.name}_world"
    source.mkdir()
    shutil.copy(cache.world.__file__, source / "__init__.py")
    monkeypatch.setattr(cache.world, "__file__", str(source / "__init__.py"))
    before = cache.world_version()
    (source / "scene.py").write_text("CARS = 3")
    assert cache.world_version() != before
