"""Wheel, editable, colcon (copied, linked): the same imports and commands, all files in place."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ON_PATH = {"lisard", "perception_node"}
COMMANDS = {
    "train",
    "evaluate",
    "export",
    "build",
    "verify",
    "bench",
    "attack",
    "bundle",
    "replay",
    "compare",
    "predict",
    "models",
    "watch",
    "bag",
    "doctor",
}
UNDER_LIB = ON_PATH | COMMANDS
# What every virtual environment has in bin/.
VENV_PROGRAMS = ("python", "activate", "Activate")

# An `Install` of conftest.py.
Install = Any


def modules_of_the_checkout() -> list[str]:
    """Import names of every module of the packages, from the files."""
    names = []
    folders = {"lisard_ros": ROOT, "lisard_trainer": ROOT / "trainer", "lisard_engines": ROOT / "engines"}
    for package, folder in folders.items():
        for path in (folder / package).rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return sorted(names)


def files_below(folder: Path) -> set[str]:
    """Relative names of all files, links followed."""
    found = (Path(base) / name for base, _, names in os.walk(folder, followlinks=True) for name in names)
    return {str(path.relative_to(folder)) for path in found if "__pycache__" not in path.parts}


def shipped(folder: str) -> set[str]:
    """Relative names of the files of a folder of the checkout, as git sees them."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", folder]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return {str(Path(name).relative_to(folder)) for name in listed if (ROOT / name).exists()}


def test_the_same_modules_are_importable(install: Install) -> None:
    probe = install.probed
    assert probe["modules"] == modules_of_the_checkout()
    home = {"editable": install.checkout}.get(install.name, install.prefix)
    if install.name == "colcon_symlink":
        home = install.checkout / "build"
    for name in ("lisard_ros", "lisard_trainer", "lisard_engines"):
        assert Path(probe["origins"][name]).is_relative_to(home)


def test_nothing_generic_becomes_importable(install: Install) -> None:
    origins = install.probed["origins"]
    ours = [install.checkout, install.prefix]
    # `test` is a module of the standard library, `launch` one of ROS: they must not be ours.
    for name in set(origins) - {"lisard_ros", "lisard_trainer", "lisard_engines"}:
        found = origins[name]
        assert found is None or not any(Path(found).is_relative_to(folder) for folder in ours), (name, found)


def test_entry_points(install: Install) -> None:
    points = install.probed["entry_points"]
    assert set(points["lisard_ros.commands"]) == COMMANDS
    assert points["lisard_ros.twin"] == {"build": "lisard_trainer.pytorch_model:build"}
    assert points["lisard_ros.running_system"] == {"check": "lisard_ros.tools.system_observer:check"}
    assert points["lisard_ros.live_frames"] == {"collect": "lisard_ros.tools.live_frames:collect"}
    assert points["lisard_ros.attack_make"] == {"make": "lisard_trainer.commands.attack_make"}
    by_pip = install.name in ("wheel", "editable")
    assert set(points["console_scripts"]) == (ON_PATH if by_pip else set())


@pytest.fixture(params=["wheel", "colcon", "colcon_symlink"])
def placed(request: pytest.FixtureRequest) -> Install:
    """The ways of installing that place files outside the import packages; an editable install places none."""
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_pip_puts_two_programs_on_path(kind: str, request: pytest.FixtureRequest) -> None:
    install = request.getfixturevalue(kind)
    programs = {path.name for path in (install.prefix / "bin").iterdir()}
    assert {name for name in programs if not name.startswith(VENV_PROGRAMS)} == ON_PATH


@pytest.mark.parametrize("kind", ["colcon", "colcon_symlink"])
def test_colcon_puts_nothing_on_path(kind: str, request: pytest.FixtureRequest) -> None:
    install = request.getfixturevalue(kind)
    assert not (install.prefix / "bin").exists()


def test_what_ros2_run_finds(placed: Install) -> None:
    folder = placed.prefix / "lib" / "lisard_ros"
    assert {path.name for path in folder.iterdir()} == UNDER_LIB
    for path in folder.iterdir():
        assert path.read_text(encoding="utf-8").startswith("#!/usr/bin/env python3\n"), path
        assert path.stat().st_mode & stat.S_IXUSR, path


def test_share(placed: Install) -> None:
    share = placed.prefix / "share"
    assert (share / "ament_index/resource_index/packages/lisard_ros").is_file()
    assert (share / "lisard_ros/package.xml").read_bytes() == (ROOT / "package.xml").read_bytes()
    for folder in ("launch", "config"):
        assert files_below(share / "lisard_ros" / folder) == shipped(folder) != set()
    recipes = {name for name in shipped("trainer/recipes") if name.endswith(".yaml")}
    assert files_below(share / "lisard_ros/recipes") == recipes


def test_models_come_with_colcon_and_not_with_a_wheel(placed: Install) -> None:
    models = placed.prefix / "share" / "lisard_ros" / "models"
    expected = shipped("models") if placed.name.startswith("colcon") else set()
    assert files_below(models) == expected


def test_symlink_install_links_everything(colcon_symlink: Install) -> None:
    source = colcon_symlink.checkout
    linked = [colcon_symlink.prefix / "lib/lisard_ros/train", colcon_symlink.prefix / "share/lisard_ros/package.xml"]
    linked += [source / "build/lisard_ros/lisard_ros", source / "build/lisard_ros/lisard_trainer"]
    for path in linked:
        assert path.is_symlink(), path
        assert path.resolve().is_relative_to(source), path
        assert "build" not in path.resolve().relative_to(source).parts, path


def test_an_edit_is_seen_without_a_build(colcon_symlink: Install, editable: Install) -> None:
    for install in (colcon_symlink, editable):
        for name in ("lisard_ros/errors.py", "trainer/lisard_trainer/__init__.py"):
            with (install.checkout / name).open("a", encoding="utf-8") as file:
                file.write("\nEDITED = True\n")
        code = "import lisard_ros.errors, lisard_trainer; print(lisard_ros.errors.EDITED, lisard_trainer.EDITED)"
        assert install.run("python3", "-c", code).stdout.split() == ["True", "True"]


def test_the_command_runs(install: Install) -> None:
    where = {"wheel": ["lisard"], "editable": ["lisard"]}
    command = where.get(install.name, [str(install.prefix / "lib/lisard_ros/lisard")])
    done = install.run(*command, "--help")
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) >= COMMANDS


def test_a_short_name_is_its_subcommand(placed: Install) -> None:
    done = placed.run(str(placed.prefix / "lib/lisard_ros/bundle"), "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: lisard bundle")


def test_colcon_knows_the_package_by_its_build_type(checkout: Any) -> None:
    source = checkout("list")
    command = [sys.executable, "-m", "colcon", "--log-base", os.devnull, "list"]
    listed = subprocess.run(command, cwd=source, capture_output=True, text=True, check=True).stdout
    # One line: the message definitions under interfaces/ are built only where ROS lacks them.
    assert listed.split() == ["lisard_ros", ".", "(ros.ament_python)"]


def test_the_wheel_is_light(wheel_file: Path) -> None:
    assert wheel_file.stat().st_size < 1_500_000
    with zipfile.ZipFile(wheel_file) as archive:
        names = archive.namelist()
        (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        text = archive.read(metadata).decode()
    top = {name.split("/")[0] for name in names}
    packages = {"lisard_ros", "lisard_trainer", "lisard_engines"}
    assert {name for name in top if not name.startswith("lisard_ros-")} == packages
    required = [line.split(": ")[1] for line in text.splitlines() if line.startswith("Requires-Dist")]
    light = [line for line in required if "extra ==" not in line]
    assert not [line for line in light if line.startswith(("torch", "rclpy", "tensorrt"))]


def test_the_wheel_of_models_puts_them_where_every_installation_has_them(
    checkout: Any, wheel: Install, tmp_path: Path
) -> None:
    source = checkout("models_source")
    pip = [sys.executable, "-m", "pip"]
    built = ["wheel", "-qq", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), "./wheels/lisard_ros_models"]
    subprocess.run([*pip, *built], cwd=source, env=wheel.variables, check=True)
    (file,) = tmp_path.glob("lisard_ros_models-*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(tmp_path)
    (share,) = tmp_path.glob("*.data/data/share/lisard_ros")
    assert files_below(share) == {f"models/{name}" for name in shipped("models")}
    assert wheel.run("lisard", "models").stdout.startswith("no bundle comes with this installation")
    (share / "models").rename(wheel.prefix / "share/lisard_ros/models")
    done = wheel.run("lisard", "models", "verify")
    (wheel.prefix / "share/lisard_ros/models").rename(share / "models")
    assert done.returncode == 0 and done.stdout.count(" whole ") == 2, done.stdout + done.stderr
