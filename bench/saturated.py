"""What the node answers beside a bare session when cameras send more than it can answer.

The peer is no node: it runs the session on a ready tensor in a loop, while the same cameras publish to a subscriber
that discards the images. It takes every image from the middleware, where the node leaves those that it cannot answer;
and it has one session on all threads, where the node answers two frames side by side. The shipped detector in fp32,
four VGA cameras; both in turns. With --loop this is the peer.

    python bench/saturated.py               some two minutes on a quiet machine
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from contextlib import suppress
from statistics import median
from typing import Any

import psutil
import rclpy
from node_load import OPENING_S, Case, onnx_file, started
from processes import ROOT, environment, save
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

CASE = Case(4, "VGA", "road_signs", "fp32")
RATE_HZ = 40.0  # of each camera; two cores answer some 25
BAR = 0.85


def loop(options: argparse.Namespace) -> None:
    """Be the peer: discard images, and from the first one on run the session; prints its runs in a second."""
    rclpy.init(args=[])
    node, begun = rclpy.create_node("discards"), threading.Event()
    for topic in CASE.topics("ours"):
        node.create_subscription(Image, topic, lambda message: begun.set(), qos_profile_sensor_data)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spinning = threading.Thread(target=_spin, args=(executor,))
    spinning.start()
    try:
        print(runs_hz(begun, options), flush=True)
    finally:
        rclpy.try_shutdown()
        spinning.join()


def runs_hz(begun: threading.Event, options: argparse.Namespace) -> float:
    """Runs of the session in a second, counted once the first image has come."""
    import numpy as np
    import onnxruntime as ort

    given = ort.SessionOptions()
    given.intra_op_num_threads = options.plain_threads
    session = ort.InferenceSession(str(onnx_file(CASE)), given, providers=["CPUExecutionProvider"])
    (head,) = session.get_inputs()
    x = np.random.default_rng(0).random((1, *head.shape[1:]), np.float32)
    session.run(None, {head.name: x})
    if not begun.wait(60):
        raise SystemExit("the cameras published nothing within 60 s")
    time.sleep(OPENING_S)
    runs, begin_s = 0, time.monotonic()
    while time.monotonic() - begin_s < options.seconds - OPENING_S:
        session.run(None, {head.name: x})
        runs += 1
    return runs / (time.monotonic() - begin_s)


def _spin(executor: SingleThreadedExecutor) -> None:
    with suppress(ExternalShutdownException):
        executor.spin()


def loop_hz(options: argparse.Namespace) -> float:
    """Runs of the peer in a second while the cameras publish."""
    words = ["bench/saturated.py", "--loop", "--seconds", options.seconds, "--plain-threads", options.plain_threads]
    cameras = ["bench/cameras.py", *CASE.topics("ours"), "--rate", RATE_HZ, "--seconds", options.seconds + 1.0]
    peer, source = (
        subprocess.Popen(
            [sys.executable, *map(str, command)], cwd=ROOT, env=environment(True), text=True, stdout=subprocess.PIPE
        )
        for command in (words, cameras)
    )
    out, _ = peer.communicate(timeout=options.seconds + 90)
    source.communicate(timeout=90)
    return float(out.splitlines()[-1])


def node_hz(options: argparse.Namespace) -> float:
    """Answers of the node in a second, of all cameras."""
    with started(CASE, "ours", options) as system:
        return system.trial(RATE_HZ, options.seconds).answered / (options.seconds - OPENING_S)


def main() -> int:
    """Measure, print, save; exit status 1 when the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loop", action="store_true", help="be the peer")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each turn")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--plain-threads", type=int, default=psutil.cpu_count(logical=False) or 1)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the node")
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()
    options.models = ROOT / "models"
    if options.loop:
        loop(options)
        return 0
    rclpy.init(args=[])
    turns: list[dict[str, Any]] = []
    for _ in range(options.repeats):
        turns.append({"node_hz": node_hz(options), "loop_hz": loop_hz(options)})
        print({key: round(value, 1) for key, value in turns[-1].items()}, flush=True)
    rclpy.try_shutdown()
    share = median(turn["node_hz"] / turn["loop_hz"] for turn in turns)
    print(f"answers over runs of the loop: {share:.2f}, asked >= {BAR}")
    if not options.no_save:
        about = {"case": CASE.name, "rate_hz": RATE_HZ, "threads": options.plain_threads, "bar": BAR, "share": share}
        save("saturated", {**about, "turns": turns}, f"python bench/saturated.py --repeats {options.repeats}")
    return 0 if share >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
