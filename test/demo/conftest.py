"""A small labelled recording, and processes that end with the test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from lisard_ros.bags.messages import typestore
from lisard_ros.bags.writer import LabelledImage, write_labelled_bag

ROOT = Path(__file__).parents[2]
FRAMES = 12
START_NS = 1_700_000_000 * 10**9
PERIOD_NS = 50_000_000
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="session")
def small_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve raw VGA images of noise with labels, 20 a second; each is larger than the default SHM segment."""
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("bags") / "small"
    images = [
        LabelledImage(START_NS + i * PERIOD_NS, "cam", random.integers(0, 255, (480, 640, 3), np.uint8), f"class_{i}")
        for i in range(FRAMES)
    ]
    write_labelled_bag(path, typestore(), images, "/cam/image_raw", "/cam/labels")
    return path


@pytest.fixture
def start() -> Iterator[Start]:
    """Start `python ARGS` in the checkout; whatever still runs at the end is ended."""
    running: list[subprocess.Popen[str]] = []

    def run(*words: object, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, *map(str, words)]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        process = subprocess.Popen(
            command, cwd=ROOT, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        running.append(process)
        return process

    yield run
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()
