"""`lisard doctor`: what this machine offers, stage by stage, and whether a bundle holds its self test on it."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from lisard_ros import __version__, tensorrt_api
from lisard_ros.cli import EXIT_CHECK_FAILED, EXIT_DONE
from lisard_ros.commands.output import to_json
from lisard_ros.errors import LisardError

if TYPE_CHECKING:
    from lisard_ros.pipeline import Pipeline

HELP = """Check this machine and, if given, a bundle.

  lisard doctor
  lisard doctor models/traffic_signs      also verifies the bundle and runs its self test

Exit status 1 when something that the node needs is missing or the self test fails."""

REQUIRED, OPTIONAL = "required", "optional"
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, whether it is fine, and what was found or is missing."""

    what: str
    need: str
    ok: bool
    detail: str


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("bundle", type=Path, nargs="?", help="model bundle (folder or .zip)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Look, print, and say by the exit status whether the node can run."""
    findings = [*machine(), *packages(), *tensorrt(), *ros()]
    if args.bundle and _can_run(findings):
        findings += bundle(args.bundle)
    print(to_json(findings) if args.json else "\n".join(_line(f) for f in findings))
    return EXIT_DONE if _can_run(findings) else EXIT_CHECK_FAILED


def _can_run(findings: Sequence[Finding]) -> bool:
    return all(finding.ok for finding in findings if finding.need == REQUIRED)


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
    """Look at the libraries of the runtime and at the optional backends."""
    required = [("numpy", "numpy"), ("cv2", "opencv"), ("onnxruntime", "onnxruntime"), ("msgspec", "msgspec")]
    return [
        *(_import(m, name, REQUIRED) for m, name in required),
        _import("torch", "torch", OPTIONAL),
        _import("lisard_trainer", "trainer", OPTIONAL),
        _import("lisard_engines", "engines", OPTIONAL),
        _import("openvino", "openvino", OPTIONAL),
    ]


def tensorrt() -> list[Finding]:
    """Look for each TensorRT product, stage by stage; they are optional."""
    return [
        Finding(f"{product}: {stage.name}", OPTIONAL, stage.ok, stage.detail)
        for product in tensorrt_api.MODULES
        for stage in tensorrt_api.stages(product)
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
    from lisard_ros.pipeline import open_pipeline  # only now: its libraries may be what this machine lacks

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
    from lisard_ros import self_test

    try:
        report = self_test.run(pipeline)
    except LisardError as error:
        return Finding("self test", REQUIRED, False, str(error))
    finally:
        pipeline.close()
    return Finding("self test", REQUIRED, report.passed, "; ".join(str(case) for case in report.cases))


def _import(module: str, name: str, need: str) -> Finding:
    try:
        found = importlib.import_module(module)
    except (ImportError, OSError) as error:
        return Finding(name, need, False, f"not usable: {error}")
    return Finding(name, need, True, str(getattr(found, "__version__", "") or _version(module)))


def _version(module: str) -> str:
    try:
        return version(module)
    except PackageNotFoundError:
        return "found"


def _line(finding: Finding) -> str:
    mark = "ok  " if finding.ok else ("FAIL" if finding.need == REQUIRED else "-   ")
    return f"{mark} {finding.what:<36} {finding.detail}"
