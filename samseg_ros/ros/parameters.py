"""The settings as ROS parameters: declared from one table, unknown names refused, changes checked."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import ParameterNotDeclaredException
from rclpy.node import Node
from rclpy.parameter import Parameter

from samseg_ros.config import ROS_OWN, Config, Setting, flatten, from_flat, settings
from samseg_ros.errors import SamsegError, nearest

START_ONLY = ("autostart", "tune_malloc")
"""Settings that act once, when the process starts."""
AT_REST = ("unconfigured", "inactive", "finalized")
"""States of the node in which every other setting may change: the next activation makes what depends on it."""

_SETTINGS = {setting.name: setting for setting in settings()}


def frozen_settings(config: Config) -> dict[str, Any]:
    """Return the settings that hold from one activation to the next deactivation."""
    return {name: value for name, value in flatten(config).items() if not _SETTINGS[name].runtime}


class UnknownParameter(ParameterNotDeclaredException):
    """A parameter to be set that does not exist; rclpy's services answer with this text."""

    def __init__(self, node: Node, name: str) -> None:
        super().__init__([name])
        self._text = f"{node.get_fully_qualified_name()}: unknown parameter {name!r}; {nearest(name, _SETTINGS)}"

    def __str__(self) -> str:
        return self._text


class Parameters:
    """Declares every setting on a node and keeps the typed tree up to date.

    Args:
        node: the owner.
        state: of the node, a primary one or what it is doing; outside `AT_REST` most settings are frozen.
        changed: called with the new tree after a parameter was set.

    Raises:
        SamsegError: an override that no setting has (with the nearest name), a wrong type or a value out of range.
    """

    def __init__(self, node: Node, state: Callable[[], str], changed: Callable[[Config], None]) -> None:
        own = {p.name for p in node.get_parameters_by_prefix("").values()}  # what rclpy itself declared by now
        overrides = node._parameter_overrides  # no public way to see those that were not declared
        given = {n: p.value for n, p in overrides.items() if n not in own and not n.startswith(ROS_OWN)}
        self.config = from_flat(given, source=f"parameters of {node.get_fully_qualified_name()}")
        self.overridden = frozenset(overrides)
        """Names that a parameter file or the command line gave."""
        self._node, self._state, self._changed = node, state, changed
        values = flatten(self.config)
        node.declare_parameters(
            "", [(s.name, values[s.name], descriptor(s)) for s in _SETTINGS.values()], ignore_override=True
        )
        node.add_pre_set_parameters_callback(self._prepare)
        node.add_on_set_parameters_callback(self._check)
        node.add_post_set_parameters_callback(self._apply)

    def _merged(self, parameters: list[Parameter]) -> Config:
        ours = {p.name: p.value for p in parameters if p.name in _SETTINGS}
        return from_flat({**flatten(self.config), **ours})

    def _prepare(self, parameters: list[Parameter]) -> list[Parameter]:
        """Refuse names that do not exist, before rclpy does so without naming them."""
        for parameter in parameters:
            if not self._node.has_parameter(parameter.name):
                raise UnknownParameter(self._node, parameter.name)
        return [_whole_number_to_float(parameter) for parameter in parameters]

    def _check(self, parameters: list[Parameter]) -> SetParametersResult:
        current = flatten(self.config)
        for parameter in parameters:
            name = parameter.name
            if name in _SETTINGS and parameter.value != current[name] and (reason := self._why_frozen(name)):
                return SetParametersResult(successful=False, reason=reason)
        try:
            self._merged(parameters)
        except SamsegError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _why_frozen(self, name: str) -> str:
        """Say why a setting cannot change now, and what to do; empty where it can."""
        state = self._state()
        if name in START_ONLY:
            return f"{name} acts once, when the node starts: set it in the parameter file or with -p, and restart"
        if _SETTINGS[name].runtime or state in AT_REST:
            return ""
        if state != "active":
            return f"{name} cannot change while the node is {state}: set it when that is done and the node inactive"
        node = self._node.get_fully_qualified_name()
        return (
            f"{name} cannot change while the node is active: deactivate it (ros2 lifecycle set {node} deactivate), "
            "set it, activate it again"
        )

    def _apply(self, parameters: list[Parameter]) -> None:
        if any(p.name in _SETTINGS for p in parameters):
            self.config = self._merged(parameters)
            self._changed(self.config)


def descriptor(setting: Setting) -> ParameterDescriptor:
    """Describe a setting for ``ros2 param describe``."""
    result = ParameterDescriptor(description=setting.description)
    # START_ONLY ones are not read_only: rclpy would refuse them by itself, without the remedy.
    settable = "at start" if setting.name in START_ONLY else "while the node is not active"
    when = "any time" if setting.runtime else settable
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


def _whole_number_to_float(parameter: Parameter) -> Parameter:
    """Let ``ros2 param set … max_rate_hz 10`` do what it says, though 10 comes as an integer."""
    setting: Any = _SETTINGS.get(parameter.name)
    if setting is not None and isinstance(setting.default, float) and parameter.type_ is Parameter.Type.INTEGER:
        return Parameter(parameter.name, Parameter.Type.DOUBLE, float(parameter.value))
    return parameter
