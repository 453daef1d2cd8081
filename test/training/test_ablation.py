from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
import yaml

from samseg_ros.errors import SamsegError
from samseg_ros.training import ablation
from samseg_ros.training.ablation import SCORES_FILE, load_ablation, run_ablation
from samseg_ros.training.run import Places

SET = {
    "about": "a test",
    "recipe": "mm_sam_adapter_world",
    "changes": {"data.limit": 4, "data.validation_limit": 2},
    "variants": {"full": {}, "half": {"optimizer.learning_rate": 0.0003}},
}


@dataclass
class Runs:
    """In place of training and scoring: notes which variants were asked for; one may be killed."""

    trained: ClassVar[list[str]] = []
    killed: ClassVar[str] = ""


@pytest.fixture
def runs(monkeypatch):
    def run_recipe(recipe, places, bar):
        Runs.trained.append(places.out.name)
        if places.out.name == Runs.killed:
            raise KeyboardInterrupt
        places.out.mkdir(parents=True)

    monkeypatch.setattr(ablation, "run_recipe", run_recipe)
    monkeypatch.setattr(ablation, "_score", lambda *_: {"parameters": 1e6, "miou": {"all": [50.0, 49.0, 51.0]}})
    monkeypatch.setattr(Runs, "trained", [])
    monkeypatch.setattr(Runs, "killed", "")
    return Runs


@pytest.fixture
def start(tmp_path):
    """Run a set with changes to it."""

    def run(out="out", **changes):
        path = tmp_path / "set.yaml"
        path.write_text(yaml.safe_dump({**SET, **changes}))
        return run_ablation(load_ablation(str(path)), Places(tmp_path / out), None, lambda text: None)

    return run


def test_a_set_that_was_killed_goes_on_and_finished_variants_are_not_trained_again(runs, start, monkeypatch, tmp_path):
    monkeypatch.setattr(Runs, "killed", "half")
    with pytest.raises(KeyboardInterrupt):
        start()
    monkeypatch.setattr(Runs, "killed", "")
    table = start()
    assert runs.trained == ["full", "half", "half"]
    assert start() == table and runs.trained == ["full", "half", "half"]
    assert (tmp_path / "out" / "table.md").read_text() == table
    assert "| half | 1.00M | 50.0 [49.0, 51.0] |" in table


def test_scores_of_other_settings_or_damaged_ones_are_found_before_anything_is_trained(runs, start, tmp_path):
    start()
    (tmp_path / "out" / "full" / SCORES_FILE).unlink()
    (tmp_path / "out" / "full").rmdir()
    with pytest.raises(SamsegError, match="half was trained or scored with other settings"):
        start(test_limit=3)
    scores = tmp_path / "out" / "half" / SCORES_FILE
    scores.write_text(json.dumps([]))
    with pytest.raises(SamsegError, match=r"half/scores\.json is damaged"):
        start()
    assert runs.trained == ["full", "half"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"test_split": "tset"}, "variant full: world has no split 'tset'; did you mean 'test'"),
        ({"variants": {"a": {}, "../b": {}}}, r"variants: .*they name folders., got '\.\./b'"),
        ({"variants": {"a": {}, "b": {"options.fusion": "ad"}}}, "variant b: mm_sam_adapter: option fusion: expected"),
        ({"variants": {"a": {}, "b": {"sensors": ["rgb", "event"]}}}, "variant b: sensors: expected some of rgb"),
        ({"variants": {"a": {}, "b": {"data.val_split": "vla"}}}, "variant b: world has no split 'vla'"),
        ({"variants": {"a": {}, "b": {"seeed": 1}}}, r"set\.yaml: variant b: recipe .*seeed.*did you mean 'seed'"),
        (
            {"variants": {"a": {}, "b": {"preset": "vit_b", "options.encoder": "frozen"}}},
            "variant b: sam_checkpoint: expected SAM's weights",
        ),
    ],
)
def test_faults_of_a_set_are_found_before_anything_is_trained(runs, start, changes, said):
    with pytest.raises(SamsegError, match=f"(?s){said}"):
        start(**changes)
    assert runs.trained == []
