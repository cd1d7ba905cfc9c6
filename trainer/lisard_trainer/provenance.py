"""What a result was made from: the commit of this checkout and the versions that matter."""

from __future__ import annotations

import subprocess
from pathlib import Path

UNKNOWN, CHANGED = "unknown", "+changes"


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
