"""Where the files are that come with this package beside its code: models and the shared-memory profile.

In a checkout they lie at its root, after an installation in share/lisard_ros of some prefix.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

PACKAGE = "lisard_ros"


def folders() -> list[Path]:
    """Return the folders that may hold these files: the checkout, the Python's own prefix, the sourced prefixes."""
    checkout = Path(__file__).resolve().parents[1]
    prefixes = [sys.prefix, *os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)]
    return [checkout, *(Path(prefix) / "share" / PACKAGE for prefix in dict.fromkeys(prefixes) if prefix)]
