"""Two real gloo processes do what one does: losses, gradients, batch statistics; and what does not fit is told."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from lisard_ros.errors import DataError, UsageError
from lisard_trainer import data, recipes
from lisard_trainer.training import checkpoint, distributed, loop
from lisard_trainer.training.distributed import Team

HERE = Path(__file__).resolve().parents[1]
ROOT = HERE.parents[1]
TOLERANCE = 1e-9
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "lisard_ros"]
LIMIT_S = 500  # takes 20 on a free core
pytestmark = pytest.mark.timeout(LIMIT_S)


def load_worker():
    spec = importlib.util.spec_from_file_location("two_processes", HERE / "two_processes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def environment() -> dict[str, str]:
    paths = os.pathsep.join(str(ROOT / part) for part in (".", "trainer", "engines"))
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What one process found, and what each of two did."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, str(HERE / "two_processes.py")]
    pair = [
        subprocess.Popen([*command, str(rank), "2", str(folder)], env=environment(), stderr=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    alone = load_worker().every_variant(Team())
    for process in pair:
        _, errors = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, errors
    return alone, [load_file(folder / f"{rank}.safetensors") for rank in (0, 1)]


@pytest.mark.parametrize("variant", load_worker().VARIANTS)
def test_two_times_16_equals_one_times_32(found, variant):
    alone, pair = found
    own = {name: value for name, value in alone.items() if name.startswith(variant + "/")}
    assert any("gradient." in name for name in own) and any("running_var" in name for name in own)
    for name, expected in own.items():
        for value in (process[name] for process in pair):
            error = (value - expected).abs().max() / expected.abs().max().clamp_min(1)
            assert error <= TOLERANCE, (name, float(error))


def test_both_processes_hold_the_same_weights_to_the_bit(found):
    first, second = found[1]
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first if "/after." in name)


def test_alone_nothing_is_exchanged():
    x = torch.randn(4, 3)
    team = Team()
    assert team.gather(x) is x and torch.equal(team.rows(x), x) and team.leads
    assert torch.equal(team.mean(x), x) and team.adopt("word") == "word"


def test_rows_cover_a_batch_once():
    x = torch.arange(10)
    parts = [Team(rank, 3).rows(x) for rank in range(3)]
    assert torch.stack(parts, 1).flatten().tolist() == list(range(9))


def test_batch_that_cannot_be_divided_is_refused():
    with pytest.raises(
        DataError, match="found 15 for 2 processes, expected a multiple of 2; change optimizer.batch_size"
    ):
        Team(0, 2).check_batch(15)


def test_batch_norms_are_replaced_under_their_names():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4, momentum=0.3), nn.BatchNorm1d(4)))
    before = network.state_dict()
    parameters = list(network.parameters())
    distributed.share_statistics(network)
    assert isinstance(network[1][0], distributed.WholeBatchNorm) and network[1][0].momentum == 0.3
    assert network.state_dict().keys() == before.keys()
    assert all(own is other for own, other in zip(network.parameters(), parameters, strict=True))
    x = torch.randn(2, 4, 3, 3)
    network.eval()
    assert torch.equal(network[1][0](x), nn.BatchNorm2d(4).eval()(x))


@pytest.mark.parametrize("device", ["gpu", "cpu:1", "cuda:x", "cuda:99", ""])
def test_unknown_device_is_refused(device):
    with pytest.raises(UsageError, match="--device"):
        distributed.launch(device)


def torchrun(arguments: list[str]) -> tuple[int, str]:
    """Exit status and all output; when it takes too long it is asked to end, and ends its processes."""
    command = [*TORCHRUN, *arguments]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            said, _ = process.communicate(timeout=LIMIT_S - 50)
        finally:
            process.terminate()
    return process.returncode, said


def test_torchrun_trains_as_one_process_does(shared_folder, tmp_path):
    """The command itself, two epochs; its files come from the first process alone."""
    path = tmp_path / "tiny.yaml"
    path.write_text(
        "{network: resnet14n, precision: float64, data: {size_px: 16, validation_share: 0.25},"
        " similarity: {form: normalised, features: 8}, optimizer: {epochs: 2, batch: 14, ema_decay: 0.9}}"
    )
    train = ["train", str(path), "--data", str(shared_folder), "--no-export", "--device", "cpu"]
    status, said = torchrun([*train, "--out", str(tmp_path / "two")])
    assert status == 0 and said.count("float64 on cpu in 2 processes") == 1, said
    recipe = recipes.read(path)
    loop.fit(recipe, data.load(recipe.data, str(shared_folder)), tmp_path / "one", show=False)
    one, two = (checkpoint.read(tmp_path / name) for name in ("one", "two"))
    assert max(float((one.network[k].double() - two.network[k].double()).abs().max()) for k in one.network) < TOLERANCE
    assert [row.epoch for row in two.history] == [1, 2]
    assert {path.name for path in (tmp_path / "two").iterdir()} == {path.name for path in (tmp_path / "one").iterdir()}
