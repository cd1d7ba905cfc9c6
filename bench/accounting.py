"""60 s of VGA at 30 Hz: is every frame accounted for? Three cases of camera, two equations, both exact.

published = received + lost in transport, and received = answered + replaced + too old + failed. The camera begins and
ends with small frames, so that a gap at either end is seen. Run: python bench/accounting.py
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from processes import ROOT, camera, node_words, published, running, save, until
from spinning import Spinning

TOPIC = "/bench/image_raw"
COUNTS = ("received", "answered", "replaced", "too_old", "failed", "pending", "lost_in_transport")


@dataclass(frozen=True)
class Case:
    """How the camera publishes, and whether loss is expected."""

    name: str
    reliability: str
    profile: bool
    loss: bool


CASES = (
    Case("best effort, shared-memory profile", "best_effort", True, False),
    Case("reliable, no profile", "reliable", False, False),
    Case("best effort, no profile", "best_effort", False, True),
)


class Watcher(Spinning):
    """Follows /diagnostics of the node in a thread."""

    def __init__(self) -> None:
        super().__init__("watcher")
        self.values: dict[str, str] = {}
        self.warnings: set[str] = set()
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._take, 50)
        self.start()

    def _take(self, array: DiagnosticArray) -> None:
        for status in array.status:
            if status.name.endswith(": camera bench"):
                self.values = {kv.key: kv.value for kv in status.values}
                if status.level == b"\x01" and "lost in transport" in status.message:
                    self.warnings.add(status.message)


def run(case: Case, bundle: Path, frames: int) -> dict[str, Any]:
    """Run one case; return the books and which equations hold."""
    watcher = Watcher()
    with running(node_words(bundle, TOPIC), "active: "):
        source = camera(case.profile, frames=frames, reliability=case.reliability, margin=3, linger=2.0)
        sent = published(source)
        time.sleep(2.5)
        until(lambda: watcher.values.get("pending") == "0", "nothing pending", 20)
        counts = {key: int(watcher.values[key]) for key in COUNTS}
    watcher.close()
    outcomes = sum(counts[key] for key in ("answered", "replaced", "too_old", "failed"))
    warned = any("config/fastdds_shm.xml" in text and TOPIC in text for text in watcher.warnings)
    return {
        "case": case.name,
        "published": sent,
        **counts,
        "published_equals_received_plus_lost": sent == counts["received"] + counts["lost_in_transport"],
        "received_equals_outcomes": counts["received"] == outcomes,
        "loss_as_expected": (counts["lost_in_transport"] > 0) == case.loss,
        "explained_by_warning": warned == case.loss,
    }


def main() -> int:
    """Run the cases; exit status 1 when an equation does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=ROOT / "models/traffic_signs")
    parser.add_argument("--frames", type=int, default=1800)
    parser.add_argument("--no-save", action="store_true")
    arguments = parser.parse_args()
    rclpy.init(args=[])
    results = []
    for case in CASES:
        results.append(run(case, arguments.bundle, arguments.frames))
        print(json.dumps(results[-1]), flush=True)
    rclpy.try_shutdown()
    good = all(value for result in results for value in result.values() if isinstance(value, bool))
    if not arguments.no_save:
        command = f"python bench/accounting.py --frames {arguments.frames}"
        save("accounting", {"passed": good, "cases": results}, command)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
