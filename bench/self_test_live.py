"""What a self test on live frames takes: its own time, and the latency of the operational answers meanwhile.

One VGA camera at 10 Hz; the node answers alone and while it tests 100 of these frames under five attacks, in turns. The
latency is from stamp to arrival in another process, over all turns of a kind. Exit status 1 when the classifier's bars
are not met; the detector, whose gradients take some hundred times as long, is tested once and has none.

    python bench/self_test_live.py                       both shipped models, over half an hour
    python bench/self_test_live.py --only traffic_signs  the figures of the other one stay as they are
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import rclpy
from diagnostic_msgs.srv import SelfTest
from node_load import AS_SHIPPED, SIZES, Case, Receiver
from processes import ROOT, environment, measured_on, running, save, saved, until
from spinning import Spinning

from lisard_engines.gradient import derive
from lisard_ros import bundle as bundles
from lisard_ros.evaluation.statistics import percentiles

ATTACKS = ("attack/fgsm", "attack/pgd10", "attack/mifgsm10", "attack/apgd20", "attack/square100")
FRAMES, RATE_HZ = 100, 10.0
BARS = {"self test, s": 60.0, "p99 of answers, with over without": 1.5}
ASKED_OF = "traffic_signs"
LONGEST_S = 3600.0  # of one test
SETTLE_S = 1.0  # between two turns


@dataclass(frozen=True)
class Turn:
    """One stretch of time. testing: whether attacks ran all the while; ages: of the answers that came meanwhile, ms.

    seconds: of a self test with the time in which it collects its frames, which is no part of the rest. frames: how
    many the camera published between the first one that was answered and the last.
    """

    testing: bool
    seconds: float
    frames: int
    answers: int
    ages_ms: list[float]


def turn(receiver: Receiver, caller: Spinning, client: Any, options: argparse.Namespace, testing: bool) -> Turn:
    """Take one turn: of `options.seconds`, or as long as the self test of `options.frames`."""
    time.sleep(SETTLE_S)
    receiver.arrivals.clear()
    begin_s, attacks_s = time.monotonic(), time.time() + (options.frames / RATE_HZ if testing else 0.0)
    if testing:
        response = caller.call(client, SelfTest.Request(), LONGEST_S)
        verdicts = {status.name: status.message for status in response.status}
        if set(verdicts) != set(ATTACKS) or not all(text.endswith("measured") for text in verdicts.values()):
            raise SystemExit(f"the self test did not measure every attack: {verdicts}")
    else:
        time.sleep(options.seconds)
    took_s = time.monotonic() - begin_s
    arrivals = [arrival for arrival in receiver.arrivals if arrival[2] >= attacks_s]
    ages_ms = [(came - stamp) * 1e3 for _, stamp, came in arrivals]
    p = percentiles(ages_ms)
    stamps_s = [stamp for _, stamp, _ in arrivals]
    frames = round((max(stamps_s) - min(stamps_s)) * RATE_HZ) + 1 if stamps_s else 0
    share = len(ages_ms) / max(1, frames)
    print(
        f"{'testing' if testing else 'alone':8} {took_s:6.1f} s  answered {100 * share:5.1f} %  p50 {p.p50_ms:6.1f}  "
        f"p99 {p.p99_ms:6.1f} ms",
        flush=True,
    )
    return Turn(testing, round(took_s, 2), frames, len(ages_ms), [round(age, 2) for age in ages_ms])


def measure(case: Case, options: argparse.Namespace) -> list[Turn]:
    """All turns with one bundle."""
    bundle = ROOT / "models" / case.bundle
    derive.provide(bundles.read(bundle))
    (topic,) = case.topics("ours")
    parameters = {
        "bundle": bundle,
        "image_topics": topic,
        "self_test.source": "live",
        "self_test.count": options.frames,
        "self_test.suite": ",".join(ATTACKS),
        "self_test.min_interval_s": 0.0,
        **dict(pair.split("=", 1) for pair in options.set),
    }
    pairs = [piece for key, value in parameters.items() for piece in ("-p", f"{key}:={value}")]
    camera = ["bench/cameras.py", topic, "--rate", str(RATE_HZ), "--seconds", str(LONGEST_S * 4), "--size"]
    with running(["-m", "lisard_ros.node.main", "--ros-args", *pairs], "active: "):
        receiver, caller = Receiver(case, "ours"), Spinning("caller")
        client = caller.node.create_client(SelfTest, "/perception/self_test")
        caller.start()
        until(lambda: receiver.matched and client.service_is_ready(), "the node", 20)
        source = subprocess.Popen([sys.executable, *camera, SIZES[case.images]], cwd=ROOT, env=environment(True))
        try:
            until(lambda: len(receiver.arrivals) > RATE_HZ, "answers", 60)
            return [
                turn(receiver, caller, client, options, testing)
                for number in range(options.repeats if case.bundle == ASKED_OF else 1)
                for testing in ((False, True) if number % 2 == 0 else (True, False))
            ]
        finally:
            source.kill()
            source.wait()
            caller.close()
            receiver.close()


def figures(turns: list[Turn]) -> dict[str, float]:
    """The figures of one bundle."""
    alone, testing = (
        percentiles([age for one in turns if one.testing == kind for age in one.ages_ms]) for kind in (False, True)
    )
    tests = [one for one in turns if one.testing]
    return {
        "self test, s": median(one.seconds for one in tests),
        "p99 of answers, with over without": testing.p99_ms / alone.p99_ms,
        "p99 of answers without, ms": alone.p99_ms,
        "p99 of answers with, ms": testing.p99_ms,
        "p50 of answers without, ms": alone.p50_ms,
        "p50 of answers with, ms": testing.p50_ms,
        "frames answered meanwhile, %": 100 * sum(one.answers for one in tests) / sum(one.frames for one in tests),
    }


def main() -> int:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("traffic_signs", "road_signs"))
    parser.add_argument("--seconds", type=float, default=40.0, help="of each turn without a self test")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--frames", type=int, default=FRAMES, help="of a test; the bars are for %(default)s")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the node")
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()
    names = [options.only] if options.only else ["traffic_signs", "road_signs"]
    rclpy.init(args=[])
    turns = {name: measure(Case(1, "VGA", name, AS_SHIPPED), options) for name in names}
    rclpy.try_shutdown()
    found = {name: figures(of_one) for name, of_one in turns.items()}
    for name, values in found.items():
        for key, value in values.items():
            bar = f"  <= {BARS[key]:g}" if key in BARS and name == ASKED_OF else ""
            print(f"{name}: {key}: {value:.2f}{bar}")
    if not options.no_save:
        keep(turns, found, options)
    return 0 if all(value <= BARS[key] for key, value in found.get(ASKED_OF, {}).items() if key in BARS) else 1


def keep(turns: dict[str, list[Turn]], found: dict[str, dict[str, float]], options: argparse.Namespace) -> None:
    """Save what was measured beside what is kept of another bundle."""
    command = f"python bench/self_test_live.py --repeats {options.repeats} --seconds {options.seconds:g}"
    command += "" if options.frames == FRAMES else f" --frames {options.frames}"
    bundles_of = saved("self_test_live").get("bundles", {})
    for name, of_one in turns.items():
        bundles_of[name] = {
            "command": f"{command} --only {name}",
            **measured_on(),
            "frames": options.frames,
            "set": options.set,
            "figures": found[name],
            "turns": [{**asdict(one), "ages_ms": None} for one in of_one],
        }
    common = {"attacks": ATTACKS, "rate_hz": RATE_HZ, "bars": BARS, "asked_of": ASKED_OF}
    save("self_test_live", {**common, "bundles": bundles_of}, command)


if __name__ == "__main__":
    sys.exit(main())
