"""A tiny detector and scenes with boxes on it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from lisard_trainer import recipes, task_registry
from lisard_trainer.tasks.detection import geometry, network
from lisard_trainer.training import loop

sys.path.insert(0, str(Path(__file__).parent))  # for tiny_set
from tiny_set import LEARNS, write_set

SIZE_PX = 64


@pytest.fixture(scope="session")
def learnt(made_once) -> Path:
    """A folder with the data in `set`, a training that finds most of the blocks in `1`, and a short one in `2`."""

    def fill(root: Path) -> None:
        data = write_set(root / "set")
        for seed, epochs in ((1, LEARNS["optimizer"]["epochs"]), (2, 10)):
            optimizer = {**LEARNS["optimizer"], "epochs": epochs}
            recipe = recipes.from_mapping({**LEARNS, "seed": seed, "optimizer": optimizer})
            loop.fit(recipe, task_registry.of(recipe).load(recipe, str(data)), root / str(seed), show=False)

    return made_once("learnt_blocks", fill)


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    spec = network.DetectorSpec("resnet10q", 3, SIZE_PX, SIZE_PX, neck=16, depth=1)
    return network.create(spec)


@pytest.fixture
def places():
    """Centres and strides of the positions of a 64 px input."""
    return geometry.positions(network.level_sizes(SIZE_PX, SIZE_PX), network.STRIDES, torch.zeros(1))
