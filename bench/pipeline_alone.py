"""The Pipeline on the synthetic camera's frames from memory, paced like a camera: its CPU and latency as JSON."""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time

from synthetic_camera import IMAGES, image

from lisard_ros import images
from lisard_ros.inference.pipeline import open_pipeline


def cpu_s() -> float:
    """User and system time of this process so far, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> int:
    """Run and print {"cpu_ms": per frame, "latency_ms": median}."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("--frames", type=int, default=1800)
    parser.add_argument("--rate", type=float, default=30.0)
    arguments = parser.parse_args()
    pipeline = open_pipeline(arguments.bundle)
    frames = [images.to_frame(image(640, 480, seed), "camera") for seed in range(IMAGES)]
    pipeline.run(frames[:1])
    latencies_ms, begin_s, begin_cpu_s = [], time.monotonic(), cpu_s()
    for number in range(arguments.frames):
        delay_s = begin_s + number / arguments.rate - time.monotonic()
        if delay_s > 0:
            time.sleep(delay_s)
        at_s = time.perf_counter()
        pipeline.run([frames[number % IMAGES]])
        latencies_ms.append((time.perf_counter() - at_s) * 1e3)
    cpu_ms = (cpu_s() - begin_cpu_s) * 1e3 / arguments.frames
    print(json.dumps({"cpu_ms": cpu_ms, "latency_ms": sorted(latencies_ms)[len(latencies_ms) // 2]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
