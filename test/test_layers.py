"""The arrows of import: trainer and engines -> runtime, node -> runtime, never back; heavy packages only on demand."""

from __future__ import annotations

import ast
import functools
import graphlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WITH_ROS = ("lisard_ros/node", "lisard_ros/tools")
# Imported by one command, which says how to install what they need.
OF_AN_EXTRA = ("lisard_ros/watch/server.py", "lisard_ros/watch/metrics.py")
PACKAGES = {"lisard_ros": ROOT, "lisard_trainer": ROOT / "trainer", "lisard_engines": ROOT / "engines"}
OF_ROS = re.compile(r"rclpy|\w+_interfaces|ament_index_python|launch|launch_ros|cv_bridge|\w+_msgs|\w+_srvs")

IMPORT_ALL = """
import importlib, pkgutil, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError("blocked by the test: " + name, name=name)
sys.meta_path.insert(0, Blocked())
import {package}
names = [entry.name for entry in pkgutil.walk_packages({package}.__path__, "{package}.", onerror=lambda _: None)]
with_ros = ("lisard_ros.node.", "lisard_ros.tools.")
of_an_extra = {of_an_extra!r}
wanted = [n for n in names if not n.startswith(with_ros) and not n.endswith("__main__") and n not in of_an_extra]
for name in wanted:
    importlib.import_module(name)
print(len(wanted))
"""
HEAVY = (
    "torch",
    "tensorrt",
    "tensorrt_rtx",
    "pycuda",
    "cuda",
    "openvino",
    "onnx",
    "onnxscript",
    "safetensors",
    "rclpy",
    "cv_bridge",
    "cryptography",
    "aiohttp",
    "prometheus_client",
    "maite",
    "ray",
)


def module_files(package: str) -> list[Path]:
    """The Python files of an import package; none when the checkout has no such package yet."""
    return sorted((PACKAGES[package] / package).rglob("*.py"))


@functools.cache
def imports(path: Path) -> tuple[str, ...]:
    """Full names that a file imports anywhere in it, `from a import b` as a.b."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = ".".join([*package_of(path, node.level), *([node.module] if node.module else [])])
            yield from (f"{start}.{alias.name}" for alias in node.names)


def package_of(path: Path, level: int) -> tuple[str, ...]:
    """The parts that LEVEL leading dots stand for in a file; none for an absolute import."""
    (base,) = [folder for name, folder in PACKAGES.items() if path.is_relative_to(folder / name)]
    parts = path.relative_to(base).parts
    return parts[: len(parts) - level] if level else ()


def offenders(package: str, forbidden: str, outside: tuple[str, ...] = ()) -> list[str]:
    """`file: name` for each import whose dotted name starts with what FORBIDDEN matches."""
    pattern = re.compile(rf"(?:{forbidden})(?:\.|$)")
    files = [f for f in module_files(package) if not any(f.is_relative_to(ROOT / folder) for folder in outside)]
    return [f"{f.relative_to(ROOT)}: {name}" for f in files for name in imports(f) if pattern.match(name)]


def test_only_the_node_and_the_tools_beside_it_use_ros() -> None:
    assert offenders("lisard_ros", OF_ROS.pattern, outside=WITH_ROS) == []
    assert offenders("lisard_trainer", OF_ROS.pattern) == []
    assert offenders("lisard_engines", OF_ROS.pattern) == []


def test_the_runtime_does_not_know_the_node() -> None:
    assert offenders("lisard_ros", r"lisard_ros\.(node|tools)", outside=WITH_ROS) == []


def test_the_runtime_knows_neither_trainer_nor_engines() -> None:
    assert offenders("lisard_ros", "lisard_trainer|lisard_engines") == []


def test_trainer_and_engines_do_not_know_each_other() -> None:
    assert offenders("lisard_trainer", "lisard_engines") == []
    assert offenders("lisard_engines", "lisard_trainer") == []


def test_trainer_and_engines_do_not_know_the_node() -> None:
    assert offenders("lisard_trainer", r"lisard_ros\.(node|tools)") == []
    assert offenders("lisard_engines", r"lisard_ros\.(node|tools)") == []


# Which formats a foreign file can have depends on the task that its user named, or none.
ABOUT_FORMATS = "lisard_ros/onnx_formats/recognition.py"


@pytest.mark.parametrize("package", PACKAGES)
def test_what_depends_on_the_task_is_asked_of_the_task(package: str) -> None:
    """No comparison with the name of a task: a Task of the trainer knows, or the RuntimeTask of a manifest."""
    found = []
    for path in module_files(package):
        name = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                sides = {side.value for side in (node.left, *node.comparators) if isinstance(side, ast.Constant)}
                if sides & {"classification", "detection"} and "task" in ast.unparse(node) and name != ABOUT_FORMATS:
                    found.append(f"{name}:{node.lineno}")
    assert found == []


def test_the_runtime_imports_without_ros_torch_and_tensorrt() -> None:
    code = IMPORT_ALL.format(package="lisard_ros", blocked=HEAVY, of_an_extra=modules_of_an_extra())
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(expected_modules())


def test_the_engines_import_without_ros_torch_and_tensorrt() -> None:
    blocked = tuple(name for name in HEAVY if name != "onnx")
    code = IMPORT_ALL.format(package="lisard_engines", blocked=(*blocked, "lisard_trainer"), of_an_extra=())
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "engines")])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(module_files("lisard_engines")) - 1


def modules_of_an_extra() -> tuple[str, ...]:
    """Their dotted names."""
    return tuple(module_name(ROOT / part) for part in OF_AN_EXTRA)


def test_what_an_extra_brings_is_imported_by_its_command_alone() -> None:
    users = {
        str(f.relative_to(ROOT))
        for f in module_files("lisard_ros")
        for name in imports(f)
        if name.startswith(modules_of_an_extra())
    }
    assert users <= {"lisard_ros/commands/watch.py", "lisard_ros/watch/server.py"}


def expected_modules() -> list[Path]:
    """The files that the blocked import must have reached."""
    folder, with_ros = ROOT / "lisard_ros", [ROOT / part for part in WITH_ROS]
    files = [f for f in module_files("lisard_ros") if f != folder / "__init__.py" and f.name != "__main__.py"]
    files = [f for f in files if f not in [ROOT / part for part in OF_AN_EXTRA]]
    return [f for f in files if f.name == "__init__.py" or not any(f.is_relative_to(part) for part in with_ros)]


def module_name(path: Path) -> str:
    """Dotted name of a file of one of the packages; of the package for its __init__."""
    (base,) = [folder for name, folder in PACKAGES.items() if path.is_relative_to(folder / name)]
    parts = path.relative_to(base).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules() -> dict[str, set[str]]:
    """Module -> the modules of the three packages that it imports, inside functions too."""
    files = {module_name(path): path for package in PACKAGES for path in module_files(package)}
    graph = {}
    for module, path in files.items():
        named = [name if name in files else name.rpartition(".")[0] for name in imports(path)]
        graph[module] = {name for name in named if name in files and name != module}
    return graph


def test_no_modules_import_in_a_circle() -> None:
    graphlib.TopologicalSorter(imported_modules()).prepare()  # CycleError names the circle


def test_the_folders_import_in_one_direction() -> None:
    """A folder and the folders inside it are different ones. Each module at the top of a package stands for itself, and
    the top itself, which names what users import, for nothing.
    """
    modules = imported_modules()
    packages = {module_name(path.parent / "__init__.py") for p in PACKAGES for path in module_files(p)}

    def folder(module: str) -> str:
        inside = module if module in packages else module.rpartition(".")[0]
        return module if inside in PACKAGES else inside

    graph: dict[str, set[str]] = {}
    for module, others in modules.items():
        if module not in PACKAGES:
            named = {folder(other) for other in others if other not in PACKAGES}
            graph.setdefault(folder(module), set()).update(named - {folder(module)})
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the circle


@pytest.mark.parametrize("package", PACKAGES)
def test_the_top_folders_of_a_package_import_in_one_direction(package: str) -> None:
    """A module that lies in no folder counts as a folder of its own."""
    graph: dict[str, set[str]] = {}
    for module, others in imported_modules().items():
        inside = {other for other in others if other.startswith(f"{package}.")}
        if module.startswith(f"{package}."):
            folder = module.split(".")[1]
            graph.setdefault(folder, set()).update({other.split(".")[1] for other in inside} - {folder})
    graphlib.TopologicalSorter(graph).prepare()
