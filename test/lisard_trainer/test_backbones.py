"""The registry of networks, and the twin that a bundle's architecture is turned into."""

from __future__ import annotations

import pytest
import torch

from lisard_ros.errors import BundleError
from lisard_ros.manifest import Architecture
from lisard_trainer import backbones

PARAMETERS = {"resnet14w": 700_875, "resnet14n": 177_403, "resnet18": 11_190_891}
WIDTHS = {"resnet14w": 128, "resnet14n": 64, "resnet18": 512}


@pytest.mark.parametrize("name", sorted(backbones.BACKBONES))
def test_sizes_and_outputs(name):
    network = backbones.create(name, 43).eval()
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[name]
    embedding, logits = network(torch.rand(2, 3, 32, 32))
    assert embedding.shape == (2, WIDTHS[name]) and logits.shape == (2, 43)
    assert (embedding >= 0).all()  # mean of a rectified map
    assert torch.allclose(network.head(embedding), logits)


def test_other_picture_sizes_work():
    assert backbones.create("resnet14n", 4)(torch.rand(2, 3, 24, 40))[1].shape == (2, 4)


def test_twin_gives_logits_in_eval_mode():
    twin = backbones.build(Architecture(name="resnet14n", arguments={"classes": 7}))
    assert not twin.training and twin(torch.rand(1, 3, 32, 32)).shape == (1, 7)


def test_unknown_name_lists_the_known():
    with pytest.raises(BundleError, match="found resnet99, expected resnet14n or resnet14w or resnet18"):
        backbones.create("resnet99", 2)


def test_missing_argument_is_named():
    with pytest.raises(BundleError, match="arguments of resnet14n: found none, expected classes"):
        backbones.build(Architecture(name="resnet14n"))
