"""Command-line tools with a virtual environment of their own, made from a file of requirements/ when it changes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

import machine


def pip(folder: Path, *arguments: str | Path) -> None:
    """Install into a virtual environment that has no pip of its own; needs pip 22.3 or newer."""
    command = [sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", "-q", *arguments]
    subprocess.run([str(word) for word in command], cwd=machine.ROOT, env=own_variables(), check=True)


def own_variables() -> dict[str, str]:
    """The variables of this process without paths of another environment, whose packages would hide these."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "LD_LIBRARY_PATH")}


def commands(requirements: str, folder: Path) -> Path:
    """The bin folder of the environment in FOLDER with what requirements/REQUIREMENTS lists, installed once."""
    listed = machine.ROOT / "requirements" / requirements
    stamp, wanted = folder / "requirements.sha256", hashlib.sha256(listed.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        venv.create(folder, clear=True)
        pip(folder, "-r", listed)
        stamp.write_text(wanted, encoding="utf-8")
    return folder / "bin"
