"""The training loop: batch, loss, step, checkpoint; resumes exactly where a run was interrupted.

What a step computes depends on the task (task.py), what a run consists of is in state.py.
"""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from .. import data, task_registry
from ..recipes import MOST_SEED
from . import checkpoint, distributed, logger, state
from .distributed import Team
from .divergence import DivergenceGuard, Meter, StepValues, check_epoch
from .logger import RunLogger
from .optimizer import rates, set_rates
from .records import Epoch
from .state import Run
from .task import R, S

TIMING_STEPS = 10
TIMED_PRECISIONS = ("float32", "bfloat16")
LOG_STEPS = 20  # steps between rows of steps.csv, and between looks at the loss


def fit(
    recipe: R,
    split: S,
    folder: Path,
    *,
    device: str = "cpu",
    stop_after: int | None = None,
    show: bool = True,
    board: bool = False,
) -> Run[R, S, Any]:
    """Trains to the recipe's last epoch (or to `stop_after`), with a checkpoint and log rows after each.

    Goes on from the checkpoint in the folder, if there is one. Under torchrun every process calls this; the first
    writes and speaks. board: TensorBoard files as well.
    """
    fabric, team = distributed.launch(device)
    with logger.alone(folder) if team.leads else nullcontext():
        run = start(recipe, split, folder, fabric.device, team)
        last = min(recipe.optimizer.epochs, stop_after or recipe.optimizer.epochs)
        if team.leads:
            _announce(run, last, show)
        _epochs(run, folder, last, show and team.leads, board)
    return run


def start(
    recipe: R, split: S, folder: Path, device: torch.device | str = "cpu", team: Team | None = None
) -> Run[R, S, Any]:
    """A new run, or the one that the folder's checkpoint holds."""
    run = state.begin(recipe, split, torch.device(device), team or Team())
    if (folder / checkpoint.FILE_NAME).is_file():
        state.resume(run, checkpoint.read_file(folder / checkpoint.FILE_NAME), folder)
    else:
        state.load_first_weights(run)
        state.settle(run, choose_precision(run))
    return run


def _announce(run: Run, last: int, show: bool) -> None:
    processes = f" in {run.team.size} processes" if run.team.size > 1 else ""
    if show and run.epoch >= last:
        tqdm.write(f"{run.recipe.name}: its {run.epoch} epochs are trained already")
    elif show:
        tqdm.write(f"{run.recipe.name}: epochs {run.epoch + 1} to {last}, {run.precision} on {run.device}{processes}")
    advice = task_registry.of(run.recipe).advice(run)
    if advice and run.epoch < last:
        tqdm.write(f"lisard: warning: {advice}", file=sys.stderr)


def _epochs(run: Run, folder: Path, last: int, show: bool, board: bool) -> None:
    kinds = task_registry.of(run.recipe).records
    run_logger = RunLogger(folder, run.step, run.history, kinds, board) if run.team.leads else None
    guard = task_registry.of(run.recipe).divergence_guard(len(run.split.train.classes))
    try:
        while run.epoch < last:
            record = run_epoch(run, guard, show, run_logger)
            check_epoch(run.network, record, _cure(run))
            run.epoch, run.history = record.epoch, (*run.history, record)
            if run_logger is not None:
                run_logger.write_steps()
                state.save(run, folder)
                run_logger.epoch(run.history, run.step)
    finally:
        if run_logger is not None:
            run_logger.close()


# One epoch ------------------------------------------------------------------------------------------------------------


def run_epoch(run: Run, guard: DivergenceGuard, show: bool = False, run_logger: RunLogger | None = None) -> Epoch:
    """Every training image once, then the validation images; returns the record of the task."""
    run.network.train()
    # Layers with chance (dropout) draw from torch's own generator: seeded anew in each epoch and process, so that a
    # resumed run draws the same.
    torch.manual_seed(((run.recipe.seed * 1_000_003 + run.epoch) * 1_009 + run.team.rank) % (MOST_SEED + 1))
    begun = time.monotonic()
    seen = _steps(run, guard, show, run_logger)
    task = task_registry.of(run.recipe)
    record = task.epoch_record(run, seen, begun)
    if show:
        tqdm.write(f"epoch {record.epoch}: loss {record.loss:.4f}, {task.said(record)}, {record.seconds:.0f} s")
    return record


def _steps(run: Run, guard: DivergenceGuard, show: bool, run_logger: RunLogger | None) -> list[StepValues]:
    meter, seen = Meter(run.team), []
    settings, task = run.recipe.optimizer, task_registry.of(run.recipe)
    parts = data.batches(
        len(run.split.train),
        settings.batch_size,
        run.generator,
        settings.shuffle,
        settings.drop_last,
        task.image_shares(run.recipe, run.split),
    )
    kept = (part for part in parts if len(part) >= run.team.size)
    title = f"{run.recipe.name} {run.epoch + 1}/{settings.epochs}"
    mark = time.monotonic()
    for part in tqdm(kept, title, run.steps_per_epoch, leave=False, disable=None if show else True, mininterval=5):
        loss = step(run, part)
        meter.add(loss, run.step, run.optimizer.param_groups[0]["lr"])
        if len(meter) == LOG_STEPS or run.step % run.steps_per_epoch == 0:
            values = meter.read()
            guard.check(values, run.epoch + 1, _cure(run))
            seen += values
            if run_logger is not None:
                count, seconds = len(values), max(time.monotonic() - mark, 1e-9)
                means = [sum(column) / count for column in zip(*(v.parts for v in values), strict=True)]
                speed, total = round(count * settings.batch_size / seconds, 1), sum(v.total for v in values) / count
                run_logger.step(
                    task.records.step(values[-1].step, run.epoch + 1, speed, values[-1].rate, total, *means)
                )
            mark = time.monotonic()
    return seen


def _cure(run: Run) -> str:
    settings = run.recipe.optimizer
    official = settings.schedule == "official"
    rate = f"optimizer.batch_size ({settings.batch_size})" if official else f"optimizer.max_lr ({settings.max_lr:g})"
    kept = f"; the checkpoint of epoch {run.epoch} is intact" if run.epoch else ""
    return f"lower {rate} in the recipe and choose another --out{kept}"


def step(run: Run, part: Tensor) -> Any:
    """Views, loss, gradients and one change of the weights, for the training images at the positions `part`."""
    set_rates(run.optimizer, rates(run.recipe, run.step, run.steps_per_epoch))
    loss = task_registry.of(run.recipe).loss(run, part)
    run.optimizer.zero_grad(set_to_none=True)
    loss.total.backward()
    run.team.average_gradients(run.network.parameters())
    run.optimizer.step()
    run.step += 1
    if run.average is not None:
        run.average.update(run.network, run.step)
    return loss


def choose_precision(run: Run) -> str:
    """The recipe's arithmetic; `auto` times a few steps of each and takes the faster (a GPU always gets bfloat16)."""
    if run.recipe.precision != "auto":
        return run.recipe.precision
    if run.device.type == "cuda":
        return "bfloat16"
    times = {precision: _time_steps(run, precision) for precision in TIMED_PRECISIONS}
    return str(run.team.adopt(min(times, key=lambda precision: times[precision])))


def _time_steps(run: Run, precision: str) -> float:
    """CPU seconds of the fastest of a few steps on a throw-away copy of the run; other work hardly moves them."""
    with torch.random.fork_rng(devices=[]):
        trial = state.begin(run.recipe, run.split, run.device, run.team)
        trial.precision = precision
        trial.network.train()
        part = torch.arange(run.recipe.optimizer.batch_size)
        times = []
        for _ in range(TIMING_STEPS):
            begun = time.process_time()
            step(trial, part)
            times.append(time.process_time() - begun)
    return min(times)
