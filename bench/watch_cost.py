"""What `lisard watch` costs: its CPU with four cameras and an open page, and the node's answers with it and without.

Real processes over real DDS. The page is a client that reads the events and loads each image that it is told about, as
a browser does. With and without take turns in one run.

    python bench/watch_cost.py [--rate 8] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import median

import aiohttp
import psutil
import rclpy
from node_load import Case, System, Trial, started
from processes import ROOT, cpu_s, running, save

PORT, TOKEN = 8498, "0123456789abcdef"


async def _look(stopped: threading.Event, loaded: list[int]) -> None:
    """Read events and load images until told to stop."""
    query = {"token": TOKEN}
    shown: dict[str, str] = {}
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{PORT}") as session,
        session.get("/events", params=query, timeout=aiohttp.ClientTimeout(total=None)) as events,
    ):
        while not stopped.is_set():
            line = await events.content.readline()
            if not line.startswith(b"data: "):
                continue
            for camera in json.loads(line[len(b"data: ") :])["cameras"]:
                frame = camera["frame"]
                if frame is None or shown.get(camera["name"]) == frame["stamp_ns"]:
                    continue
                shown[camera["name"]] = frame["stamp_ns"]
                wanted = {**query, "camera": camera["name"], "stamp": frame["stamp_ns"]}
                async with session.get("/image", params=wanted) as answer:
                    loaded.append(len(await answer.read()))


@contextmanager
def page(loaded: list[int]) -> Iterator[psutil.Process]:
    """A running `lisard watch` with an open page."""
    os.environ["LISARD_WATCH_TOKEN"] = TOKEN
    with running(["-m", "lisard_ros", "watch", "--port", PORT], "open http") as process:
        stopped = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(_look(stopped, loaded)), daemon=True)
        thread.start()
        try:
            yield process
        finally:
            stopped.set()
            thread.join(5)


def trial(system: System, rate: float, seconds: float, watched: bool) -> tuple[Trial, float, int]:
    """One trial; returns with it the cores that `lisard watch` took, and the images that the page loaded."""
    loaded: list[int] = []
    with page(loaded) if watched else contextlib.nullcontext() as process:
        busy_s = cpu_s(process) if process is not None else 0.0
        found = system.trial(rate, seconds)
        cores = (cpu_s(process) - busy_s) / seconds if process is not None else 0.0
    return found, cores, len(loaded)


def main() -> int:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=8.0, help="frames per second of each camera")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    case = Case(4, "VGA", "road_signs", "as shipped")
    settings = argparse.Namespace(models=ROOT / "models", set=[])
    rclpy.init(args=[])
    rows: dict[str, list[dict[str, float]]] = {"with": [], "without": []}
    with ExitStack() as stack:
        system = stack.enter_context(started(case, "ours", settings))
        for _ in range(options.rounds):
            for name in rows:
                found, cores, images = trial(system, options.rate, options.seconds, name == "with")
                row = {
                    "answered_share": round(1.0 - found.loss, 4),
                    "p50_ms": found.p50_ms,
                    "p99_ms": found.p99_ms,
                    "watch_cores": round(cores, 3),
                    "images_loaded": images,
                }
                rows[name].append(row)
                print(name, row, flush=True)
    rclpy.try_shutdown()
    medians = {name: {key: median(row[key] for row in found) for key in found[0]} for name, found in rows.items()}
    command = f"python bench/watch_cost.py --rate {options.rate:g} --rounds {options.rounds}"
    save("watch_cost", {"rate_hz": options.rate, "medians": medians, "rounds": rows}, command)
    return 0


if __name__ == "__main__":
    sys.exit(main())
