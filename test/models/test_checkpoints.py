"""Reading what others saved: tensors come out, code never runs."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel

from samseg_ros.errors import SamsegError
from samseg_ros.models.checkpoints import REMARKS, Remark, read_state

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1.5])}


class RunsACommand:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.witness,)


class RunsWhatIsWritten(RunsACommand):
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({str(self.witness)!r}, 'w').close()",)


def _same(got: dict[str, torch.Tensor]) -> bool:
    return list(got) == list(STATE) and all(torch.equal(got[name], value) for name, value in STATE.items())


@pytest.mark.parametrize(
    "tree",
    [
        STATE,
        {"state_dict": STATE, "meta": {"epoch": 3, "CLASSES": ("road", "sky")}},
        {"model": STATE, "optimizer": {"state": {}}},
        {"model": {"state_dict": STATE}},
        {"network": STATE, "average": {}, "numbers": {"step": 5}},
        {"network": {}, "average": {"n_averaged": torch.tensor(7), **{f"module.{k}": v for k, v in STATE.items()}}},
        {"state_dict": {f"module.{k}": v for k, v in STATE.items()}},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_the_weights_come_out_of_whatever_they_were_wrapped_in(
    tmp_path: Path, tree: dict[str, Any], zipped: bool
) -> None:
    torch.save(tree, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert _same(read_state(tmp_path / "a.pth"))


def test_safetensors_are_read_as_they_are(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "a.safetensors")
    got = read_state(tmp_path / "a.safetensors")
    assert sorted(got) == sorted(STATE) and all(torch.equal(got[name], value) for name, value in STATE.items())


def test_an_averaged_network_gives_its_own_names(tmp_path: Path) -> None:
    network = torch.nn.Linear(2, 1)
    torch.save({"average": AveragedModel(network).state_dict()}, tmp_path / "a.pt")
    assert torch.equal(read_state(tmp_path / "a.pt")["weight"], network.weight)


def test_numpy_objects_beside_the_weights_are_dropped(tmp_path: Path) -> None:
    meta = {"best": np.float64(0.57), "palette": np.arange(6).reshape(2, 3), "type": np.dtype("f4")}
    torch.save({"meta": meta, "state_dict": STATE}, tmp_path / "a.pth")
    assert _same(read_state(tmp_path / "a.pth"))


def test_what_stands_in_for_an_object_beside_the_weights_keeps_nothing_and_does_nothing() -> None:
    remark = Remark("O8", False, True)
    remark.__setstate__((3, "<", None, None, None, 8, 1, 63))
    assert vars(remark) == {}
    assert all(name.count(".") >= 1 and not name.startswith(("os.", "builtins.", "posix.")) for name in REMARKS)


@pytest.mark.parametrize("kind", [RunsACommand, RunsWhatIsWritten])
@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("format_", ["zip", "old", "plain pickle"])
def test_a_file_that_has_to_run_code_is_refused_and_runs_none(
    tmp_path: Path, kind: type[RunsACommand], beside: bool, format_: str
) -> None:
    witness, path = tmp_path / "it-ran", tmp_path / "evil.pth"
    tree = {"state_dict": STATE, "meta": kind(witness)} if beside else kind(witness)
    if format_ == "plain pickle":
        path.write_bytes(pickle.dumps(tree, protocol=2))
    else:
        torch.save(tree, path, _use_new_zipfile_serialization=format_ == "zip")
    with pytest.raises(SamsegError) as error:
        read_state(path)
    assert not witness.exists()
    assert "it was refused and nothing was run; ask its author for .safetensors" in str(error.value)
    assert "weights_only" not in str(error.value)
    torch.load(path, weights_only=False) if format_ != "plain pickle" else pickle.loads(path.read_bytes())
    assert witness.exists()  # the trap works: it was the reader that did not step into it


def test_the_call_that_a_refused_file_asks_for_is_named(tmp_path: Path) -> None:
    torch.save(RunsWhatIsWritten(tmp_path / "w"), tmp_path / "evil.pt")
    with pytest.raises(SamsegError, match=r"evil\.pt: expected tensors alone, got .*\(it calls eval\)"):
        read_state(tmp_path / "evil.pt")


def test_a_whole_network_is_refused_as_it_is_code(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(SamsegError, match=r"it calls torch\.nn\.modules\.linear\.Linear"):
        read_state(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ([1, 2], "got a list"),
        (torch.ones(2), "got a Tensor"),
        ({}, "got an empty dictionary"),
        ({"state_dict": {**STATE, "epoch": 3}}, "got also 'epoch' (int)"),
        ({1: torch.ones(1)}, "got also 1 (Tensor)"),
    ],
)
def test_anything_but_named_tensors_is_refused(tmp_path: Path, tree: Any, told: str) -> None:
    torch.save(tree, tmp_path / "a.pt")
    with pytest.raises(SamsegError) as error:
        read_state(tmp_path / "a.pt")
    assert told in str(error.value) and "state_dict | model | average | network" in str(error.value)


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04 cut off"])
def test_damaged_files_are_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SamsegError, match=r"a\.(pt|safetensors)") as error:
        read_state(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_file_cut_in_half_is_told_from_a_whole_one(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(20_000)}, tmp_path / "a.pt")
    data = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(SamsegError, match="is it whole"):
        read_state(tmp_path / "a.pt")


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(SamsegError, match=r"no checkpoint at .*gone\.pt"):
        read_state(tmp_path / "gone.pt")
