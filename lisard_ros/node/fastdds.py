"""The shared-memory profile of this package, and the variable that tells Fast DDS to read it. No rclpy.

Fast DDS 2 (Humble, Jazzy) knows one variable. Fast DDS 3 (Kilted) has another, and still reads the old one with a
warning. A profile with two names (a link and its target) counts as two files, and each line of the second one is then
an error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from lisard_ros import share
from lisard_ros.errors import UsageError

NEWER, OLDER = "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"
VARIABLES = (NEWER, OLDER)
PROFILE_NAME = "fastdds_shm.xml"
# What a process with this profile takes of /dev/shm (segment_size).
SEGMENT_BYTES = 67108864
# The ROS package that is linked with Fast DDS, and what its package.xml calls version 3 and version 2.
MIDDLEWARE, _NAMES = "rmw_fastrtps_shared_cpp", {"fastdds": (NEWER,), "fastrtps": (OLDER,)}


def profile_path() -> Path:
    """Find the profile, without links in its path; UsageError lists the folders that were searched."""
    places = [folder / "config" for folder in share.folders()]
    for place in places:
        if (place / PROFILE_NAME).is_file():
            return (place / PROFILE_NAME).resolve()
    raise UsageError(
        "the shared-memory profile is not installed",
        found="none of " + ", ".join(map(str, places)),
        expected=f"one of them to hold {PROFILE_NAME}",
        cure="install the package again, or set FASTDDS_DEFAULT_PROFILES_FILE to a profile of yours",
    )


def chosen(environment: Mapping[str, str]) -> bool:
    """Tell whether the user has chosen a profile."""
    return any(environment.get(name) for name in VARIABLES)


def variables(profile: Path, prefixes: str) -> dict[str, str]:
    """Return the environment variables that make Fast DDS read `profile`.

    prefixes: the value of AMENT_PREFIX_PATH. Where the version of Fast DDS cannot be told, both variables are set.
    """
    return dict.fromkeys(variable_names(prefixes), str(profile.resolve()))


def variable_names(prefixes: str) -> tuple[str, ...]:
    """Return the variables that the installed Fast DDS needs; both where its version cannot be told.

    prefixes: the value of AMENT_PREFIX_PATH.
    """
    for prefix in filter(None, prefixes.split(os.pathsep)):
        manifest = Path(prefix) / "share" / MIDDLEWARE / "package.xml"
        if manifest.is_file():
            depends = re.findall(r"depend>\s*(\w+)\s*<", manifest.read_text(encoding="utf-8"))
            return next((names for name, names in _NAMES.items() if name in depends), VARIABLES)
    return VARIABLES
