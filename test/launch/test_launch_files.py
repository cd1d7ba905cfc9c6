"""The launch files without a ROS installation: arguments against the parameter table, calls against the common API."""

from __future__ import annotations

import ast
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import stand_ins  # noqa: E402

from lisard_ros.errors import UsageError  # noqa: E402
from lisard_ros.node import parameters, player  # noqa: E402

sys.path.pop(0)

FILES = ("perception.launch.py", "replay.launch.py")
# What launch and launch_ros of Humble, Jazzy and Kilted have in common, of what these files use: name -> keywords.
COMMON_API: dict[str, set[str]] = {
    "LaunchDescription": set(),
    "DeclareLaunchArgument": {"default_value", "description", "choices"},
    "OpaqueFunction": {"function", "args", "kwargs"},
    "LaunchConfiguration": {"default"},
    "Node": {
        "package", "executable", "name", "namespace", "exec_name", "parameters", "remappings", "ros_arguments",
        "arguments", "additional_env", "output", "respawn", "emulate_tty",
    },
    "EmitEvent": {"event"},
    "ExecuteProcess": {"cmd", "name", "additional_env", "output", "respawn", "emulate_tty"},
    "IncludeLaunchDescription": {"launch_arguments"},
    "RegisterEventHandler": set(),
    "TimerAction": {"period", "actions"},
    "OnProcessExit": {"target_action", "on_exit"},
    "Shutdown": {"reason"},
    "PythonLaunchDescriptionSource": set(),
    "PackageNotFoundError": set(),
    "get_package_prefix": set(),
    "make_namespace_absolute": set(),
    "prefix_namespace": set(),
}  # fmt: skip
ROS_MODULES = ("launch", "launch_ros", "ament_index_python")


def tree(name: str) -> ast.Module:
    return ast.parse((stand_ins.LAUNCH_FOLDER / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", FILES)
def test_only_the_api_common_to_humble_jazzy_and_kilted_is_used(name: str) -> None:
    imports = [n for n in ast.walk(tree(name)) if isinstance(n, ast.ImportFrom)]
    ros = [n for n in imports if (n.module or "").split(".")[0] in ROS_MODULES]
    names = {alias.name for node in ros for alias in node.names}
    assert names <= set(COMMON_API)
    calls = [n for n in ast.walk(tree(name)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    for call in calls:
        if call.func.id in names:  # type: ignore[attr-defined]
            used = {keyword.arg for keyword in call.keywords}
            assert used <= COMMON_API[call.func.id], call.func.id  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", FILES)
def test_every_argument_is_described(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = stand_ins.arguments(stand_ins.load(name, monkeypatch).generate_launch_description())
    assert declared
    assert all(len(options["description"]) > 20 for options in declared.values())


def test_launch_arguments_are_the_parameters_of_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    module = stand_ins.load("perception.launch.py", monkeypatch)
    declared = stand_ins.arguments(module.generate_launch_description())
    others = {"namespace", "name", "params_file", "use_sim_time", "log_level"}
    assert set(declared) == {spec.field for spec in parameters.TABLE} | others
    for spec in parameters.TABLE:
        assert declared[spec.field]["default_value"] == ""
        assert spec.description in declared[spec.field]["description"]


def test_docs_list_every_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (stand_ins.LAUNCH_FOLDER.parent / "docs" / "launch.md").read_text(encoding="utf-8")
    for name in FILES:
        declared = stand_ins.arguments(stand_ins.load(name, monkeypatch).generate_launch_description())
        missing = [argument for argument in declared if f"`{argument}`" not in text]
        assert not missing


def node_action(monkeypatch: pytest.MonkeyPatch, values: dict[str, str], environment: dict[str, str]) -> dict[str, Any]:
    module = stand_ins.load("perception.launch.py", monkeypatch)
    (action,) = module.start_node(stand_ins.Context({"name": "perception", **values}, environment))
    return action.kwargs


def given(action: dict[str, Any], node: str = "/perception") -> dict[str, Any]:
    content = json.loads(Path(action["parameters"][-1]).read_text(encoding="utf-8"))
    assert list(content) == [node]
    return content[node]["ros__parameters"]


def test_empty_arguments_are_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    action = node_action(monkeypatch, dict.fromkeys((spec.field for spec in parameters.TABLE), ""), {})
    assert action["parameters"] == [] and action["ros_arguments"] == []


def test_arguments_come_after_the_params_file_for_this_very_node(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    params = tmp_path / "p.yaml"
    params.write_text("/**: {ros__parameters: {top_k: 2}}", encoding="utf-8")
    values = {"params_file": str(params), "top_k": "5", "namespace": "front", "ros_namespace": "/car"}
    action = node_action(monkeypatch, values, {})
    assert action["parameters"][0] == str(params)
    assert given(action, "/car/front/perception") == {"top_k": 5}


def test_values_have_the_type_of_their_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "bundle": "30",
        "image_topics": "/a/image_raw, /b/image_raw",
        "camera_names": "a,,y",
        "autostart": "False",
        "fixed_boxes": "1,2,3.5,4",
        "min_score": "1",
        "top_k": "3",
        "injection_enabled": "true",
        "use_sim_time": "true",
    }
    passed = given(node_action(monkeypatch, values, {}))
    assert passed == {
        "bundle": "30",
        "image_topics": ["/a/image_raw", "/b/image_raw"],
        "camera_names": ["a", "", "y"],
        "autostart": False,
        "fixed_boxes": [1.0, 2.0, 3.5, 4.0],
        "min_score": 1.0,
        "top_k": 3,
        "injection.enabled": True,
        "use_sim_time": True,
    }
    assert isinstance(passed["min_score"], float)


@pytest.mark.parametrize(("name", "text"), [("top_k", "many"), ("autostart", "maybe"), ("fixed_boxes", "1,x")])
def test_a_value_of_the_wrong_type_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"launch argument '{name}': found '{text}', expected a value of type"):
        node_action(monkeypatch, {name: text}, {})


def test_a_missing_params_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="launch argument 'params_file': found /no/such.yaml"):
        node_action(monkeypatch, {"params_file": "/no/such.yaml"}, {})


def test_the_profile_is_set_under_both_names_unless_the_user_set_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = node_action(monkeypatch, {}, {})["additional_env"]
    assert set(ours) == set(player.PROFILE_VARIABLES)
    assert all(Path(path).is_file() for path in ours.values())
    for name in player.PROFILE_VARIABLES:
        assert node_action(monkeypatch, {}, {name: "/mine.xml"})["additional_env"] == {}


def replay(monkeypatch: pytest.MonkeyPatch, **values: str) -> list[Any]:
    module = stand_ins.load("replay.launch.py", monkeypatch)
    declared = stand_ins.arguments(module.generate_launch_description())
    defaults = {name: options["default_value"] or "" for name, options in declared.items()}
    return module.start_player(stand_ins.Context({**defaults, **values}))


def test_our_player_publishes_the_clock_and_waits_for_the_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"bag": str(Path(__file__).parent), "player": "lisard", "image_topics": "/a/image_raw,/b/image_raw"}
    command = replay(monkeypatch, **values)[-1].kwargs["cmd"]
    assert command[:3] == [shutil.which("python3"), "-m", "lisard_ros.node.player"]
    options = player.to_options(player.parser().parse_args(command[3:]))
    assert options.clock_hz == 40 and options.rate == 1 and options.bag == Path(__file__).parent
    assert command[-1] == "--profile"
    assert dict(options.wait_for.each) == {"/a/image_raw": 1, "/b/image_raw": 1}


def test_rosbag2_plays_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/opt/ros/bin/{name}")
    command = replay(monkeypatch, bag=str(Path(__file__).parent))[-1].kwargs["cmd"]
    assert command[:3] == ["ros2", "bag", "play"]
    assert command[command.index("--clock") + 1] == "40"


def test_wrong_replay_arguments_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="launch argument 'bag': found /no/bag, expected a rosbag2"):
        replay(monkeypatch, bag="/no/bag")
    with pytest.raises(UsageError, match="launch argument 'player': found vlc, expected one of auto, rosbag2"):
        replay(monkeypatch, bag=str(Path(__file__).parent), player="vlc")


def test_the_end_of_the_player_ends_the_launch_later_and_a_dead_node_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    register, action = replay(monkeypatch, bag=str(Path(__file__).parent), player="lisard")
    handler = register.args[0].kwargs["on_exit"]
    ended = stand_ins.kind("Event")()
    ended.action, ended.process_name = action, "player-2"  # type: ignore[attr-defined]
    assert type(handler(ended, None)[0]).__name__ == "TimerAction"
    ended.action, ended.process_name = object(), "perception_node-1"  # type: ignore[attr-defined]
    assert type(handler(ended, None)[0]).__name__ == "EmitEvent"


def test_replay_uses_sim_time_and_includes_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    description = stand_ins.load("replay.launch.py", monkeypatch).generate_launch_description()
    (include,) = [a for a in description.args[0] if type(a).__name__ == "IncludeLaunchDescription"]
    assert include.kwargs["launch_arguments"] == [("use_sim_time", "true")]
    assert Path(include.args[0].args[0]).name == "perception.launch.py"
