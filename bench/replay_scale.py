"""How a replay scales over workers, and from that the plan for a fleet; fills the tables of docs/scale.md.

Run on a quiet machine of two cores or more: python bench/replay_scale.py. Each run is the `lisard replay` that users
start, as a process of its own; start-up is part of its time.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lisard_ros import host_cpu
from lisard_ros.bags.messages import COMPRESSED_IMAGE, typestore
from lisard_ros.bags.recordings import open_recording
from lisard_ros.bags.writer import BagWriter, header
from lisard_ros.message_fields import NS_PER_S

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "data/road_drive"
TOPIC = "/camera/image_raw/compressed"
PAGE, RESULTS = ROOT / "docs/scale.md", ROOT / "docs/results/replay_scale.json"
BEGIN, END = "<!-- scale:begin -->", "<!-- scale:end -->"
SLICE_S = 60
CORRUPTIONS = "noise,corruption/fog/3,corruption/motion_blur/3,corruption/jpeg_compression/3,corruption/brightness/3"
# What one core is measured on: bundle and injections.
CASES = (
    ("traffic_signs", "none"),
    ("road_signs", "none"),
    ("road_signs", CORRUPTIONS),
)
# The fleet of the plan, and prices that are assumptions, not offers.
HOURS, HZ, CORES_OF_NODE, DAYS = 10_000, 30, 16, 7
USD_PER_CORE_HOUR, USD_PER_GB_MONTH, NETWORK_GBIT_S = 0.04, 0.023, 10


@dataclass(frozen=True)
class Fleet:
    """What the fleet costs with one case: core-hours, nodes for a week, dollars, and what each node reads."""

    core_hours: float
    nodes: int
    usd: float
    read_mb_s: float


def write_recording(path: Path, seconds: float, hz: float) -> int:
    """Repeat the images of the road drive with rising stamps; returns how many there are."""
    recording, store = open_recording(SOURCE), typestore()
    images = [bytes(recording.deserialize(message).data) for message in recording.messages([TOPIC])]
    recording.close()
    count = round(seconds * hz)
    with BagWriter(path, store) as bag:
        for number, data in zip(range(count), itertools.cycle(images)):
            stamp = NS_PER_S + round(number * NS_PER_S / hz)
            kind = store.types[COMPRESSED_IMAGE]
            message = kind(header=header(store, stamp, "camera"), format="jpeg", data=_array(data))
            bag.write(TOPIC, COMPRESSED_IMAGE, stamp, message)
    return count


def _array(data: bytes) -> Any:
    import numpy as np

    return np.frombuffer(data, np.uint8)


def run_s(recording: Path, bundle: str, injections: str, *options: object) -> float:
    """Wall time of one replay in seconds."""
    words = ["replay", recording, "--bundle", ROOT / "models" / bundle, "--injections", injections, "--threads", 1]
    command = [sys.executable, "-m", "lisard_ros", *map(str, (*words, *options))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
    return time.perf_counter() - began


def rates(folder: Path, seconds: float, hz: float) -> list[dict[str, Any]]:
    """Frames a second of one core: what a long recording takes more than a short one."""
    short, long = folder / "short", folder / "long"
    frames = [write_recording(short, 1, hz), write_recording(long, seconds, hz)]
    found = []
    for bundle, injections in CASES:
        times = [run_s(path, bundle, injections, "--workers", 1) for path in (short, long)]
        if times[1] <= times[0]:
            raise SystemExit(
                f"{seconds:g} s of {bundle} took no longer than 1 s: the machine is busy, or --seconds too few"
            )
        conditions = 1 if injections == "none" else 1 + injections.count(",") + 1
        rate = (frames[1] - frames[0]) / (times[1] - times[0])
        found.append({"bundle": bundle, "conditions": conditions, "frames_s": rate, "start_s": times[0]})
        print(json.dumps(found[-1]), flush=True)
    size = sum(file.stat().st_size for file in long.rglob("*") if file.is_file())
    return [{**one, "bytes_per_frame": size / frames[1]} for one in found]


def scaling(folder: Path, seconds: float, hz: float, repeats: int) -> dict[str, Any]:
    """One worker, two, and two of a local Ray, in turns; seconds, the median of the repeats."""
    recording = folder / "drive"
    frames = write_recording(recording, seconds, hz)
    ways = {"one": ("--workers", 1), "two": ("--workers", 2), "ray": ("--workers", 2, "--cluster", "local")}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, options in ways.items():
            times[name].append(run_s(recording, "road_signs", "none", *options, "--slice-s", SLICE_S))
            print(name, f"{times[name][-1]:.1f} s", flush=True)
    middle = {name: statistics.median(values) for name, values in times.items()}
    return {
        "frames": frames,
        "slices": math.ceil(seconds / SLICE_S),
        "seconds": times,
        "two_over_one": middle["one"] / middle["two"],
        "ray_over_two": middle["ray"] / middle["two"],
    }


def fleet(rate: float, bytes_per_frame: float) -> Fleet:
    """What HOURS of one camera at HZ cost at `rate` frames a second and core."""
    frames = HOURS * 3600 * HZ
    core_hours = frames / rate / 3600
    nodes = math.ceil(core_hours / (CORES_OF_NODE * 24 * DAYS))
    read = CORES_OF_NODE * rate * bytes_per_frame / 1e6
    return Fleet(core_hours, nodes, core_hours * USD_PER_CORE_HOUR, read)


def tables(result: dict[str, Any]) -> str:
    """The generated part of docs/scale.md."""
    scale, machine = result["scaling"], result["machine"]
    lines = [
        f"Measured on {machine['cpu']}, {machine['cpus']} cores, {result['date']}, commit "
        f"`{result['commit'][:10]}`, with `{result['command']}`. "
        "JPEG images of the road drive, ONNX Runtime fp32, one thread a worker.",
        "",
        "| bundle | conditions | frames/s of one core | start-up of a run (s) |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {one['bundle']} | {one['conditions']} | {one['frames_s']:.1f} | {one['start_s']:.1f} |"
        for one in result["rates"]
    ]
    lines += [
        "",
        f"| {scale['frames']} frames in {scale['slices']} slices of {SLICE_S} s | figure | target |",
        "|---|---|---|",
        f"| two workers over one | {scale['two_over_one']:.2f}x | >= 1.8x |",
        f"| Ray on this machine over two workers, time | {scale['ray_over_two']:.2f}x | <= 1.10x |",
        "",
        f"{HOURS:,} vehicle-hours, one camera, {HZ} Hz, on nodes of {CORES_OF_NODE} cores like this one, for "
        f"{USD_PER_CORE_HOUR:g} USD a core-hour (an assumption):",
        "",
        f"| bundle | conditions | core-hours | nodes for {DAYS} days | USD | read by each node (MB/s) |",
        "|---|---|---|---|---|---|",
    ]
    for one in result["rates"]:
        plan = fleet(one["frames_s"], one["bytes_per_frame"])
        lines.append(
            f"| {one['bundle']} | {one['conditions']} | {plan.core_hours:,.0f} | {plan.nodes} | {plan.usd:,.0f} | "
            f"{plan.read_mb_s:.1f} |"
        )
    terabytes = HOURS * 3600 * HZ * result["rates"][0]["bytes_per_frame"] / 1e12
    month = terabytes * 1000 * USD_PER_GB_MONTH
    lines += [
        "",
        f"The recordings are {terabytes:,.1f} TB at {result['rates'][0]['bytes_per_frame'] / 1000:.1f} kB for each of "
        f"these images; {month:,.0f} USD a month at {USD_PER_GB_MONTH:g} USD a GB (an assumption). A link of "
        f"{NETWORK_GBIT_S} Gbit/s carries {NETWORK_GBIT_S * 125:,} MB/s.",
    ]
    return "\n".join(lines)


def fill(page: Path, text: str) -> None:
    """Put the tables between the marks of the page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def main() -> int:
    """Measure, save and fill the page; exit status 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="length of the recording (default: 600)")
    parser.add_argument("--hz", type=float, default=HZ, help="frames a second of it (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
        result = {
            "schema_version": 1,
            "command": f"python bench/replay_scale.py --seconds {options.seconds:g} --hz {options.hz:g}",
            "commit": head.stdout.strip(),
            "date": datetime.date.today().isoformat(),
            "machine": {"cpu": host_cpu.cpu_name(), "cpus": len(os.sched_getaffinity(0))},
            "rates": rates(Path(folder), min(60.0, options.seconds), options.hz),
            "scaling": scaling(Path(folder), options.seconds, options.hz, options.repeats),
        }
    print(tables(result))
    if not options.no_save:
        RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        fill(PAGE, tables(result))
    scale = result["scaling"]
    return 0 if scale["two_over_one"] >= 1.8 and scale["ray_over_two"] <= 1.1 else 1


if __name__ == "__main__":
    sys.exit(main())
