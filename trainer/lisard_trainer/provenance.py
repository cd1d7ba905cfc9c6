"""The commit of the checkout that holds the trainer."""

from __future__ import annotations

from pathlib import Path

from lisard_ros.provenance import CHANGED, UNKNOWN, short
from lisard_ros.provenance import commit as commit_of

__all__ = ("CHANGED", "UNKNOWN", "commit", "short")


def commit(folder: Path | None = None) -> str:
    """Commit of the checkout that holds this file, as `lisard_ros.provenance.commit` gives it."""
    return commit_of(folder or Path(__file__).resolve().parent)
