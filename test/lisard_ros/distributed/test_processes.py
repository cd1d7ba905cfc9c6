"""A replay in slices by processes of this machine equals that of one process, whatever ends in between."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from lisard_ros.cli import main

sys.path.insert(0, str(Path(__file__).parent))
from replays import ROOT, command, report_of

sys.path.pop(0)

SECOND = 1_000_000_000


def is_spawned(process: psutil.Process) -> bool:
    """Whether it is one of multiprocessing's workers, not its resource tracker."""
    try:
        return any("spawn_main" in word for word in process.cmdline())
    except psutil.Error:
        return False


@pytest.mark.timeout(500)
def test_a_worker_that_is_killed_in_mid_run_changes_nothing(whole: Any, killed_replay: Callable[..., Any]) -> None:
    assert killed_replay(["--workers", "2"], is_spawned) == whole


def test_workers_end_with_a_command_that_is_killed(drives: list[Path], tiny, tmp_path: Path) -> None:
    words = (
        drives[0],
        "--bundle",
        tiny.armed().path,
        "--workers",
        "2",
        "--slice-s",
        "0.01",
        "--slices",
        tmp_path / "kept",
    )
    with subprocess.Popen(command(*words), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        workers: list[psutil.Process] = []
        deadline = time.monotonic() + 100
        while len(workers) < 2:
            assert process.poll() is None and time.monotonic() < deadline
            workers = [one for one in psutil.Process(process.pid).children() if is_spawned(one)]
            time.sleep(0.02)
        process.kill()
    _, alive = psutil.wait_procs(workers, timeout=60)
    for one in alive:
        one.kill()
    assert not alive


@pytest.fixture
def drives(recording) -> list[Path]:
    """Two recordings of two cameras with labels, a damaged image, a copy and labels without a frame."""
    random, paths = np.random.default_rng(1), []
    for drive in range(2):
        messages = []
        for n in range(14):
            image = random.integers(0, 90, (20, 24, 3), dtype=np.uint8)
            image[..., n % 3] += 120
            image = messages[0][3].data.reshape(20, 24, 3).copy() if n == 9 else image
            stamp = (100 * drive + n) * SECOND
            messages.append(recording.raw(image, stamp, f"/{'left' if n % 2 else 'right'}/image_raw", 7 * (n == 5)))
            if n != 3:
                messages.append(recording.label(stamp + (n == 4) * SECOND // 3, ("red", "green", "blue")[n // 2 % 3]))
        paths.append(recording.write(f"drive_{drive}", messages))
    return paths


@pytest.mark.parametrize("options", [(), ("--by", "bag", "--label-tolerance-ms", "400")])
def test_slices_of_labelled_cameras_add_up(
    drives: list[Path], tiny, tmp_path: Path, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*map(str, drives), "--bundle", str(tiny.armed().path), "--injections", "all", "--threads", "1", *options]
    assert main(["replay", *words, "--json", str(tmp_path / "one.json"), "--html", str(tmp_path / "one.html")]) == 0
    outputs = ["--json", str(tmp_path / "slices.json"), "--html", str(tmp_path / "slices.html")]
    sliced = [*words, "--workers", "2", "--slice-s", "3", "--slices", str(tmp_path / "kept"), *outputs]
    assert main(["replay", *sliced]) == 0
    assert report_of(tmp_path / "slices.json") == report_of(tmp_path / "one.json")
    assert (tmp_path / "slices.html").read_text().count("data:image") == (tmp_path / "one.html").read_text().count(
        "data:image"
    )
    capsys.readouterr()
    assert main(["replay", *sliced]) == 0
    assert "10 of 10 slices were there already" in capsys.readouterr().err
    assert report_of(tmp_path / "slices.json") == report_of(tmp_path / "one.json")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--workers", "0"], "--workers out of range"),
        (["--workers", "2", "--slice-s", "0"], "--slice-s out of range"),
        (["--workers", "2", "--limit", "3"], "--limit with several workers"),
        (["--slices", "kept"], "--slices without workers"),
    ],
)
def test_options_that_do_not_go_together(
    drives: list[Path], tiny, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = str(tiny.classifier().path)
    assert main(["replay", str(drives[0]), "--bundle", bundle, "--injections", "none", *options]) == 2
    assert words in capsys.readouterr().err


def test_labels_that_fit_no_frame_are_refused_as_in_one_process(
    recording, tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    bags = []
    for n in range(2):
        image = recording.png(np.zeros((8, 8, 3), np.uint8), 10 * SECOND)
        bags.append(str(recording.write(f"far_{n}", [image, recording.label(20 * SECOND, "red")])))
    words = ["replay", *bags, "--bundle", str(tiny.classifier().path), "--injections", "none", "--workers", "1"]
    assert main(words) == 2
    assert "no frame has a label within 20 ms" in capsys.readouterr().err
