"""README and guides: the measured tables and every figure with an interval come from the result files."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
QUOTED = re.compile(r"([+-]?\d+\.\d)(?: %)?\s*\[([+-]?\d+\.\d),\s*([+-]?\d+\.\d)\]")
Figure = tuple[float, float, float]


def test_the_measured_table_is_generated_from_the_result_files():
    done = subprocess.run([sys.executable, str(ROOT / "bench/readme_results.py"), "--check"], check=False)
    assert done.returncode == 0, "run: python3 bench/readme_results.py"


def unsigned(value: float, low: float, high: float) -> Figure:
    """A figure and its interval, whichever of two models was taken from the other."""
    return abs(value), *sorted((abs(low), abs(high)))


def measured(content: object) -> Iterator[Figure]:
    """Every share and difference with an interval, in %, as documents round it."""
    if isinstance(content, list):
        for part in content:
            yield from measured(part)
    elif isinstance(content, dict):
        value = content.get("value", content.get("share"))
        if value is not None and {"low", "high"} <= content.keys():
            yield unsigned(*(float(f"{100 * number:.1f}") for number in (value, content["low"], content["high"])))
        yield from measured(list(content.values()))


def test_every_figure_with_an_interval_is_in_the_result_files():
    known = {one for path in ROOT.glob("docs/results/*.json") for one in measured(json.loads(path.read_text()))}
    quoted = {
        (document.name, *found)
        for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
        for found in QUOTED.findall(document.read_text(encoding="utf-8"))
    }
    assert len(quoted) > 100
    assert not [figure for figure in quoted if unsigned(*map(float, figure[1:])) not in known]
