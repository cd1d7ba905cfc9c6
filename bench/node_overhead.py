"""What the node costs over the bare Pipeline: CPU per frame, latency, and its saturated rate beside a minimal node.

Real processes and real DDS: camera (with the shared-memory profile), node, and this process as the receiver. Each
repeat measures all; medians are reported. Run: python bench/node_overhead.py --bundle models/traffic_signs
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import rclpy
from processes import ROOT, camera, cpu_s, environment, node_words, published, running, save, until
from spinning import Spinning
from vision_msgs.msg import Classification

from lisard_ros.evaluation.statistics import percentiles

TOPIC = "/bench/image_raw"
NODE_ANSWERS, MINIMAL_ANSWERS = "/perception/bench/classification", "/minimal/classification"
LIMITS = {"cpu_over_pipeline_ms": 5.0, "latency_over_pipeline_ms": 8.0, "rate_over_minimal": 1.0}


class Receiver(Spinning):
    """Counts answers and their age at arrival, in a thread."""

    def __init__(self, topic: str) -> None:
        super().__init__("receiver")
        self.ages_ms: list[float] = []
        self.subscription: Any = self.node.create_subscription(Classification, topic, self._on_answer, 100)
        self.start()

    def _on_answer(self, message: Classification) -> None:
        stamp = message.header.stamp
        self.ages_ms.append(time.time() * 1e3 - stamp.sec * 1e3 - stamp.nanosec / 1e6)


def steady(bundle: Path, frames: int) -> dict[str, float]:
    """CPU per frame of the node and the median age of its answers at 30 Hz."""
    receiver = Receiver(NODE_ANSWERS)
    with running(node_words(bundle, TOPIC), "active: ") as node:
        until(lambda: receiver.subscription.get_publisher_count() > 0, "the node's answers", 20)
        source = camera(True, frames=frames, margin=3)
        until(lambda: len(receiver.ages_ms) >= 10, "answers", 30)
        begin, begin_s = len(receiver.ages_ms), cpu_s(node)
        sent = published(source)
        spent_s, answered = cpu_s(node) - begin_s, len(receiver.ages_ms) - begin
    ages = percentiles(receiver.ages_ms[10:-3])
    receiver.close()
    return {
        "cpu_ms": spent_s * 1e3 / max(1, answered),
        "latency_ms": ages.p50_ms,
        "latency_p95_ms": ages.p95_ms,
        "published": sent,
        "answered": begin + answered,
    }


def saturated(words: list[object], ready: str, answers: str, rate: float, seconds: float) -> float:
    """Answers per second when the camera sends more than can be answered."""
    receiver = Receiver(answers)
    with running(words, ready):
        until(lambda: receiver.subscription.get_publisher_count() > 0, "the answers", 20)
        source = camera(True, frames=int(rate * (seconds + 4)), rate=rate, linger=0)
        until(lambda: len(receiver.ages_ms) >= 20, "answers", 30)
        time.sleep(1.0)
        begin, begin_s = len(receiver.ages_ms), time.monotonic()
        time.sleep(seconds)
        result = (len(receiver.ages_ms) - begin) / (time.monotonic() - begin_s)
        source.kill()
        source.wait()
    receiver.close()
    return result


def pipeline_alone(bundle: Path, frames: int) -> dict[str, float]:
    """CPU and latency of the Pipeline on the same frames from memory, in a process of its own."""
    command = [sys.executable, "bench/pipeline_alone.py", str(bundle), "--frames", str(frames)]
    out = subprocess.run(command, cwd=ROOT, env=environment(False), capture_output=True, text=True, check=True).stdout
    return json.loads(out.splitlines()[-1])


def one_repeat(bundle: Path, frames: int, rate: float, seconds: float) -> dict[str, Any]:
    """Measure everything once."""
    alone, node = pipeline_alone(bundle, frames), steady(bundle, frames)
    minimal_words = ["bench/minimal_node.py", bundle, TOPIC]
    return {
        "pipeline": alone,
        "node": node,
        "node_rate_hz": saturated(node_words(bundle, TOPIC), "active: ", NODE_ANSWERS, rate, seconds),
        "minimal_rate_hz": saturated(minimal_words, "ready", MINIMAL_ANSWERS, rate, seconds),
        "cpu_over_pipeline_ms": node["cpu_ms"] - alone["cpu_ms"],
        "latency_over_pipeline_ms": node["latency_ms"] - alone["latency_ms"],
    }


def main() -> int:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=ROOT / "models/traffic_signs")
    parser.add_argument("--frames", type=int, default=1800)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rate", type=float, default=600.0, help="frames per second of the saturating camera")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a saturated measurement")
    parser.add_argument("--no-save", action="store_true")
    arguments = parser.parse_args()
    rclpy.init(args=[])
    repeats = []
    for _ in range(arguments.repeats):
        repeats.append(one_repeat(arguments.bundle, arguments.frames, arguments.rate, arguments.seconds))
        print(json.dumps({**repeats[-1], "load_1min": psutil.getloadavg()[0]}), flush=True)
    rclpy.try_shutdown()
    summary = {
        "cpu_over_pipeline_ms": median(r["cpu_over_pipeline_ms"] for r in repeats),
        "latency_over_pipeline_ms": median(r["latency_over_pipeline_ms"] for r in repeats),
        "rate_over_minimal": median(r["node_rate_hz"] / r["minimal_rate_hz"] for r in repeats),
        "node_rate_hz": median(r["node_rate_hz"] for r in repeats),
        "minimal_rate_hz": median(r["minimal_rate_hz"] for r in repeats),
        "node_cpu_ms": median(r["node"]["cpu_ms"] for r in repeats),
        "pipeline_cpu_ms": median(r["pipeline"]["cpu_ms"] for r in repeats),
    }
    print(json.dumps(summary, indent=2))
    if not arguments.no_save:
        options = f"--frames {arguments.frames} --repeats {arguments.repeats} --rate {arguments.rate:g}"
        options += f" --seconds {arguments.seconds:g}"
        command = f"python bench/node_overhead.py {options}"
        save("overhead", {**summary, "limits": LIMITS, "frames": arguments.frames, "repeats": repeats}, command)
    return 0


if __name__ == "__main__":
    sys.exit(main())
