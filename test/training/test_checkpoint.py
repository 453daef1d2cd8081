from __future__ import annotations

from pathlib import Path

import pytest
import torch

from samseg_ros.errors import SamsegError
from samseg_ros.training.checkpoint import load_best, write_whole


def test_a_full_disk_is_told_and_leaves_the_checkpoint_before_whole(tmp_path):
    path = tmp_path / "checkpoint.pt"
    (tmp_path / "checkpoint.part").symlink_to("/dev/full")
    with pytest.raises(SamsegError, match=r"checkpoint\.pt cannot be written .*there is none yet; .* GB are free"):
        write_whole(path, {"a": torch.ones(100_000)})
    write_whole(path, {"a": torch.ones(3)})
    (tmp_path / "checkpoint.part").symlink_to("/dev/full")
    with pytest.raises(SamsegError, match=r"the one before is whole; .* GB are free: make room and run again"):
        write_whole(path, {"a": torch.ones(100_000)})
    assert torch.equal(torch.load(path, weights_only=True)["a"], torch.ones(3))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [{"network": {}, "where": Path()}, {"weights": torch.ones(1)}, "text"])
def test_a_file_that_is_no_checkpoint_is_refused_without_torchs_advice_to_programmers(tmp_path, content):
    path = tmp_path / "best.pt"
    if isinstance(content, str):
        path.write_text(content)
    else:
        torch.save(content, path)
    with pytest.raises(SamsegError, match=r"best\.pt cannot be read .*; train again") as error:
        load_best(path, torch.nn.Linear(1, 1))
    assert "weights_only" not in str(error.value) and "load" not in str(error.value)
