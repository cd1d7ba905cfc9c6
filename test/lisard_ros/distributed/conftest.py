"""A replay in one process, and the command that repeats it in slices."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from replays import DRIVE, ROOT, command, report_of

sys.path.pop(0)


@pytest.fixture(scope="session")
def whole(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Any:
    """The report of one process."""

    def fill(folder: Path) -> None:
        words = command(*DRIVE, "--json", folder / "whole.json")
        subprocess.run(words, cwd=ROOT, check=True, timeout=200, capture_output=True)

    return report_of(made_once("whole_replay", fill) / "whole.json")


@pytest.fixture
def killed_replay(tmp_path: Path) -> Callable[[Sequence[str], Callable[[psutil.Process], bool]], Any]:
    """Replay in slices with these options and kill a worker, of those that `is_worker` tells, once a slice is there."""

    def run(options: Sequence[str], is_worker: Callable[[psutil.Process], bool]) -> Any:
        kept, out = tmp_path / "kept", tmp_path / "slices.json"
        words = (*DRIVE, *options, "--slice-s", "0.5", "--slices", kept, "--json", out)
        with subprocess.Popen(
            command(*words), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
        ) as process:
            try:
                deadline, workers = time.monotonic() + 200, []
                while not (kept.is_dir() and any(kept.glob("*.slice")) and workers):
                    assert process.poll() is None and time.monotonic() < deadline, process.communicate(timeout=30)
                    workers = [one for one in psutil.Process(process.pid).children(recursive=True) if is_worker(one)]
                    time.sleep(0.02)
                workers[0].send_signal(signal.SIGKILL)
                finished = len(list(kept.glob("*.slice")))
                told = process.communicate(timeout=200)
            finally:
                _end(process)
        assert process.returncode == 0, told
        assert finished < len(list(kept.glob("*.slice"))), "the worker was killed too late"
        return report_of(out)

    return run


def _end(process: subprocess.Popen[str]) -> None:
    """End the command and everything that it has started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for one in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
