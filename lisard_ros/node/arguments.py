"""The arguments of the launch files: names, defaults, choices and descriptions, and their values from text. No ROS.

Every parameter of the node is an argument; `parameters.TABLE` is the one source of them.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from lisard_ros.errors import UsageError
from lisard_ros.node.parameters import TABLE, Kind, ParameterSpec

Typed = bool | int | float | str | list[str] | list[float]

BOOLEANS = ("true", "false", "True", "False")
LEVELS = ("debug", "info", "warn", "error", "fatal")
# What people set first; `--show-args` lists arguments in the order in which they are declared.
_FIRST = ("bundle", "image_topics", "detector", "boxes_topic")
# How alike two names must be (difflib) for one to be taken for a slip of the pen.
_SLIP = 0.8
# What launch and launch_ros keep among the arguments for themselves.
_OF_LAUNCH = re.compile(r"ros_\w+|launch-.*|global_params|emulate_tty|log_dir")


@dataclass(frozen=True, slots=True)
class Argument:
    """One launch argument; a default of None makes it required, empty `choices` leave it free."""

    name: str
    default: str | None
    description: str
    choices: tuple[str, ...] = ()


_OTHERS = (
    Argument("params_file", "", "YAML file with parameters of the node; arguments given here win over it."),
    Argument("namespace", "", "Namespace of the node, for example /front."),
    Argument("name", "perception", "Name of the node; ~ in the topics stands for namespace and name."),
    Argument("use_sim_time", "", "Follow /clock instead of the system clock: true or false.", ("", *BOOLEANS)),
    Argument("log_level", "", "Log level of the node: debug, info, warn, error or fatal.", ("", *LEVELS)),
    Argument("respawn", "false", "Start the node again whenever it ends: true or false.", BOOLEANS),
    Argument("respawn_delay", "2.0", "Seconds from the end of the node to its next start, with respawn."),
)


def _of(spec: ParameterSpec) -> Argument:
    """Describe a parameter as a launch argument; left empty it is not passed on."""
    form = "comma-separated list" if spec.kind.endswith("_array") else spec.expected
    unit = f", in {spec.unit}" if spec.unit else ""
    default = ",".join(map(str, spec.default)) if isinstance(spec.default, tuple) else str(spec.default)
    choices = BOOLEANS if spec.kind == "bool" else spec.choices
    text = f"{spec.description} ({form}{unit}; default of the node: {default or 'empty'})"
    return Argument(spec.field, "", text, ("", *choices) if choices else ())


_BY_FIELD = {spec.field: _of(spec) for spec in TABLE}

PERCEPTION = (
    *(_BY_FIELD[name] for name in _FIRST),
    *_OTHERS,
    *(argument for name, argument in _BY_FIELD.items() if name not in _FIRST),
)

REPLAY = (
    Argument("bag", None, "Folder of the rosbag2 recording to play. Required."),
    *(_BY_FIELD[name] for name in _FIRST),
    Argument("rate", "1.0", "Factor on the recorded pace."),
    Argument(
        "player",
        "auto",
        "Who plays: rosbag2 (ros2 bag play), lisard (our own player, which waits for the node and uses "
        "the shared-memory profile), or auto: rosbag2 where it is installed.",
        ("auto", "rosbag2", "lisard"),
    ),
    Argument(
        "player_reliability",
        "reliable",
        "Reliability that our own player offers: reliable or best_effort.",
        ("reliable", "best_effort"),
    ),
    Argument("clock_hz", "40", "How often /clock is published, in Hz."),
    Argument(
        "start_delay_s", "3.0", "Seconds that rosbag2 waits for the node before it plays; our own player needs none."
    ),
    Argument(
        "shutdown_delay_s",
        "2.0",
        "Seconds from the end of the recording to the end of the node, for the last answers.",
    ),
    Argument(
        "limits",
        "",
        "Limits as of `lisard replay --limits`, such as clean=0.8,live/lost=0. With them `lisard replay --live` plays "
        "and judges, and the launch ends with its verdict.",
    ),
    Argument("injections", "none", "Injections that `limits` may name, as of `lisard replay --injections`."),
    Argument("report", "", "JSON file that the replay with `limits` writes."),
)


ATTACK_TEST = (
    *(_BY_FIELD[name] for name in _FIRST),
    Argument("suite", "", "Attacks: comma-separated NAME or NAME=LIMIT. Empty: the bundle's suite."),
    Argument("report", None, "Folder for self_test.json, self_test.csv and self_test.html. Required."),
    Argument(
        "source",
        "live",
        "What is attacked: live frames of image_topics, or the bundle's references.",
        ("live", "references"),
    ),
    Argument(
        "surrogate",
        "",
        "Bundle whose gradients attack/NAME follows (gray-box by transfer), of the same classes and input size. Empty: "
        "those of `bundle` itself.",
    ),
    Argument("count", "0", "How many images; 0: 50 live frames, or all references."),
    Argument(
        "block_s",
        "10.0",
        "Live frames of so many seconds are one block of evidence; NAME=LIMIT needs 5 blocks. 0: each frame is one.",
    ),
    Argument("timeout_s", "300", "Seconds from the start to the answer; without one by then the test has failed."),
)
# What this launch file sets of the node, by the name of its own argument.
ATTACK_TEST_PARAMETERS = {
    "suite": "self_test_suite",
    "report": "self_test_report",
    "source": "self_test_source",
    "surrogate": "injection_surrogate",
    "count": "self_test_count",
    "block_s": "self_test_block_s",
}


def parameters_given(values: Mapping[str, str]) -> dict[str, Typed]:
    """Return the parameters of the node that `values` (argument -> text) set; an empty text sets none."""
    kinds: dict[str, tuple[str, Kind]] = {spec.field: (spec.name, spec.kind) for spec in TABLE}
    kinds["use_sim_time"] = ("use_sim_time", "bool")
    given = {field: values.get(field, "").strip() for field in kinds}
    return {kinds[field][0]: typed(field, kinds[field][1], text) for field, text in given.items() if text}


def typed(name: str, kind: Kind, text: str) -> Typed:
    """Turn the text of a launch argument into a value of the parameter's kind; UsageError names the argument."""
    try:
        if kind == "bool":
            return {"true": True, "false": False}[text.lower()]
        if kind == "string_array":
            return [part.strip() for part in text.split(",")]
        if kind == "double_array":
            return [float(part) for part in text.split(",")]
        return {"integer": int, "double": float, "string": str}[kind](text)
    except (KeyError, ValueError):
        raise _wrong(name, repr(text), f"a value of type {kind}") from None


def seconds(name: str, text: str, *, positive: bool = False) -> float:
    """Turn the text of an argument into a number that is finite and not negative, or above zero."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0 or (positive and value == 0):
        raise _wrong(name, repr(text), "a number above 0" if positive else "a number, 0 or more")
    return value


def misspelt(values: Mapping[str, str]) -> str:
    """Say which of `values` (all that launch knows, argument -> text) is the slip of an argument, or return ''.

    A name near to an argument that has itself been given is left alone: a launch file that includes ours may have
    such an argument, and hand its value on.
    """
    defaults = {argument.name: argument.default or "" for argument in (*PERCEPTION, *REPLAY, *ATTACK_TEST)}
    for name in values:
        if name in defaults or _OF_LAUNCH.fullmatch(name):
            continue
        close = difflib.get_close_matches(name, defaults, n=1, cutoff=_SLIP)
        if close and values.get(close[0], "") == defaults[close[0]]:
            return f"unknown launch argument '{name}': did you mean '{close[0]}'? (--show-args lists all)"
    return ""


def existing_file(name: str, path: str) -> str:
    """Refuse a file that is not there; launch_ros would go on without it."""
    if not Path(path).is_file():
        raise _wrong(name, str(Path(path).absolute()), "a YAML file that exists")
    return path


def image_topics_of(bag: Path) -> tuple[str, ...] | None:
    """Return the image topics of a rosbag2 recording, from its metadata.yaml; None where that cannot be read."""
    try:
        document = yaml.safe_load((bag / "metadata.yaml").read_text(encoding="utf-8"))
        listed = document["rosbag2_bagfile_information"]["topics_with_message_count"]
        topics = [entry["topic_metadata"] for entry in listed]
        wanted = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
        return tuple(str(topic["name"]) for topic in topics if topic["type"] in wanted)
    except (OSError, UnicodeError, yaml.YAMLError, KeyError, TypeError):
        return None


def check_recording(bag: Path, wanted: tuple[str, ...], named_elsewhere: bool) -> None:
    """Refuse a replay whose recording is not there, or that would wait for images which it does not hold.

    wanted: what `image_topics` asks for, in full names. named_elsewhere: a params file may name them.
    """
    if not bag.exists():
        raise _wrong("bag", str(bag.absolute()), "a rosbag2 recording that exists")
    held = image_topics_of(bag)
    shown = "the recording's image topics: " + (", ".join(held) or "it has none") if held is not None else "its topics"
    if not wanted and not named_elsewhere:
        raise _wrong("image_topics", "nothing", shown)
    absent = [topic for topic in wanted if held is not None and topic not in held]
    if absent:
        raise _wrong("image_topics", ", ".join(absent), shown)


def _wrong(name: str, found: str, expected: str) -> UsageError:
    return UsageError(f"launch argument '{name}'", found=found, expected=expected)
