"""Rows of the benchmark that run a network: alone, in the pipeline, and scored."""

from __future__ import annotations

import copy
import time

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from samseg_ros.config import Config
from samseg_ros.evaluation.benchmark_row import VGA, Row, timed
from samseg_ros.labels import load_labels
from samseg_ros.models import LoadedModel, ModelSpec, build_network, load_model
from samseg_ros.networks.deformable_conv import DeformableConv
from samseg_ros.pipeline import Pipeline, network_size
from samseg_ros.runtime import Runner, choose_device, choose_dtype
from samseg_ros.training.recipe import load_recipe
from samseg_ros.types import Frame


def model() -> Row:
    """The default network on all three sensors of a VGA camera."""
    config = Config()
    loaded, plain = load_model(config.model), load_model(config.model)
    size = network_size(VGA, loaded.spec.input_pixels, loaded.spec.squash_to)
    rng = np.random.default_rng(0)
    inputs = {name: rng.random((3, *size), np.float32) for name in loaded.spec.modalities}
    runner = Runner(loaded.network, config.model)
    eager = Runner(plain.network, config.model.model_copy(update={"precision": "fp32", "compile": False}))
    tensors = {name: torch.from_numpy(a)[None].to(runner.device) for name, a in inputs.items()}
    with FlopCounterMode(display=False) as counter:
        load_model(config.model).network.to(runner.device).coarse_logits(tensors)  # type: ignore[operator]
    flops = counter.get_total_flops()
    return Row(
        f"model {config.model.name} ({config.model.config}) at {size[0]}×{size[1]}, {flops / 1e9:.1f} GFLOP",
        "the same in eager fp32",
        "its FLOPs at the matrix rate of this run",
        "—",
        lambda: runner(inputs),
        lambda: eager(inputs),
        lambda: flops / _matrix_rate(config) * 1e3,
    )


def _matrix_rate(config: Config) -> float:
    """Return floating-point operations per second of a large matrix product in the model's arithmetic."""
    device = choose_device(config.model.device)
    kind = choose_dtype(config.model.precision, device)
    side = 4096 if device.type == "cuda" else 1024
    a = torch.ones(side, side, dtype=kind, device=device)
    a @ a
    start = time.perf_counter()
    for _ in range(4):
        b = a @ a
    b.sum().item()  # waits for the device
    return 4 * 2 * side**3 / (time.perf_counter() - start)


def end_to_end() -> Row:
    """Frame → Segmentation for a VGA camera with thermal and LiDAR, against the network alone."""
    from samseg_ros.datasets.world import drive, make_rig

    config = Config()
    frame = next(drive("test", "day", 1, 1, make_rig(VGA))).frame
    ours = Pipeline.from_config(config)
    plain = Pipeline.from_config(
        config.model_copy(update={"model": config.model.model_copy(update={"precision": "fp32", "compile": False})})
    )
    inputs, _ = ours.prepare(frame)
    runner = Runner(load_model(config.model).network, config.model)
    return Row(
        "end to end, 640×480 camera + thermal + LiDAR (pipeline, without transport)",
        "the same around eager fp32 torch",
        "the model alone",
        "≥ 5 frames/s",
        lambda: ours(frame),
        lambda: plain(frame),
        timed(lambda: runner(inputs)),
    )


def ad_sam() -> Row:
    """Frame → Segmentation of the compact AD-SAM for a 480×360 camera, in the windows of ``make camvid``'s weights.

    Its own weights are fresh: the time is the same.
    """
    config, labels, size = Config(), load_labels("camvid"), (360, 480)
    torch.manual_seed(0)
    network = build_network("ad_sam", "compact", ("rgb",), len(labels)).eval()
    for layer in network.modules():
        if isinstance(layer, DeformableConv):  # as trained: fresh ones do not move at all
            torch.nn.init.normal_(layer.offset_conv.weight, std=0.02)
    plain = copy.deepcopy(network)
    for layer in plain.modules():
        if isinstance(layer, DeformableConv):
            layer.forward = layer.forward_by_operator  # type: ignore[method-assign]
    spec = ModelSpec(
        name="ad_sam",
        preset="compact",
        labels=labels.name,
        modalities=("rgb",),
        input_pixels=size[0] * size[1],
        windows=load_recipe("ad_sam_camvid_mix").data.windows,
        weights="none.safetensors",
        licence="Apache-2.0",
    )
    eager = config.model_copy(update={"model": config.model.model_copy(update={"precision": "fp32", "compile": False})})
    ours, peer = Pipeline(LoadedModel(network, labels, spec), config), Pipeline(LoadedModel(plain, labels, spec), eager)
    frame = Frame(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
    inputs, _ = ours.prepare(frame)
    runner = Runner(network, config.model, spec.windows)
    return Row(
        "ad_sam (compact) end to end, 480×360 camera in windows (pipeline, without transport)",
        "the same around eager fp32 torch and torchvision's deform_conv2d",
        "the model alone",
        "≥ 5 frames/s",
        lambda: ours(frame),
        lambda: peer(frame),
        timed(lambda: runner(inputs)),
    )


def scoring() -> Row:
    """A frame scored: segmented, and every measure of it taken; 640×480, camera + thermal + LiDAR."""
    from sklearn.metrics import confusion_matrix

    from samseg_ros.datasets.world.labelled import open_world
    from samseg_ros.evaluation.measures import measure
    from samseg_ros.evaluation.predictors import PipelinePredictor

    world = open_world("test", 6)
    frame, truth, depth_m = world.with_depth(0)
    labels, sample = load_labels(world.labels), world.samples[0]
    pipeline = Pipeline.from_config(Config())
    predict = PipelinePredictor(pipeline, labels)
    return Row(
        "scoring, 640×480: the model, confusion per distance, boundaries, calibration",
        "the model and scikit-learn's confusion_matrix alone",
        "the model alone (frame to mask)",
        "ours / limit ≤ 1.11: 90 % of the model's throughput",
        lambda: measure(predict(frame), truth, sample, len(labels), depth_m),
        lambda: confusion_matrix(truth.ravel(), pipeline(frame).labels.ravel(), labels=range(len(labels))),
        timed(lambda: pipeline(frame)),
    )
