"""The settings as ROS parameters: described, refused with a reason, changed while the node works."""

from __future__ import annotations

import numpy as np
import pytest
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import DescribeParameters, ListParameters, SetParameters, SetParametersAtomically
from rclpy.parameter import Parameter

from samseg_ros.config import flatten, settings
from samseg_ros.errors import SamsegError


def call(rig, kind, service, request):
    client = rig.world.create_client(kind, f"/fusion_node/{service}")
    rig.wait(client.service_is_ready, f"the service {service}")
    answer = client.call_async(request)
    rig.wait(answer.done, f"an answer of {service}")
    return answer.result()


def set_parameter(rig, name, value):
    message = Parameter(name, value=value).to_parameter_msg()
    return call(rig, SetParameters, "set_parameters", SetParameters.Request(parameters=[message])).results[0]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("sync.lidr.timeout_s", 0.2, "did you mean 'sync.lidar.timeout_s'?"),
        ("max_rate_hz", -1.0, "max_rate_hz: Input should be greater than or equal to 0, got -1.0"),
        ("drop_policy", "oldest", "drop_policy: Input should be 'newest' or 'none', got 'oldest'"),
        ("publish.min_confidence", "high", "publish.min_confidence"),
    ],
)
def test_a_parameter_that_cannot_be_is_refused_at_start(make_rig, name, value, text):
    with pytest.raises(SamsegError) as error:
        make_rig({name: value})
    assert text in str(error.value)
    assert "/fusion_node" in str(error.value)


def test_parameters_of_ros_itself_are_let_through(make_rig):
    rig = make_rig({"use_sim_time": True, "qos_overrides./nowhere.subscription.depth": 3})
    assert rig.node.get_parameter("use_sim_time").value is True


def test_every_setting_is_declared_with_its_default_and_described(make_rig):
    rig = make_rig(autostart=False)
    listed = call(rig, ListParameters, "list_parameters", ListParameters.Request()).result.names
    assert {s.name for s in settings()} <= set(listed)
    names = ["sync.lidar.timeout_s", "drop_policy", "qos.depth", "publish.min_confidence", "autostart"]
    answer = call(rig, DescribeParameters, "describe_parameters", DescribeParameters.Request(names=names))
    timeout, policy, depth, confidence, autostart = answer.descriptors
    assert timeout.description == "Longest wait for this input after the image came, s."
    assert (timeout.floating_point_range[0].from_value, timeout.floating_point_range[0].to_value) == (0.0, 60.0)
    assert timeout.type == ParameterType.PARAMETER_DOUBLE
    assert policy.additional_constraints == "One of: newest, none. Can be set while the node is not active."
    assert (depth.integer_range[0].from_value, depth.integer_range[0].to_value) == (1, 100)
    assert confidence.additional_constraints == "Can be set any time."
    assert autostart.additional_constraints == "Can be set at start."


def test_a_runtime_setting_is_applied_to_the_next_frame(make_rig):
    rig = make_rig()
    masks = rig.connect()
    rig.send_all(1.0)
    rig.wait(lambda: masks, "a mask")
    assert set_parameter(rig, "publish.min_confidence", 1.0).successful  # the fake is 0.9997 sure
    rig.send_all(1.1)
    rig.wait(lambda: len(masks) == 2, "a second mask")
    assert np.frombuffer(masks[0].data, np.uint8).max() == 1
    assert set(masks[1].data) == {255}
    assert rig.node.config.publish.min_confidence == 1.0


def test_whole_numbers_do_for_floating_point_settings(make_rig):
    rig = make_rig({"max_rate_hz": 7})
    assert rig.node.config.max_rate_hz == 7.0
    assert set_parameter(rig, "max_rate_hz", 10).successful
    assert rig.node.get_parameter("max_rate_hz").value == 10.0
    assert rig.node.session.intake.max_rate_hz == 10.0


def test_other_settings_are_refused_with_the_remedy_while_active_and_taken_before(make_rig):
    rig = make_rig(autostart=False)
    assert set_parameter(rig, "model.name", "ad_sam").successful
    assert rig.node.config.model.name == "ad_sam"
    rig.node.autostart()
    answer = set_parameter(rig, "model.name", "mm_sam_adapter")
    assert not answer.successful
    assert answer.reason == (
        "model.name cannot change while the node is active: deactivate it (ros2 lifecycle set /fusion_node "
        "deactivate), set it, activate it again"
    )
    assert rig.node.get_parameter("model.name").value == "ad_sam"
    assert set_parameter(rig, "model.name", "ad_sam").successful  # as it is already


def test_settings_are_refused_while_the_node_is_on_its_way_to_another_state(make_rig):
    rig = make_rig(autostart=False)
    rig.node.model.state = "configuring"
    answer = set_parameter(rig, "model.name", "ad_sam")
    assert not answer.successful and "while the node is configuring: set it when that is done" in answer.reason
    rig.node.model.state = "unconfigured"


def set_atomically(rig, **values):
    parameters = [Parameter(n.replace("__", "."), value=v).to_parameter_msg() for n, v in values.items()]
    request = SetParametersAtomically.Request(parameters=parameters)
    return call(rig, SetParametersAtomically, "set_parameters_atomically", request).result


@pytest.mark.parametrize(
    ("invalid", "value", "text"),
    [
        ("publish__overlay_alpha", 7.0, "out of range"),
        ("drop_policy", "none", "cannot change while the node is active"),
        ("autostart", False, "autostart acts once, when the node starts: set it in the parameter file"),
        ("thermal__normalisation", "minmax", "unknown parameter 'thermal.normalisation'; did you mean"),
    ],
)
def test_of_several_parameters_of_which_one_cannot_be_none_changes(make_rig, invalid, value, text):
    rig = make_rig()
    before = flatten(rig.node.config)
    answer = set_atomically(rig, publish__min_confidence=0.5, max_rate_hz=3.0, **{invalid: value})
    assert not answer.successful and text in answer.reason
    assert flatten(rig.node.config) == before
    assert rig.node.get_parameter("publish.min_confidence").value == 0.0
    assert rig.node.session.intake.max_rate_hz == 0.0


def test_several_parameters_change_together_even_where_each_alone_could_not(make_rig):
    rig = make_rig({"thermal.normalization": "fixed"}, autostart=False)
    assert not set_parameter(rig, "thermal.fixed_low", 40000.0).successful  # above fixed_high
    assert set_atomically(rig, thermal__fixed_low=40000.0, thermal__fixed_high=50000.0).successful
    assert rig.node.config.thermal.fixed_low == 40000.0


def test_the_period_of_diagnostics_changes_at_once(make_rig):
    rig = make_rig({"diagnostics.period_s": 60.0})
    assert set_parameter(rig, "diagnostics.period_s", 0.05).successful
    rig.statuses.clear()
    rig.wait(lambda: rig.statuses, "diagnostics long before the minute is over")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("publish.min_confidence", 1.5, "out of range"),
        ("publish.min_confidence", "high", "Wrong parameter type"),
        ("autostart", False, "autostart acts once, when the node starts"),
    ],
)
def test_values_that_cannot_be_are_refused_with_a_reason(make_rig, name, value, text):
    rig = make_rig(autostart=False)
    before = flatten(rig.node.config)
    answer = set_parameter(rig, name, value)
    assert not answer.successful and text in answer.reason
    assert flatten(rig.node.config) == before


def test_a_choice_that_does_not_exist_is_refused_with_the_choices(make_rig):
    rig = make_rig(autostart=False)
    answer = set_parameter(rig, "model.precision", "fp8")
    assert not answer.successful and "'auto', 'fp32' or 'bf16'" in answer.reason


def test_the_rate_limit_holds(make_rig, messages):
    rig = make_rig({"inputs.thermal": False, "inputs.lidar": False, "max_rate_hz": 5.0})
    masks = rig.connect()
    import time

    start = time.monotonic()
    sent = 0
    while time.monotonic() - start < 1.0:
        rig.send(image=messages.image(1.0 + 0.01 * sent))
        sent += 1
        time.sleep(0.01)
    elapsed = time.monotonic() - start
    assert 2 <= len(masks) <= 5.0 * elapsed + 2  # one at once, then one every 0.2 s
    assert rig.node.session.intake.dropped > 10
