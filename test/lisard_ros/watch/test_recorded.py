"""Recordings on the page: images and answers that belong together, the end, damage, nothing to show."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lisard_ros import cli
from lisard_ros.errors import DataError
from lisard_ros.watch.board import Board
from lisard_ros.watch.recorded import WatchedRecording

ROOT = Path(__file__).resolve().parents[3]
DRIVE = ROOT / "data" / "road_drive" / "road_drive.mcap"


def played(path: Path, until: Callable[[Any], bool], rate: float = 20.0) -> Any:
    """Play a recording until the page shows what is waited for; return that page."""
    board = Board(str(path), can_act=False)
    source = WatchedRecording(board, path, rate)
    try:
        end_s = time.monotonic() + 60.0
        while not until(page := board.view()[0]):
            assert time.monotonic() < end_s, page
            time.sleep(0.01)
        return page
    finally:
        source.close()


def ended(page: Any) -> bool:
    return "recording" in page.state and not page.alive


def test_images_without_answers_are_shown_to_the_end() -> None:
    page = played(DRIVE, ended)
    assert page.state == "the recording has ended" and not page.can_act
    (camera,) = page.cameras
    assert camera.frame.answer is None and camera.frame.width_px == 960
    assert dict(camera.status.values)["answered"] == "0"


def test_a_replay_with_answers_shows_each_image_with_its_own(tiny: Any, tmp_path: Path) -> None:
    pytest.importorskip("mcap", reason="requirements/replay.txt is not installed")
    out = tmp_path / "out.mcap"
    words = ["replay", str(DRIVE), "--bundle", str(tiny.classifier().path), "--limit", "12", "--mcap", str(out)]
    assert cli.main([*words, "--json", str(tmp_path / "r.json")]) == 0
    page = played(out, lambda page: bool(page.cameras) and bool(page.cameras[0].frame and page.cameras[0].frame.answer))
    frame = page.cameras[0].frame
    assert str(frame.answer.stamp_ns) == frame.stamp_ns and frame.answer.classes


def test_a_truncated_recording_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    short = tmp_path / "short.mcap"
    short.write_bytes(DRIVE.read_bytes()[: DRIVE.stat().st_size // 2])
    page = played(short, ended)
    assert page.cameras and page.state != "the recording has ended", "the damage is said"


def test_what_cannot_be_shown_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        WatchedRecording(Board("x", can_act=False), tmp_path / "none.mcap", 1.0)
