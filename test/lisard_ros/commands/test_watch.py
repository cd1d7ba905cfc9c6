"""`lisard watch` on the command line: wrong options, a recording that is none, the token of the environment."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiohttp", reason="requirements/watch.txt is not installed")
ROOT = Path(__file__).resolve().parents[3]
DRIVE = ROOT / "data" / "road_drive" / "road_drive.mcap"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "70000"], "expected 0 to 65535"),
        (["--host", "vehicle"], "expected an IP address"),
        ([DRIVE, "--rate", "0"], "expected above 0"),
        ([DRIVE, "--node", "/perception"], "found both"),
        ([ROOT / "README.md"], "expected"),
        (["no_such_recording"], "no_such_recording"),
    ],
)
def test_wrong_use_is_refused(lisard: Any, words: list[Any], said: str) -> None:
    done = lisard("watch", *words)
    assert done.status == 2 and said in done.err


def test_a_short_token_is_refused(lisard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISARD_WATCH_TOKEN", "short")
    done = lisard("watch", DRIVE)
    assert done.status == 2 and "at least 16 letters and digits" in done.err


def test_a_recording_is_served_until_interrupted() -> None:
    words = [sys.executable, "-m", "lisard_ros", "watch", str(DRIVE), "--port", "0"]
    environment = {**os.environ, "LISARD_WATCH_TOKEN": "a" * 16}
    with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = re.search(r"http://127\.0\.0\.1:\d+/\?token=a{16}", process.stdout.readline())
            assert url is not None
            with urllib.request.urlopen(url[0], timeout=30) as page:  # noqa: S310  http
                assert b"lisard watch" in page.read()
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            process.kill()
