"""Writes the parameter table of docs/node.md and config/perception.yaml from the one table of parameters.

Run `python3 -m lisard_ros.node.parameter_docs` in a checkout after a change; a test fails until that is done.
"""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path

from lisard_ros.node.parameters import TABLE, ParameterSpec, Value

BEGIN, END = "<!-- parameters: generated -->", "<!-- end of parameters -->"
YAML_HEAD = """\
# Parameters of the node perception with their defaults; generated from lisard_ros/node/parameters.py.
# ros2 run lisard_ros perception_node --ros-args --params-file perception.yaml
# Quote class names: unquoted y, n, on, off, yes, no are booleans in YAML, and 30 is a number.
# An empty list or text is what a line that is left out means, as here with a comment sign.
perception:
  ros__parameters:
"""


def shown(value: Value) -> str:
    """Return a value as it is written in YAML (and JSON)."""
    if isinstance(value, tuple):
        return "[" + ", ".join(shown(item) for item in value) + "]"
    return json.dumps(value)


def table() -> str:
    """Return the parameters as a Markdown table."""
    lines = ["| parameter | meaning | default | type, range | at run time |", "|---|---|---|---|---|"]
    return "\n".join(lines + [_row(spec) for spec in TABLE])


def yaml_file() -> str:
    """Return the text of config/perception.yaml."""
    return YAML_HEAD + "\n".join(_yaml_lines(spec) for spec in TABLE) + "\n"


def help_lines() -> list[str]:
    """Return each parameter as a few lines of plain text for a terminal."""
    lines = []
    for spec in TABLE:
        unit = f", in {spec.unit}" if spec.unit else ""
        lines.append(f"  {spec.name}: {spec.expected}{unit}; default {shown(spec.default)}")
        lines += textwrap.wrap(spec.description, 100, initial_indent="      ", subsequent_indent="      ")
    return lines


def with_table(document: str) -> str:
    """Return a Markdown document with the generated table between its two marks."""
    head, _, rest = document.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{table()}\n{END}{tail}"


def main(root: Path) -> int:
    """Write both files below `root`."""
    docs = root / "docs/node.md"
    docs.write_text(with_table(docs.read_text(encoding="utf-8")), encoding="utf-8")
    (root / "config/perception.yaml").write_text(yaml_file(), encoding="utf-8")
    return 0


def _row(spec: ParameterSpec) -> str:
    limits = "" if spec.low is None else f"{spec.low:g} to {spec.high:g}"
    limits = " / ".join(spec.choices) or limits
    change = "fixed" if spec.read_only else "can change"
    unit = f" ({spec.unit})" if spec.unit else ""
    kind = f"{spec.kind}, {limits}" if limits else spec.kind
    return f"| `{spec.name}` | {spec.description}{unit} | `{shown(spec.default)}` | {kind} | {change} |"


def _yaml_lines(spec: ParameterSpec) -> str:
    unit = f" Unit: {spec.unit}." if spec.unit else ""
    sign = "# " if spec.default in ((), "") else ""
    return f"    # {spec.description}{unit} ({spec.expected})\n    {sign}{spec.name}: {shown(spec.default)}"


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parents[2]))
