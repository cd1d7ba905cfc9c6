"""What a new user has: an empty folder, the README, and a ROS node of their own beside the one under test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "node"))
from peers import ROOT, NodeProcess, Peer, node_with, serve_peer

Lisard = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def peer() -> Iterator[Peer]:
    """The node of the test process."""
    yield from serve_peer()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[list[str]], NodeProcess]]:
    """Start nodes in the empty folder with arguments written out; whatever still runs at the end is ended."""
    running: list[NodeProcess] = []

    def make(arguments: list[str]) -> NodeProcess:
        running.append(node_with(arguments, tmp_path))
        return running[-1]

    yield make
    for process in running:
        if process.process.poll() is None:
            process.process.kill()
        process.wait()


@pytest.fixture
def lisard(tmp_path: Path) -> Lisard:
    """Run `lisard WORDS` in an empty folder as its own process; the result holds status, stdout and stderr."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / p) for p in ("", "trainer", "engines"))}

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lisard_ros", *map(str, words)],
            cwd=tmp_path,
            env=environment,
            text=True,
            capture_output=True,
            timeout=100,
            check=False,
        )

    return run
