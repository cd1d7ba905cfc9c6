"""Trainings on shipped images that are killed with SIGKILL: `killed_training.py FOLDER SEED`.

Each is a child of this process, which has imported everything but computed nothing, so that a start costs little.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch.optim.optimizer import register_optimizer_step_post_hook

from lisard_trainer import data, recipes
from lisard_trainer.training import loop

IMAGES = Path(__file__).resolve().parents[2] / "data" / "gtsrb_tracks"
SIZE_PX = 8
RECIPE = {
    "name": "killed",
    "network": "resnet14n",
    "precision": "float32",
    "checkpoint_selection": "best",
    "data": {"size_px": SIZE_PX},
    "similarity": {"form": "normalised", "features": 16},
    "optimizer": {"epochs": 3, "batch_size": 25, "max_lr": 0.05, "ema_decay": 0.9},
}
STEPS_PER_EPOCH = 4
KILLS_AT_STEPS = 4


def die() -> None:
    """The end that nothing can catch."""
    os.kill(os.getpid(), signal.SIGKILL)


def at_step(count: int) -> Callable[[], None]:
    """Die after so many optimizer steps of this process."""
    left = [count]

    def hook(*_: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            die()

    return lambda: register_optimizer_step_post_hook(hook) and None


def while_saving(event: str, ending: str) -> Callable[[], None]:
    """Die just before a file operation of the first save: half-written, complete but unnamed, or between two files."""

    def hook(name: str, arguments: tuple[object, ...]) -> None:
        if name == event and str(arguments[0]).endswith(ending):
            die()

    return lambda: sys.addaudithook(hook)


def child(folder: Path, images: data.Split, prepare: Callable[[], None]) -> int:
    """Trains in a child process; its exit status, negative for a signal."""
    process = os.fork()
    if process == 0:
        prepare()
        loop.fit(recipes.from_mapping(RECIPE), images, folder, show=False)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def main() -> None:
    """One training left alone, one killed again and again; prints how often."""
    folder, seed = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    assert Fabric
    found = data.read(IMAGES, SIZE_PX)
    found = found.take(np.arange(0, len(found), 2))
    held = np.arange(len(found)) % 3 == 0
    images = data.Split(found.take(np.flatnonzero(~held)), found.take(np.flatnonzero(held)))
    assert child(folder / "whole", images, lambda: None) == 0
    dice = random.Random(seed)
    deaths = [at_step(dice.randint(1, 2 * STEPS_PER_EPOCH)) for _ in range(KILLS_AT_STEPS)]
    deaths.insert(1, while_saving("os.rename", "last.safetensors.partial"))
    deaths.insert(3, while_saving("open", "last.json.partial"))
    kills = 0
    for prepare in deaths:
        kills += child(folder / "killed", images, prepare) == -signal.SIGKILL
    assert child(folder / "killed", images, lambda: None) == 0
    print(kills)


if __name__ == "__main__":
    main()
