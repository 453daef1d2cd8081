"""`samseg weights`: the commands over checkpoints, downloads and cards."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from samseg_ros import cli_weights
from samseg_ros.config import ModelConfig, ThermalConfig
from samseg_ros.errors import SamsegError
from samseg_ros.models import ModelSpec, build_network, load_model, save_model

Weights = Callable[..., str]
SPEC = ModelSpec(
    name="mm_sam_adapter",
    preset="compact",
    labels="world",
    modalities=("rgb", "thermal"),
    input_pixels=288 * 384,
    weights="compact.safetensors",
    licence="CC-BY-4.0",
    data="my own streets",
)


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Weights:
    """Run a command of the group; gives what it printed, raises what it raised."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli_weights, "out", cli_weights.Console(width=250))

    def run(*arguments: str | Path) -> str:
        result = CliRunner().invoke(cli_weights.app, [str(a) for a in arguments], catch_exceptions=True)
        if isinstance(result.exception, SamsegError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    return run


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_network("mm_sam_adapter", "compact", SPEC.modalities, 12).eval()


def test_a_checkpoint_becomes_a_folder_that_the_settings_can_name(
    weights: Weights, network: torch.nn.Module, tmp_path: Path
) -> None:
    torch.save({"network": network.state_dict()}, tmp_path / "best.pt")
    flags = ["--model", "mm_sam_adapter", "--preset", "compact", "--modalities", "rgb, thermal", "--labels", "world"]
    flags += ["--input-size", "288x384", "--licence", "CC-BY-4.0", "--data", "my own streets", "--precision", "fp32"]
    shown = weights("import", tmp_path / "best.pt", "--out", tmp_path / "mine", *flags)
    spec = load_model(ModelConfig(checkpoint=str(tmp_path / "mine"))).spec
    assert spec == SPEC.model_copy(update={"sha256": spec.sha256, "paper": "https://arxiv.org/abs/2509.10408"})
    assert spec.sha256 in shown and "samseg weights card" in shown
    card = (tmp_path / "mine" / "card.md").read_text()
    assert "my own streets" in card and "from `best.pt`" in card


def test_what_the_command_has_no_option_for_is_set_as_an_entry(
    weights: Weights, network: torch.nn.Module, tmp_path: Path
) -> None:
    save_model(tmp_path / "own", network, SPEC)
    source = tmp_path / "own" / "compact.safetensors"
    weights("import", source, "-o", tmp_path / "new", "--set", "windows={size: [256, 256], stride: [128, 128]}")
    spec = load_model(ModelConfig(checkpoint=str(tmp_path / "new"))).spec
    assert spec.windows is not None and (spec.windows.size, spec.windows.stride) == ((256, 256), (128, 128))
    assert "windows of 256×256 every 128×128 pixels" in (tmp_path / "new" / "card.md").read_text()
    weights("import", tmp_path / "new" / "compact.safetensors", "-o", tmp_path / "whole", "--set", "windows=null")
    assert load_model(ModelConfig(checkpoint=str(tmp_path / "whole"))).spec.windows is None
    with pytest.raises(SamsegError, match=r"expected one of squash_to, pad_to and windows, got pad_to and windows$"):
        weights("import", tmp_path / "new" / "compact.safetensors", "-o", tmp_path / "b", "--set", "pad_to=[800, 800]")
    with pytest.raises(SamsegError, match="--set pad_to: expected NAME=VALUE"):
        weights("import", source, "-o", tmp_path / "b", "--set", "pad_to")


def test_the_counts_that_became_0_and_1_are_kept_with_imported_weights(
    weights: Weights, network: torch.nn.Module, tmp_path: Path
) -> None:
    save_model(tmp_path, network, SPEC)
    source = tmp_path / "compact.safetensors"
    scaling = "thermal={normalization: fixed, fixed_low: %s, fixed_high: %s}"
    weights("import", source, "-o", "mine", "--set", scaling % (-20, 120.5))
    spec = load_model(ModelConfig(checkpoint=str(tmp_path / "mine"))).spec
    assert spec.thermal == ThermalConfig(normalization="fixed", fixed_low=-20, fixed_high=120.5)
    assert "-20 becomes 0, 120.5 becomes 1" in (tmp_path / "mine" / "card.md").read_text()
    with pytest.raises(SamsegError, match=r"thermal: .*expected fixed_low below fixed_high \(255 and 0\)"):
        weights("import", source, "-o", "new", "--set", scaling % (255, 0))
    assert not (tmp_path / "new").exists()


def test_random_weights_of_a_size_become_a_folder_with_a_card(weights: Weights, tmp_path: Path) -> None:
    flags = ["--model", "mm_sam_adapter", "--preset", "compact", "--modalities", "rgb,lidar", "--labels", "cityscapes"]
    shown = weights("random", "--out", tmp_path / "trial", *flags, "--input-size", "352x1216", "--seed", "3")
    loaded = load_model(ModelConfig(checkpoint=str(tmp_path / "trial")))
    assert loaded.spec.input_pixels == 352 * 1216 and loaded.spec.modalities == ("rgb", "lidar")
    assert loaded.spec.sha256 in shown
    assert "random weights, for trials of speed and memory" in (tmp_path / "trial" / "card.md").read_text()


def test_options_and_sizes_of_the_wrong_form_are_refused(
    weights: Weights, network: torch.nn.Module, tmp_path: Path
) -> None:
    save_model(tmp_path, network, SPEC)
    source = tmp_path / "compact.safetensors"
    with pytest.raises(SamsegError, match="--option fusion: expected NAME=VALUE"):
        weights("import", source, "-o", "new", "--option", "fusion")
    with pytest.raises(SamsegError, match="--input-size 1024: expected HEIGHTxWIDTH"):
        weights("import", source, "-o", "new", "--input-size", "1024")
    with pytest.raises(SamsegError, match="no option 'color'"):
        weights("import", source, "-o", "new", "--option", "color=red")
    assert not (tmp_path / "new").exists()


def test_a_file_that_would_run_code_is_refused(weights: Weights, tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(1, 1), tmp_path / "a.pt")
    with pytest.raises(SamsegError, match="it was refused and nothing was run"):
        weights("import", tmp_path / "a.pt", "--out", "new")


def test_the_list_holds_the_shipped_weights_and_those_of_ones_own(
    weights: Weights, network: torch.nn.Module, tmp_path: Path
) -> None:
    spec = save_model(tmp_path / "runs" / "fused", network, SPEC)
    (tmp_path / "runs" / "bad").mkdir()
    (tmp_path / "runs" / "bad" / "model.yaml").write_text("name: x\n")
    (tmp_path / "runs" / "gone").mkdir()
    (tmp_path / "runs" / "gone" / "model.yaml").write_text((tmp_path / "runs" / "fused" / "model.yaml").read_text())
    shown = weights("list", "--folder", "runs")
    cells = [[cell.strip() for cell in line.split("│")[1:3]] for line in shown.splitlines() if "│" in line]
    name, rows = "", dict[str, str]()
    for folder, text in cells:
        name = folder or name
        rows[name] = f"{rows.get(name, '')}\n{text}"
    assert "mm_sam_adapter, compact" in rows["models/mm_sam_adapter"]
    assert "rgb, thermal, lidar → world" in rows["models/mm_sam_adapter"]
    assert "5.5M parameters, 11.2 MB" in rows["models/mm_sam_adapter"]
    parameters = sum(p.numel() for p in network.parameters())
    for part in ("rgb, thermal → world", f"{parameters / 1e6:.1f}M", spec.sha256[:8], "my own streets; CC-BY-4.0"):
        assert part in rows["runs/fused"]
    assert "missing" in rows["runs/gone"]
    assert "Field required" in rows["runs/bad"]
    with pytest.raises(SamsegError, match="no folder nowhere"):
        weights("list", "--folder", "nowhere")


def test_known_downloads_are_listed_and_nothing_is_fetched(weights: Weights, tmp_path: Path) -> None:
    shown = weights("fetch")
    assert "sam_vit_l" in shown and "https://dl.fbaipublicfiles.com" in shown and "Apache-2.0" in shown
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_fetched_with_its_digest(weights: Weights, tmp_path: Path) -> None:
    source = tmp_path / "my weights.pt"
    source.write_bytes(b"0123456789")
    digest = hashlib.sha256(b"0123456789").hexdigest()
    shown = weights("fetch", source.as_uri(), "--out", "down", "--sha256", digest)
    assert (tmp_path / "down" / "my weights.pt").read_bytes() == b"0123456789"
    assert digest in shown and "nothing proved" not in shown
    shown = weights("fetch", source.as_uri(), "--out", "unproved")
    assert digest in shown and "nothing proved that this is the right file" in shown
    with pytest.raises(SamsegError, match="ends in the name of a file"):
        weights("fetch", "https://example.org/")


def test_the_card_of_a_shipped_model_is_shown(weights: Weights) -> None:
    shown = weights("card", "mm_sam_adapter")
    assert "trained on the generated world" in shown and "Known limits" in shown


def test_a_card_is_made_once_and_never_overwritten(weights: Weights, network: torch.nn.Module, tmp_path: Path) -> None:
    save_model(tmp_path / "run" / "model", network, SPEC)
    assert "my own streets" in weights("card", "run")
    path = tmp_path / "run" / "model" / "card.md"
    assert not path.exists()
    assert "written: run/model/card.md" in weights("card", "run", "--write")
    path.write_text("# Mine\nwhat only I know\n")
    assert "what only I know" in weights("card", "run/model")
    with pytest.raises(SamsegError, match="may hold what only you know"):
        weights("card", "run", "--write")


def test_the_card_of_an_unknown_model_is_answered_with_the_nearest(weights: Weights) -> None:
    with pytest.raises(SamsegError, match=r"no card of 'mm_sam_adaptor' .*did you mean 'mm_sam_adapter'\?"):
        weights("card", "mm_sam_adaptor")


def test_a_sam_is_recognised_by_its_keys(weights: Weights, tmp_path: Path) -> None:
    save_file({"image_encoder.pos_embed": torch.zeros(1, 64, 64, 160)}, tmp_path / "mobile.safetensors")
    with pytest.raises(SamsegError, match=r"expected SAM's encoder of \(width, depth\) vit_b \(768, 12\)"):
        weights("import", tmp_path / "mobile.safetensors", "--out", "new")
