"""What injection takes from perception: four VGA cameras on the shipped detector, injection off and on in turns.

One node, whose injections are switched off and on between trials, at 70 % of the highest rate that it answers without
loss, and at saturation. Each trial counts the operational answers and the injected ones in another process. Prints the
medians beside the bars; exit status 1 when one is not met.

    python bench/injection_isolation.py                        searches the rate first, about four minutes
    python bench/injection_isolation.py --rate 6 --share 0.25 --share 1      other budgets, at a known rate
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import psutil
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from node_load import AS_SHIPPED, Case, Receiver, System, Trial, highest, search
from processes import ROOT, cpu_s, running, save, until
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.qos import QoSProfile
from spinning import Spinning
from std_srvs.srv import SetBool
from vision_msgs.msg import Detection2DArray

from lisard_ros.node.parameters import BY_NAME

INJECTIONS = ("noise", "universal", "corruption/fog/3", "corruption/motion_blur/3", "corruption/jpeg_compression/3")
SHARE_OF_LOSS_FREE = 0.7
SATURATION = 1.6  # of the loss-free rate
OFF = "off"
BARS = {
    "answered share, on over off": (0.99, True),
    "p99, on over off": (1.25, False),
    "injected answers per second": (5.0, True),
    "rate at saturation, on over off": (0.97, True),
}


@dataclass(frozen=True)
class Turn:
    """One trial. mode: OFF or the largest share of a core; injected_hz: injected answers that came per second."""

    mode: str
    saturated: bool
    trial: Trial
    injected_hz: float
    share: float


class Listener(Spinning):
    """Counts injected answers, reads the injection's diagnostics, and switches it."""

    def __init__(self, case: Case) -> None:
        super().__init__("listener")
        self.injected: Counter[str] = Counter()
        self.values: dict[str, str] = {}
        for number in range(case.cameras):
            for name in INJECTIONS:
                token = name.replace("/", "_")
                topic = f"/perception/ours{number}/attacked/{token}/detections"
                self.node.create_subscription(Detection2DArray, topic, self._counting(name), QoSProfile(depth=100))
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_injection, 10)
        self.switch = self.node.create_client(SetBool, "/perception/injection")
        self.parameters = self.node.create_client(SetParameters, "/perception/set_parameters")
        self.start()

    def use(self, mode: str) -> None:
        """Switch injection off, or on with that share."""
        if mode != OFF:
            value = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=float(mode))
            request = SetParameters.Request(parameters=[Parameter(name="injection.max_share", value=value)])
            until(lambda: self.call(self.parameters, request).results[0].successful, "the share", 20)
        until(lambda: self.call(self.switch, SetBool.Request(data=mode != OFF)).success, "the switch", 20)
        wanted = "off" if mode == OFF else "running"
        until(lambda: self.values.get("process") == wanted, f"the injection to be {wanted}", 60)

    def _counting(self, name: str) -> Any:
        def arrived(message: Any) -> None:
            self.injected[name] += 1

        return arrived

    def _on_injection(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith(": injection"):
                self.values = {pair.key: pair.value for pair in status.values}


def turn(system: System, listener: Listener, mode: str, rate: float, seconds: float, saturated: bool) -> Turn:
    """Run one trial in a mode."""
    listener.use(mode)
    time.sleep(0.5)
    children = system.process.children()
    listener.injected.clear()
    begin_s, busy_s = time.monotonic(), sum(cpu_s(child) for child in children)
    trial = system.trial(rate, seconds)
    took_s, used_s = time.monotonic() - begin_s, sum(cpu_s(child) for child in children) - busy_s
    made = Turn(mode, saturated, trial, round(listener.injected.total() / seconds, 2), round(used_s / took_s, 3))
    print(
        f"{'saturated' if saturated else '70 %':9} {mode:>5}  {trial.rate:6.2f} Hz  {100 * (1 - trial.loss):6.2f} %  "
        f"p50 {trial.p50_ms:6.1f}  p99 {trial.p99_ms:6.1f} ms  injected {made.injected_hz:5.1f}/s  "
        f"share {made.share:.2f}  camera late {trial.camera_delay_ms:.0f} ms",
        flush=True,
    )
    return made


def figures(turns: list[Turn], mode: str) -> dict[str, float]:
    """The medians of one mode beside those of OFF."""

    def of(which: str, saturated: bool, value: Any) -> float:
        return median(value(one) for one in turns if (one.mode, one.saturated) == (which, saturated))

    def ratio(saturated: bool, value: Any) -> float:
        return of(mode, saturated, value) / of(OFF, saturated, value)

    return {
        "answered share, on over off": ratio(False, lambda one: 1 - one.trial.loss),
        "p99, on over off": ratio(False, lambda one: one.trial.p99_ms),
        "injected answers per second": of(mode, False, lambda one: one.injected_hz),
        "rate at saturation, on over off": ratio(True, lambda one: one.trial.answered),
        "p50, on over off": ratio(False, lambda one: one.trial.p50_ms),
        "share of a core used": of(mode, False, lambda one: one.share),
        "injected answers per second at saturation": of(mode, True, lambda one: one.injected_hz),
    }


def met(found: dict[str, float]) -> bool:
    """Whether all bars are met."""
    return all(found[name] >= bar if least else found[name] <= bar for name, (bar, least) in BARS.items())


def main() -> int:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, help="loss-free rate of a camera, Hz (default: it is searched)")
    parser.add_argument("--share", action="append", metavar="SHARE", help="injection.max_share, repeatable")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each trial")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--precision", default=AS_SHIPPED, help="fp32 or int8 (default: as the node chooses)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the node")
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()
    shares = options.share or [f"{BY_NAME['injection.max_share'].default:g}"]
    case = Case(options.cameras, "VGA", "road_signs", options.precision)
    parameters = {
        "bundle": ROOT / "models/road_signs",
        "image_topics": ",".join(case.topics("ours")),
        "injection.attacks": ",".join(INJECTIONS),
        **({} if case.precision == AS_SHIPPED else {"precision": case.precision}),
        **dict(pair.split("=", 1) for pair in options.set),
    }
    pairs = [piece for key, value in parameters.items() for piece in ("-p", f"{key}:={value}")]
    rclpy.init(args=[])
    turns: list[Turn] = []
    with running(["-m", "lisard_ros.node.main", "--ros-args", *pairs], "active: ") as process:
        receiver, listener = Receiver(case, "ours"), Listener(case)
        until(lambda: receiver.matched, "the node to publish", 20)
        system = System("ours", case, psutil.Process(process.pid), receiver)
        if options.rate is None:
            search_options = argparse.Namespace(start=4.0, seconds=5.0)
            options.rate = highest(search([system], search_options)["ours"])
        rates = (round(options.rate * SHARE_OF_LOSS_FREE, 3), round(options.rate * SATURATION, 3))
        for number in range(options.repeats):
            modes = [OFF, *shares]
            for saturated, rate in enumerate(rates):
                for mode in modes if number % 2 == 0 else reversed(modes):
                    turns.append(turn(system, listener, mode, rate, options.seconds, bool(saturated)))
        listener.close()
        receiver.close()
    rclpy.try_shutdown()
    found = {share: figures(turns, share) for share in shares}
    for share, values in found.items():
        for name, value in values.items():
            bar = f"  {'>=' if BARS[name][1] else '<='} {BARS[name][0]:g}" if name in BARS else ""
            print(f"max_share {share}: {name}: {value:.3f}{bar}")
    if not options.no_save:
        bars = {name: f"{'>=' if least else '<='} {bar:g}" for name, (bar, least) in BARS.items()}
        turned = [asdict(one) for one in turns]
        result = {"loss_free_hz": options.rate, "bars": bars, "figures": found, "turns": turned}
        given = "".join(f" --share {share}" for share in options.share or ())
        command = f"python bench/injection_isolation.py --rate {options.rate:g} --repeats {options.repeats}{given}"
        save("injection_isolation", result, command)
    return 0 if all(map(met, found.values())) else 1


if __name__ == "__main__":
    sys.exit(main())
