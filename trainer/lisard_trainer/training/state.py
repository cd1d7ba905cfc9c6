"""What changes while training: made new, read from a checkpoint, or written to one."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic

import torch
from torch import nn

from lisard_ros.attacks.torch_model import channels_last
from lisard_ros.errors import DataError, UsageError

from .. import backbones, data, task_registry
from ..backbones import state_dict
from ..recipes import Init
from . import checkpoint, distributed, ema, initialization
from .checkpoint import Checkpoint
from .distributed import Team
from .optimizer import load_optimizer_state, make_optimizer, optimizer_state
from .task import E, R, S


@dataclass
class Run(Generic[R, S, E]):
    """What changes while training; everything else is in the recipe. Images are on the device.

    guide: a trained network that the loss looks at, and that stays as it is.

    Recipe, split and epochs are those of the task: the Run in its step.py.
    """

    recipe: R
    split: S
    network: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    device: torch.device
    precision: str
    team: Team = field(default_factory=Team)
    average: ema.Average | None = None
    guide: nn.Module | None = None
    started_from: str = ""
    epoch: int = 0
    step: int = 0
    history: tuple[E, ...] = ()

    @property
    def steps_per_epoch(self) -> int:
        """A last, smaller batch counts if the recipe keeps it and it has two rows, and one for every process."""
        whole, rest = divmod(len(self.split.train), self.recipe.optimizer.batch_size)
        return whole + (not self.recipe.optimizer.drop_last and rest >= max(2, self.team.size))

    @functools.cached_property
    def data_sha256(self) -> str:
        """Names the training images."""
        return self.split.train.sha256()

    @functools.cached_property
    def validation_sha256(self) -> str:
        """Names the images that each epoch is judged by."""
        return self.split.validation.sha256()

    @property
    def for_use(self) -> nn.Module:
        """The network that is validated and exported: the average if there is one."""
        return self.network if self.average is None else self.average.network


def begin(recipe: R, split: S, device: torch.device, team: Team) -> Run[R, S, Any]:
    """A run before its first step, in float32; raises DataError for batches that cannot be."""
    data.check_batch(recipe.optimizer.batch_size, len(split.train))
    team.check_batch(recipe.optimizer.batch_size)
    torch.manual_seed(recipe.seed)
    network = task_registry.of(recipe).network(recipe, len(split.train.classes)).to(device)
    channels_last(network)
    if team.size > 1:
        distributed.share_statistics(network)
    generator = torch.Generator(device).manual_seed(recipe.seed)
    optimizer = make_optimizer(network, recipe)
    guide = task_registry.of(recipe).guide(recipe, split.train.classes)
    if guide is not None:
        channels_last(guide.to(device))
    return Run(recipe, split.to(device), network, optimizer, generator, device, "float32", team, guide=guide)


def check_first_weights(init: Init, folder: Path) -> None:
    """DataError now, before images are read, if a run that begins in the folder has no weights to start from."""
    begun = (folder / checkpoint.FILE_NAME).is_file()
    if not begun and init.weights not in ("", backbones.IMAGENET):
        initialization.find(Path(init.weights))


def load_first_weights(run: Run) -> None:
    """The weights that the recipe starts from, if any."""
    if run.recipe.init.weights == backbones.IMAGENET:
        exclude = run.recipe.init.exclude
        if exclude:
            raise UsageError("recipe key init.exclude", found=exclude, expected="nothing, with init.weights: imagenet")
        run.started_from = task_registry.of(run.recipe).start_from_imagenet(run.network)
    elif run.recipe.init.weights:
        found = initialization.read(Path(run.recipe.init.weights))
        initialization.load(run.network, found, run.recipe.init)
        run.started_from = found.sha256


def settle(run: Run, precision: str) -> None:
    """Brings the network into its arithmetic, and begins the average."""
    run.precision = precision
    if precision == "float64":
        run.network.double()
        if run.guide is not None:
            run.guide.double()
    if run.recipe.optimizer.ema_decay:
        run.average = ema.Average(run.network, run.recipe.optimizer.ema_decay)


def resume(run: Run, saved: Checkpoint, folder: Path) -> None:
    """Goes on from a checkpoint of the folder; DataError if recipe, images or device are others."""
    checkpoint.check_same(saved, run.recipe, run.data_sha256, run.validation_sha256, folder)
    cure = "check --data, or choose another --out"
    checkpoint.check_classes(saved, run.split.train.classes, f"checkpoint in {folder}", cure)
    settle(run, saved.precision)
    run.epoch, run.step, run.history, run.started_from = saved.epoch, saved.step, saved.history, saved.started_from
    state_dict.load(run.network, saved.trained, f"checkpoint in {folder}", state_dict.OTHERS_WEIGHTS)
    if run.average is not None:
        run.average.load(saved.network)
    load_optimizer_state(run.optimizer, run.network, saved.optimizer_state)
    try:
        run.generator.set_state(saved.random)
    except RuntimeError as error:
        raise DataError(
            f"checkpoint in {folder}",
            found="a random state of another kind of device",
            expected=f"one of {run.device.type}",
            cure="go on where the run was begun, or choose another --out",
        ) from error


def save(run: Run, folder: Path) -> None:
    """Writes the checkpoint of the epoch that is done; the best one first, so that `last` never runs ahead of it."""
    state = Checkpoint(
        run.recipe,
        run.split.train.classes,
        run.data_sha256,
        run.precision,
        run.epoch,
        run.step,
        run.history,
        dict(run.for_use.state_dict()),
        optimizer_state(run.optimizer, run.network),
        run.generator.get_state(),
        dict(run.network.state_dict()) if run.average is not None else {},
        run.started_from,
        run.validation_sha256,
    )
    if run.recipe.checkpoint_selection == "best" and _is_best(run):
        checkpoint.write(folder, state, checkpoint.BEST_FILE_NAME)
    checkpoint.write(folder, state)


def _is_best(run: Run) -> bool:
    """Whether no earlier epoch scored as high. A term that makes a network robust costs clean accuracy, so that among
    all epochs the one before it sets in would win.
    """
    scores = [record.score for record in run.history[run.recipe.incomplete_epochs :]]
    return bool(scores) and scores[-1] > max(scores[:-1], default=-1.0)
