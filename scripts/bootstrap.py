"""Set up all that a stage needs: `python3 scripts/bootstrap.py STAGE`, with runtime, test or test-node.

Without ROS: .venv with the ROS 2 wheels of Kilted, or with LISARD_ROS_WHEELS=jazzy .venv-jazzy with those of Jazzy.
With a sourced ROS: .venv-DISTRO that sees the installation's packages, with its NumPy and OpenCV held as they are. Each
step leaves a stamp when it is done, so a second run finds it done at once, and an interrupted set-up goes on there.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import machine

REQUIREMENTS = machine.ROOT / "requirements"
CONSTRAINTS = REQUIREMENTS / "constraints.txt"
INTERFACES = machine.ROOT / "interfaces" / "vision_msgs"
BUILD_VISION_MSGS = machine.ROOT / "scripts" / "build_vision_msgs.py"
PACKAGE_FILES = tuple(machine.ROOT / name for name in ("setup.py", "setup.cfg", "pyproject.toml"))
STAGES = ("runtime", "test", "test-node")
# Exit status where the ROS 2 wheels cannot be installed: no fault of this checkout.
NO_WHEELS = 3
# How often a long step, such as a download, prints that it goes on.
SIGN_OF_LIFE_S = 15.0
# What tests need beside the runtime and the tools of testing, extras among them.
TEST_PACKAGES = ("trainer.txt", "engines.txt", "signing.txt", "replay.txt", "watch.txt", "interop.txt", "cluster.txt")
# Import name -> distribution: taken from a sourced ROS's Python where it has them, never replaced.
HELD = {"numpy": "numpy", "cv2": "opencv-python-headless", "onnxruntime": "onnxruntime"}
# The last that runs beside NumPy 1.
OPENCV_FOR_NUMPY_1 = "opencv-python-headless==4.11.0.86"


class SetUpFailed(Exception):
    """A step did not work; the text says which, and the cure."""


class NoWheels(SetUpFailed):
    """The ROS 2 wheels cannot be installed here."""


@dataclass(frozen=True)
class Step:
    """One thing to do once: `inputs` are the files whose change makes it due again."""

    name: str
    inputs: tuple[Path, ...]
    act: Callable[[], None]


@dataclass(frozen=True)
class Environment:
    """The virtual environment that is being filled."""

    folder: Path
    ros: machine.Ros | None
    base_python: str

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def version(self) -> str:
        """The version of the Python that it is made from."""
        command = [self.base_python, "-c", "import platform; print(platform.python_version())"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    @property
    def stamps(self) -> Path:
        """Where finished steps leave their marks."""
        return self.folder / "lisard_stamps"

    def run(self, *command: str) -> None:
        """Run COMMAND with its output shown, and a sign of life; SetUpFailed when it fails."""
        environ = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "_ROS_WHEELS_BOOTSTRAP_COMPLETE")}
        began = time.monotonic()
        with subprocess.Popen(command, env=environ, cwd=machine.ROOT, stdin=subprocess.DEVNULL) as process:
            while True:
                try:
                    status = process.wait(SIGN_OF_LIFE_S)
                    break
                except subprocess.TimeoutExpired:
                    print(f"set-up: ... goes on, {time.monotonic() - began:.0f} s", flush=True)
        if status:
            raise SetUpFailed(f"`{' '.join(command)}` ended with status {status}; see above, then try again")

    def pip(self, *arguments: str) -> None:
        """Pip install with the project's constraints."""
        options = ["-qq", "--disable-pip-version-check", "--no-input", "-c", str(CONSTRAINTS)]
        if self.ros is None:  # Python compiles a module when it is first imported; most never are, and all take 40 MB
            options.append("--no-compile")
        self.run(str(self.python), "-m", "pip", "install", *options, *arguments)

    def ask(self, code: str) -> str:
        """What CODE prints in this environment; empty when it fails."""
        command = [str(self.python), "-c", code]
        if not self.python.exists():
            return ""
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def make_venv(env: Environment) -> None:
    """Create the environment from nothing, unless a whole one of the same Python and kind is there."""
    see_ros = ("--system-site-packages",) if env.ros else ()
    same_kind = sees_system_packages(env.folder) == bool(see_ros)
    if same_kind and env.ask("import pip, platform; print(platform.python_version())") == env.version:
        return
    shutil.rmtree(env.folder, ignore_errors=True)
    env.run(env.base_python, "-m", "venv", *see_ros, str(env.folder))


def sees_system_packages(folder: Path) -> bool:
    """Whether the virtual environment in FOLDER was made to see the packages of a sourced ROS."""
    config = folder / "pyvenv.cfg"
    return config.is_file() and "include-system-site-packages = true" in config.read_text(encoding="utf-8")


def install_wheels(env: Environment, *names: str) -> None:
    """Install requirements files by name, resolved together."""
    env.pip(*[part for name in names for part in ("-r", str(REQUIREMENTS / name))])


def share_copies(folder: Path) -> int:
    """Let equal libraries below FOLDER be one file with several names; gives the bytes that are free then.

    Wheels hold no links, so that each name of a library of ROS is a file of its own.
    """
    first: dict[tuple[int, bytes], Path] = {}
    freed = 0
    for path in sorted(folder.rglob("*.so*")):
        if path.is_symlink() or not path.is_file():
            continue
        size = path.stat().st_size
        kept = first.setdefault((size, hashlib.sha256(path.read_bytes()).digest()), path)
        if not kept.samefile(path):
            (link := path.with_name(f"{path.name}.link")).unlink(missing_ok=True)
            link.hardlink_to(kept)
            link.replace(path)
            freed += size
    return freed


def held_packages(env: Environment) -> dict[str, str]:
    """Distribution -> version of what the sourced ROS's Python brings and this environment must keep."""
    code = (
        "import importlib, sys\n"
        f"for name, distribution in {HELD!r}.items():\n"
        "    try: module = importlib.import_module(name)\n"
        "    except ImportError: continue\n"
        "    if not (module.__file__ or '').startswith(sys.prefix): print(distribution, module.__version__)\n"
    )
    return dict(line.split() for line in env.ask(code).splitlines())


def unheld_lines(text: str, held: dict[str, str]) -> list[str]:
    """Requirement lines whose distribution is not held."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [line for line in lines if line.split("==")[0].strip() not in held]


def install_beside_ros(env: Environment, name: str) -> None:
    """Install a fully pinned requirements file without resolving it: a resolver would replace the held NumPy."""
    held = held_packages(env)
    lines = unheld_lines((REQUIREMENTS / name).read_text(encoding="utf-8"), held)
    old_numpy = held.get("numpy", "").startswith("1.")
    lines = [OPENCV_FOR_NUMPY_1 if old_numpy and line.startswith("opencv") else line for line in lines]
    env.pip("--no-deps", *lines)
    shown = ", ".join(f"{distribution} {version}" for distribution, version in held.items())
    print(f"held as the installation has them: {shown or 'nothing'}", flush=True)


def build_vision_msgs(env: Environment) -> None:
    """Build the message definitions where they are missing: into .venv, or as an overlay of a sourced ROS."""
    if env.ros is None:
        env.run(str(env.python), str(BUILD_VISION_MSGS))
    elif not env.ros.has("vision_msgs"):
        overlay, work = str(env.folder / "overlay"), str(env.folder / "overlay_build")
        options = ["--merge-install", "--install-base", overlay, "--build-base", work, "--paths", str(INTERFACES)]
        arguments = ["--cmake-args", "-DBUILD_TESTING=OFF", f"-DPython3_EXECUTABLE={env.base_python}"]
        env.run(str(env.python), "-m", "colcon", "--log-base", os.devnull, "build", *options, *arguments)
        shutil.rmtree(work)


def install_checkout(env: Environment) -> None:
    """Install the checkout itself, editable: commands on PATH, entry points, and changes that count at once."""
    env.pip("setuptools")  # the pinned one: those of some distributions know no editable install from pyproject.toml
    env.pip("--no-deps", "--no-build-isolation", "--editable", str(machine.ROOT))


def interface_files() -> tuple[Path, ...]:
    """Everything that the build of the message definitions reads."""
    return (*sorted(path for path in INTERFACES.rglob("*") if path.is_file()), BUILD_VISION_MSGS)


def pins(*names: str) -> tuple[Path, ...]:
    """Requirements files, with the constraints."""
    return (*(REQUIREMENTS / name for name in names), CONSTRAINTS)


def wheel_steps(env: Environment, stage: str) -> list[Step]:
    """Without ROS: with the wheels of one distribution."""
    distro = machine.wheels_distro()
    suffix = "" if distro == machine.WHEEL_DISTROS[0] else f"_{distro}"
    runtime = ("runtime.txt", f"ros{suffix}.txt", f"vision_msgs_build{suffix}.txt")
    tests = (*TEST_PACKAGES, "test.txt")
    pinned_tests = pins(*tests, "colcon.txt", "pytest.txt")

    def install_ros() -> None:
        try:
            install_wheels(env, *runtime)
        except SetUpFailed as failure:
            raise NoWheels(f"the ROS 2 {distro} wheels cannot be installed: {failure}") from failure
        share_copies(env.folder / "lib")

    steps = [
        Step("runtime packages and ROS 2 wheels", pins(*runtime), install_ros),
        Step("vision_msgs", (*pins(*runtime), *interface_files()), lambda: build_vision_msgs(env)),
        checkout_step(env),
    ]
    if stage == "test":
        steps.append(Step("training and test packages", pinned_tests, lambda: install_wheels(env, *tests)))
    if stage == "test-node":
        steps.append(
            Step(
                "packages of the node's tests",
                pins("pytest.txt", "signing.txt", "trainer.txt"),
                lambda: node_tests(env),
            )
        )
    return steps


def node_tests(env: Environment) -> None:
    """What the node's tests need beside the runtime: pytest, cryptography, and what writes models and gradients."""
    names = ("-r", str(REQUIREMENTS / "pytest.txt"), "-r", str(REQUIREMENTS / "signing.txt"))
    env.pip(*names, "-c", str(REQUIREMENTS / "trainer.txt"), "onnx", "onnxslim")


def checkout_step(env: Environment) -> Step:
    """The checkout itself, after everything that it needs."""
    return Step("this package", (*PACKAGE_FILES, CONSTRAINTS), lambda: install_checkout(env))


def beside_ros_steps(env: Environment, stage: str) -> list[Step]:
    """With a sourced ROS."""

    def install_tests() -> None:
        env.pip("torch", "-r", str(REQUIREMENTS / "test.txt"))
        for name in TEST_PACKAGES:
            install_beside_ros(env, name)

    steps = [
        Step("colcon", pins("colcon.txt"), lambda: install_wheels(env, "colcon.txt")),
        Step("runtime packages", pins("runtime.txt"), lambda: install_beside_ros(env, "runtime.txt")),
        Step("vision_msgs", interface_files(), lambda: build_vision_msgs(env)),
        checkout_step(env),
    ]
    if stage == "test":
        tests = pins(*TEST_PACKAGES, "test.txt", "pytest.txt")
        steps.append(Step("training and test packages", tests, install_tests))
    if stage == "test-node":
        steps.append(
            Step(
                "packages of the node's tests",
                pins("pytest.txt", "signing.txt", "trainer.txt"),
                lambda: node_tests(env),
            )
        )
    return steps


def digest(env: Environment, step: Step) -> str:
    """Hash of everything that decides what a step does; installed commands hold the path of this checkout."""
    prefixes = [str(prefix) for prefix in env.ros.prefixes] if env.ros else []
    words = [step.name, env.base_python, sys.version, str(machine.ROOT), *prefixes]
    state = hashlib.sha256("\n".join(words).encode())
    for path in step.inputs:
        state.update(path.read_bytes())
    return state.hexdigest()


def perform(env: Environment, step: Step) -> None:
    """Do a step unless its stamp says that it was done; the stamp is written last."""
    stamp, wanted = env.stamps / step.name.replace(" ", "_"), digest(env, step)
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    print(f"set-up: {step.name} ...", flush=True)
    began = time.monotonic()
    step.act()
    env.stamps.mkdir(parents=True, exist_ok=True)
    stamp.write_text(wanted, encoding="utf-8")
    print(f"set-up: {step.name}: done in {time.monotonic() - began:.0f} s", flush=True)


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Hold the checkout for this set-up; a second one waits."""
    handle = os.open(machine.ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("set-up: another one is at work here; waiting for it", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def set_up(stage: str) -> None:
    """Do what is missing for a stage."""
    ros = machine.sourced_ros()
    env = Environment(machine.venv_folder(ros), ros, machine.base_python(ros))
    steps = beside_ros_steps(env, stage) if ros else wheel_steps(env, stage)
    with only_one():
        for step in [Step("virtual environment", (), lambda: make_venv(env)), *steps]:
            perform(env, step)


def main() -> int:
    """Exit status 0; 1 a step failed, 2 the machine lacks something, 3 the ROS 2 wheels cannot be installed here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "stage",
        choices=STAGES,
        help="runtime: node and demo; test: training and all tests as well; test-node: the node's tests alone",
    )
    parser.add_argument("--missing", action="store_true", help="only list the apt packages that are missing")
    options = parser.parse_args()
    if options.missing:
        print(" ".join(machine.missing_apt_packages()))
        return 0
    complaint = machine.complaint()
    if complaint:
        print(complaint, file=sys.stderr)
        return 2
    try:
        set_up(options.stage)
    except SetUpFailed as failure:
        print(f"set-up failed: {failure}", file=sys.stderr)
        return NO_WHEELS if isinstance(failure, NoWheels) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
