"""Declares the parameter table on a node, and refuses overrides that are not declared.

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
from lisard_ros.node.parameters import NodeSettings, ParameterSpec


class _RclLoader(yaml.SafeLoader):
    """YAML as rcl reads it: launch_ros writes each list of a Python launch file with the tag of a tuple."""

    def construct_tuple(self, node: yaml.SequenceNode) -> list[object]:
        """Read a tuple as a list."""
        return self.construct_sequence(node)


_RclLoader.add_constructor("tag:yaml.org,2002:python/tuple", _RclLoader.construct_tuple)

_TYPES = {
    "bool": Parameter.Type.BOOL,
    "integer": Parameter.Type.INTEGER,
    "double": Parameter.Type.DOUBLE,
    "string": Parameter.Type.STRING,
    "string_array": Parameter.Type.STRING_ARRAY,
    "double_array": Parameter.Type.DOUBLE_ARRAY,
}


def declare(node: Node, argv: Sequence[str]) -> NodeSettings:
    """Check the overrides that reached `node`, declare every parameter with its resolved value, return the settings."""
    overrides = compat.parameter_overrides(node)
    aimed = parameters.names_on_command_line(argv)
    for file in parameters.params_files(argv):
        document = _parsed(file)
        aimed |= parameters.names_in_own_sections(document)
        if complaint := parameters.stray_section(document, node.get_fully_qualified_name()):
            node.get_logger().warning(f"parameter file {file}: {complaint}")
    refuse(node, parameters.find_unknown(overrides, aimed))
    settings = parameters.resolve(overrides)
    inputs = [*settings.image_topics, *([settings.boxes_topic] if settings.boxes_topic else [])]
    refuse(node, parameters.find_unknown_qos(overrides, compat.resolved_topics(node, inputs), aimed))
    for spec in parameters.TABLE:
        _declare_one(node, spec, getattr(settings, spec.field))
    return settings


def refuse(node: Node, found: Sequence[parameters.Unknown]) -> None:
    """Raise UsageError for overrides meant for this node that it does not take; warn about those from `/**`."""
    for unknown in found:
        if unknown.from_wildcard:
            node.get_logger().warning(unknown.message + " (given for all nodes, ignored)")
    wrong = [unknown.message for unknown in found if not unknown.from_wildcard]
    if wrong:
        raise UsageError("\n".join(wrong))


def descriptor(spec: ParameterSpec) -> ParameterDescriptor:
    """Return the descriptor that tools show for `spec`."""
    unit = f" Unit: {spec.unit}." if spec.unit else ""
    result = ParameterDescriptor(
        name=spec.name,
        description=spec.description + unit,
        read_only=spec.read_only,
        additional_constraints="one of " + ", ".join(spec.choices) if spec.choices else "",
    )
    if spec.kind == "integer" and spec.low is not None and spec.high is not None:
        result.integer_range = [IntegerRange(from_value=int(spec.low), to_value=int(spec.high), step=0)]
    if spec.kind == "double" and spec.low is not None and spec.high is not None:
        limits = FloatingPointRange(from_value=float(spec.low), to_value=float(spec.high), step=0.0)
        result.floating_point_range = [limits]
    return result


def parameter(spec: ParameterSpec, value: parameters.Value) -> Parameter:
    """Return the rclpy parameter for a value that `parameters.coerce` gave."""
    return Parameter(spec.name, _TYPES[spec.kind], list(value) if isinstance(value, tuple) else value)


def converted(change: Parameter) -> Parameter:
    """Return `change` with its value in the declared type where that is safe (1 -> 1.0), else raise UsageError.

    rclpy compares types before the node is asked, and its message has only the numbers of two types.
    """
    spec = parameters.BY_NAME.get(change.name)
    return change if spec is None or change.value is None else parameter(spec, parameters.coerce(spec, change.value))


def _declare_one(node: Node, spec: ParameterSpec, value: parameters.Value) -> None:
    """Declare with the value; an empty list by its type first, since rclpy would take its type for bytes.

    A parameter that has a type and no value makes rclpy answer every bulk read (`ros2 param dump`) with nothing.
    """
    described = descriptor(spec)
    if value != ():
        node.declare_parameter(spec.name, parameter(spec, value).value, described, ignore_override=True)
        return
    writable = descriptor(spec)
    writable.read_only = False
    node.declare_parameter(spec.name, _TYPES[spec.kind], writable, ignore_override=True)
    node.set_parameters([parameter(spec, value)])
    described.type = _TYPES[spec.kind].value
    node.set_descriptor(spec.name, described)


def _parsed(file: str) -> object:
    try:
        return yaml.load(Path(file).read_text(encoding="utf-8"), Loader=_RclLoader)  # noqa: S506  a SafeLoader and one constructor
    except (OSError, yaml.YAMLError) as error:  # rclpy.init has read the file already, so it went away since then
        raise UsageError(f"cannot read the parameter file {file}", found=str(error)) from error
