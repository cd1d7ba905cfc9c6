"""package.xml, setup.py, the requirements files and the command table say the same."""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

import lisard_ros
from lisard_ros import cli, needs

ROOT = Path(__file__).resolve().parents[2]
# ament's own rule for addresses is looser; a package.xml that breaks it is silently taken for a plain Python package.
EMAIL = re.compile(r"[a-z0-9.+-]+@[a-z0-9-]+(\.[a-z0-9-]+)*\.[a-z]{2,}")
# The licence text that the Apache foundation publishes.
APACHE_2_SHA256 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
# Import name -> package.xml key, where they differ.
ROSDEP_KEYS = {
    "numpy": "python3-numpy",
    "cv2": "python3-opencv",
    "yaml": "python3-yaml",
    "onnxruntime": "python3-onnxruntime-pip",
    "rosbags": "python3-rosbags-pip",
}
# rosdep knows no key for these (rosdistro's rosdep/python.yaml of August 2026).
WITHOUT_KEY = {"msgspec", "array-api-compat", "rosbags-image"}
# Import name -> distribution, where they differ.
DISTRIBUTIONS = {"cv2": "opencv-python-headless", "yaml": "pyyaml"}
# Imported only when asked for; test_layers.py sees to it that all else works without them.
OPTIONAL = {"torch", "safetensors", "onnx", "tensorrt", "tensorrt_rtx", "openvino", "cv_bridge", "cryptography", "mcap"}
OPTIONAL |= {"aiohttp", "prometheus_client", "maite", "ray"}
# The decompressors that rosbags requires; `compression` is of Python 3.14.
WITH_ROSBAGS = {"lz4", "backports", "compression"}
ROS_PACKAGES = re.compile(r"(rclpy|ament_index_python|launch|launch_ros|\w+_msgs|\w+_srvs|\w+_interfaces)")


def constant(name: str) -> object:
    """A literal that setup.py assigns at module level."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return ast.literal_eval(node.value)
    raise AssertionError(f"setup.py assigns no {name}")


def setup_answer(*question: str) -> str:
    """What setup.py answers on its command line."""
    command = [sys.executable, "-W", "ignore", "setup.py", *question]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def manifest() -> ElementTree.Element:
    """The root of package.xml."""
    return ElementTree.parse(ROOT / "package.xml").getroot()


def texts(tag: str) -> list[str]:
    """The text of every TAG of package.xml."""
    return [element.text or "" for element in manifest().iter(tag)]


def requirement_lines(name: str) -> list[str]:
    """Requirement lines of a file under requirements/, comments and includes left out."""
    lines = (ROOT / "requirements" / name).read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith(("#", "-"))]


def distribution(requirement: str) -> str:
    """The name of a requirement, in lower case."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return match.group().lower().replace("_", "-")


def imported_names(folder: Path) -> set[str]:
    """Top-level names that the Python files below FOLDER import."""
    names: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names


def test_package_xml() -> None:
    assert manifest().get("format") == "3"
    assert texts("name") == ["lisard_ros"]
    assert texts("build_type") == ["ament_python"]
    assert texts("license") == ["Apache-2.0"]
    for maintainer in manifest().iter("maintainer"):
        assert EMAIL.fullmatch(maintainer.get("email", ""))


def test_one_version() -> None:
    assert texts("version") == [lisard_ros.__version__] == [setup_answer("--version")]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == lisard_ros.__version__ and citation["license"] == "Apache-2.0"
    written = [
        path for path in ("setup.py", "wheels/lisard_ros_models/setup.py") if "0.1.0" in (ROOT / path).read_text()
    ]
    assert written == []


def test_every_dependency_is_known_to_the_public_index() -> None:
    """A key that rosdistro did not know on the date of the list is no key; look there before adding one."""
    index = json.loads((ROOT / "test/install/rosdep_keys.json").read_text(encoding="utf-8"))
    wanted = {*texts("exec_depend"), *texts("test_depend")}
    assert wanted == index["packages"].keys() | index["keys"].keys()
    assert all(distributions == ["humble", "jazzy", "kilted"] for distributions in index["packages"].values())
    assert all(source.get("apt") or source.get("pip") for source in index["keys"].values())
    assert set(index["without_key"]) >= WITHOUT_KEY


def test_bloom_can_read_package_xml() -> None:
    package = pytest.importorskip("catkin_pkg.package")
    warnings: list[str] = []
    parsed = package.parse_package(str(ROOT), warnings=warnings)
    parsed.validate(warnings=warnings)
    assert warnings == [] and parsed.get_build_type() == "ament_python"


def test_every_extra_is_tried_by_make_packages() -> None:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        packages = importlib.import_module("packages")
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    source = (ROOT / "setup.py").read_text(encoding="utf-8")
    extras = set(re.findall(r'^        "(\w+)": [A-Z]+,$', source.split("extras_require={")[1], re.MULTILINE))
    assert {"trainer", "models", "watch"} <= extras
    assert packages.PROBES.keys() == extras | {"none"}
    helped = [extra for extra, probe in packages.PROBES.items() if "--help" in probe]
    assert helped == ["none"], "help is printed without what an extra brings"


def test_the_workflows_run_what_runs_here() -> None:
    commands = {}
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
        commands |= {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()}
    assert commands == {"test": [".ci/run"], "packages": ["make packages"], "build": ["make docs"], "publish": []}


def test_every_ros_package_that_is_imported_is_declared() -> None:
    imported = imported_names(ROOT / "lisard_ros") | imported_names(ROOT / "launch")
    wanted = {name for name in imported if ROS_PACKAGES.fullmatch(name)}
    wanted |= {ROSDEP_KEYS[name] for name in imported if name in ROSDEP_KEYS}
    assert {"rclpy", "vision_msgs", "launch_ros"} <= wanted
    assert wanted - set(texts("exec_depend")) == set()


def test_everything_that_the_runtime_imports_is_required() -> None:
    foreign = (
        imported_names(ROOT / "lisard_ros") - set(sys.stdlib_module_names) - {"lisard_ros"} - OPTIONAL - WITH_ROSBAGS
    )
    wanted = {name for name in foreign if not ROS_PACKAGES.fullmatch(name)}
    names = {DISTRIBUTIONS.get(name, name.replace("_", "-")) for name in wanted}
    required = constant("RUNTIME")
    assert isinstance(required, list)
    assert names - {distribution(line) for line in required} == set()


def test_what_the_runtime_needs_has_a_key_or_an_install_step() -> None:
    required = constant("RUNTIME")
    assert isinstance(required, list)
    assert {name.lower() for name in needs.PACKAGES.values()} == {name.lower() for name in required}
    for path in ("package.xml", "docs/node.md"):
        text = (ROOT / path).read_text(encoding="utf-8")
        steps = [line for line in text.splitlines() if "python3 -m pip install" in line]
        assert any(all(name in line for name in WITHOUT_KEY) for line in steps), path
    for path in ("README.md", "docs/launch.md"):
        assert "node.md#installation" in (ROOT / path).read_text(encoding="utf-8"), path


def test_requirements_are_pinned_and_cover_setup_py() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        for line in requirement_lines(path.name):
            assert re.match(r"[A-Za-z0-9._-]+(\[\w+\])?==[^=;]+(;.+)?$", line), (path.name, line)
    files = {"RUNTIME": ["runtime.txt"], "TRAINER": ["trainer.txt"], "TEST": ["test.txt", "colcon.txt", "pytest.txt"]}
    files["IMAGENET"] = ["imagenet.txt"]
    files["SIGNING"] = ["signing.txt"]
    files["WATCH"] = ["watch.txt"]
    files["MCAP"] = files["VIDEO"] = ["replay.txt"]
    files["MAITE"] = ["interop.txt"]
    files["CLUSTER"] = ["cluster.txt"]
    files["ENGINES"] = ["trainer.txt", "engines.txt"]
    for name, sources in files.items():
        pinned = {distribution(line) for source in sources for line in requirement_lines(source)}
        wanted = constant(name)
        assert isinstance(wanted, list)
        assert {distribution(line) for line in wanted} <= pinned, name


def test_every_command_has_a_summary_for_the_overview() -> None:
    commands = constant("COMMANDS")
    assert isinstance(commands, dict)
    assert all(cli.summary_of(module) for module in commands.values())


def test_the_licence_is_the_whole_text() -> None:
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2_SHA256


def test_the_hooks_run_what_make_lint_runs() -> None:
    """The commands of .pre-commit-config.yaml are those of the Makefile's target, in the same order."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    made = (ROOT / "Makefile").read_text(encoding="utf-8").split("\nlint:")[1].split("\n\n")[0].splitlines()[1:]
    assert [hook["entry"].removeprefix("python3 scripts/in_env.py ") for hook in hooks] == [
        line.strip().removeprefix("$(IN_ENV) ") for line in made
    ]
