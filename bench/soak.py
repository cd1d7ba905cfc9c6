"""Does the node grow? Its resident memory over 20,000 VGA frames after a warm-up of 2,000 answers.

Run: python bench/soak.py
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import psutil
import rclpy
from node_overhead import NODE_ANSWERS, TOPIC, Receiver
from processes import ROOT, camera, node_words, running, save, until

LIMIT_MB = 5.0


def sampled(process: psutil.Process, receiver: Receiver, source: psutil.Popen, warm_up: int) -> list[float]:
    """Resident memory in MB once per second from the end of the warm-up until the camera ends."""
    until(lambda: len(receiver.ages_ms) >= warm_up, "the warm-up", 600)
    samples = []
    while source.poll() is None:
        samples.append(process.memory_info().rss / 2**20)
        time.sleep(1.0)
    return samples


def main() -> int:
    """Run; exit status 1 when memory grows by more than the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=ROOT / "models/traffic_signs")
    parser.add_argument("--frames", type=int, default=22000)
    parser.add_argument("--warm-up", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--no-save", action="store_true")
    arguments = parser.parse_args()
    rclpy.init(args=[])
    receiver = Receiver(NODE_ANSWERS)
    with running(node_words(arguments.bundle, TOPIC), "active: ") as node:
        until(lambda: receiver.subscription.get_publisher_count() > 0, "the node's answers", 20)
        source = camera(True, frames=arguments.frames, rate=arguments.rate)
        samples = sampled(node, receiver, source, arguments.warm_up)
    answered = len(receiver.ages_ms)
    receiver.close()
    rclpy.try_shutdown()
    tenth = max(1, len(samples) // 10)
    first, last = sum(samples[:tenth]) / tenth, sum(samples[-tenth:]) / tenth
    result = {
        "published": arguments.frames,
        "answered": answered,
        "rss_begin_mb": first,
        "rss_end_mb": last,
        "growth_mb": last - first,
        "peak_over_begin_mb": max(samples) - first,
        "limit_mb": LIMIT_MB,
    }
    print(json.dumps(result), flush=True)
    if not arguments.no_save:
        options = f"--frames {arguments.frames} --rate {arguments.rate:g}"
        save("soak", result, f"python bench/soak.py {options}")
    return 0 if result["growth_mb"] < LIMIT_MB else 1


if __name__ == "__main__":
    sys.exit(main())
