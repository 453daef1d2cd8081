"""The settings as ROS parameters: declared from one table, unknown names refused, changes checked."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from samseg_ros.config import ROS_OWN, Config, Setting, flatten, from_flat, settings
from samseg_ros.errors import SamsegError

START_ONLY = ("autostart", "tune_malloc")
"""Settings that act once, when the process starts."""

_SETTINGS = {setting.name: setting for setting in settings()}


class Parameters:
    """Declares every setting on a node and keeps the typed tree up to date.

    Args:
        node: the owner.
        is_configured: whether the node is past configure, where most settings are frozen.
        changed: called with the new tree after a parameter was set.

    Raises:
        SamsegError: an override that no setting has (with the nearest name), a wrong type or a value out of range.
    """

    def __init__(self, node: Node, is_configured: Callable[[], bool], changed: Callable[[Config], None]) -> None:
        own = {p.name for p in node.get_parameters_by_prefix("").values()}  # what rclpy itself declared by now
        overrides = node._parameter_overrides  # no public way to see those that were not declared
        given = {n: p.value for n, p in overrides.items() if n not in own and not n.startswith(ROS_OWN)}
        self.config = from_flat(given, source=f"parameters of {node.get_fully_qualified_name()}")
        self.overridden = frozenset(overrides)
        """Names that a parameter file or the command line gave."""
        self._is_configured, self._changed = is_configured, changed
        values = flatten(self.config)
        node.declare_parameters(
            "", [(s.name, values[s.name], descriptor(s)) for s in _SETTINGS.values()], ignore_override=True
        )
        node.add_pre_set_parameters_callback(_whole_numbers_to_floats)
        node.add_on_set_parameters_callback(self._check)
        node.add_post_set_parameters_callback(self._apply)

    def _merged(self, parameters: list[Parameter]) -> Config:
        ours = {p.name: p.value for p in parameters if p.name in _SETTINGS}
        return from_flat({**flatten(self.config), **ours})

    def _check(self, parameters: list[Parameter]) -> SetParametersResult:
        current = flatten(self.config)
        for parameter in parameters:
            setting = _SETTINGS.get(parameter.name)
            frozen = setting is not None and not setting.runtime and self._is_configured()
            if frozen and parameter.value != current[parameter.name]:
                reason = (
                    f"{parameter.name} cannot change while the node is configured: clean up, set it, configure again"
                )
                return SetParametersResult(successful=False, reason=reason)
        try:
            self._merged(parameters)
        except SamsegError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply(self, parameters: list[Parameter]) -> None:
        if any(p.name in _SETTINGS for p in parameters):
            self.config = self._merged(parameters)
            self._changed(self.config)


def descriptor(setting: Setting) -> ParameterDescriptor:
    """Describe a setting for ``ros2 param describe``."""
    result = ParameterDescriptor(description=setting.description, read_only=setting.name in START_ONLY)
    when = "any time" if setting.runtime else ("at start" if setting.name in START_ONLY else "before configure")
    choices = f"One of: {', '.join(setting.choices)}. " if setting.choices else ""
    result.additional_constraints = f"{choices}Can be set {when}."
    if setting.minimum is None and setting.maximum is None:
        return result
    if isinstance(setting.default, int):
        low, high = _bounds(setting, 2**63 - 1)
        result.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=0)]
    else:
        low, high = _bounds(setting, sys.float_info.max)
        result.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)]
    return result


def _bounds(setting: Setting, largest: float) -> tuple[float, float]:
    return (
        -largest if setting.minimum is None else setting.minimum,
        largest if setting.maximum is None else setting.maximum,
    )


def _whole_numbers_to_floats(parameters: list[Parameter]) -> list[Parameter]:
    """Let ``ros2 param set … max_rate_hz 10`` do what it says, though 10 comes as an integer."""

    def convert(parameter: Parameter) -> Parameter:
        setting: Any = _SETTINGS.get(parameter.name)
        if setting is not None and isinstance(setting.default, float) and parameter.type_ is Parameter.Type.INTEGER:
            return Parameter(parameter.name, Parameter.Type.DOUBLE, float(parameter.value))
        return parameter

    return [convert(p) for p in parameters]
