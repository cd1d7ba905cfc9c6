"""How long newcomers need: every block of a page, pasted into one shell of a fresh clone with an empty home, timed.

    python bench/newcomers.py --images FOLDER --recording BAG [--only own_images]

FOLDER, with class folders, and BAG are what two of them bring: they stand for IMAGES and DRIVE of the pages. Nothing of
this checkout's environment is used: each newcomer sets up as the page says, from the package index. A block that fails
ends the run with status 1. Writes docs/results/newcomers.json and .md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lisard_ros import host_cpu

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import tutorial_blocks  # noqa: E402

sys.path.remove(str(ROOT / "scripts"))
JSON = ROOT / "docs/results/newcomers.json"
TABLE = JSON.with_suffix(".md")
# What newcomers without a ROS installation paste: blocks that run anywhere, the set-up, and those with their own files.
PASTED = ("", tutorial_blocks.SET_UP, tutorial_blocks.OWN_FILES)
NODE_S = 20
# A reading: whether the result is there, the clock, and the CPU time of all that has ended.
START = """set -eo pipefail
{nodes}
step() {{ {{ [ -e {result} ] && echo yes || echo no; echo "$EPOCHREALTIME"; times; }} >> {marks}; }}
step
git clone -q {source} lisard_ros
cd lisard_ros
{own}
step
"""


@dataclass(frozen=True)
class Newcomer:
    """Somebody with an aim. result: the file of the clone that they came for; limit_s: when it should exist.

    brings: the option with what they have.
    """

    page: str
    words: str
    result: str
    limit_s: int
    brings: str = ""


NEWCOMERS = {
    "demonstration": Newcomer("index.md", "runs the demonstration", "out/demo/report.html", 300),
    "laptop": Newcomer("tutorials/laptop.md", "has a laptop without ROS", "replay.html", 300),
    "own_images": Newcomer("tutorials/own_images.md", "has 1,000 images", "models/lights/bundle.json", 900, "images"),
    "bag": Newcomer("tutorials/bag_to_verdict.md", "has a bag and a limit", "verdict.html", 300, "recording"),
}


@dataclass(frozen=True)
class Reading:
    """What the shell found between two blocks."""

    there: bool
    clock_s: float
    cpu_s: float


@dataclass(frozen=True)
class Step:
    """One block. cpu_s: of all its processes that ended in it, user and system time."""

    heading: str
    first_line: str
    seconds: float
    cpu_s: float


@dataclass(frozen=True)
class Outcome:
    """What a newcomer needed, from the clone on. result_s: until the result was there; None: never."""

    name: str
    page: str
    steps: tuple[Step, ...]
    seconds: float
    cpu_s: float
    result: str
    result_s: float | None
    limit_s: int


def main() -> int:
    """Let them paste, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=NEWCOMERS, help="a newcomer (default: all)")
    parser.add_argument("--images", type=Path, help="class folders of the one who brings images")
    parser.add_argument("--recording", type=Path, help="the recording of the one who brings a bag")
    parser.add_argument("--folder", type=Path, help="where they work; kept (default: a temporary folder)")
    options = parser.parse_args()
    names = options.only or list(NEWCOMERS)
    for name in names:
        if (option := NEWCOMERS[name].brings) and not (getattr(options, option) or Path("?")).exists():
            parser.error(f"--{option}: expected a path that exists")
    report: dict[str, Any] = {"schema_version": 1, "newcomers": {}}
    if JSON.exists():
        report = json.loads(JSON.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="lisard_newcomers_") as temporary:
        for name in names:
            folder = (options.folder or Path(temporary)) / name
            shutil.rmtree(folder, ignore_errors=True)
            brings = NEWCOMERS[name].brings
            outcome = newcomer(name, folder, getattr(options, brings) if brings else None)
            report["newcomers"][name] = {**asdict(outcome), **measured_on()}
            JSON.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
            TABLE.write_text(table(report), encoding="utf-8")
    print(table(report))
    return 0


def newcomer(name: str, folder: Path, brought: Path | None) -> Outcome:
    """Let one paste all blocks of the page; SystemExit with the end of what the shell printed when one fails."""
    who = NEWCOMERS[name]
    pasted = [block for block in tutorial_blocks.blocks(ROOT / "docs" / who.page) if block.mark in PASTED]
    (folder / "home").mkdir(parents=True)
    marks, log = folder / "marks", folder / "log"
    print(f"{name}: {len(pasted)} blocks, see {log}", flush=True)
    with log.open("w", encoding="utf-8") as output:
        command = ["bash", "-c", script(who, marks, pasted, brought)]
        environment = variables(folder / "home")
        done = subprocess.run(command, cwd=folder, env=environment, stdout=output, stderr=output, check=False)
    taken = readings(marks.read_text(encoding="utf-8"))
    if done.returncode:
        end = log.read_text(encoding="utf-8", errors="replace")[-3000:]
        where = f"{who.page}: block {len(taken) - 1} of {len(pasted)}"
        raise SystemExit(f"{end}\n{where} ended with status {done.returncode}")
    titles = [("Get the code", "git clone"), *((block.heading, block.text.splitlines()[0]) for block in pasted)]
    began, *_, ended = taken
    return Outcome(
        name,
        who.page,
        timed(titles, taken),
        round(ended.clock_s - began.clock_s, 1),
        round(ended.cpu_s - began.cpu_s, 1),
        who.result,
        next((round(one.clock_s - began.clock_s, 1) for one in taken if one.there), None),
        who.limit_s,
    )


def variables(home: Path) -> dict[str, str]:
    """What a terminal of somebody else has: nothing of this environment but how pip reaches its index."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.endswith("_proxy")}
    return {**kept, "HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}


def script(who: Newcomer, marks: Path, pasted: list[tutorial_blocks.Block], brought: Path | None) -> str:
    """The blocks as one shell program, with a reading before the clone and after each block."""
    own = []
    if brought is not None and who.brings == "images":
        photo = next(path for path in sorted(brought.rglob("*")) if path.is_file())
        own = [
            f"ln -s {shlex.quote(str(brought.resolve()))} IMAGES",
            f"cp {shlex.quote(str(photo.resolve()))} photo.jpg",
        ]
    elif brought is not None:
        own = [f"ln -s {shlex.quote(str(brought.resolve()))} DRIVE"]
    bodies = [
        block.text if block.language == "bash" else f"python - <<'END_OF_BLOCK'\n{block.text}END_OF_BLOCK\n"
        for block in pasted
    ]
    start = START.format(
        nodes=tutorial_blocks.ENDING_NODES % NODE_S,
        result=shlex.quote(who.result),
        marks=shlex.quote(str(marks.resolve())),
        source=shlex.quote(str(ROOT)),
        own="\n".join(own),
    )
    return start + "".join(f"{body}step\n" for body in bodies)


def readings(marks: str) -> list[Reading]:
    """What the shell wrote, four lines each time: yes or no, the clock, and two lines of `times`."""
    lines = marks.splitlines()
    found = []
    for start in range(0, len(lines) - len(lines) % 4, 4):
        there, clock, *times = lines[start : start + 4]
        parts = re.findall(r"(\d+)m([\d.]+)s", " ".join(times))
        found.append(Reading(there == "yes", float(clock), sum(60 * int(m) + float(s) for m, s in parts)))
    return found


def timed(titles: list[tuple[str, str]], taken: list[Reading]) -> tuple[Step, ...]:
    """The steps, from the readings before and after each."""
    return tuple(
        Step(heading, line, round(after.clock_s - before.clock_s, 1), round(after.cpu_s - before.cpu_s, 1))
        for (heading, line), before, after in zip(titles, taken, taken[1:], strict=False)
    )


def measured_on() -> dict[str, Any]:
    """Which version, when, and on what machine."""
    command = ["git", "rev-parse", "HEAD"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return {
        "commit": done.stdout.strip(),
        "date": datetime.date.today().isoformat(),
        "machine": {
            "cpu": host_cpu.cpu_name(),
            "cores": os.cpu_count(),
            "load_1min": round(os.getloadavg()[0], 1),
            "python": platform.python_version(),
        },
    }


def minutes(seconds: float) -> str:
    """Seconds as a table shows them."""
    return f"{seconds / 60:.1f}"


def table(report: dict[str, Any]) -> str:
    """The page: one line for each newcomer, then the steps of each."""
    lines = [
        "# Three newcomers",
        "",
        "Generated by bench/newcomers.py. Each newcomer starts with an empty home folder, clones the repository, and",
        "pastes every block of one page into one terminal. The time of a step is what the clock showed. CPU time is",
        "that of all its processes. The load is the mean number of processes that wanted a core in the last minute.",
        "",
        "| newcomer | page | result | minutes to the result | at most | minutes for the page | CPU minutes | load |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, one in report["newcomers"].items():
        who = NEWCOMERS[name]
        reached = "not reached" if one["result_s"] is None else minutes(one["result_s"])
        cells = [
            who.words,
            f"[{who.page}](../{who.page})",
            f"`{one['result']}`",
            reached,
            *(minutes(one[key]) for key in ("limit_s", "seconds", "cpu_s")),
            str(one["machine"]["load_1min"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    for name, one in report["newcomers"].items():
        lines += [
            "",
            f"## The one who {NEWCOMERS[name].words}",
            "",
            "| part of the page | first line | s | CPU s |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {step['heading']} | `{step['first_line']}` | {step['seconds']:.0f} | {step['cpu_s']:.0f} |"
            for step in one["steps"]
        ]
        machine = one["machine"]
        where = f"{machine['cpu']}, {machine['cores']} cores · Python {machine['python']}"
        lines += ["", f"{one['date']} · commit {one['commit'][:10]} · {where}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
