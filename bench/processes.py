"""What the node's benches share: processes with the right environment, their CPU time, and where results go."""

from __future__ import annotations

import datetime
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from lisard_ros import host_cpu

ROOT = Path(__file__).resolve().parents[1]
PROFILE = ROOT / "config/fastdds_shm.xml"
RESULTS = ROOT / "docs/results/node.json"


def environment(profile: bool) -> dict[str, str]:
    """The environment of a bench process, with or without the shared-memory profile."""
    kept = {k: v for k, v in os.environ.items() if not k.endswith("DEFAULT_PROFILES_FILE")}
    given = {"PYTHONPATH": str(ROOT), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    given["ORT_DISABLE_TELEMETRY"] = "1"  # as lisard_ros sets it; a peer would pay for it
    if profile:
        given |= dict.fromkeys(("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"), str(PROFILE))
    return {**kept, **given}


@contextmanager
def running(words: Sequence[object], ready: str, profile: bool = False) -> Iterator[psutil.Process]:
    """Run `python WORDS`, wait until it has printed `ready`, and end it with SIGINT."""
    process = subprocess.Popen(
        [sys.executable, *map(str, words)],
        cwd=ROOT,
        env=environment(profile),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    heard = threading.Event()
    lines: list[str] = []

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if ready in line:
                heard.set()

    threading.Thread(target=read, daemon=True).start()
    try:
        if not heard.wait(30):
            raise SystemExit(f"{words[0]} did not say '{ready}':\n{''.join(lines)}")
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def node_words(bundle: Path, topic: str, **parameters: object) -> list[object]:
    """The command line of the node."""
    given = {"bundle": bundle, "image_topics": topic, "diagnostics_period_s": 1.0, **parameters}
    pairs = [piece for name, value in given.items() for piece in ("-p", f"{name}:={value}")]
    return ["-m", "lisard_ros.node.main", "--ros-args", *pairs]


def camera(profile: bool, **options: object) -> subprocess.Popen[str]:
    """Start the synthetic camera."""
    words = [str(piece) for name, value in options.items() for piece in (f"--{name}", value)]
    return subprocess.Popen(
        [sys.executable, "bench/synthetic_camera.py", *words],
        cwd=ROOT,
        env=environment(profile),
        text=True,
        stdout=subprocess.PIPE,
    )


def published(process: subprocess.Popen[str]) -> int:
    """Wait for a camera to end and return how many frames it published."""
    out, _ = process.communicate(timeout=600)
    return int(json.loads(out.splitlines()[-1])["published"])


def cpu_s(process: psutil.Process) -> float:
    """User and system time of a process so far, all threads, in seconds."""
    times = process.cpu_times()
    return times.user + times.system


def until(condition: Callable[[], Any], what: str, budget_s: float) -> None:
    """Wait for a condition; SystemExit when it does not come."""
    deadline = time.monotonic() + budget_s
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"within {budget_s:.0f} s: {what}")
        time.sleep(0.05)


def saved(section: str) -> dict[str, Any]:
    """What docs/results/node.json holds of one section; nothing where it has none."""
    return json.loads(RESULTS.read_text()).get(section, {}) if RESULTS.exists() else {}


def commit() -> str:
    """The commit that is checked out."""
    return subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()


def measured_on() -> dict[str, Any]:
    """Which commit, when, and on what machine."""
    return {
        "commit": commit(),
        "date": datetime.date.today().isoformat(),
        "machine": {
            "cpu": host_cpu.cpu_name(),
            "cores": os.cpu_count(),
            "load_1min": round(os.getloadavg()[0], 1),
            "python": platform.python_version(),
        },
    }


def save(section: str, result: dict[str, Any], command: str) -> None:
    """Put one section into docs/results/node.json, with where it was measured, and rewrite docs/results/node.md."""
    everything = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"schema_version": 1}
    everything[section] = {"command": command, **measured_on(), **result}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(everything, indent=2) + "\n")
    from node_report import write

    write(everything, RESULTS.with_suffix(".md"))
