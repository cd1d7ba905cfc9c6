"""From start to active, from the first matched image to its answer, and what a node costs while cameras are silent.

The node with its defaults and bench/plain_node.py in turns, real processes. Start: of the process until it says that it
is active (the plain node: that it is ready). First answer: of a best-effort publisher that comes after the node and is
matched, from the first image's stamp to the arrival of the first answer. Idle: CPU of the process, four silent cameras.

    python bench/node_start.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import rclpy
from cameras import frames, message_of
from node_load import Case, Receiver
from processes import ROOT, cpu_s, environment, running, save, until
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

IDLE_S = 5.0
PERIOD_S = 0.05  # of the first images
SYSTEMS = ("ours", "plain")


def words(system: str, case: Case, bundle: Path, threads: int) -> list[object]:
    """The command line of a node."""
    if system == "plain":
        return ["bench/plain_node.py", bundle, threads, *case.topics(system)]
    parameters = {"bundle": bundle, "image_topics": ",".join(case.topics(system)), "precision": case.precision}
    return [
        "-m",
        "lisard_ros.node.main",
        "--ros-args",
        *[p for k, v in parameters.items() for p in ("-p", f"{k}:={v}")],
    ]


def first_answer_ms(receiver: Receiver, topics: list[str], message: Any) -> float:
    """Start cameras and publish; time from the first matched image to the first answer."""
    publishers = [receiver.node.create_publisher(Image, topic, qos_profile_sensor_data) for topic in topics]
    try:
        until(lambda: all(p.get_subscription_count() for p in publishers), "the node to match", 20)
        begin_s = time.time()
        while not receiver.arrivals:
            message.header.stamp = receiver.node.get_clock().now().to_msg()
            publishers[0].publish(message)
            time.sleep(PERIOD_S)
            if time.time() - begin_s > 20:
                raise SystemExit("no answer within 20 s")
        return (receiver.arrivals[0][2] - begin_s) * 1e3
    finally:
        for publisher in publishers:
            receiver.node.destroy_publisher(publisher)


def measure(system: str, case: Case, options: argparse.Namespace) -> dict[str, float]:
    """One start of one node."""
    message = message_of(frames(640, 480)[0], jpeg=False)
    begin_s = time.monotonic()
    ready = "active: " if system == "ours" else "ready"
    with running(words(system, case, options.models / case.bundle, options.threads), ready, True) as process:
        start_s = time.monotonic() - begin_s
        receiver = Receiver(case, system)
        try:
            until(lambda: receiver.matched, f"{system} to publish", 20)
            answer_ms = first_answer_ms(receiver, case.topics(system), message)
            silent = [receiver.node.create_publisher(Image, t, qos_profile_sensor_data) for t in case.topics(system)]
            time.sleep(1.0)
            busy_s = cpu_s(process)
            time.sleep(IDLE_S)
            idle = (cpu_s(process) - busy_s) / IDLE_S
            for publisher in silent:
                receiver.node.destroy_publisher(publisher)
        finally:
            receiver.close()
    return {"start_s": round(start_s, 2), "first_answer_ms": round(answer_ms, 1), "idle_cores": round(idle, 4)}


def main() -> int:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    parser.add_argument("--bundle", default="road_signs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="of the plain node")
    options = parser.parse_args()
    case = Case(4, "VGA", options.bundle, "auto")
    os.environ.update(environment(True))  # this process is the camera: large images over UDP would be lost
    rclpy.init(args=[])
    rounds: dict[str, list[dict[str, float]]] = {system: [] for system in SYSTEMS}
    for number in range(options.rounds + 1):
        for system in SYSTEMS:
            found = measure(system, case, options)
            print(f"{system:6} {found}", flush=True)
            if number:  # the first start fills the caches of the node and of the disk
                rounds[system].append(found)
    rclpy.try_shutdown()
    medians = {s: {key: median(one[key] for one in found) for key in found[0]} for s, found in rounds.items()}
    print(medians)
    save("start", {"medians": medians, "rounds": rounds}, f"python bench/node_start.py --rounds {options.rounds}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
