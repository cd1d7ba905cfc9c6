"""The highest rate with at most 1 % of the frames unanswered, of the node with its defaults and of a plain rclpy node.

Real processes over real DDS: cameras (shared-memory profile, best effort), one node at a time, and this process as the
receiver. Both nodes are measured in turns in one run; bench/plain_node.py shares no code with us. Each search goes over
a ladder of rates, 4 % apart. Then both answer at the same rates, up to 90 % of what the plain node manages.

    python bench/node_load.py                                    the whole table, takes hours
    python bench/node_load.py --only "4 VGA road_signs fp32" --seconds 4 --repeats 1     one case, some three minutes
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from processes import ROOT, commit, cpu_s, environment, running, save, saved, until
from rclpy.qos import QoSProfile
from spinning import Spinning
from vision_msgs.msg import Classification, Detection2DArray

from lisard_ros import host_cpu

AS_SHIPPED = "as shipped"
LOSS_ALLOWED = 0.01
STEP = 1.04  # between two rates of the ladder
OPENING_S = 1.5  # of each trial, not counted
SIZES = {"VGA": "640x480", "1080p": "1920x1080"}
FIRST_FPS = {"road_signs": 48.0, "traffic_signs": 240.0}  # of all cameras together, where the search begins
STAGES = ("wait", "decode", "preprocess", "infer", "postprocess", "publish", "total")


@dataclass(frozen=True)
class Case:
    """What is measured: cameras, their images, the bundle, and the precision of both nodes' model."""

    cameras: int
    images: str  # a key of SIZES; 1080p comes as JPEG
    bundle: str
    precision: str  # of both nodes; AS_SHIPPED: ours with its defaults, the plain node in fp32

    @property
    def name(self) -> str:
        return f"{self.cameras} {self.images} {self.bundle} {self.precision}"

    def topics(self, system: str) -> list[str]:
        """Camera topics for one of the two nodes, which are never fed at the same time."""
        tail = "/compressed" if self.images == "1080p" else ""
        return [f"/{system}{number}/image_raw{tail}" for number in range(self.cameras)]

    def answers(self, system: str) -> list[str]:
        kind = "detections" if self.bundle == "road_signs" else "classification"
        if system == "plain":
            return ["/plain" + topic for topic in self.topics(system)]
        return [f"/perception/{system}{number}/{kind}" for number in range(self.cameras)]


CASES = tuple(
    Case(cameras, images, bundle, precision)
    for bundle in ("road_signs", "traffic_signs")
    for precision in ("fp32", "int8", AS_SHIPPED)
    for images in ("VGA", "1080p")
    for cameras in (4, 1)
)


@dataclass(frozen=True)
class Trial:
    """One system at one rate. Ages: stamp to arrival of the answer in the receiver, ms; CPU in ms for each answer."""

    rate: float
    published: int
    answered: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cpu_ms: float
    rss_mb: float
    camera_delay_ms: float
    stages_p50_ms: dict[str, float] = field(default_factory=dict)

    @property
    def loss(self) -> float:
        return 1.0 - self.answered / max(1, self.published)


class Receiver(Spinning):
    """Collects the stamps of answers and when they came, in a thread; of /diagnostics the last stage times."""

    def __init__(self, case: Case, system: str) -> None:
        super().__init__("receiver_" + system)
        self.arrivals: list[tuple[str, float, float]] = []  # topic, stamp and arrival in seconds
        self.stages: dict[str, float] = {}
        self.subscriptions: list[Any] = []
        kind = Detection2DArray if case.bundle == "road_signs" else Classification
        for topic in case.answers(system):
            callback = self._callback(topic)
            self.subscriptions.append(self.node.create_subscription(kind, topic, callback, QoSProfile(depth=100)))
        if system == "ours":
            self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.start()

    def _callback(self, topic: str) -> Any:
        def arrived(message: Any) -> None:
            stamp = message.header.stamp
            self.arrivals.append((topic, stamp.sec + stamp.nanosec / 1e9, time.time()))

        return arrived

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        cameras = [{v.key: v.value for v in s.values} for s in message.status if ": camera " in s.name]
        for stage in STAGES:
            found = [float(values[f"{stage}_p50_ms"]) for values in cameras if f"{stage}_p50_ms" in values]
            if found:
                self.stages[stage] = round(median(found), 2)

    @property
    def matched(self) -> bool:
        return all(subscription.get_publisher_count() > 0 for subscription in self.subscriptions)


@dataclass
class System:
    """A running node, ours or the plain one, and who listens to it."""

    name: str
    case: Case
    process: psutil.Process
    receiver: Receiver

    def trial(self, rate: float, seconds: float) -> Trial:
        """Let the cameras run at `rate` and count."""
        self.receiver.arrivals.clear()
        words = ["bench/cameras.py", *self.case.topics(self.name), "--rate", str(rate), "--seconds", str(seconds)]
        words += ["--size", SIZES[self.case.images]]
        source = subprocess.Popen(
            [sys.executable, *words], cwd=ROOT, env=environment(True), text=True, stdout=subprocess.PIPE
        )
        until(lambda: self.receiver.arrivals or source.poll() is not None, "a first answer", 60)
        busy_s = cpu_s(self.process)
        out, _ = source.communicate(timeout=120)
        sent = json.loads(out.splitlines()[-1])
        begin_s = sent["stamps"][0]
        busy_s = cpu_s(self.process) - busy_s
        arrivals = list(self.receiver.arrivals)
        counted = [(stamp, came) for _, stamp, came in arrivals if stamp - begin_s >= OPENING_S]
        ages_ms = np.array([came - stamp for stamp, came in counted] or [np.inf]) * 1e3
        published = sum(stamp - begin_s >= OPENING_S for stamp in sent["stamps"])
        p50, p95, p99 = np.percentile(ages_ms, (50, 95, 99))
        return Trial(
            rate=rate,
            published=published,
            answered=len(counted),
            p50_ms=round(float(p50), 1),
            p95_ms=round(float(p95), 1),
            p99_ms=round(float(p99), 1),
            cpu_ms=round(busy_s * 1e3 / max(1, len(arrivals)), 2),
            rss_mb=round(self.process.memory_info().rss / 1e6, 1),
            camera_delay_ms=sent["worst_delay_ms"],
            stages_p50_ms=dict(self.receiver.stages),
        )


def onnx_file(case: Case, folder: Path | None = None) -> Path:
    """The file that a peer runs, of the bundle in `folder`, by default the shipped one."""
    folder = folder or ROOT / "models" / case.bundle
    models = json.loads((folder / "bundle.json").read_text())["models"]
    wanted = "int8" if case.precision == "int8" else "fp32"
    return folder / next(model["file"] for model in models if model["precision"] == wanted)


@contextmanager
def started(case: Case, name: str, options: argparse.Namespace) -> Iterator[System]:
    """Start one node and wait until the receiver is matched."""
    folder = Path(options.models) / case.bundle
    if name == "ours":
        parameters = {
            "bundle": folder,
            "image_topics": ",".join(case.topics(name)),
            "diagnostics_period_s": 1.0,
            "class_id_format": "name",
            **({} if case.precision == AS_SHIPPED else {"precision": case.precision}),
            **dict(pair.split("=", 1) for pair in options.set),
        }
        pairs = [piece for key, value in parameters.items() for piece in ("-p", f"{key}:={value}")]
        words: list[object] = ["-m", "lisard_ros.node.main", "--ros-args", *pairs]
        ready = "active: "
    else:
        words = [
            "bench/plain_node.py",
            f"{folder}:{onnx_file(case, folder).name}",
            options.plain_threads,
            *case.topics(name),
        ]
        ready = "ready"
    with running(words, ready) as process:
        receiver = Receiver(case, name)
        try:
            until(lambda: receiver.matched, f"{name} to publish", 20)
            yield System(name, case, process, receiver)
        finally:
            receiver.close()


def search(systems: list[System], options: argparse.Namespace) -> dict[str, list[Trial]]:
    """Find each system's highest rate on the ladder, taking turns; returns every trial."""
    trials: dict[str, list[Trial]] = {system.name: [] for system in systems}
    low: dict[str, int] = {}  # the highest step that held, the lowest that did not
    high: dict[str, int] = {}
    step = {system.name: 0 for system in systems}
    case = systems[0].case
    start = options.start or FIRST_FPS[case.bundle] / case.cameras
    waiting = list(systems)
    while waiting:
        for system in list(waiting):
            name = system.name
            trial = system.trial(round(start * STEP ** step[name], 3), options.seconds)
            trials[name].append(trial)
            print(f"{name:6} {_line(trial)}", flush=True)
            if trial.loss <= LOSS_ALLOWED:
                low[name] = max(low.get(name, step[name]), step[name])
            else:
                high[name] = min(high.get(name, step[name]), step[name])
            if name in high and name in low and high[name] - low[name] <= 1:
                waiting.remove(system)
            elif name not in high:
                step[name] = max(step[name] + 4, int(step[name] * 1.5))
            elif name not in low:
                step[name] -= 6
                if step[name] < -60:
                    raise SystemExit(f"{name} loses frames at any rate")
            else:
                step[name] = (low[name] + high[name]) // 2
    return trials


def highest(trials: list[Trial]) -> float:
    """The highest rate of a camera at which at most 1 % was lost."""
    return max(trial.rate for trial in trials if trial.loss <= LOSS_ALLOWED)


def measure(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """All of one case: the search, then both at the same rates."""
    print(f"--- {case.name}", flush=True)
    with ExitStack() as stack:
        names = ("ours", "plain")
        systems = [stack.enter_context(started(case, name, options)) for name in names]
        found = [search(systems, options) for _ in range(options.repeats)]
        rates = {name: median(highest(one[name]) for one in found) for name in names}
        same: dict[str, list[Trial]] = {name: [] for name in names}
        for share in (0.3, 0.5, 0.7, 0.9):
            for system in systems:
                trial = system.trial(round(share * rates["plain"], 3), options.seconds)
                same[system.name].append(trial)
                print(f"{system.name:6} {_line(trial)}", flush=True)
    result = {
        "case": case.name,
        "repeats": options.repeats,
        "commit": commit(),
        "cpu": host_cpu.cpu_name(),
        "cores": psutil.cpu_count(),
        "instruction_sets": host_cpu.instruction_sets(),
        "highest_hz": rates,
        "rate_over_plain": median(highest(one["ours"]) / highest(one["plain"]) for one in found),
        "cpu_over_plain": median(a.cpu_ms / b.cpu_ms for a, b in zip(same["ours"], same["plain"], strict=True)),
        "same_rates": {name: [asdict(trial) for trial in same[name]] for name in names},
        "search": [{name: [asdict(trial) for trial in one[name]] for name in names} for one in found],
    }
    print(
        json.dumps({key: result[key] for key in ("case", "highest_hz", "rate_over_plain", "cpu_over_plain")}),
        flush=True,
    )
    return result


def _row(case: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """What a result takes the place of: the same case on a processor with the same instruction sets."""
    return case["case"], tuple(case["instruction_sets"])


def _line(trial: Trial) -> str:
    answered = 100 * (1 - trial.loss)
    stages = " ".join(f"{name} {value:g}" for name, value in trial.stages_p50_ms.items())
    return (
        f"{trial.rate:7.2f} Hz  {answered:6.2f} %  p50 {trial.p50_ms:6.1f}  p95 {trial.p95_ms:6.1f}  "
        f"p99 {trial.p99_ms:6.1f} ms  cpu {trial.cpu_ms:6.2f} ms  {trial.rss_mb:.0f} MB  "
        f"camera late {trial.camera_delay_ms:.0f} ms  {stages}"
    )


def main() -> int:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="the name of a case, repeatable")
    parser.add_argument("--models", type=Path, default=ROOT / "models", help="folder of both bundles")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each trial")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--start", type=float, help="first rate of a camera, Hz")
    parser.add_argument("--plain-threads", type=int, default=psutil.cpu_count(logical=False) or 1)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter of our node")
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()
    cases = [case for case in CASES if not options.only or case.name in options.only]
    if not cases:
        parser.error("no such case; there are: " + "; ".join(case.name for case in CASES))
    rclpy.init(args=[])
    results = [measure(case, options) for case in cases]
    rclpy.try_shutdown()
    if not options.no_save:
        command = f"python bench/node_load.py --seconds {options.seconds:g} --repeats {options.repeats}"
        kept = saved("load").get("cases", []) if options.only else []
        measured = {_row(one) for one in results}
        results = [case for case in kept if _row(case) not in measured] + results
        results.sort(key=lambda case: [one.name for one in CASES].index(case["case"]))
        about = {
            "plain_threads": options.plain_threads,
            "set": options.set,
        }
        save("load", {**about, "cases": results}, command)
    return 0


if __name__ == "__main__":
    sys.exit(main())
