"""What a result was made from: commit, versions, machine and time."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lisard_ros import __version__
from lisard_ros.host_cpu import cpu_name

UNKNOWN, CHANGED = "unknown", "+changes"
# Import name -> what pip calls it; those that were imported decide a result.
_DECIDING = {
    "numpy": "numpy",
    "cv2": "opencv-python-headless",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt-rtx",
    "torch": "torch",
    "rosbags": "rosbags",
    "av": "av",
}


@dataclass(frozen=True, slots=True)
class Made:
    """Where and when a result was made. made_at: UTC, as 2026-11-30T12:00:00Z. versions: of what took part."""

    made_at: str
    commit: str
    cpu: str
    cpus: int
    system: str
    versions: dict[str, str]


def made() -> Made:
    """Describe this process on this machine, now."""
    versions = {"lisard_ros": __version__, "python": platform.python_version()}
    for name, distribution in _DECIDING.items():
        if name in sys.modules:
            try:
                versions[distribution] = version(distribution)
            except PackageNotFoundError:
                versions[distribution] = UNKNOWN
    return Made(
        datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        commit(),
        cpu_name(),
        len(os.sched_getaffinity(0)),
        f"{platform.system()} {platform.machine()}",
        versions,
    )


def commit(folder: Path | None = None) -> str:
    """Commit of the checkout that holds this file (`+changes` if its files differ from it), or `unknown`."""
    where = folder or Path(__file__).resolve().parent
    head = _git(where, "rev-parse", "HEAD")
    if not head:
        return UNKNOWN
    return head + (CHANGED if _git(where, "status", "--porcelain", "--untracked-files=no", ".") else "")


def short(commit: str) -> str:
    """A commit as pages name it: its first ten digits, and whether files differed from it."""
    return commit[:10] + (" with changes" if commit.endswith(CHANGED) else "")


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=20, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
