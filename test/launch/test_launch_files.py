"""The launch files without a ROS installation: arguments against the parameter table, calls against the common API."""

from __future__ import annotations

import argparse
import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import stand_ins

from lisard_ros.commands import replay as replay_command
from lisard_ros.errors import DataError, UsageError
from lisard_ros.node import arguments, fastdds, parameters
from lisard_ros.tools import player

sys.path.pop(0)

FILES = ("perception.launch.py", "replay.launch.py", "attack_test.launch.py")
SHARED = "../lisard_ros/node/launch_actions.py"
# What launch and launch_ros of Humble, Jazzy and Kilted have in common, of what these files use: name -> keywords.
COMMON_API: dict[str, set[str]] = {
    "LaunchDescription": set(),
    "DeclareLaunchArgument": {"default_value", "description", "choices"},
    "OpaqueFunction": {"function", "args", "kwargs"},
    "LaunchConfiguration": {"default"},
    "Node": {
        "package", "executable", "name", "namespace", "exec_name", "parameters", "remappings", "ros_arguments",
        "arguments", "additional_env", "output", "respawn", "respawn_delay", "emulate_tty",
    },
    "LogInfo": {"msg"},
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


@pytest.mark.parametrize("name", (*FILES, SHARED))
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
    others = {"namespace", "name", "params_file", "use_sim_time", "log_level", "respawn", "respawn_delay"}
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
    defaults = {argument.name: argument.default or "" for argument in arguments.PERCEPTION}
    *_, action = module.start_node(stand_ins.Context({**defaults, **values}, environment))
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


def middleware_prefix(folder: Path, fast_dds: str) -> str:
    """Make a prefix whose ROS middleware is linked with `fast_dds`: fastdds (version 3) or fastrtps (version 2)."""
    share = folder / "share" / fastdds.MIDDLEWARE
    share.mkdir(parents=True)
    (share / "package.xml").write_text(f"<package><build_depend>{fast_dds}</build_depend></package>", encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize(("fast_dds", "name"), [("fastdds", fastdds.NEWER), ("fastrtps", fastdds.OLDER)])
def test_the_profile_is_set_for_the_fast_dds_that_is_there(
    fast_dds: str, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ours = node_action(monkeypatch, {}, {"AMENT_PREFIX_PATH": middleware_prefix(tmp_path, fast_dds)})["additional_env"]
    assert list(ours) == [name] and Path(ours[name]).is_file()


def test_the_profile_is_named_without_links(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("launch", "config"):
        (tmp_path / name).mkdir()
    for path in ("launch/perception.launch.py", "config/fastdds_shm.xml"):
        (tmp_path / path).symlink_to(stand_ins.LAUNCH_FOLDER.parent / path)
    monkeypatch.setattr(stand_ins, "LAUNCH_FOLDER", tmp_path / "launch")
    ours = node_action(monkeypatch, {}, {})["additional_env"]
    assert set(ours.values()) == {str((tmp_path / "config/fastdds_shm.xml").resolve())}


def test_a_profile_of_the_user_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in fastdds.VARIABLES:
        assert node_action(monkeypatch, {}, {name: "/mine.xml"})["additional_env"] == {}


def test_a_node_is_started_again_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert node_action(monkeypatch, {}, {})["respawn"] is False
    action = node_action(monkeypatch, {"respawn": "true", "respawn_delay": "0.5"}, {})
    assert action["respawn"] is True and action["respawn_delay"] == 0.5


@pytest.mark.parametrize("name", FILES)
def test_arguments_come_in_the_order_of_their_use_and_fixed_values_are_choices(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = stand_ins.arguments(stand_ins.load(name, monkeypatch).generate_launch_description())
    first = ["bundle", "image_topics", "detector", "boxes_topic"]
    begins = {"replay.launch.py": ["bag", *first], "attack_test.launch.py": [*first, "suite"]}
    assert list(declared)[:5] == begins.get(name, [*first, "params_file"])
    fixed = {
        "perception.launch.py": {
            "backend": "openvino", "reliability": "best_effort", "log_level": "debug", "autostart": "false",
            "use_sim_time": "true", "respawn": "true", "class_id_format": "index",
        },
        "replay.launch.py": {"player": "lisard", "player_reliability": "best_effort"},
        "attack_test.launch.py": {"source": "references"},
    }[name]  # fmt: skip
    for argument, value in fixed.items():
        choices = declared[argument]["choices"]
        assert value in choices and declared[argument]["default_value"] in choices, argument


def test_a_misspelt_argument_is_refused_and_a_warning_where_the_file_is_included(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = stand_ins.load("perception.launch.py", monkeypatch)
    context = stand_ins.Context({**{a.name: a.default or "" for a in arguments.PERCEPTION}, "detectr": "/b"})
    monkeypatch.setattr(sys, "argv", ["ros2", "launch", "lisard_ros", "perception.launch.py", "detectr:=/b"])
    with pytest.raises(UsageError, match="unknown launch argument 'detectr': did you mean 'detector'?"):
        module.start_node(context)
    monkeypatch.setattr(sys, "argv", ["ros2", "launch", "robot", "robot.launch.py"])
    log, _ = module.start_node(context)
    assert "did you mean 'detector'?" in log.kwargs["msg"]


def test_files_with_arguments_are_gone_when_launch_has_ended(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import stand_ins, pytest; monkeypatch = pytest.MonkeyPatch()\n"
        "module = stand_ins.load('perception.launch.py', monkeypatch)\n"
        "values = {a.name: a.default for a in module.arguments.PERCEPTION}\n"
        "(node,) = module.start_node(stand_ins.Context({**values, 'top_k': '3'}))\n"
        "print(open(node.kwargs['parameters'][0]).read())"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent)]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(stand_ins.LAUNCH_FOLDER.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and '"top_k": 3' in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []


def replay(monkeypatch: pytest.MonkeyPatch, **values: str) -> list[Any]:
    module = stand_ins.load("replay.launch.py", monkeypatch)
    declared = stand_ins.arguments(module.generate_launch_description())
    defaults = {name: options["default_value"] or "" for name, options in declared.items()}
    return module.start_player(stand_ins.Context({**defaults, **values}))


DRIVE = "/a/image_raw", "/b/image_raw/compressed"


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """The folder of a recording with two image topics, as far as the launch file looks at it."""
    types = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "vision_msgs/msg/Detection2DArray")
    topics = zip((*DRIVE, "/boxes"), types, strict=True)
    listed = [{"topic_metadata": {"name": name, "type": kind}, "message_count": 1} for name, kind in topics]
    document = {"rosbag2_bagfile_information": {"topics_with_message_count": listed}}
    (tmp_path / "metadata.yaml").write_text(json.dumps(document), encoding="utf-8")
    return tmp_path


def test_our_player_publishes_the_clock_and_waits_for_the_cameras(monkeypatch: pytest.MonkeyPatch, bag: Path) -> None:
    command = replay(monkeypatch, bag=str(bag), player="lisard", image_topics=",".join(DRIVE))[-1].kwargs["cmd"]
    assert command[:3] == [shutil.which("python3"), "-m", "lisard_ros.tools.player"]
    parser = argparse.ArgumentParser()
    player.configure(parser)
    options = player.to_options(parser.parse_args(command[3:]))
    assert options.clock_hz == 40 and options.rate == 1 and options.bag == bag
    assert command[-1] == "--profile"
    assert dict(options.wait_for.each) == dict.fromkeys(DRIVE, 1)


def test_the_player_waits_on_the_names_that_the_namespace_makes(monkeypatch: pytest.MonkeyPatch, bag: Path) -> None:
    values = {"bag": str(bag), "player": "lisard", "image_topics": "image_raw", "namespace": "a"}
    command = replay(monkeypatch, **values)[-1].kwargs["cmd"]
    assert "/a/image_raw=1" in command


def test_limits_are_judged_by_a_replay_through_the_node_of_this_launch(
    monkeypatch: pytest.MonkeyPatch, bag: Path
) -> None:
    values = {"bag": str(bag), "bundle": "b", "image_topics": "image_raw", "namespace": "a", "name": "eyes"}
    values |= {"limits": "clean=0.8,live/lost=0", "report": "out.json", "boxes_topic": "/boxes", "precision": "int8"}
    register, action = replay(monkeypatch, **values)
    command = action.kwargs["cmd"]
    assert command[1:5] == ["-m", "lisard_ros", "replay", str(bag)]
    parser = argparse.ArgumentParser()
    replay_command.configure(parser)
    options = parser.parse_args(command[4:])
    replay_command.live_options.check(options)
    assert (options.node, options.topics, options.limits) == ("/a/eyes", "/a/image_raw", "clean=0.8,live/lost=0")
    assert (options.rate, options.clock, options.json) == (1.0, 40.0, "out.json")
    assert (options.boxes_topic, options.precision, options.injections) == ("/boxes", "int8", "none")
    handler = register.args[0].kwargs["on_exit"]
    with pytest.raises(DataError, match="replay: the replay ended with 1"):
        handler(ended(action, "player-2", 1), stand_ins.Context({}))
    with pytest.raises(UsageError, match="the bundle, which `limits` are about"):
        replay(monkeypatch, **{**values, "bundle": ""})


def test_rosbag2_plays_where_it_is_installed(monkeypatch: pytest.MonkeyPatch, bag: Path) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/opt/ros/bin/{name}")
    command = replay(monkeypatch, bag=str(bag), image_topics=DRIVE[0])[-1].kwargs["cmd"]
    assert command[:3] == ["ros2", "bag", "play"]
    assert command[command.index("--clock") + 1] == "40"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"bag": "/no/bag"}, "launch argument 'bag': found /no/bag, expected a rosbag2"),
        ({}, "launch argument 'image_topics': found nothing, expected .*image topics: /a/image_raw, /b/image_raw/comp"),
        ({"image_topics": "/cam/image_raw"}, "launch argument 'image_topics': found /cam/image_raw, expected the reco"),
        ({"image_topics": DRIVE[0], "rate": "fast"}, "launch argument 'rate': found 'fast', expected a number above 0"),
        ({"image_topics": DRIVE[0], "shutdown_delay_s": "-1"}, "launch argument 'shutdown_delay_s'"),
        ({"image_topics": DRIVE[0], "rat": "2"}, "unknown launch argument 'rat': did you mean 'rate'?"),
    ],
)
def test_wrong_replay_arguments_are_refused_at_once(
    values: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch, bag: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        replay(monkeypatch, **{"bag": str(bag), **values})


def test_a_params_file_may_name_the_topics_of_a_replay(monkeypatch: pytest.MonkeyPatch, bag: Path) -> None:
    assert replay(monkeypatch, bag=str(bag), params_file="p.yaml")


def ended(action: object, name: str, status: int) -> Any:
    """The event of a process that has ended."""
    event = stand_ins.kind("Event")()
    event.action, event.process_name, event.returncode = action, name, status  # type: ignore[attr-defined]
    return event


def test_the_end_of_the_player_ends_the_launch_later_and_that_of_the_node_at_once(
    monkeypatch: pytest.MonkeyPatch, bag: Path
) -> None:
    register, action = replay(monkeypatch, bag=str(bag), player="lisard", image_topics=DRIVE[0])
    handler, context = register.args[0].kwargs["on_exit"], stand_ins.Context({})
    assert type(handler(ended(action, "player-2", 0), context)[0]).__name__ == "TimerAction"
    assert type(handler(ended(object(), "perception_node-1", 0), context)[0]).__name__ == "EmitEvent"
    assert handler(ended(object(), "camera_driver-1", 1), context) == []


def test_a_replay_that_fails_makes_launch_fail_and_ctrl_c_does_not(monkeypatch: pytest.MonkeyPatch, bag: Path) -> None:
    register, action = replay(monkeypatch, bag=str(bag), player="lisard", image_topics=DRIVE[0])
    handler, context = register.args[0].kwargs["on_exit"], stand_ins.Context({})
    with pytest.raises(DataError, match="replay: the player ended with 2"):
        handler(ended(action, "player-2", 2), context)
    with pytest.raises(DataError, match="replay: the node ended with 1"):
        handler(ended(object(), "perception_node-1", 1), context)
    context.is_shutdown = True
    assert handler(ended(action, "player-2", 2), context) == []


def test_replay_uses_sim_time_and_includes_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    description = stand_ins.load("replay.launch.py", monkeypatch).generate_launch_description()
    (include,) = [a for a in description.args[0] if type(a).__name__ == "IncludeLaunchDescription"]
    assert include.kwargs["launch_arguments"] == [("use_sim_time", "true")]
    assert Path(include.args[0].args[0]).name == "perception.launch.py"


def attack_test(monkeypatch: pytest.MonkeyPatch, **values: str) -> list[Any]:
    module = stand_ins.load("attack_test.launch.py", monkeypatch)
    declared = stand_ins.arguments(module.generate_launch_description())
    defaults = {name: options["default_value"] or "" for name, options in declared.items()}
    return module.start_test(stand_ins.Context({**defaults, "report": "out", **values}))


def test_the_attack_test_hands_its_arguments_to_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    description = stand_ins.load("attack_test.launch.py", monkeypatch).generate_launch_description()
    (include,) = [a for a in description.args[0] if type(a).__name__ == "IncludeLaunchDescription"]
    handed_on = {name: configuration.args[0] for name, configuration in include.kwargs["launch_arguments"]}
    assert handed_on == {parameter: name for name, parameter in arguments.ATTACK_TEST_PARAMETERS.items()}
    assert set(handed_on) <= {spec.field for spec in parameters.TABLE}
    assert stand_ins.arguments(description)["report"]["default_value"] is None, "a test without a report is refused"


def test_the_attack_test_asks_the_node_of_its_name_and_waits_until_it_is_active(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = attack_test(monkeypatch, namespace="front", ros_namespace="/car", timeout_s="60")[-1].kwargs["cmd"]
    assert command[1:] == ["-m", "lisard_ros.tools.ask", "self_test", "/car/front/perception", "--active", *command[6:]]
    assert command[6:] == ["--timeout", "60.0"]
    with pytest.raises(UsageError, match="launch argument 'timeout_s'"):
        attack_test(monkeypatch, timeout_s="0")
    with pytest.raises(UsageError, match="did you mean 'source'"):
        attack_test(monkeypatch, sorce="live")


def test_the_attack_test_ends_with_0_only_if_it_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    register, action = attack_test(monkeypatch)
    handler, context = register.args[0].kwargs["on_exit"], stand_ins.Context({})
    assert type(handler(ended(action, "attack_test-2", 0), context)[0]).__name__ == "EmitEvent"
    assert handler(ended(object(), "camera_driver-1", 1), context) == []
    with pytest.raises(DataError, match="not passed, or no report in out; the answer is above"):
        handler(ended(action, "attack_test-2", 1), context)
    with pytest.raises(DataError, match="attack test: the node ended with 1"):
        handler(ended(object(), "perception_node-1", 1), context)
    context.is_shutdown = True
    assert handler(ended(action, "attack_test-2", 1), context) == []
