"""Run the demonstration: the real node on recorded camera frames over real DDS, clean and attacked.

Prints a table and writes out/demo/report.html and report.json. Exit status 0, 1 if a check failed, 2 usage error.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "demo")]

from lisard_demo import report, scenarios, table  # noqa: E402
from lisard_ros import bundle as bundles  # noqa: E402
from lisard_ros.bundle import Bundle  # noqa: E402
from lisard_ros.errors import LisardError, UsageError  # noqa: E402

DETECTOR = ROOT / "models" / "road_signs"
DOMAIN_RANGE = 100  # ROS_DOMAIN_ID up to 101 is safe on Linux with the default port range


class Interrupt:
    """Notes SIGINT and SIGTERM, even where the caller ignores SIGINT, and tells when it is asked.

    Raising in the handler itself would not do: what is raised while a process is being started gets lost.
    """

    def __init__(self) -> None:
        """Take the signals over."""
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, *_: object) -> None:
        self.asked = True

    def check(self) -> None:
        """Raise KeyboardInterrupt when a signal has come."""
        if self.asked:
            raise KeyboardInterrupt


class Progress:
    """One bar for the whole demonstration; a plain line for each step where there is no terminal."""

    def __init__(self, total: int) -> None:
        """total: number of scenarios."""
        tqdm.monitor_interval = 0  # no thread of its own: processes are started beside the bar
        columns = shutil.get_terminal_size((100, 24)).columns
        style = "{desc:<64} |{bar:16}| {elapsed}"
        self._bar = tqdm(total=total, bar_format=style, ncols=columns, disable=not sys.stderr.isatty())
        self._title = ""

    def scenario(self, key: str, title: str) -> None:
        """Start a scenario."""
        self._title = f"({key}) {title}"

    def announce(self, words: str) -> None:
        """Show what is done now."""
        self._bar.set_description_str(f"{self._title}: {words}"[:64])
        if self._bar.disable:
            print(f"{self._title}: {words}", file=sys.stderr, flush=True)

    def tick(self) -> None:
        """Show that time goes on."""
        self._bar.refresh()

    def done(self) -> None:
        """One scenario is done."""
        self._bar.update()

    def close(self) -> None:
        """Leave the terminal clean."""
        self._bar.close()


def run(config: scenarios.DemoConfig, keys: str, interrupt: Interrupt) -> list[scenarios.Outcome]:
    """Run the chosen scenarios one after another."""
    chosen = [scenario for scenario in scenarios.all_scenarios(config) if scenario.key in keys]
    shutil.rmtree(config.out, ignore_errors=True)
    if any(scenario.key == "b" for scenario in chosen):
        scenarios.make_gtsrb_bag(config)
    progress, outcomes = Progress(len(chosen)), []

    def tick() -> None:
        interrupt.check()
        progress.tick()

    try:
        for scenario in chosen:
            progress.scenario(scenario.key, scenario.title)
            outcomes.append(scenarios.run(scenario, config, progress.announce, tick))
            progress.done()
    finally:
        progress.close()
    return outcomes


def parser() -> argparse.ArgumentParser:
    """Build the command line."""
    result = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    result.add_argument("--bundle", type=Path, default=ROOT / "models" / "traffic_signs", help="model bundle to show")
    result.add_argument(
        "--detector",
        default=None,
        metavar="BUNDLE",
        help="detection bundle that finds the signs of scenario a (default: models/road_signs where it is "
        "there; '' takes the boxes from a topic)",
    )
    result.add_argument("--data", type=Path, default=ROOT / "data", help="folder of the recordings (default: data)")
    result.add_argument("--out", type=Path, default=ROOT / "out" / "demo", help="folder for the report (emptied first)")
    result.add_argument("--scenarios", "--parts", default="abc", help="which scenarios to run: a, b, c (default: abc)")
    return result


def read_detector(word: str | None) -> Bundle | None:
    """Read the detection bundle that is asked for; None: the shipped one, if it is there."""
    path = DETECTOR if word is None else Path(word)
    if word == "" or (word is None and not path.is_dir()):
        return None
    detector = bundles.read(path)
    if detector.manifest.task != "detection":
        raise UsageError(
            "--detector",
            found=f"{path}, a bundle for {detector.manifest.task}",
            expected="detection",
            cure="leave it out, or give a detection bundle",
        )
    return detector


def main() -> int:
    """Parse, run, print, write."""
    arguments = parser().parse_args()
    interrupt = Interrupt()
    # A domain of its own, so that a robot nearby neither disturbs the demonstration nor is disturbed.
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % DOMAIN_RANGE))
    started = time.monotonic()
    try:
        if not set(arguments.scenarios) <= set("abc") or not arguments.scenarios:
            raise UsageError("--scenarios", found=repr(arguments.scenarios), expected="some of a, b, c")
        bundle = bundles.read(arguments.bundle)
        config = scenarios.DemoConfig(
            ROOT, arguments.data.resolve(), arguments.out.resolve(), bundle, read_detector(arguments.detector)
        )
        outcomes = run(config, arguments.scenarios, interrupt)
        seconds = time.monotonic() - started
        print(table.text(outcomes))
        written = report.write(config, outcomes, seconds)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except LisardError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; all processes have ended", file=sys.stderr)
        return 1
    failed = [check for outcome in outcomes for check in outcome.checks if not check.passed]
    print(f"{'FAILED: ' + failed[0].name if failed else 'all checks passed'} in {seconds:.0f} s; report: {written}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
