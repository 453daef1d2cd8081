"""Never any ground truth at inference: FusionSAM's outputs are the same bytes whatever the labels beside its inputs."""

from types import ModuleType, SimpleNamespace

import pytest
import torch

from samseg_ros.config import from_flat
from samseg_ros.datasets.bag import open_bag
from samseg_ros.evaluation.replay import ReplayOptions
from samseg_ros.evaluation.replay_direct import replay_direct
from samseg_ros.models import build_network
from samseg_ros.pipeline import Pipeline

Run = tuple[dict, dict[str, bytes], list[tuple[str, int, bytes]]]


@pytest.fixture(scope="module")
def runs(fakes: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """The same drive with its labels, with two classes of them swapped, and without: what was measured and came out."""
    folder = tmp_path_factory.mktemp("labels")
    torch.manual_seed(0)
    network = build_network("fusionsam", "compact", ("rgb", "thermal"), len(fakes.LABELS), {})
    config = from_flat({"model.precision": "fp32", "model.device": "cpu"})
    ways = {"squash_to": None, "pad_to": None, "windows": None}
    spec = SimpleNamespace(input_pixels=64 * 96, **ways, temperature=1.0, thermal=None)
    segment = Pipeline(SimpleNamespace(network=network, labels=fakes.LABELS, spec=spec), config)
    drives = {"own": {}, "permuted": {"truth_id": 1}, "absent": {"without": ("ground_truth",)}}
    found = {}
    for name, options in drives.items():
        bag, out = fakes.write_small_bag(folder / f"{name}.mcap", frames=2, **options), folder / name
        measured = replay_direct(ReplayOptions(bag, out, config), segmenter=segment)
        pictures = {
            str(p.relative_to(out)): p.read_bytes() for part in ("masks", "fused") for p in (out / part).iterdir()
        }
        with open_bag(out / "outputs.mcap") as outputs:
            messages = [(m.topic, m.log_ns, bytes(m.raw)) for m in outputs.messages(list(outputs.topics))]
        found[name] = measured, pictures, messages
    return found


def test_the_labels_were_read_and_are_other_labels(runs: dict[str, Run]) -> None:
    assert runs["own"][0]["labels"]["frames"] == runs["permuted"][0]["labels"]["frames"] == 2
    assert runs["own"][0]["labels"]["iou"] != runs["permuted"][0]["labels"]["iou"]
    assert "labels" not in runs["absent"][0]


@pytest.mark.parametrize("other", ["permuted", "absent"])
def test_outputs_are_the_same_bytes_with_permuted_labels_and_with_none(runs: dict[str, Run], other: str) -> None:
    measured, pictures, messages = runs["own"]
    assert len(pictures) == 4 and len(messages) > 12
    assert len(set(pictures.values())) == 4  # frames differ: no constant answer
    assert runs[other][1] == pictures
    assert runs[other][2] == messages
    assert runs[other][0]["fusion"] == measured["fusion"]
