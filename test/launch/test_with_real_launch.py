"""The launch files with the installed launch and launch_ros: what they declare, and the command line they make."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import launch
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import Node

sys.path.insert(0, str(Path(__file__).parent))
import stand_ins  # noqa: E402

from lisard_ros.node import parameters  # noqa: E402

sys.path.pop(0)


def describe(name: str) -> launch.LaunchDescription:
    source = PythonLaunchDescriptionSource(str(stand_ins.LAUNCH_FOLDER / name))
    return source.get_launch_description(launch.LaunchContext())


def entities(name: str, values: dict[str, str]) -> list[Any]:
    context = launch.LaunchContext()
    context.launch_configurations.update(values)
    found: list[Any] = []
    queue = list(describe(name).entities)
    while queue:
        entity = queue.pop(0)
        if isinstance(entity, Node | launch.actions.ExecuteProcess):
            found.append(entity)
        else:
            queue = [*(entity.visit(context) or []), *queue]
    return found


def test_the_arguments_are_declared() -> None:
    names = {argument.name for argument in describe("perception.launch.py").get_launch_arguments()}
    assert {spec.field for spec in parameters.TABLE} < names


def test_the_node_action_is_made() -> None:
    (node,) = entities("perception.launch.py", {"bundle": "/b", "image_topics": "/a/image_raw"})
    assert isinstance(node, Node)


def test_replay_makes_the_player_and_the_node() -> None:
    values = {"bag": str(Path(__file__).parent), "player": "lisard", "bundle": "/b"}
    assert len(entities("replay.launch.py", values)) == 2
