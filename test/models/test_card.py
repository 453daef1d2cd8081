"""Cards are made of what lies beside the weights, and of nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from samseg_ros.errors import SamsegError
from samseg_ros.models import ModelSpec, read_spec
from samseg_ros.models.card import file_facts, make_card, model_folder
from samseg_ros.resources import models_dir

SPEC = """\
name: mm_sam_adapter
preset: compact
options: {fusion: add}
labels: mine.csv
modalities: [rgb, thermal]
input_pixels: 110592
weights: compact.safetensors
sha256: abc
licence: CC-BY-4.0
data: my own streets
"""
TENSORS = {
    "a.weight": torch.zeros(3, 4, dtype=torch.float16),
    "a.bias": torch.zeros(()),
    "a.running_mean": torch.zeros(100),
    "a.num_batches_tracked": torch.tensor(3),
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run: model/ within it."""
    model = tmp_path / "run" / "model"
    model.mkdir(parents=True)
    (model / "model.yaml").write_text(SPEC)
    (model / "mine.csv").write_text("id,name,r,g,b\n0,road,1,2,3\n1,sky,4,5,6\n")
    save_file(TENSORS, model / "compact.safetensors")
    return model.parent


def _log(run: Path) -> None:
    rows = [
        {"step": 0, "val_miou": 4.04, "seconds": 1.0},
        {"step": 20, "loss": 2.5, "seconds": 60.0},
        {"step": 40, "loss": 1.25, "seconds": 120.0},
        {"step": 40, "val_miou": 31.26, "seconds": 121.0},
        {"step": 60, "val_miou": 30.0, "seconds": 180.0},
    ]
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 80, "lo')


def test_parameters_are_counted_without_statistics(run: Path) -> None:
    facts = file_facts(run / "model" / "compact.safetensors")
    assert facts.parameters == 3 * 4 + 1 and facts.precision == "F16"
    assert facts.megabytes == (run / "model" / "compact.safetensors").stat().st_size / 1e6


def test_the_shipped_weights_have_the_parameters_that_their_card_names() -> None:
    folder = models_dir() / "mm_sam_adapter"
    facts = file_facts(folder / read_spec(folder / "model.yaml").weights)
    assert (
        f"(fp16 safetensors: {facts.parameters / 1e6:.1f}M parameters, {facts.megabytes:.1f} MB"
        in (folder / "card.md").read_text()
    )


def test_bare_weights_give_a_card_of_facts_alone(run: Path) -> None:
    text = make_card(run / "model")
    assert text.startswith("# mm_sam_adapter, compact: my own streets\n\n| | |\n|---|---|\n")
    assert "| model | `mm_sam_adapter`, preset `compact`, fusion `add` (0.0M parameters) |" in text
    assert "| labels | `mine.csv` (2 classes: road, sky) |" in text
    assert "| licence | CC-BY-4.0 |" in text
    assert "--set model.name=mm_sam_adapter --set model.config=compact" in text
    for absent in ("## Training", "## Recipe", "## Measured", "imported", str(run)):
        assert absent not in text


@pytest.mark.parametrize(
    ("scaling", "said"),
    [
        ("{normalization: fixed, fixed_low: 0, fixed_high: 255}", "0 becomes 0, 255 becomes 1"),
        ("{normalization: percentile, percentile_low: 2.5}", "percentile 2.5 becomes 0, percentile 99 becomes 1"),
        ("{normalization: minmax}", "each image's smallest count becomes 0, its largest becomes 1"),
    ],
)
def test_how_the_weights_want_thermal_counts_stands_in_the_card(run: Path, scaling: str, said: str) -> None:
    assert "| thermal |" not in make_card(run)
    (run / "model" / "model.yaml").write_text(f"{SPEC}thermal: {scaling}\n")
    assert f"| thermal | {said}, unless thermal.* is set to something else than the defaults |" in make_card(run)


def test_a_run_tells_how_it_went(run: Path) -> None:
    _log(run)
    (run / "recipe.yaml").write_text("model: mm_sam_adapter\nseed: 7\n")
    (run / "source.json").write_text('{"version": "1.2.3", "revision": "abcdef"}')
    text = make_card(run)
    assert "- 60 steps; loss 2.500 → 1.250\n" in text
    assert "- validation mIoU %: 4.0 at step 0, best 31.3 at step 40, last 30.0\n" in text
    assert "- 3 minutes\n- version 1.2.3, revision abcdef\n" in text
    assert "## Recipe\n```yaml\nmodel: mm_sam_adapter\nseed: 7\n```" in text
    assert make_card(run / "model") == text


def test_measured_numbers_become_tables_and_lines(run: Path) -> None:
    measured = {
        "frames": 360,
        "miou": {"rgb+thermal": {"day": 74.04, "all": 75.0}, "rgb": {"day": 40.46, "night": None}},
        "iou": {"road": 95.55, "sky": 97.0},
        "samples": ["a", "b"],
    }
    (run / "metrics.json").write_text(json.dumps(measured))
    text = make_card(run)
    assert (
        "## Measured\n\nframes: 360\n\n"
        "| miou | day | all | night |\n|---|---|---|---|\n"
        "| rgb+thermal | 74.0 | 75.0 | – |\n| rgb | 40.5 | – | – |\n\n"
        "| iou | road | sky |\n|---|---|---|\n|  | 95.5 | 97.0 |\n\n## Use it"
    ) in text
    assert "samples" not in text


def test_what_an_evaluation_measured_is_shown_in_per_cent(run: Path) -> None:
    numbers = {
        "frames": 7,
        "miou": 0.505,
        "miou_absent_zero": 0.46,
        "accuracy": 0.873,
        "boundary_f": None,
        "ece": 0.042,
    }
    measured = {
        "model": "mine",
        "dataset": "camvid",
        **numbers,
        "miou_interval": [0.49, 0.52],
        "iou": {"road": 0.909, "sky": None},
        "conditions": {"dusk": {**numbers, "frames": 3, "miou": 0.493, "iou": {"road": 0.9}}},
    }
    (run / "metrics.json").write_text(json.dumps(measured))
    text = make_card(run)
    assert "dataset: camvid\n\nframes: 7\n\nmiou %: 50.5\n\n" in text
    assert "| IoU % | road | sky |\n|---|---|---|\n|  | 90.9 | – |" in text
    assert "| condition | frames | miou % | miou_absent_zero % | accuracy % | boundary_f % | ece % |" in text
    assert "| dusk | 3 | 49.3 | 46.0 | 87.3 | – | 4.2 |" in text


def test_imported_weights_say_from_which_file(run: Path) -> None:
    (run / "model" / "import.json").write_text('{"file": "theirs.pth", "sha256": "123"}')
    assert "| imported | from `theirs.pth`, sha256 `123` |" in make_card(run)


def test_what_lies_above_a_folder_of_another_name_is_not_its_run(run: Path) -> None:
    _log(run)
    other = (run / "model").rename(run / "best")
    assert "## Training" not in make_card(other)


def test_damaged_files_are_named(run: Path) -> None:
    (run / "log.jsonl").write_text('{"step"\n{"step": 1}\n')
    with pytest.raises(SamsegError, match=r"log\.jsonl:1: expected a JSON object"):
        make_card(run)
    (run / "metrics.json").write_text("[1]")
    with pytest.raises(SamsegError, match=r"metrics\.json: expected a JSON object, got list"):
        make_card(run)
    (run / "model" / "compact.safetensors").write_bytes(b"no")
    with pytest.raises(SamsegError, match="cannot be read as a safetensors file"):
        make_card(run)
    with pytest.raises(SamsegError, match=r"expected a folder with model\.yaml, or of a run"):
        model_folder(run.parent)


def test_the_card_needs_nothing_of_a_spec_but_what_is_required(run: Path) -> None:
    spec = ModelSpec.model_validate({**read_spec(run / "model" / "model.yaml").model_dump(), "data": "", "sha256": ""})
    (run / "model" / "model.yaml").write_text(spec.model_dump_json())
    text = make_card(run)
    assert text.startswith("# mm_sam_adapter, compact: weights\n") and "| sha256 | not recorded |" in text
