"""Declares the parameter table on a node, and refuses overrides that nobody declares.

A thin shell over `parameters`, which does the checking.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from lisard_ros.errors import UsageError
from lisard_ros.node import compat, parameters
from lisard_ros.node.parameters import Settings, Spec

_TYPES = {
    "bool": Parameter.Type.BOOL,
    "integer": Parameter.Type.INTEGER,
    "double": Parameter.Type.DOUBLE,
    "string": Parameter.Type.STRING,
    "string_array": Parameter.Type.STRING_ARRAY,
    "double_array": Parameter.Type.DOUBLE_ARRAY,
}


def declare(node: Node, argv: Sequence[str]) -> Settings:
    """Check the overrides that reached `node`, declare every parameter with its resolved value, return the settings."""
    overrides = compat.parameter_overrides(node)
    refuse_unknown(node, tuple(overrides), argv)
    settings = parameters.resolve(overrides)
    for spec in parameters.TABLE:
        _declare_one(node, spec, getattr(settings, spec.field))
    return settings


def refuse_unknown(node: Node, names: Sequence[str], argv: Sequence[str]) -> None:
    """Raise UsageError for overrides meant for this node that it does not declare; warn about those from `/**`."""
    aimed = parameters.names_on_command_line(argv)
    for file in parameters.params_files(argv):
        aimed |= parameters.names_in_own_sections(_parsed(file))
    unknown = parameters.find_unknown(names, aimed)
    for stranger in unknown:
        if stranger.from_wildcard:
            node.get_logger().warning(stranger.message + " (given for all nodes, ignored)")
    wrong = [stranger.message for stranger in unknown if not stranger.from_wildcard]
    if wrong:
        raise UsageError("\n".join(wrong))


def descriptor(spec: Spec) -> ParameterDescriptor:
    """Return the descriptor that tools show for `spec`."""
    unit = f" Unit: {spec.unit}." if spec.unit else ""
    made = ParameterDescriptor(
        name=spec.name,
        description=spec.description + unit,
        read_only=spec.read_only,
        additional_constraints="one of " + ", ".join(spec.choices) if spec.choices else "",
    )
    if spec.kind == "integer" and spec.low is not None and spec.high is not None:
        made.integer_range = [IntegerRange(from_value=int(spec.low), to_value=int(spec.high), step=0)]
    if spec.kind == "double" and spec.low is not None and spec.high is not None:
        limits = FloatingPointRange(from_value=float(spec.low), to_value=float(spec.high), step=0.0)
        made.floating_point_range = [limits]
    return made


def _declare_one(node: Node, spec: Spec, value: parameters.Value) -> None:
    """Declare with the value, or with the type alone for an empty list, whose type rclpy would take for bytes."""
    if value == ():
        node.declare_parameter(spec.name, _TYPES[spec.kind], descriptor(spec), ignore_override=True)
        return
    plain = list(value) if isinstance(value, tuple) else value
    node.declare_parameter(spec.name, plain, descriptor(spec), ignore_override=True)


def _parsed(file: str) -> object:
    try:
        return yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:  # rclpy.init has read the file already, so it went away since then
        raise UsageError(f"cannot read the parameter file {file}", found=str(error)) from error
