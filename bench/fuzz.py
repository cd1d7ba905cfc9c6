"""Damaged and hostile input, many times over: bundles, camera messages, recordings, parameters.

Nothing but an answer or a refusal with a sentence may come of it. A finding is an error of another kind, a case that
takes too long, or a process that ends.

Run: python bench/fuzz.py --cases 100000 --seed 1 --report out/fuzz.json
The same command goes on where it stopped, also after a case that ended the process; that case is then a finding.
--only AREA:CASE runs one case again and shows what happens.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType

import fuzz_areas
from processes import ROOT

from lisard_ros.errors import LisardError

CASE_LIMIT_S = 10.0
SAVE_EVERY = 250
MOST_FINDINGS = 20  # of one kind in an area; all are counted
# Memory beyond what the process has when it begins; a large camera image takes half of it.
MEMORY_BYTES = 3 << 30


class TookTooLong(BaseException):
    """A case ran into its time limit; no handler of the code under test catches it."""


@dataclass(frozen=True)
class Finding:
    """A case that ended otherwise than with an answer or a refusal. where: the innermost line of this package."""

    case: int
    error: str
    where: str


@dataclass
class Tally:
    """What came of an area so far. done: cases that were run, from 0. refused: by kind of error."""

    done: int = 0
    accepted: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep the first ones of its kind."""
        kind = f"{finding.error.split(':')[0]} at {finding.where}"
        self.found[kind] = self.found.get(kind, 0) + 1
        if self.found[kind] <= MOST_FINDINGS:
            self.findings.append(finding)


@dataclass
class Report:
    """The state of a run, on disk after every few cases."""

    seed: int
    cases: int
    areas: dict[str, Tally]

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not any(tally.found for tally in self.areas.values())


def run_case(case: Callable[[random.Random], bool], seed: str, limit_s: float) -> bool:
    """Run one case with its own random numbers; True: accepted, LisardError: refused, anything else is a finding."""
    previous = signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    faulthandler.dump_traceback_later(3 * limit_s, exit=True)  # code in C that never comes back
    try:
        return case(random.Random(seed))
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TookTooLong


def run_area(
    area: fuzz_areas.Area, tally: Tally, seed: int, until: int, save: Callable[[], None], marks: Path | None = None
) -> None:
    """Run the cases of an area from where it stands. marks: folder in which a running case leaves its number."""
    mark = marks / f"{area.name}.running" if marks is not None else None
    if mark is not None and mark.exists() and int(mark.read_text() or -1) == tally.done:
        tally.add(Finding(tally.done, "the process ended in this case", "run it with --only"))
        tally.done += 1
    began, before_s = time.monotonic(), tally.seconds
    while tally.done < until:
        if mark is not None:
            mark.write_text(str(tally.done))
        try:
            tally.accepted += run_case(area.case, f"{seed}:{area.name}:{tally.done}", CASE_LIMIT_S)
        except LisardError as error:
            kind = type(error).__name__
            tally.refused[kind] = tally.refused.get(kind, 0) + 1
            if not str(error).strip() or len(str(error)) > fuzz_areas.MOST_CHARACTERS:
                tally.add(Finding(tally.done, f"message of {len(str(error))} characters", kind))
        except (Exception, TookTooLong) as error:
            tally.add(Finding(tally.done, f"{type(error).__name__}: {str(error)[:300]}", _where(error)))
        tally.done += 1
        if tally.done % SAVE_EVERY == 0 or tally.done == until:
            tally.seconds = before_s + time.monotonic() - began
            save()
    if mark is not None:
        mark.unlink(missing_ok=True)


def _where(error: BaseException) -> str:
    """The innermost line of this package in a traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "lisard_ros" in Path(frame.filename).parts[-4:]]
    frame = (ours or list(frames))[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def load(path: Path, seed: int, cases: int, areas: list[str]) -> Report:
    """The report of an earlier run with this seed, or a new one."""
    kept: dict[str, Tally] = {}
    if path.exists():
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["seed"] != seed:
            raise SystemExit(
                f"{path} is of seed {document['seed']}: give --seed {document['seed']} or another --report"
            )
        for name, entry in document["areas"].items():
            findings = [Finding(**finding) for finding in entry.pop("findings")]
            kept[name] = Tally(**entry, findings=findings)
    return Report(seed, cases, {name: kept.get(name, Tally()) for name in {**dict.fromkeys(areas), **kept}})


def save(report: Report, path: Path) -> None:
    """Write the report; an interrupted write leaves the old one."""
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder for the files of the cases, in memory where that is possible."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="lisard_fuzz_", dir=place) as folder:
        yield Path(folder)


def limit_memory() -> None:
    """Let an allocation without measure fail in this process instead of taking the machine's memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def keep_noise(log: Path) -> None:
    """Send what decoders write about damaged data, and the last words of a process that ends, to a file."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def main() -> int:
    """Run; exit status 1 when there are findings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000, help="over all areas (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--areas", default=",".join(fuzz_areas.AREAS), help="default: %(default)s")
    parser.add_argument("--report", type=Path, default=ROOT / "out/fuzz.json")
    parser.add_argument("--only", metavar="AREA:CASE", help="run one case and show what it raises")
    arguments = parser.parse_args()
    names = [name for name in arguments.areas.split(",") if name]
    with workplace() as folder:
        if arguments.only:
            name, _, number = arguments.only.partition(":")
            area = fuzz_areas.AREAS[name](folder)
            print(run_case(area.case, f"{arguments.seed}:{name}:{number}", CASE_LIMIT_S))
            return 0
        arguments.report.parent.mkdir(parents=True, exist_ok=True)
        keep_noise(arguments.report.with_suffix(".log"))
        report = load(arguments.report, arguments.seed, arguments.cases, names)
        for name in names:
            tally = report.areas[name]
            until = arguments.cases * fuzz_areas.SHARES[name] // sum(fuzz_areas.SHARES[one] for one in names)
            area = fuzz_areas.AREAS[name](folder)
            limit_memory()
            run_area(area, tally, report.seed, until, lambda: save(report, arguments.report), arguments.report.parent)
            found = sum(tally.found.values())
            print(
                f"{name}: {tally.done} cases, {tally.accepted} accepted, {sum(tally.refused.values())} refused, "
                f"{found} findings, {tally.seconds:.0f} s",
                flush=True,
            )
            for kind, count in tally.found.items():
                print(f"  {count} x {kind}", flush=True)
    return 0 if report.clean else 1


if __name__ == "__main__":
    sys.exit(main())
