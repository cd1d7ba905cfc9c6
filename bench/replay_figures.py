"""Write the table of docs/replay.md from docs/results/replay_speed.json, replay_memory.json and replay_page.json.

Run: python bench/replay_figures.py [--check]. `--check` changes nothing and reports whether the table is up to date.
What was not measured has no row. How to measure: bench/replay_speed.py, bench/replay_memory.py, bench/replay_page.py.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from lisard_ros import provenance

ROOT = Path(__file__).resolve().parents[1]
PAGE, RESULTS = ROOT / "docs/replay.md", ROOT / "docs/results"
BEGIN, END = "<!-- figures:begin -->", "<!-- figures:end -->"
HEAD = "| what | figure | to reach | commit, CPU |\n|---|---|---|---|"


def read(name: str) -> Any:
    """Return what a bench measured, None where it did not run."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def row(what: str, figure: str, target: str, content: dict[str, Any]) -> str:
    """A row of the table, with where it was measured."""
    return f"| {what} | {figure} | {target} | `{provenance.short(content['commit'])}`, {content['cpu']} |"


def speed_rows(content: dict[str, Any]) -> list[str]:
    """Clean and attacked replays beside their parts alone."""
    rows = []
    for name in ("classifier", "detector"):
        one = content[name]
        slower = max(one["decode_ms"], one["inference_ms"])
        rows += [
            row(
                f"{name}: clean replay with one thread of inference, by the slower of decoding and inference alone "
                f"({1000 / slower:.0f} frames/s)",
                f"{one['replay_share']:.2f}x",
                ">= 0.9x",
                content,
            ),
            row(
                f"{name}: time under six conditions, by inference alone",
                f"{one['conditions_by_inference']:.2f}x",
                "<= 6.3x",
                content,
            ),
        ]
    return rows


def memory_rows(runs: list[dict[str, Any]]) -> list[str]:
    """How memory grows, as bench/replay_memory.py judges it: the slope, and the growth up to the end of the command."""
    rows = []
    for one in runs:
        conditions = 1 if one["injections"] == "none" else 2 + one["injections"].count(",")
        what = f"classifier, {one['frames']:,} frames, conditions: {conditions}"
        rows += [
            row(f"{what}: memory, slope", f"{one['slope_mb_an_hour']:.1f} MB an hour", "<= 10", one),
            row(f"{what}: memory, growth while frames are answered", f"{one['growth_in_the_pass_mb']:.1f} MB", "", one),
            row(f"{what}: memory, growth with report and JSON", f"{one['growth_with_report_mb']:.1f} MB", "<= 50", one),
        ]
    return rows


def page_rows(content: dict[str, Any]) -> list[str]:
    """The page of a replay in a browser."""
    what = f"page of {content['frames']} frames of a detector and {1 + content['injections'].count(',')} attacks"
    return [
        row(what, f"{content['size_mb']:.2f} MB", "<= 5", content),
        row(f"{what}, opened in Chromium", f"{content['opened_median_s']:.2f} s", "< 2", content),
    ]


def table() -> str:
    """The generated part of the page."""
    rows: list[str] = []
    for name, rows_of in (("speed", speed_rows), ("memory", memory_rows), ("page", page_rows)):
        content = read(f"replay_{name}")
        rows += rows_of(content["runs"] if name == "memory" else content) if content else []
    return "\n".join([HEAD, *rows])


def filled(text: str) -> str:
    """Return the text of the page with the table between its marks."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> int:
    """Fill the page, or say that it is out of date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    text = PAGE.read_text(encoding="utf-8")
    if filled(text) == text:
        return 0
    if options.check:
        print(f"{PAGE.name} is not what the results say: run python bench/replay_figures.py", file=sys.stderr)
        return 1
    PAGE.write_text(filled(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
