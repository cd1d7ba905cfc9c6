"""Files that appear whole or not at all: written beside their place, which they then take."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, and the folders above it; what was there stays until all of it is written.

    Two processes that write the same file do not disturb each other: the last one wins.

    Raises:
        OSError: It cannot be written. Nothing is left beside its place.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
