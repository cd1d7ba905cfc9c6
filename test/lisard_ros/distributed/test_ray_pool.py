"""A replay on a real Ray: local with two workers, one of which is killed, and at an address. Where no Ray is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from lisard_ros.distributed.ray_pool import CONNECT_S, LOCAL, RayPool
from lisard_ros.errors import UsageError

pytest.importorskip("ray", reason="requirements/cluster.txt is not installed")
sys.path.insert(0, str(Path(__file__).parent))
from replays import DRIVE, ROOT, command, report_of

sys.path.pop(0)


def is_ray_worker(process: psutil.Process) -> bool:
    """Whether it is a process of Ray that answers slices."""
    try:
        return process.name().startswith("ray::perform")
    except psutil.Error:
        return False


@pytest.mark.timeout(500)
def test_a_ray_worker_that_is_killed_in_mid_run_changes_nothing(whole: Any, killed_replay: Callable[..., Any]) -> None:
    assert killed_replay(["--workers", "2", "--cluster", LOCAL], is_ray_worker) == whole


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a Ray of one worker that was started by hand, in a folder without this package."""
    for name, value in (("MODE", "token"), ("TOKEN", "0" * 32)):
        monkeypatch.setenv(f"RAY_AUTH_{name}", value)
    elsewhere = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    port = free_port()
    words = ["start", "--head", "--block", f"--port={port}", "--num-cpus=1", "--include-dashboard=false"]
    log = (tmp_path / "ray.log").open("w+")
    with subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", *words, "--disable-usage-stats"],
        cwd=tmp_path,
        env=elsewhere,
        stdout=log,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            deadline = time.monotonic() + 120
            while "Ray runtime started" not in (tmp_path / "ray.log").read_text():
                assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "ray.log").read_text()
                time.sleep(0.1)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(60)
            log.close()


@pytest.mark.timeout(500)
def test_code_and_bundle_travel_to_a_ray_at_an_address(head: str, whole: Any, tmp_path: Path) -> None:
    out = tmp_path / "cluster.json"
    words = command(*DRIVE, "--cluster", head, "--slice-s", "1", "--json", out)
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert report_of(out) == whole


def test_a_ray_that_does_not_start_here_is_said(tmp_path: Path) -> None:
    """Regression: a machine on which Ray did not start in time gave a traceback."""
    (tmp_path / "file").write_text("")
    words = command(*DRIVE, "--cluster", LOCAL)
    surroundings = {**os.environ, "RAY_TMPDIR": str(tmp_path / "file")}
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False, env=surroundings)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "Ray does not start on this machine: found " in done.stderr and "--workers N needs no Ray" in done.stderr


@pytest.mark.parametrize("address", ["nowhere", "host:port", "", ":6379"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="--cluster is no address"):
        RayPool(address, 1, 1)


CONNECT = """
import sys, time
from lisard_ros.distributed.ray_pool import RayPool
from lisard_ros.errors import UsageError
started = time.monotonic()
try:
    RayPool(sys.argv[1], 1, 1)
except UsageError as error:
    print(time.monotonic() - started, error)
"""


def test_a_port_that_accepts_and_stays_silent_is_refused_after_ten_seconds_in_all() -> None:
    """In a process of its own, which must end although a thread still waits for an answer."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        words = [sys.executable, "-c", CONNECT, address]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done
    waited_s, _, told = done.stdout.partition(" ")
    assert f"no Ray cluster at {address}: found no answer of Ray within 10 s" in told and "ray start --head" in told
    assert CONNECT_S <= float(waited_s) < CONNECT_S + 2


def test_an_address_that_does_not_answer_is_refused_with_the_cure() -> None:
    with pytest.raises(UsageError, match="no Ray cluster at 127.0.0.1:.*ray start --head"):
        RayPool(f"127.0.0.1:{free_port()}", 1, 1)
