"""The lifecycle over its real services, and what happens when a step fails."""

from __future__ import annotations

import json
import weakref
from pathlib import Path

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.parameter import Parameter
from std_msgs.msg import String

from samseg_ros.errors import SamsegError
from samseg_ros.labels import LabelSet

WARN, ERROR = 1, 2


@pytest.fixture
def lifecycle():
    """Return functions that change and get the state of a rig's node."""

    def call(rig, kind, service, request):
        client = rig.world.create_client(kind, f"/fusion_node/{service}")
        rig.wait(client.service_is_ready, f"the service {service}")
        answer = client.call_async(request)
        rig.wait(answer.done, f"an answer of {service}")
        return answer.result()

    def change(rig, transition):
        request = ChangeState.Request(transition=Transition(id=transition))
        return call(rig, ChangeState, "change_state", request).success

    def state(rig):
        return call(rig, GetState, "get_state", GetState.Request()).current_state.label

    return change, state


def test_the_node_goes_through_its_states_and_segments_only_when_active(make_rig, lifecycle):
    change, state = lifecycle
    rig = make_rig(autostart=False)
    assert state(rig) == "unconfigured"
    assert change(rig, Transition.TRANSITION_CONFIGURE) and state(rig) == "inactive"
    assert rig.node.count_publishers("/fusion_node/output/mask") == 1
    assert rig.node.count_subscribers("/fusion_node/input/image") == 0
    rig.wait_status("model", WARN, "inactive: no masks are made")
    assert change(rig, Transition.TRANSITION_ACTIVATE) and state(rig) == "active"
    masks = rig.connect()
    rig.send_all(1.0)
    rig.wait(lambda: masks, "a mask")

    assert change(rig, Transition.TRANSITION_DEACTIVATE) and state(rig) == "inactive"
    rig.wait(lambda: rig.node.count_subscribers("/fusion_node/input/image") == 0, "the inputs to go")
    assert change(rig, Transition.TRANSITION_ACTIVATE)
    inputs = [rig.publishers[name] for name in ("image", "thermal", "lidar", "camera_info")]
    rig.wait(lambda: all(p.get_subscription_count() for p in inputs), "the inputs to come back")
    rig.send_all(2.0)
    rig.wait(lambda: len(masks) == 2, "a mask after the second activation")

    assert change(rig, Transition.TRANSITION_DEACTIVATE) and change(rig, Transition.TRANSITION_CLEANUP)
    assert state(rig) == "unconfigured"
    rig.wait(lambda: rig.node.count_publishers("/fusion_node/output/mask") == 0, "the outputs to go")
    assert change(rig, Transition.TRANSITION_CONFIGURE)
    assert change(rig, Transition.TRANSITION_INACTIVE_SHUTDOWN) and state(rig) == "finalized"


def test_deactivating_lets_go_of_the_model(make_rig, lifecycle):
    import gc

    change, _ = lifecycle
    rig = make_rig()
    model = weakref.ref(rig.pipeline)
    rig.pipeline = None
    assert change(rig, Transition.TRANSITION_DEACTIVATE)
    gc.collect()
    assert model() is None


def test_shutting_down_from_active_ends_the_inference_thread(make_rig, lifecycle):
    change, state = lifecycle
    rig = make_rig()
    thread = rig.node.session._thread
    assert change(rig, Transition.TRANSITION_ACTIVE_SHUTDOWN) and state(rig) == "finalized"
    assert not thread.is_alive()


def test_an_impossible_transition_is_refused_and_the_node_lives(make_rig, lifecycle):
    change, state = lifecycle
    rig = make_rig(autostart=False)
    assert not change(rig, Transition.TRANSITION_ACTIVATE)
    assert state(rig) == "unconfigured"
    assert change(rig, Transition.TRANSITION_CONFIGURE)


def test_a_model_that_cannot_be_loaded_is_named_and_the_node_lives(make_rig, lifecycle):
    change, state = lifecycle
    rig = make_rig(autostart=False)
    made = rig.node._factory

    def refuse(config):
        raise SamsegError("no model 'mm_sam'; did you mean 'mm_sam_adapter'?")

    rig.node._factory = refuse
    rig.node.autostart()
    rig.wait_status("model", ERROR, "configuring failed: no model 'mm_sam'; did you mean 'mm_sam_adapter'?")
    assert state(rig) == "unconfigured"
    rig.node._factory = made
    assert change(rig, Transition.TRANSITION_CONFIGURE) and change(rig, Transition.TRANSITION_ACTIVATE)
    rig.wait_status("model", 0, "waiting for the first image")


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"projection.calibration_path": "/nowhere.yaml"}, ("/nowhere.yaml", "cannot be read")),
        ({"projection.motion_compensation": True}, ("projection.motion_compensation needs TF",)),
    ],
)
def test_extrinsics_that_cannot_be_used_fail_in_configure(make_rig, lifecycle, parameters, words):
    _, state = lifecycle
    rig = make_rig(parameters)
    rig.wait_status("model", ERROR, "configuring failed", *words)
    assert state(rig) == "unconfigured"


def test_a_calibration_file_with_a_wrong_key_fails_in_configure_with_the_right_one(make_rig, tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text("transforms:\n- {target: a, source: b, translation: [0, 0, 0], rotation: [0, 0, 0, 1]}\n")
    rig = make_rig({"projection.calibration_path": str(path)})
    rig.wait_status("model", ERROR, "wrong.yaml", "'rotation'", "did you mean 'rotation_xyzw'?")


def test_without_autostart_diagnostics_say_what_to_do(make_rig):
    rig = make_rig({"autostart": False})
    rig.wait_status("model", WARN, "unconfigured: no masks are made; configure and activate")


def test_a_failed_configure_lets_go_of_the_model(make_rig):
    rig = make_rig({"projection.calibration_path": "/nowhere.yaml"})
    rig.wait_status("model", ERROR, "configuring failed")
    rig.wait(lambda: rig.node._pipeline is None, "the model to go")
    assert rig.node._outputs is None


def test_a_failed_activate_lets_go_of_the_model_and_the_subscriptions_and_can_be_repeated(
    make_rig, lifecycle, monkeypatch
):
    from samseg_ros.ros import session

    change, state = lifecycle
    rig = make_rig(autostart=False)
    assert change(rig, Transition.TRANSITION_CONFIGURE)

    def fail_for_lidar(node, name, *rest):
        if name == "lidar":
            raise SamsegError("no lidar today")
        return made(node, name, *rest)

    made = session.Input
    monkeypatch.setattr(session, "Input", fail_for_lidar)
    assert not change(rig, Transition.TRANSITION_ACTIVATE) and state(rig) == "inactive"
    rig.wait_status("model", ERROR, "activating failed: no lidar today")
    assert rig.node._pipeline is None and rig.node.session is None
    rig.wait(lambda: rig.node.count_subscribers("/fusion_node/input/image") == 0, "the inputs to go")
    monkeypatch.undo()
    assert change(rig, Transition.TRANSITION_ACTIVATE) and state(rig) == "active"


OTHER_LABELS = LabelSet("other", ("night", "day", "dusk"), np.zeros((3, 3), np.uint8))


def set_parameters(rig, values):
    results = rig.node.set_parameters([Parameter(name, value=value) for name, value in values.items()])
    assert all(result.successful for result in results), results


def test_a_model_is_changed_between_deactivate_and_activate_and_the_old_one_is_gone_by_then(
    make_rig, lifecycle, fake_pipeline
):
    change, _ = lifecycle
    rig = make_rig()
    infos = rig.listen(String, "output/label_info", latched=True)
    rig.wait(lambda: infos, "the label set")
    old, asked = weakref.ref(rig.pipeline), []
    rig.pipeline = None

    def load(config):
        assert old() is None  # its memory is free before the next one takes any
        asked.append(config.model)
        rig.pipeline = type("Other", (fake_pipeline,), {"labels": OTHER_LABELS, "modalities": ("rgb",)})(config)
        return rig.pipeline

    rig.node._factory = load
    assert change(rig, Transition.TRANSITION_DEACTIVATE)
    set_parameters(rig, {"model.name": "fusionsam", "model.checkpoint": "elsewhere"})
    assert change(rig, Transition.TRANSITION_ACTIVATE)
    assert [(m.name, m.checkpoint) for m in asked] == [("fusionsam", "elsewhere")]
    rig.wait(lambda: len(infos) == 2, "the other label set")
    assert [c["name"] for c in json.loads(infos[1].data)["classes"]] == ["night", "day", "dusk"]
    late = rig.another_node("late")
    rig.wait(lambda: late.count_publishers("/fusion_node/output/label_info") == 1, "one publisher of the label set")
    assert set(rig.node.session.health) == {"image"}  # the other model takes the camera alone
    masks = rig.connect()
    rig.send_all(1.0, thermal=None, lidar=None, camera_info=None)
    rig.wait(lambda: masks, "a mask of the other model")


def test_a_model_that_was_loaded_for_other_settings_is_loaded_again_on_the_first_activation(make_rig, lifecycle):
    change, _ = lifecycle
    rig = make_rig(autostart=False)
    made, asked = rig.node._factory, []
    rig.node._factory = lambda config: asked.append(config.labels.path) or made(config)
    assert change(rig, Transition.TRANSITION_CONFIGURE)
    set_parameters(rig, {"labels.path": "elsewhere.csv", "sync.lidar.timeout_s": 0.4})
    assert change(rig, Transition.TRANSITION_ACTIVATE)
    assert asked == ["", "elsewhere.csv"]
    assert rig.node.session.collector._streams["lidar"].config.timeout_s == 0.4


def test_activating_with_the_settings_of_configure_loads_nothing_twice_and_keeps_the_outputs(make_rig, lifecycle):
    change, _ = lifecycle
    rig = make_rig(autostart=False)
    made, asked = rig.node._factory, []
    rig.node._factory = lambda config: asked.append(1) or made(config)
    assert change(rig, Transition.TRANSITION_CONFIGURE)
    outputs = rig.node._outputs
    set_parameters(rig, {"publish.min_confidence": 0.5})  # changes at any time
    assert change(rig, Transition.TRANSITION_ACTIVATE)
    assert asked == [1] and rig.node._outputs is outputs
    assert change(rig, Transition.TRANSITION_DEACTIVATE) and change(rig, Transition.TRANSITION_ACTIVATE)
    assert asked == [1, 1] and rig.node._outputs is outputs


def test_a_calibration_that_was_corrected_in_its_file_holds_from_the_next_activation(make_rig, lifecycle):
    change, _ = lifecycle
    rig = make_rig()
    before = rig.node._extrinsics
    assert change(rig, Transition.TRANSITION_DEACTIVATE)
    path = Path(rig.node.config.projection.calibration_path)
    path.write_text(f"# corrected\n{path.read_text()}")
    assert change(rig, Transition.TRANSITION_ACTIVATE)
    assert rig.node._extrinsics is not before


def test_an_activation_that_fails_for_new_settings_is_named_and_works_with_the_old_ones(make_rig, lifecycle):
    change, state = lifecycle
    rig = make_rig()
    before = rig.node.config.projection.calibration_path
    assert change(rig, Transition.TRANSITION_DEACTIVATE)
    set_parameters(rig, {"projection.calibration_path": "/nowhere.yaml"})
    assert not change(rig, Transition.TRANSITION_ACTIVATE) and state(rig) == "inactive"
    rig.wait_status("model", ERROR, "activating failed: /nowhere.yaml")
    set_parameters(rig, {"projection.calibration_path": before})
    assert change(rig, Transition.TRANSITION_ACTIVATE)
    masks = rig.connect()
    rig.send_all(1.0)
    rig.wait(lambda: masks, "a mask")
    assert rig.pipeline.frames[-1].camera_from_lidar is not None


@pytest.mark.parametrize("times", [1, 9])
def test_what_cannot_be_taken_back_leaves_no_node_that_believes_it_is_active(make_rig, lifecycle, monkeypatch, times):
    change, state = lifecycle
    rig = make_rig()
    close, failures = rig.node.session.close, iter([RuntimeError("stuck")] * times)

    def fails():
        close()
        if (failure := next(failures, None)) is not None:
            raise failure

    monkeypatch.setattr(rig.node.session, "close", fails)
    change(rig, Transition.TRANSITION_DEACTIVATE)
    ends = "unconfigured" if times == 1 else "finalized"
    assert (state(rig), rig.node.model.state) == (ends, ends)
    if times == 1:
        assert change(rig, Transition.TRANSITION_CONFIGURE)
