"""How chunks are dealt to Ray's workers; Ray itself is not needed here."""

from __future__ import annotations

import pytest

from samseg_ros.config import Config, ModelConfig
from samseg_ros.errors import SamsegError
from samseg_ros.evaluation.jobs import Job, Task
from samseg_ros.evaluation.ray_crew import LOCAL, _needs, _next, _room, require_settled
from samseg_ros.evaluation.sources import Source

CHUNKS = [Task(0, 8, 16), Task(1, 0, 8), Task(1, 8, 16), Task(1, 16, 24)]


def test_a_worker_stays_with_its_job_while_there_are_chunks_of_it() -> None:
    assert _next(CHUNKS, {0: 0, 1: 1}, 0) == Task(0, 8, 16)
    assert _next(CHUNKS, {0: 0, 1: 1}, 1) == Task(1, 0, 8)


def test_a_free_worker_goes_where_most_chunks_wait_for_each_worker() -> None:
    assert _next(CHUNKS, {0: -1}, 0).job == 1  # 3 chunks wait there, 1 waits at the other
    assert _next(CHUNKS, {0: 1, 1: 1, 2: 1, 3: -1}, 3).job == 0  # a share of 3 / 4 there, of 1 / 1 here
    assert _next(CHUNKS[1:], {0: 0}, 0).job == 1  # its own job is done


@pytest.mark.parametrize(("device", "precision"), [("auto", "fp32"), ("cuda", "auto")])
def test_a_cluster_is_told_device_and_precision(device: str, precision: str) -> None:
    model = ModelConfig.model_validate({"device": device, "precision": precision})
    with pytest.raises(SamsegError, match=r"model\.device=cuda"):
        require_settled("10.0.0.1:6379", Config(model=model))
    require_settled(LOCAL, Config(model=model))
    require_settled("", Config(model=model))


def test_a_worker_takes_the_cores_of_its_model_or_a_gpu() -> None:
    def job(device: str, outputs: str = "") -> Job:
        return Job(Config(model=ModelConfig(device=device, threads=2)), Source("world"), outputs=outputs)

    assert _needs([job("cpu"), job("cuda", outputs="recorded.mcap")]) == {"num_cpus": 2, "num_gpus": 0}
    assert _needs([job("cpu"), job("cuda:0")]) == {"num_cpus": 2, "num_gpus": 1}
    assert _room({"CPU": 9.0}, {"num_cpus": 2, "num_gpus": 0}) == 4
    assert _room({"CPU": 9.0, "GPU": 3.0}, {"num_cpus": 2, "num_gpus": 1}) == 3
    with pytest.raises(SamsegError, match="room for a worker"):
        _room({"CPU": 9.0}, {"num_cpus": 2, "num_gpus": 1})
