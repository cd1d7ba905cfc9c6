"""The packages that the runtime needs beside ROS, and the error for one that cannot be imported.

`setup.py` and requirements/runtime.txt list the same packages; a test compares them.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys

from lisard_ros.errors import UsageError, one_line

# Import name -> what pip calls it.
PACKAGES = {
    "numpy": "numpy",
    "cv2": "opencv-python-headless",
    "onnxruntime": "onnxruntime",
    "array_api_compat": "array-api-compat",
    "msgspec": "msgspec",
    "rosbags": "rosbags",
    "rosbags.image": "rosbags-image",
    "yaml": "PyYAML",
    "jinja2": "jinja2",
    "markupsafe": "MarkupSafe",
    "tqdm": "tqdm",
}
_ROS = re.compile(r"rclpy|_rclpy\w*|ament_\w+|rosidl_\w+|\w+_msgs|\w+_srvs|\w+_interfaces")


def cannot_import(error: ImportError) -> UsageError:
    """Return the error that names the missing package, and how to install it with all others that are missing."""
    name = error.name or ""
    top = name.split(".")[0]
    if _ROS.fullmatch(top):
        distro = os.environ.get("ROS_DISTRO") or "DISTRO"
        cure = (
            f"sudo apt install ros-{distro}-{top.strip('_').replace('_', '-')}, or `make setup` where there is no ROS"
        )
        return UsageError(f"the ROS package {top} cannot be imported", found=one_line(error), cure=cure)
    if top not in PACKAGES:
        return UsageError("a Python package cannot be imported", found=one_line(error), cure="install it")
    needed = name if name in PACKAGES else top
    absent = dict.fromkeys([PACKAGES[needed], *missing()])
    return UsageError(
        f"the Python package {PACKAGES[needed]} cannot be imported",
        found=one_line(error),
        expected=f"it in {sys.executable}",
        cure=f"{sys.executable} -m pip install {' '.join(absent)} (docs/node.md, Installation)",
    )


def missing() -> list[str]:
    """Return the names for pip of the packages that are missing; only parents of packages are imported."""
    return [distribution for name, distribution in PACKAGES.items() if not _importable(name)]


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
