"""The training loop: views, loss, step, checkpoint; resumes exactly where a run was interrupted.

Two views of a batch go through one network. The first is the augmented picture, the second the same with noise.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from lisard_ros.errors import DataError, LisardError

from . import checkpoint, data, losses, networks, steps
from .checkpoint import Checkpoint, EpochRecord
from .recipes import Recipe

TIMING_STEPS = 10
PRECISIONS = ("float32", "bfloat16")


class TrainingError(LisardError):
    """Training cannot go on."""


@dataclass
class Run:
    """What changes while training; everything else is in the recipe."""

    recipe: Recipe
    split: data.Split
    network: nn.Module
    optimiser: torch.optim.SGD
    generator: torch.Generator
    device: torch.device
    precision: str
    data_sha256: str
    epoch: int = 0
    step: int = 0
    history: tuple[EpochRecord, ...] = ()

    @property
    def steps_per_epoch(self) -> int:
        return len(self.split.train) // self.recipe.optimiser.batch


def fit(
    recipe: Recipe,
    split: data.Split,
    folder: Path,
    *,
    device: str = "cpu",
    stop_after: int | None = None,
    show: bool = True,
) -> Run:
    """Trains to the recipe's last epoch (or to `stop_after`), with a checkpoint after each.

    Goes on from the checkpoint in the folder, if there is one.
    """
    run = start(recipe, split, folder, device)
    last = min(recipe.optimiser.epochs, stop_after or recipe.optimiser.epochs)
    if show:
        tqdm.write(f"{recipe.name}: epochs {run.epoch + 1} to {last}, {run.precision} on {run.device}")
    while run.epoch < last:
        record = run_epoch(run, show)
        run.epoch, run.history = record.epoch, (*run.history, record)
        checkpoint.write(folder, _snapshot(run))
    return run


def start(recipe: Recipe, split: data.Split, folder: Path, device: str) -> Run:
    """A new run, or the one that the folder's checkpoint holds."""
    data.check_batch(recipe.optimiser.batch, len(split.train))
    torch.manual_seed(recipe.seed)
    where = torch.device(device)
    network = _network(recipe, split, where)
    generator = torch.Generator().manual_seed(recipe.seed)
    run = Run(
        recipe, split, network, make_optimiser(network, recipe), generator, where, "float32", split.train.sha256()
    )
    if (folder / checkpoint.FILE_NAME).is_file():
        _resume(run, checkpoint.read(folder))
    else:
        run.precision = choose_precision(recipe, split, where)
    return run


def _network(recipe: Recipe, split: data.Split, device: torch.device) -> nn.Module:
    network = networks.training(recipe, len(split.train.classes)).to(device)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def make_optimiser(network: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """SGD with two groups: parameters with ndim != 1, then biases and batch norm."""
    settings = recipe.optimiser
    weights = [p for p in network.parameters() if p.ndim != 1]
    one_dim = [p for p in network.parameters() if p.ndim == 1]
    groups = [
        {"params": weights, "weight_decay": settings.weight_decay},
        {"params": one_dim, "weight_decay": settings.weight_decay if settings.decay_one_dim else 0.0},
    ]
    return torch.optim.SGD(groups, lr=0.0, momentum=settings.momentum, nesterov=True)


def _resume(run: Run, saved: Checkpoint) -> None:
    if saved.recipe != run.recipe:
        raise DataError(
            "checkpoint in the output folder",
            found=f"another recipe ({saved.recipe.name})",
            expected="this recipe",
            cure="choose another --out",
        )
    if saved.data_sha256 != run.data_sha256:
        raise DataError(
            "checkpoint in the output folder",
            found="other training pictures",
            expected="the same pictures",
            cure="check --data",
        )
    saved.load_into(run.network)
    for name, parameter in run.network.named_parameters():
        run.optimiser.state[parameter]["momentum_buffer"] = saved.momentum[name].to(parameter)
    run.generator.set_state(saved.random)
    run.precision, run.epoch, run.step, run.history = saved.precision, saved.epoch, saved.step, saved.history


def _snapshot(run: Run) -> Checkpoint:
    momentum = {name: run.optimiser.state[p]["momentum_buffer"] for name, p in run.network.named_parameters()}
    return Checkpoint(
        run.recipe,
        run.split.train.classes,
        run.data_sha256,
        run.precision,
        run.epoch,
        run.step,
        run.history,
        dict(run.network.state_dict()),
        momentum,
        run.generator.get_state(),
    )


def run_epoch(run: Run, show: bool) -> EpochRecord:
    """Every training picture once, then the validation pictures."""
    run.network.train()
    begun = time.monotonic()
    total, parts = torch.zeros((), device=run.device), torch.zeros(len(steps.PARTS), device=run.device)
    for part in _progress(run, show):
        loss = step(run, part)
        total, parts = total + loss.total.detach() / run.steps_per_epoch, parts + loss.parts / run.steps_per_epoch
        if not math.isfinite(float(total)):
            raise TrainingError(
                "training stopped",
                found=f"loss {float(total)} in epoch {run.epoch + 1}, step {run.step}",
                expected="a finite loss",
                cure="lower optimiser.peak_rate",
            )
    validation = accuracy(run.network, run.split.validation, run.device, run.precision)
    clean, noisy, *terms = parts.tolist()
    seconds = time.monotonic() - begun
    record = EpochRecord(run.epoch + 1, float(total), (clean + noisy) / 2, terms[0], validation, seconds, *terms[1:])
    if show:
        tqdm.write(
            f"epoch {record.epoch}: loss {record.loss:.4f}, validation {100 * validation:.2f} %, {record.seconds:.0f} s"
        )
    return record


def _progress(run: Run, show: bool) -> Iterator[Tensor]:
    parts = data.batches(len(run.split.train), run.recipe.optimiser.batch, run.generator)
    title = f"{run.recipe.name} {run.epoch + 1}/{run.recipe.optimiser.epochs}"
    return iter(tqdm(parts, title, run.steps_per_epoch, leave=False, disable=not show, mininterval=5))


def step(run: Run, part: Tensor) -> steps.StepLoss:
    """Views, loss, gradients and one change of the weights, for the training pictures at the positions `part`."""
    set_rates(run.optimiser, _rates(run))
    context = steps.Context(run.recipe, run.epoch, run.generator, run.device, run.precision)
    seen = steps.views(data.to_unit(run.split.train.images[part]), run.split.train.labels[part], context)
    loss = steps.compute(run.network, seen, context)
    run.optimiser.zero_grad(set_to_none=True)
    loss.total.backward()
    run.optimiser.step()
    run.step += 1
    return loss


def _rates(run: Run) -> losses.Rates:
    settings = run.recipe.optimiser
    if settings.schedule == "official":
        return losses.rates_official(
            run.step, run.steps_per_epoch, settings.batch, settings.epochs, settings.official_warm_up
        )
    whole = settings.epochs * run.steps_per_epoch
    return losses.rates_one_cycle(run.step, whole, settings.peak_rate, settings.warm_up_share)


def set_rates(optimiser: torch.optim.Optimizer, rates: losses.Rates) -> None:
    """Sets the learning rates of the two groups of `make_optimiser`."""
    for group, rate in zip(optimiser.param_groups, (rates.weights, rates.one_dim), strict=True):
        group["lr"] = rate


@torch.no_grad()
def accuracy(
    network: nn.Module, pictures: data.Pictures, device: torch.device, precision: str, batch: int = 256
) -> float:
    """Share of pictures whose highest logit is their label, in eval mode."""
    network.eval()
    right = 0
    for start_at in range(0, len(pictures), batch):
        x = data.to_unit(pictures.images[start_at : start_at + batch]).to(device, memory_format=torch.channels_last)
        with steps.arithmetic(device, precision):
            guess = network(x)[1].argmax(1).cpu()
        right += int((guess == pictures.labels[start_at : start_at + batch]).sum())
    return right / max(1, len(pictures))


def choose_precision(recipe: Recipe, split: data.Split, device: torch.device) -> str:
    """The recipe's arithmetic; `auto` times a few steps of each and takes the faster (a GPU always gets bfloat16)."""
    if recipe.precision != "auto":
        return recipe.precision
    if device.type == "cuda":
        return "bfloat16"
    times = {precision: _time_steps(recipe, split, device, precision) for precision in PRECISIONS}
    return min(times, key=lambda precision: times[precision])


def _time_steps(recipe: Recipe, split: data.Split, device: torch.device, precision: str) -> float:
    """Seconds of the fastest of a few steps on a throw-away copy of the run."""
    with torch.random.fork_rng(devices=[]):
        network = _network(recipe, split, device)
    trial = Run(
        recipe, split, network, make_optimiser(network, recipe), torch.Generator().manual_seed(0), device, precision, ""
    )
    network.train()
    part = torch.arange(recipe.optimiser.batch)
    times = []
    for _ in range(TIMING_STEPS):
        begun = time.perf_counter()
        step(trial, part)
        times.append(time.perf_counter() - begun)
    return min(times)
