"""The launch files with the installed launch and launch_ros: what they declare and make, and real launches of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import launch
import pytest
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import Node

sys.path.insert(0, str(Path(__file__).parent))
import stand_ins

from lisard_ros.node import parameters

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
    values = {"bag": str(BAG), "player": "lisard", "bundle": "/b", "image_topics": TOPIC}
    assert len(entities("replay.launch.py", values)) == 2


ROOT = stand_ins.LAUNCH_FOLDER.parent
BAG, TOPIC = ROOT / "data" / "road_signs", "/camera/image_raw/compressed"
# What `ros2 launch FILE NAME:=VALUE ...` does.
RUN = """
import sys, launch
from launch.launch_description_sources import PythonLaunchDescriptionSource
given = [tuple(word.split(":=", 1)) for word in sys.argv[2:]]
include = launch.actions.IncludeLaunchDescription(PythonLaunchDescriptionSource(sys.argv[1]), launch_arguments=given)
service = launch.LaunchService(argv=sys.argv[2:])
service.include_launch_description(launch.LaunchDescription([include]))
sys.exit(service.run())
"""
LIST_FILE = """
from launch import LaunchDescription
from launch_ros.actions import Node
def generate_launch_description():
    values = {"image_topics": ["/a/image_raw"], "fixed_boxes": [0.0, 0.0, 8.0, 8.0], "top_k": 0}
    return LaunchDescription([Node(package="lisard_ros", executable="perception_node", parameters=[values])])
"""

Launch = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Launch]:
    """Start a launch file in a folder where no model lies, with a prefix in which the package is installed.

    Each is a process group of its own, as in a terminal: Ctrl-C reaches launch, node and player once each. What still
    runs at the end of the test is killed.
    """
    index, programs = tmp_path / "p/share/ament_index/resource_index/packages", tmp_path / "p/lib/lisard_ros"
    for folder in (index, programs, tmp_path / "elsewhere", tmp_path / "tmp"):
        folder.mkdir(parents=True)
    (index / "lisard_ros").touch()
    (programs / "perception_node").symlink_to(ROOT / "scripts/ros2_run/perception_node")
    environment = {
        **os.environ,
        "AMENT_PREFIX_PATH": f"{tmp_path / 'p'}:{os.environ['AMENT_PREFIX_PATH']}",
        "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ROS_LOG_DIR": str(tmp_path / "log"),
        "TMPDIR": str(tmp_path / "tmp"),
    }

    def run(file: Path | str, **values: object) -> subprocess.Popen[str]:
        words = [f"{name}:={value}" for name, value in values.items()]
        made = subprocess.Popen(
            [sys.executable, "-c", RUN, str(file), *words],
            cwd=tmp_path / "elsewhere",
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        running.append(made)
        return made

    running: list[subprocess.Popen[str]] = []
    yield run
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def said(process: subprocess.Popen[str], text: str) -> str:
    """Read the output up to a text."""
    assert process.stdout is not None
    read = ""
    for line in process.stdout:
        read += line
        if text in line:
            return read
    raise AssertionError(read)


def test_a_slip_ends_launch_with_words(start: Launch) -> None:
    process = start(stand_ins.LAUNCH_FOLDER / "perception.launch.py", detectr="models/road_signs")
    log, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and "unknown launch argument 'detectr': did you mean 'detector'?" in log
    process = start(stand_ins.LAUNCH_FOLDER / "perception.launch.py", backend="onnx")
    log, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and "onnxruntime_cuda" in log and "process started" not in log


def test_lists_of_a_python_launch_file_reach_the_node(start: Launch, tmp_path: Path) -> None:
    file = tmp_path / "list.launch.py"
    file.write_text(LIST_FILE, encoding="utf-8")
    log, _ = start(file).communicate(timeout=60)
    assert "parameter 'top_k': found 0 (int)" in log and "python/tuple" not in log


def test_a_node_starts_in_any_folder_without_complaints_and_leaves_no_file(start: Launch, tmp_path: Path) -> None:
    values = {"bundle": "models/traffic_signs", "image_topics": "/a/image_raw", "namespace": "real"}
    process = start(stand_ins.LAUNCH_FOLDER / "perception.launch.py", **values)
    log = said(process, "active: ")
    assert "XMLPARSER" not in log and "deprecated" not in log
    os.killpg(process.pid, signal.SIGINT)
    log, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "process has finished cleanly" in log
    assert not list((tmp_path / "tmp").glob("lisard_arguments_*"))


def test_a_replay_says_at_once_which_topics_there_are(start: Launch) -> None:
    process = start(stand_ins.LAUNCH_FOLDER / "replay.launch.py", bag=BAG, bundle="models/traffic_signs")
    log, _ = process.communicate(timeout=60)
    assert (
        process.returncode == 1
        and f"'image_topics': found nothing, expected the recording's image topics: {TOPIC}" in log
    )
    assert "process started" not in log


@pytest.mark.parametrize(("bundle", "status"), [("models/traffic_signs", 0), ("models/nothing", 1)])
def test_a_replay_ends_with_what_became_of_it(bundle: str, status: int, start: Launch) -> None:
    values = {
        "bag": BAG,
        "bundle": bundle,
        "image_topics": TOPIC,
        "player": "lisard",
        "rate": 8,
        "shutdown_delay_s": 0.1,
    }
    process = start(stand_ins.LAUNCH_FOLDER / "replay.launch.py", **values)
    log, _ = process.communicate(timeout=60)
    assert process.returncode == status, log
    assert ('"finished": true' in log) == (status == 0)
    assert ("replay: the node ended with 1; its own message is above" in log) == (status == 1)


def test_ctrl_c_is_no_error_of_a_replay(start: Launch) -> None:
    values = {"bag": BAG, "bundle": "models/traffic_signs", "image_topics": TOPIC, "player": "lisard", "rate": 0.1}
    process = start(stand_ins.LAUNCH_FOLDER / "replay.launch.py", **values)
    said(process, "active: ")
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    log, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "ERROR" not in log and "Traceback" not in log, log
