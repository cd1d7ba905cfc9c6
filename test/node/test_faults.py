"""Every fault of bench/faults.py in its short form: the node answers again, and every frame has an outcome."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from peers import ROOT

BENCH = ROOT / "bench/faults.py"


def names() -> list[str]:
    """The faults of the table, without importing what imports ROS."""
    tree = ast.parse(BENCH.read_text(encoding="utf-8"))
    tables = [
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets) == "FAULTS"
    ]
    assert isinstance(tables[0], ast.Dict)
    return [ast.literal_eval(key) for key in tables[0].keys if key is not None]


@pytest.mark.parametrize("fault", names())
def test_the_node_survives(fault: str, bundle: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCH), fault, "--short", "--bundle", str(bundle)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=230,
    )
    assert done.stdout, done.stderr
    findings = json.loads(done.stdout.splitlines()[-1])["findings"]
    assert findings and all(finding["holds"] for finding in findings), done.stdout
    assert done.returncode == 0, done.stderr
