from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from samseg_ros.errors import SamsegError
from samseg_ros.models import build_network
from samseg_ros.training.cache import Cache
from samseg_ros.training.fabric import threads_of_a_process
from samseg_ros.training.recipe import Recipe, load_recipe, parse_recipe
from samseg_ros.training.run_log import read_log, summary
from samseg_ros.training.trainer import train


class TwoLayers(nn.Module):
    """As a model of ours, but small enough for a test: logits at 1/4, batch norm within."""

    modalities = ("rgb",)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.norm = nn.BatchNorm2d(8)
        self.classes = nn.Conv2d(8, 2, 1)

    def coarse_logits(self, inputs, present=None):
        return self.classes(self.norm(self.stem(inputs["rgb"])).relu())

    def forward(self, inputs, present=None):
        return nn.functional.interpolate(self.coarse_logits(inputs), scale_factor=4.0)


def toy_cache(frames=8):
    """Class 1 is the bright half; the first column is unlabelled."""
    rng = np.random.default_rng(0)
    labels = np.zeros((frames, 64, 64, 1), np.uint8)
    labels[:, :, 32:] = 1
    rgb = (rng.integers(0, 60, (frames, 64, 64, 3)) + 150 * labels).astype(np.uint8)
    labels[:, :, 0] = 255
    labels[::2, :, :20] = 255  # so that samples have unlike numbers of labelled pixels
    return Cache({"rgb": rgb, "labels": labels})


def toy_recipe(**changes) -> Recipe:
    settings = {
        "model": "mm_sam_adapter",
        "preset": "compact",
        "phases": [{"steps": 40, "batch": 2, "crop": [64, 64]}],
        "optimizer": {"learning_rate": 0.02},
        "schedule": {"warmup_steps": 2},
        "ema_decay": 0.8,
        "precision": "fp32",
        "checkpoint_every": 10,
        "validate_every": 20,
        "threads": 1,
    }
    return parse_recipe({**settings, **changes}, "test")


def network():
    torch.manual_seed(0)
    return TwoLayers()


def fit(recipe, folder, progress=None, net=None):
    return train(net or network(), recipe, toy_cache(), toy_cache(2), 2, folder, progress)


def curve(folder):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read_log(folder)]


def test_a_run_is_validated_in_the_windows_of_its_weights(tmp_path):
    seen = set()

    class Records(TwoLayers):
        def forward(self, inputs, present=None):
            seen.add(tuple(inputs["rgb"].shape[2:]))
            return super().forward(inputs)

    wide = Cache({name: np.concatenate([plane] * 2, 2) for name, plane in toy_cache(2).arrays.items()})
    windows = {"size": [64, 64], "stride": [64, 32]}
    recipe = toy_recipe(data={"windows": windows}, phases=[{"steps": 1, "batch": 2, "crop": [64, 64]}])
    train(Records(), recipe, toy_cache(), wide, 2, tmp_path, None)
    assert seen == {(64, 64)}


def test_the_loop_improves_on_its_start_and_keeps_its_recipe(tmp_path):
    recipe = toy_recipe()
    fit(recipe, tmp_path)
    measured = summary(read_log(tmp_path))
    assert measured["best"] > 95 > measured["start"]
    assert load_recipe(tmp_path / "recipe.yaml") == recipe
    assert (tmp_path / "curves.html").read_text().count("<svg") == 1
    assert list((tmp_path / "tensorboard").iterdir())


KILLED = """
import os, signal, sys
sys.path.insert(0, {folder!r})
from pathlib import Path
from test_trainer import fit, toy_recipe
def kill(step, steps, text):
    if step == 27:
        os.kill(os.getpid(), signal.SIGKILL)
fit(toy_recipe(), Path(sys.argv[1]), kill)
"""


def test_a_run_killed_without_warning_resumes_to_the_same_curve_and_weights(tmp_path):
    whole = fit(toy_recipe(), tmp_path / "whole")
    command = [sys.executable, "-c", KILLED.format(folder=str(Path(__file__).parent)), str(tmp_path / "parts")]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    saved = torch.load(tmp_path / "parts" / "checkpoint.pt", weights_only=True)
    assert saved["numbers"]["step"] == 20  # steps 21 to 27 are lost and come again
    resumed = fit(toy_recipe(), tmp_path / "parts")
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.parametrize("every", [4, 6, 7])
def test_a_run_that_is_resumed_before_at_or_after_a_change_of_phase_comes_out_the_same(tmp_path, every):
    phases = [{"steps": 6, "batch": 2, "crop": [64, 64]}, {"steps": 4, "batch": 4, "crop": [64, 96]}]
    schedule = {"decay": "poly", "per": "epoch", "warmup_epochs": 2}
    recipe = toy_recipe(phases=phases, schedule=schedule, validate_every=1, checkpoint_every=every)

    def stop(step, steps, text):
        if step == 9:
            raise KeyboardInterrupt

    whole = fit(recipe, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, tmp_path / "parts", stop)
    resumed = fit(recipe, tmp_path / "parts")
    assert [row["step"] for row in curve(tmp_path / "parts")] == [*range(11), 10]  # the last one has its loss too
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")
    assert curve(tmp_path / "whole")[-1]["epoch"] == (6 * 2 + 4 * 4) / 8
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())


def test_rows_that_a_killed_run_wrote_after_its_checkpoint_are_not_doubled(tmp_path):
    def stop(step, steps, text):
        if step == 25:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(toy_recipe(checkpoint_every=15), tmp_path, stop)
    assert [row["step"] for row in read_log(tmp_path)] == [0, 20, 20]
    fit(toy_recipe(checkpoint_every=15), tmp_path)
    assert [row["step"] for row in read_log(tmp_path)] == [0, 20, 20, 40, 40]


def test_the_best_weights_are_kept_not_the_last(tmp_path):
    diverging = {
        "optimizer": {"learning_rate": 0.02, "clip_norm": 0},
        "schedule": {"decay": "constant"},
        "ema_decay": 0.0,
    }
    net = network()

    def break_it(step, steps, text):
        if step == 21:
            net.classes.weight.data *= -1  # what was learnt is upside down from here on

    fit(
        toy_recipe(validate_every=5, **diverging, phases=[{"steps": 22, "batch": 2, "crop": [64, 64]}]),
        tmp_path,
        break_it,
        net,
    )
    rows = [row for row in read_log(tmp_path) if "val_miou" in row]
    assert rows[-1]["val_miou"] < 50 < summary(read_log(tmp_path))["best"]
    best = torch.load(tmp_path / "best.pt", weights_only=True)["network"]
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in best.items())


def test_accumulated_micro_batches_equal_the_whole_batch(tmp_path):
    settings = {"phases": [{"steps": 6, "batch": 4, "crop": [64, 64]}], "frozen_batch_norm": True}
    whole = fit(toy_recipe(**settings), tmp_path / "whole").state_dict()
    parts = fit(toy_recipe(**settings, micro_batch=1), tmp_path / "parts").state_dict()
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, atol=1e-5, rtol=0, msg=name)


PROCESS = """
import sys
sys.path.insert(0, {folder!r})
from pathlib import Path
from test_trainer import fit, toy_recipe
phases = [{{"steps": 8, "batch": 4, "crop": [64, 64]}}]
fit(toy_recipe(phases=phases, frozen_batch_norm=True), Path(sys.argv[1]))
"""


FUSIONSAM = """
import sys
sys.path.insert(0, {folder!r})
from pathlib import Path
from test_trainer import fusionsam_with_one_thermal_image
fusionsam_with_one_thermal_image(Path(sys.argv[1]))
"""


def fusionsam_with_one_thermal_image(folder):
    """Every step of two samples sees one thermal image, so that one of two processes sees none."""
    cache = toy_cache(2)
    thermal = {"thermal": np.full((2, 64, 64, 1), 90, np.uint8)}
    cache = Cache({**cache.arrays, **thermal}, {"thermal": np.array([True, False])})
    changes = {"phases": [{"steps": 2, "batch": 2, "crop": [64, 64]}], "precision": "fp32", "threads": 1}
    torch.manual_seed(0)
    net = build_network("fusionsam", "compact", ("rgb", "thermal"), 2)
    train(net, load_recipe("fusionsam_world", {**changes, "loss.class_weights": "none"}), cache, cache, 2, folder)


@pytest.mark.slow
def test_two_processes_of_which_one_has_no_thermal_image_come_to_the_end(tmp_path):
    script = tmp_path / "process.py"
    script.write_text(FUSIONSAM.format(folder=str(Path(__file__).parent)))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, str(script), str(tmp_path / "out")], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    last = [row for row in read_log(tmp_path / "out") if "loss" in row][-1]
    assert last["step"] == 2 and last["loss_rebuilt_thermal"] > 0 and last["loss_fused"] > 0


def test_a_process_takes_its_share_of_the_cores_and_heeds_omp_num_threads_when_alone(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    for world, omp, threads in ((None, None, 8), (None, "3", 3), ("1", "3,2", 3), ("4", "1", 2), ("16", None, 1)):
        for name, value in (("LOCAL_WORLD_SIZE", world), ("OMP_NUM_THREADS", omp)):
            monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
        assert threads_of_a_process() == threads


def test_two_gloo_processes_equal_one_with_the_doubled_batch(tmp_path):
    script = tmp_path / "process.py"
    script.write_text(PROCESS.format(folder=str(Path(__file__).parent)))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    alone = [sys.executable, str(script), str(tmp_path / "one")]
    together = [*launcher, str(script), str(tmp_path / "two")]
    for command in (alone, together):
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (torch.load(tmp_path / n / "checkpoint.pt", weights_only=True) for n in ("one", "two"))
    for name, value in one["network"].items():
        torch.testing.assert_close(two["network"][name], value, atol=1e-5, rtol=0, msg=name)
    assert two["numbers"]["running_loss"] == pytest.approx(one["numbers"]["running_loss"], abs=1e-5)
    assert [row["step"] for row in curve(tmp_path / "two")] == [row["step"] for row in curve(tmp_path / "one")]


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_the_network_computes_in_the_precision_of_the_recipe(tmp_path, precision, dtype):
    net, seen = network(), set()
    net.stem.register_forward_hook(lambda module, inputs, output: seen.add((module.training, output.dtype)))
    fit(toy_recipe(phases=[{"steps": 1, "batch": 2, "crop": [64, 64]}], precision=precision), tmp_path, net=net)
    assert (True, dtype) in seen and len({kind for _, kind in seen}) == 1


def test_validation_without_a_labelled_pixel_is_refused_before_anything_is_learnt(tmp_path):
    blank = toy_cache(2)
    blank.arrays["labels"][:] = 255
    with pytest.raises(SamsegError, match="validation: expected some labelled pixels"):
        train(network(), toy_recipe(), toy_cache(), blank, 2, tmp_path)


def test_a_run_is_not_resumed_on_other_samples(tmp_path):
    short = toy_recipe(phases=[{"steps": 1, "batch": 2, "crop": [64, 64]}])
    fit(short, tmp_path)
    with pytest.raises(SamsegError, match="is of a run on other samples"):
        train(network(), short, toy_cache(9), toy_cache(2), 2, tmp_path)


def test_a_batch_that_cannot_be_shared_out_is_refused(tmp_path):
    with pytest.raises(SamsegError, match=r"expected a multiple of 1 processes x 3 samples .micro_batch., got 4"):
        fit(toy_recipe(phases=[{"steps": 1, "batch": 4, "crop": [64, 64]}], micro_batch=3), tmp_path)


def test_a_loss_that_is_no_number_stops_with_the_batch_saved(tmp_path):
    broken = network()
    broken.classes.bias.data[:] = float("nan")
    with pytest.raises(SamsegError, match="step 0: the loss is nan"):
        fit(toy_recipe(), tmp_path, net=broken)
    saved = torch.load(tmp_path / "bad_batch.pt", weights_only=True)
    assert saved["step"] == 0
    assert saved["micro_batches"][0]["inputs"]["rgb"].shape == (2, 3, 64, 64)


def test_frozen_batch_norms_keep_their_statistics_and_others_do_not(tmp_path):
    short = {"phases": [{"steps": 2, "batch": 2, "crop": [64, 64]}], "ema_decay": 0.0}
    frozen = fit(toy_recipe(**short, frozen_batch_norm=True), tmp_path / "frozen")
    moving = fit(toy_recipe(**short), tmp_path / "moving")
    assert frozen.norm.running_mean.abs().max() == 0
    assert (
        torch.load(tmp_path / "moving" / "checkpoint.pt", weights_only=True)["network"]["norm.running_mean"].abs().max()
        > 0
    )
    assert moving.training is False


def test_a_run_is_not_resumed_with_another_recipe_nor_from_a_torn_checkpoint(tmp_path):
    short = {"phases": [{"steps": 1, "batch": 1, "crop": [64, 64]}]}
    fit(toy_recipe(**short), tmp_path)
    with pytest.raises(SamsegError, match=r"another recipe .different: ema_decay"):
        fit(toy_recipe(**short, **{"ema_decay": 0.5}), tmp_path)
    assert load_recipe(tmp_path / "recipe.yaml") == toy_recipe(**short)
    fit(toy_recipe(**{**short, "checkpoint_every": 7}), tmp_path)
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(SamsegError, match=r"checkpoint\.pt cannot be resumed from"):
        fit(toy_recipe(**short), tmp_path)


def test_a_run_that_failed_before_its_first_checkpoint_does_not_bind_its_folder(tmp_path):
    short = {"phases": [{"steps": 1, "batch": 4, "crop": [64, 64]}]}
    with pytest.raises(SamsegError, match="micro_batch"):
        fit(toy_recipe(**short, micro_batch=3), tmp_path)
    fit(toy_recipe(**short, ema_decay=0.5), tmp_path)
    assert load_recipe(tmp_path / "recipe.yaml").ema_decay == 0.5


def test_a_log_whose_last_line_was_cut_off_is_read_and_one_damaged_within_is_refused(tmp_path):
    (tmp_path / "log.jsonl").write_text(json.dumps({"step": 1, "loss": 2.0}) + '\n{"step": 2, "lo')
    assert read_log(tmp_path) == [{"step": 1, "loss": 2.0}]
    (tmp_path / "log.jsonl").write_text('{"step": 2, "lo\n' + json.dumps({"step": 3}) + "\n")
    with pytest.raises(SamsegError, match=r"log\.jsonl:1: expected a JSON object"):
        read_log(tmp_path)
    for damaged in (b"5", b"[1]", b'{"loss": 1}', b"\xff"):
        (tmp_path / "log.jsonl").write_bytes(damaged + b'\n{"step": 3}\n')
        with pytest.raises(SamsegError, match=r"log\.jsonl:1: expected a JSON object"):
            read_log(tmp_path)
