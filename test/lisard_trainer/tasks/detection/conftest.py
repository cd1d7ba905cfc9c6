"""A tiny detector and scenes with boxes on it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from lisard_trainer.tasks.detection import geometry, network

sys.path.insert(0, str(Path(__file__).parent))  # for tiny_set
SIZE_PX = 64


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    spec = network.DetectorSpec("resnet10q", 3, SIZE_PX, SIZE_PX, neck=16, depth=1)
    return network.create(spec)


@pytest.fixture
def places():
    """Centres and strides of the positions of a 64 px input."""
    return geometry.positions(network.level_sizes(SIZE_PX, SIZE_PX), network.STRIDES, torch.zeros(1))
