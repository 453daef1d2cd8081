"""Weights that are found by their model's name."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from typer.testing import CliRunner

from samseg_ros import cli
from samseg_ros.config import ModelConfig
from samseg_ros.errors import SamsegError
from samseg_ros.models import installed_folder, load_model, read_spec, write_spec
from samseg_ros.models.install import install
from samseg_ros.models.random_weights import random_weights


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of ad_sam's weights, with classes of its own; nothing is installed."""
    monkeypatch.setenv("SAMSEG_MODELS", str(tmp_path / "installed"))
    labels = tmp_path / "mine.csv"
    labels.write_text("id,name,r,g,b\n0,road,0,0,0\n1,rest,9,9,9\n")
    _random(tmp_path / "weights", "ad_sam", ("rgb",), labels)
    return tmp_path / "weights"


def _random(folder: Path, model: str, modalities: tuple[str, ...], labels: Path, seed: int = 0) -> None:
    given = {"name": model, "preset": "compact", "options": {}, "labels": str(labels), "modalities": modalities}
    random_weights({**given, "input_pixels": 64 * 96}, folder, seed, "fp32")


def test_installed_weights_are_found_by_name_and_stand_alone(weights: Path) -> None:
    wanted = read_spec(weights / "model.yaml").sha256
    assert install(weights) == installed_folder("ad_sam", "compact")
    for file in (*weights.iterdir(), weights.parent / "mine.csv"):
        file.unlink()
    loaded = load_model(ModelConfig(name="ad_sam"))
    assert loaded.spec.sha256 == wanted and loaded.labels.names == ("road", "rest")


def test_weights_are_replaced_only_where_that_is_asked_for(weights: Path, tmp_path: Path) -> None:
    install(weights)
    _random(tmp_path / "other", "ad_sam", ("rgb",), tmp_path / "mine.csv", seed=1)
    with pytest.raises(SamsegError, match="is there already; give --replace"):
        install(tmp_path / "other")
    install(tmp_path / "other", replace=True)
    assert load_model(ModelConfig(name="ad_sam")).spec.sha256 == read_spec(tmp_path / "other" / "model.yaml").sha256


def test_what_is_shipped_comes_first_so_nothing_is_installed_behind_it(weights: Path, tmp_path: Path) -> None:
    _random(tmp_path / "mm", "mm_sam_adapter", ("rgb", "lidar"), tmp_path / "mine.csv")
    with pytest.raises(SamsegError, match=r"mm_sam_adapter \(compact\) is shipped, and that comes first"):
        install(tmp_path / "mm")


def test_weights_that_do_not_load_are_not_installed_and_those_before_stay(weights: Path, tmp_path: Path) -> None:
    before = install(weights)
    _random(tmp_path / "other", "ad_sam", ("rgb",), tmp_path / "mine.csv", seed=1)
    (tmp_path / "other" / "compact.safetensors").write_bytes(b"damaged")
    with pytest.raises(SamsegError, match="sha256"):
        install(tmp_path / "other", replace=True)
    assert load_model(ModelConfig(name="ad_sam")).spec.sha256 == read_spec(weights / "model.yaml").sha256
    assert [path.name for path in before.parent.iterdir()] == ["compact"]


def test_a_full_disk_is_not_told_as_weights_that_cannot_be_read(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(SamsegError, match=r"installed/ad_sam: cannot be written \(No space left on device\)"):
        install(weights)
    (weights / "compact.safetensors").unlink()
    with pytest.raises(SamsegError, match=r"compact\.safetensors cannot be read \(No such file"):
        install(weights)


def test_a_link_is_replaced_and_what_it_leads_to_stays(weights: Path, tmp_path: Path) -> None:
    target = installed_folder("ad_sam", "compact")
    target.parent.mkdir(parents=True)
    target.symlink_to(weights)
    install(weights, replace=True)
    assert not target.is_symlink() and (weights / "model.yaml").is_file()
    assert load_model(ModelConfig(name="ad_sam")).labels.names == ("road", "rest")


def test_labels_never_lie_over_weights(weights: Path) -> None:
    spec = read_spec(weights / "model.yaml")
    (weights / "compact.safetensors").rename(weights / "labels.csv.bin")
    write_spec(weights, spec.model_copy(update={"weights": "labels.csv.bin"}))
    install(weights)
    assert load_model(ModelConfig(name="ad_sam")).labels.names == ("road", "rest")


def test_the_command_says_where_they_are_and_the_list_shows_them(weights: Path) -> None:
    done = CliRunner().invoke(cli.app, ["weights", "install", str(weights)])
    assert done.exit_code == 0 and "used with model.name=ad_sam" in done.output
    listed = CliRunner().invoke(cli.app, ["weights", "list"], env={"COLUMNS": "200"})
    assert "ad_sam, compact" in listed.output
