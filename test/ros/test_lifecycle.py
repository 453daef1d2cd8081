"""The lifecycle over its real services, and what happens when a step fails."""

from __future__ import annotations

import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState

from samseg_ros.errors import SamsegError

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
    rig.wait(lambda: all(p.get_subscription_count() for p in rig.publishers.values()), "the inputs to come back")
    rig.send_all(2.0)
    rig.wait(lambda: len(masks) == 2, "a mask after the second activation")

    assert change(rig, Transition.TRANSITION_DEACTIVATE) and change(rig, Transition.TRANSITION_CLEANUP)
    assert state(rig) == "unconfigured"
    rig.wait(lambda: rig.node.count_publishers("/fusion_node/output/mask") == 0, "the outputs to go")
    assert change(rig, Transition.TRANSITION_CONFIGURE)
    assert change(rig, Transition.TRANSITION_INACTIVE_SHUTDOWN) and state(rig) == "finalized"


def test_deactivating_lets_go_of_the_model(make_rig, lifecycle):
    import gc
    import weakref

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
