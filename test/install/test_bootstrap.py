"""scripts/: what is checked first, what is done once, what is held beside a sourced ROS, what a command inherits."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
import venv
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """scripts/machine.py, for a checkout in an empty folder."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module = importlib.import_module("machine")
    importlib.import_module("bootstrap")  # takes its folders from the real checkout
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


@pytest.fixture
def bootstrap(machine: ModuleType) -> ModuleType:
    """scripts/bootstrap.py."""
    return importlib.import_module("bootstrap")


@pytest.fixture
def in_env(machine: ModuleType) -> ModuleType:
    """scripts/in_env.py."""
    return importlib.import_module("in_env")


@pytest.fixture
def ros(machine: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A sourced installation that holds rclpy and nothing else."""
    index = tmp_path / "opt" / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    (index / "rclpy").touch()
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "opt"))
    return machine.sourced_ros()


def script(name: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script as a user would."""
    command = [sys.executable, str(SCRIPTS / name), *arguments]
    environment = {**os.environ, **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_one_apt_line_for_all_that_lacks(tmp_path: Path) -> None:
    done = script("bootstrap.py", "runtime", PATH=str(tmp_path))
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if "apt-get" in line]
    assert line.strip() == "sudo apt-get install -y g++ cmake make"
    assert script("bootstrap.py", "--missing", "test", PATH=str(tmp_path)).stdout.split() == ["g++", "cmake", "make"]


def test_missing_headers_and_venv_are_named(machine: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.sysconfig, "get_path", lambda _: "/nowhere")
    monkeypatch.setattr(machine, "_has_venv", lambda: False)
    monkeypatch.setattr(machine, "DISTRIBUTION_PYTHON", sys.executable)
    assert machine.missing_apt_packages() == ["python3-venv", "python3-dev"]
    monkeypatch.setattr(machine, "DISTRIBUTION_PYTHON", "/usr/bin/none")
    minor = sys.version_info.minor
    assert machine.missing_apt_packages() == [f"python3.{minor}-venv", f"python3.{minor}-dev"]


def test_an_old_python_is_refused(machine: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "OLDEST_PYTHON", (4, 0))
    assert "expected 3.10 or newer" in machine.complaint()


def test_a_machine_without_wheels_needs_a_sourced_ros(machine: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(machine, "sourced_ros", lambda: None)
    assert "source /opt/ros/DISTRO/setup.bash" in machine.complaint()
    monkeypatch.setattr(machine, "sourced_ros", lambda: machine.Ros("humble", ()))
    monkeypatch.setattr(machine, "missing_apt_packages", lambda: [])
    assert machine.complaint() is None


def test_a_ros_without_rclpy_is_not_sourced(machine: ModuleType, monkeypatch: pytest.MonkeyPatch, ros: Any) -> None:
    assert ros.distro == "jazzy"
    assert machine.venv_folder(ros).name == ".venv-jazzy"
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/nowhere")
    assert machine.sourced_ros() is None
    assert machine.venv_folder(None).name == ".venv"


def test_wheels_of_another_distribution_have_an_environment_of_their_own(
    machine: ModuleType, monkeypatch: pytest.MonkeyPatch, ros: Any
) -> None:
    monkeypatch.setattr(machine, "missing_apt_packages", lambda: [])
    monkeypatch.setenv("LISARD_ROS_WHEELS", "jazzy")
    assert machine.venv_folder(None).name == ".venv-jazzy"
    assert "expected none; open a shell without it" in machine.complaint()
    monkeypatch.setenv("AMENT_PREFIX_PATH", "")
    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    assert machine.complaint() is None
    monkeypatch.setenv("LISARD_ROS_WHEELS", "jazz")
    assert machine.complaint() == "LISARD_ROS_WHEELS: found jazz, expected one of kilted, jazzy"


def test_wheels_that_cannot_be_had_have_a_status_of_their_own(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(self: Any, *arguments: str) -> None:
        raise bootstrap.SetUpFailed("`pip` ended with status 1")

    monkeypatch.setenv("LISARD_ROS_WHEELS", "jazzy")
    monkeypatch.setenv("AMENT_PREFIX_PATH", "")
    monkeypatch.setattr(bootstrap.machine, "complaint", lambda: None)
    monkeypatch.setattr(bootstrap, "make_venv", lambda env: None)
    monkeypatch.setattr(bootstrap.Environment, "pip", refuse)
    monkeypatch.setattr(sys, "argv", ["bootstrap.py", "test-node"])
    assert bootstrap.main() == 3
    assert "the ROS 2 jazzy wheels cannot be installed" in capsys.readouterr().err


def environment(bootstrap: ModuleType, folder: Path, ros: Any = None) -> Any:
    """An environment in FOLDER, made from the interpreter that runs the tests."""
    return bootstrap.Environment(folder, ros, os.path.realpath(sys.executable))


def test_a_step_is_done_once_until_its_files_change(bootstrap: ModuleType, tmp_path: Path) -> None:
    pins, done = tmp_path / "pins.txt", []
    env = environment(bootstrap, tmp_path / ".venv")
    step = bootstrap.Step("some packages", (pins,), lambda: done.append(1))
    pins.write_text("a==1", encoding="utf-8")
    bootstrap.perform(env, step)
    bootstrap.perform(env, step)
    assert done == [1]
    pins.write_text("a==2", encoding="utf-8")
    bootstrap.perform(env, step)
    assert done == [1, 1]


def test_a_checkout_that_was_moved_is_set_up_again(
    bootstrap: ModuleType, machine: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands in its environment, such as bin/lisard, hold the path of before."""
    done: list[str] = []
    env = bootstrap.Environment(tmp_path / ".venv", None, sys.executable)
    step = bootstrap.Step("packages", (), lambda: done.append("packages"))
    bootstrap.perform(env, step)
    monkeypatch.setattr(machine, "ROOT", tmp_path / "elsewhere")
    for _ in range(2):
        bootstrap.perform(env, step)
    assert len(done) == 2


def test_an_interrupted_step_is_done_again(bootstrap: ModuleType, tmp_path: Path) -> None:
    env, tries = environment(bootstrap, tmp_path / ".venv"), []

    def act() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise KeyboardInterrupt

    step = bootstrap.Step("some packages", (), act)
    with pytest.raises(KeyboardInterrupt):
        bootstrap.perform(env, step)
    bootstrap.perform(env, step)
    bootstrap.perform(env, step)
    assert tries == [1, 1]


def test_half_a_virtual_environment_and_one_of_the_other_kind_are_replaced(
    bootstrap: ModuleType, tmp_path: Path, ros: Any
) -> None:
    """Regression: .venv-jazzy may have been made beside a sourced Jazzy, or for its wheels."""
    folder = tmp_path / ".venv-jazzy"
    beside_ros, of_wheels = (environment(bootstrap, folder, kind) for kind in (ros, None))
    (folder / "bin").mkdir(parents=True)
    beside_ros.python.symlink_to("/nowhere/python")
    for env in (beside_ros, of_wheels):
        (folder / "rest").touch()
        bootstrap.make_venv(env)
        assert env.ask("import sys; print(sys.prefix)") == str(folder)
        assert bootstrap.sees_system_packages(folder) is (env is beside_ros)
        assert not (folder / "rest").exists()
    (folder / "kept").touch()
    bootstrap.make_venv(of_wheels)
    assert (folder / "kept").exists()


def test_a_failing_command_is_named(bootstrap: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(bootstrap.SetUpFailed, match="`false` ended with status 1"):
        environment(bootstrap, tmp_path).run("false")


def test_equal_libraries_share_their_bytes(bootstrap: ModuleType, tmp_path: Path) -> None:
    names = {"liba.so": b"one", "liba.so.1": b"one", "p/liba.so.1.2": b"one", "libb.so": b"two", "note.txt": b"one"}
    for name, content in names.items():
        (path := tmp_path / name).parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "libc.so").symlink_to("libb.so")
    assert bootstrap.share_copies(tmp_path) == 2 * len(b"one")
    assert bootstrap.share_copies(tmp_path) == 0
    assert {name: (tmp_path / name).read_bytes() for name in names} == names
    links = {name: (tmp_path / name).stat().st_nlink for name in names}
    assert links == {"liba.so": 3, "liba.so.1": 3, "p/liba.so.1.2": 3, "libb.so": 1, "note.txt": 1}
    assert (tmp_path / "libc.so").is_symlink()


def test_a_long_command_shows_that_it_goes_on(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap, "SIGN_OF_LIFE_S", 0.2)
    environment = bootstrap.Environment(tmp_path, None, sys.executable)
    environment.run(sys.executable, "-c", "import time; time.sleep(0.7)")
    assert "goes on" in capfd.readouterr().out


def test_a_second_set_up_waits(bootstrap: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    order: list[str] = []

    def second() -> None:
        with bootstrap.only_one():
            order.append("second")

    thread = threading.Thread(target=second)
    with bootstrap.only_one():
        thread.start()
        thread.join(timeout=0.3)
        order.append("first")
    thread.join(timeout=60)
    assert order == ["first", "second"]
    assert "another one is at work here" in capfd.readouterr().out


def test_every_step_names_files_that_exist(
    bootstrap: ModuleType, tmp_path: Path, ros: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wheels, steps in (
        ("", bootstrap.wheel_steps),
        ("jazzy", bootstrap.wheel_steps),
        ("", bootstrap.beside_ros_steps),
    ):
        monkeypatch.setenv("LISARD_ROS_WHEELS", wheels)
        env = environment(bootstrap, tmp_path / ".venv", ros if steps is bootstrap.beside_ros_steps else None)
        runtime, test, node = (steps(env, stage) for stage in ("runtime", "test", "test-node"))
        assert len(node) == len(runtime) + 1 and all(path.is_file() for step in node for path in step.inputs)
        assert [step.name for step in test[: len(runtime)]] == [step.name for step in runtime]
        assert len(test) == len(runtime) + 1
        assert all(path.is_file() for step in test for path in step.inputs)
        assert not any("trainer.txt" in path.name for step in runtime for path in step.inputs)


def test_what_ros_brings_is_held(
    bootstrap: ModuleType, tmp_path: Path, ros: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(bootstrap.Environment, "pip", lambda self, *arguments: asked.extend(arguments))
    monkeypatch.setattr(bootstrap, "held_packages", lambda env: {"numpy": "1.26.4"})
    bootstrap.install_beside_ros(environment(bootstrap, tmp_path, ros), "runtime.txt")
    assert asked[0] == "--no-deps"
    assert not [line for line in asked if line.startswith("numpy")]
    # Of OpenCV the last that runs beside NumPy 1.
    assert [line for line in asked if line.startswith("opencv")] == [bootstrap.OPENCV_FOR_NUMPY_1]


def test_held_packages_are_those_outside_the_environment(bootstrap: ModuleType, tmp_path: Path) -> None:
    env = environment(bootstrap, tmp_path / ".venv")
    venv.create(env.folder, symlinks=True)
    installation = tmp_path / "dist-packages"
    (installation / "numpy").mkdir(parents=True)
    (installation / "numpy" / "__init__.py").write_text("__version__ = '1.21.5'\n", encoding="utf-8")
    site = Path(env.ask("import sysconfig; print(sysconfig.get_path('purelib'))"))
    (site / "onnxruntime.py").write_text("__version__ = '1.0'\n", encoding="utf-8")
    assert bootstrap.held_packages(env) == {}
    (site / "see.pth").write_text(f"{installation}\n", encoding="utf-8")
    assert bootstrap.held_packages(env) == {"numpy": "1.21.5"}


def test_the_wheels_know_one_middleware_and_one_prefix(in_env: ModuleType, tmp_path: Path) -> None:
    got = in_env.job_variables({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp", "AMENT_PREFIX_PATH": "/old"}, None)
    assert "RMW_IMPLEMENTATION" not in got
    assert got["AMENT_PREFIX_PATH"] == str(tmp_path / ".venv")
    kept = in_env.job_variables({"RMW_IMPLEMENTATION": "rmw_fastrtps_cpp"}, None)
    assert kept["RMW_IMPLEMENTATION"] == "rmw_fastrtps_cpp"


def test_a_sourced_ros_keeps_its_variables(in_env: ModuleType, ros: Any) -> None:
    given = {"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp", "AMENT_PREFIX_PATH": "/opt/a", "PYTHONPATH": "/opt/a/python"}
    got = in_env.job_variables(given, ros)
    assert got["RMW_IMPLEMENTATION"] == "rmw_cyclonedds_cpp"
    assert got["AMENT_PREFIX_PATH"] == "/opt/a"
    assert got["PYTHONPATH"].endswith(":/opt/a/python")


def test_each_job_has_its_own_domain_unless_one_is_set(in_env: ModuleType) -> None:
    assert in_env.job_variables({"ROS_DOMAIN_ID": "7"}, None)["ROS_DOMAIN_ID"] == "7"
    drawn = {int(in_env.job_variables({}, None)["ROS_DOMAIN_ID"]) for _ in range(300)}
    assert len(drawn) > 50
    assert min(drawn) >= 1 and max(drawn) <= 101


def test_library_path_of_another_environment_is_dropped(in_env: ModuleType, tmp_path: Path) -> None:
    foreign = {"_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1", "LD_LIBRARY_PATH": "/other/.venv/lib"}
    got = in_env.job_variables(foreign, None)
    assert not set(foreign) & set(got)
    own = {"_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1", "LD_LIBRARY_PATH": str(tmp_path / ".venv" / "lib")}
    assert set(own) <= set(in_env.job_variables(own, None))
    assert in_env.job_variables({"LD_LIBRARY_PATH": "/usr/lib/cuda"}, None)["LD_LIBRARY_PATH"] == "/usr/lib/cuda"


def test_messages_built_beside_ros_are_sourced(in_env: ModuleType, ros: Any, tmp_path: Path) -> None:
    assert in_env.with_overlay(["true"], ros) == ["true"]
    overlay = tmp_path / ".venv-jazzy" / "overlay"
    overlay.mkdir(parents=True)
    (overlay / "setup.bash").write_text("export FROM_OVERLAY=yes\n", encoding="utf-8")
    command = in_env.with_overlay(["bash", "-c", 'echo "$FROM_OVERLAY $1"', "x", "a b"], ros)
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "yes a b\n"


def test_in_env_says_what_is_wrong() -> None:
    assert script("in_env.py").returncode == 2


def test_make_help_lists_the_targets() -> None:
    # Run by `make test`, this make is a nested one, which would also name the folder that it enters.
    command = ["make", "--no-print-directory", "help"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = {
        "help",
        "demo",
        "test",
        "test-jazzy",
        "test-portable",
        "test-aarch64",
        "lint",
        "build",
        "docs",
        "packages",
        "sbom",
        "audit",
        "clean",
        "setup",
    }
    assert {line.split()[0] for line in listed.splitlines()} == targets


MAKE = """#!/bin/sh
echo "make $*" >> "$CALLS"
case "$*" in "$FAILING" | "$FAILING_TWICE" | "$FAILING_TWICE ARGS=--last-failed") exit 2 ;; esac
"""
AGAIN, UNTIL_JAZZY = "make test ARGS=--last-failed", ["make test", "set up jazzy test-node"]
BOOTSTRAP = """import os, sys
if "--missing" not in sys.argv:
    with open(os.environ["CALLS"], "a") as calls:
        calls.write(f"set up {os.environ['LISARD_ROS_WHEELS']} {sys.argv[1]}\\n")
    sys.exit(int(os.environ["WHEELS"]))
"""


@pytest.mark.parametrize(
    ("variables", "status", "calls", "said"),
    [
        ({}, 0, [*UNTIL_JAZZY, "make test-jazzy"], ""),
        ({"FAILING": "test"}, 0, ["make test", AGAIN, "set up jazzy test-node", "make test-jazzy"], ""),
        ({"FAILING_TWICE": "test"}, 2, ["make test", AGAIN], ""),
        (
            {"FAILING_TWICE": "test-jazzy"},
            2,
            [*UNTIL_JAZZY, "make test-jazzy", AGAIN.replace("test ", "test-jazzy ")],
            "",
        ),
        ({"WHEELS": "3"}, 0, UNTIL_JAZZY, "not run, the ROS 2 Jazzy wheels cannot be"),
        ({"WHEELS": "1"}, 1, UNTIL_JAZZY, ""),
        ({"ROS_DISTRO": "humble"}, 0, ["make test"], "not run, a ROS installation is sourced"),
    ],
)
def test_ci_runs_make_test_and_then_the_node_on_jazzy(
    variables: dict[str, str], status: int, calls: list[str], said: str, tmp_path: Path
) -> None:
    """The script itself, with a make and a set-up that only note that they were called."""
    for name, text in ((".ci/run", (ROOT / ".ci/run").read_text()), ("bin/make", MAKE)):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/bootstrap.py").write_text(BOOTSTRAP)
    outside = {key: value for key, value in os.environ.items() if key != "ROS_DISTRO"}
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    given = {
        "PATH": path,
        "CALLS": str(tmp_path / "calls"),
        "WHEELS": "0",
        "FAILING": "-",
        "FAILING_TWICE": "-",
        **variables,
    }
    done = subprocess.run([tmp_path / ".ci/run"], env={**outside, **given}, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr
    assert (tmp_path / "calls").read_text().splitlines() == calls
    assert said in done.stdout and ("not run" in done.stdout) == bool(said)


def test_ci_can_be_started() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_ci_knows_the_status_of_a_set_up_without_wheels(bootstrap: ModuleType) -> None:
    assert f'[ "$status" = {bootstrap.NO_WHEELS} ]' in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
