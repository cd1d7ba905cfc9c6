"""kill -9 at any step, or in the middle of saving: resumed, the weights are those of an uninterrupted training."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lisard_trainer.training import checkpoint

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LIMIT_S = 500  # takes 15 on a free core
pytestmark = pytest.mark.timeout(LIMIT_S)


@pytest.mark.parametrize("seed", [0])
def test_killed_training_ends_with_the_same_bits(tmp_path, seed):
    paths = os.pathsep.join(str(ROOT / part) for part in (".", "trainer", "engines"))
    done = subprocess.run(
        [sys.executable, str(HERE / "killed_training.py"), str(tmp_path), str(seed)],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) >= 3, "hardly any child was killed"
    for name in (checkpoint.FILE_NAME, checkpoint.BEST_FILE_NAME):
        whole, killed = (checkpoint.read_file(tmp_path / run / name) for run in ("whole", "killed"))
        assert whole.step == killed.step
        for part in ("network", "raw", "optimizer_state"):
            one, other = getattr(whole, part), getattr(killed, part)
            assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
        assert torch.equal(whole.random, killed.random)
    for log in ("epochs.csv", "steps.csv"):
        lines = [list(csv.reader((tmp_path / run / log).open())) for run in ("whole", "killed")]
        assert [row[0] for row in lines[0]] == [row[0] for row in lines[1]]
    assert not list((tmp_path / "killed").glob("*.partial"))
