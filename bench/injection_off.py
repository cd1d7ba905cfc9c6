"""What injection costs while it is off: a node that never injected, and one whose injection was on, in turns.

Both run all the time, each with a camera of its own; one is fed at a time. No injection object may be in either, and
the medians of their latency (stamp to arrival in another process) may differ by at most 3 %. Exit status 1 otherwise.

    python bench/injection_off.py                 the shipped detector, about five minutes
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import psutil
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from node_load import Case, Receiver, System, Trial
from processes import ROOT, running, save, until
from spinning import Spinning
from std_srvs.srv import SetBool

FRESH, SWITCHED = "fresh", "switched"
LIMIT = 0.03  # by which the medians may differ


class OffCase(Case):
    """Each node has the name of its system."""

    def answers(self, system: str) -> list[str]:
        kind = "detections" if self.bundle == "road_signs" else "classification"
        return [f"/{system}/{system}{number}/{kind}" for number in range(self.cameras)]


class InjectionSwitch(Spinning):
    """Switches the injection of one node on, sees an attacked answer, and switches it off again."""

    def __init__(self, name: str) -> None:
        super().__init__("switch")
        self._name = name
        self.values: dict[str, str] = {}
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._client = self.node.create_client(SetBool, f"/{name}/injection")
        self.start()

    def use(self, on: bool) -> None:
        until(lambda: self.call(self._client, SetBool.Request(data=on)).success, "the switch", 20)
        until(lambda: self.values.get("process") == ("running" if on else "off"), "the injection to follow", 60)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == f"/{self._name}: injection":
                self.values = {pair.key: pair.value for pair in status.values}


@contextmanager
def started(name: str, case: OffCase, folder: Path) -> Iterator[System]:
    """Start one node and wait until its answers can come."""
    topics, bundle = ",".join(case.topics(name)), ROOT / "models" / case.bundle
    words = ["bench/counting_node.py", folder / name, "--ros-args", "-r", f"__node:={name}", "-p", f"bundle:={bundle}"]
    # By name: each node would choose by what it measures, and they must not choose differently.
    words += ["-p", f"image_topics:={topics}", "-p", f"precision:={case.precision}"]
    with running(words, "active: ") as process:
        receiver = Receiver(case, name)
        try:
            until(lambda: receiver.matched, f"{name} to publish", 20)
            yield System(name, case, psutil.Process(process.pid), receiver)
        finally:
            receiver.close()


def objects(system: System, folder: Path) -> list[str]:
    """What there is of injection in a node, and in processes of its own."""
    file = folder / system.name
    file.unlink(missing_ok=True)
    system.process.send_signal(signal.SIGUSR1)
    until(file.exists, "the node to count", 20)
    return file.read_text().split() + [f"process {child.pid}" for child in system.process.children()]


def measure(case: OffCase, rate: float, options: argparse.Namespace) -> tuple[dict[str, list[Trial]], list[str]]:
    """Trials of both nodes in turns, and what was found of injection in them."""
    trials: dict[str, list[Trial]] = {FRESH: [], SWITCHED: []}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        systems = [stack.enter_context(started(name, case, folder)) for name in trials]
        switch = InjectionSwitch(SWITCHED)
        switch.use(on=True)
        if not objects(systems[1], folder):
            raise SystemExit("nothing of injection was found while it was on: the count is broken")
        systems[1].trial(rate, options.seconds)
        switch.use(on=False)
        switch.close()
        for number in range(options.repeats):
            for system in systems if number % 2 == 0 else reversed(systems):
                trials[system.name].append(system.trial(rate, options.seconds))
                last = trials[system.name][-1]
                print(f"{system.name:9} p50 {last.p50_ms:6.1f}  p99 {last.p99_ms:6.1f} ms  {last.cpu_ms:.2f} ms CPU")
        return trials, [each for system in systems for each in objects(system, folder)]


def main() -> int:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", choices=("road_signs", "traffic_signs"), default="road_signs")
    parser.add_argument("--precision", choices=("fp32", "int8"), default="int8")
    parser.add_argument("--rate", type=float, default=5.0, help="of the camera, Hz")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each trial")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()
    rclpy.init(args=[])
    trials, found = measure(OffCase(1, "VGA", options.bundle, options.precision), options.rate, options)
    rclpy.try_shutdown()
    p50_ms = {name: median(trial.p50_ms for trial in of_one) for name, of_one in trials.items()}
    change = p50_ms[SWITCHED] / p50_ms[FRESH] - 1
    shown = f"{p50_ms[FRESH]:.2f} ms never on, {p50_ms[SWITCHED]:.2f} ms switched off"
    print(f"median latency: {shown}: {100 * change:+.1f} %")
    print(f"injection objects: {', '.join(found) or 'none'}")
    if not options.no_save:
        command = f"python bench/injection_off.py --rate {options.rate:g} --repeats {options.repeats}"
        kept = {name: [asdict(trial) for trial in of_one] for name, of_one in trials.items()}
        about = {
            "bundle": options.bundle,
            "precision": options.precision,
            "rate_hz": options.rate,
            "limit": LIMIT,
            "objects": found,
        }
        save("injection_off", {**about, "p50_ms": p50_ms, "change": change, "trials": kept}, command)
    return 0 if abs(change) <= LIMIT and not found else 1


if __name__ == "__main__":
    sys.exit(main())
