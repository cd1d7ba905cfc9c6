"""The training loop: views, loss, step, checkpoint; resumes exactly where a run was interrupted.

Two views of a batch go through one network. The first is the augmented picture, the second the same with noise.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from lisard_ros.errors import DataError, LisardError

from . import augment, backbones, checkpoint, data, losses
from .checkpoint import Checkpoint, EpochRecord
from .recipes import Recipe

TIMING_STEPS = 10
PRECISIONS = ("float32", "bfloat16")


class TrainingError(LisardError):
    """Training cannot go on."""


@dataclass(frozen=True)
class StepLoss:
    """Loss of one step; `cross_entropy` is the mean over the views, `similarity` the unweighted term (0 without)."""

    total: Tensor
    cross_entropy: float
    similarity: float


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
    network = backbones.create(recipe.network, len(split.train.classes)).to(device)
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
    sums = [0.0, 0.0, 0.0]
    for part in _progress(run, show):
        loss = step(run, part)
        for position, value in enumerate((loss.total.item(), loss.cross_entropy, loss.similarity)):
            sums[position] += value / run.steps_per_epoch
        if not math.isfinite(sums[0]):
            raise TrainingError(
                "training stopped",
                found=f"loss {sums[0]} in epoch {run.epoch + 1}, step {run.step}",
                expected="a finite loss",
                cure="lower optimiser.peak_rate",
            )
    validation = accuracy(run.network, run.split.validation, run.device, run.precision)
    record = EpochRecord(run.epoch + 1, sums[0], sums[1], sums[2], validation, time.monotonic() - begun)
    if show:
        tqdm.write(
            f"epoch {record.epoch}: loss {record.loss:.4f}, validation {100 * validation:.2f} %, {record.seconds:.0f} s"
        )
    return record


def _progress(run: Run, show: bool) -> Iterator[Tensor]:
    parts = data.batches(len(run.split.train), run.recipe.optimiser.batch, run.generator)
    title = f"{run.recipe.name} {run.epoch + 1}/{run.recipe.optimiser.epochs}"
    return iter(tqdm(parts, title, run.steps_per_epoch, leave=False, disable=not show, mininterval=5))


def step(run: Run, part: Tensor) -> StepLoss:
    """Views, loss, gradients and one change of the weights, for the training pictures at the positions `part`."""
    set_rates(run.optimiser, _rates(run))
    settings = run.recipe.augment
    size_px = settings.size_px(run.recipe.data.size_px, run.epoch / run.recipe.optimiser.epochs)
    x = augment.clean_view(data.to_unit(run.split.train.images[part]), settings, run.generator, size_px)
    labels = run.split.train.labels[part].to(run.device)
    loss = _loss(run, x, labels)
    run.optimiser.zero_grad(set_to_none=True)
    loss.total.backward()
    run.optimiser.step()
    run.step += 1
    return loss


def _rates(run: Run) -> losses.Rates:
    settings = run.recipe.optimiser
    if settings.schedule == "official":
        return losses.rates_official(run.step, run.steps_per_epoch, settings.batch, settings.epochs)
    steps = settings.epochs * run.steps_per_epoch
    return losses.rates_one_cycle(run.step, steps, settings.peak_rate, settings.warm_up_share)


def set_rates(optimiser: torch.optim.Optimizer, rates: losses.Rates) -> None:
    """Sets the learning rates of the two groups of `make_optimiser`."""
    for group, rate in zip(optimiser.param_groups, (rates.weights, rates.one_dim), strict=True):
        group["lr"] = rate


def _loss(run: Run, x: Tensor, labels: Tensor) -> StepLoss:
    if run.recipe.views == 1:
        logits = _forward(run, x)[1]
        total = losses.cross_entropy(logits, labels, run.recipe.loss.label_smoothing)
        return StepLoss(total, total.item(), 0.0)
    noisy = augment.noisy_view(x, run.recipe.noise, run.generator)
    first = augment.first_view(x, run.recipe.noise, run.generator)
    (z_clean, clean), (z_noisy, noised) = _both(run, first, noisy)
    smoothing = run.recipe.loss.label_smoothing
    ce_clean, ce_noisy = (losses.cross_entropy(logits, labels, smoothing) for logits in (clean, noised))
    term = _similarity(run.recipe, z_clean, z_noisy)
    total = losses.combine(_alpha(run), ce_clean, ce_noisy, run.recipe.similarity.weight * term)
    return StepLoss(total, (ce_clean.item() + ce_noisy.item()) / 2, term.item())


def _both(run: Run, x: Tensor, noisy: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Both views: in one batch (shared batch statistics) or one after the other (as published)."""
    if run.recipe.forward == "separate":
        return _forward(run, x), _forward(run, noisy)
    embedding, logits = _forward(run, torch.cat([x, noisy]))
    (z_clean, z_noisy), (clean, noised) = embedding.chunk(2), logits.chunk(2)
    return (z_clean, clean), (z_noisy, noised)


def _forward(run: Run, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.to(run.device).contiguous(memory_format=torch.channels_last)
    with arithmetic(run.device, run.precision):
        return run.network(x)


def arithmetic(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Autocast to bfloat16, or plain float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def _similarity(recipe: Recipe, z_clean: Tensor, z_noisy: Tensor) -> Tensor:
    settings = recipe.similarity
    if settings.form == "none":
        return z_clean.new_zeros(())
    compared = losses.compare(z_clean, z_noisy)
    if settings.form == "official":
        return compared.barlow(settings.off_weight) / settings.temperature
    return compared.normalised(settings.off_weight)


def _alpha(run: Run) -> float:
    settings = run.recipe.loss
    if settings.alpha == "official":
        return losses.alpha_official(run.epoch)
    if settings.alpha == "rising":
        return losses.alpha_generalised(run.epoch + 1, run.recipe.optimiser.epochs)
    return settings.alpha_value


@torch.no_grad()
def accuracy(
    network: nn.Module, pictures: data.Pictures, device: torch.device, precision: str, batch: int = 256
) -> float:
    """Share of pictures whose highest logit is their label, in eval mode."""
    network.eval()
    right = 0
    for start_at in range(0, len(pictures), batch):
        x = data.to_unit(pictures.images[start_at : start_at + batch]).to(device, memory_format=torch.channels_last)
        with arithmetic(device, precision):
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
