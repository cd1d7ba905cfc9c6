"""The network of a recipe as it trains (with projector or dual batch norm, if asked for) and as it is deployed."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ... import backbones
from ...backbones import PROJECTOR, state_dict
from ...losses import dual_norm
from ...recipes import Recipe
from ...training.checkpoint import Checkpoint

PROJECTOR_LAYERS = 3


def training(recipe: Recipe, classes: int) -> backbones.Backbone:
    """A fresh network with everything that its training needs."""
    network = deployed(recipe, classes)
    if recipe.similarity.projector != "none":
        network.add_module(PROJECTOR, projector(network.width, recipe.similarity.projector_width))
    if recipe.batch_norm == "dual":
        dual_norm.split(network)
    return network


def deployed(recipe: Recipe, classes: int) -> backbones.Backbone:
    """A fresh network as a bundle holds it."""
    return backbones.create(recipe.network, classes, recipe.data.size_px, recipe.activation)


def deployable(recipe: Recipe, classes: int, weights: Mapping[str, Tensor]) -> backbones.Backbone:
    """The deployed network with the weights of a training; what only training needs is left out. DataError lists
    weights that are missing or left over.
    """
    network = deployed(recipe, classes)
    own = {key: value for key, value in weights.items() if not key.startswith(PROJECTOR + ".")}
    own = dual_norm.clean_half(own, network) if recipe.batch_norm == "dual" else own
    state_dict.load(network, own, f"checkpoint of {recipe.name}", state_dict.OTHERS_WEIGHTS)
    return network


def trained(saved: Checkpoint) -> backbones.Classifier:
    """The deployed network of a checkpoint, giving logits, in float32 and eval mode."""
    return (
        backbones.Classifier(deployable(saved.recipe, len(saved.classes), saved.network)).eval().requires_grad_(False)
    )


def projector(width: int, hidden: int) -> nn.Sequential:
    """MLP of three layers with batch norm between them (Zbontar et al. 2021, section 2.2): [n, d] -> [n, hidden]."""
    layers: list[nn.Module] = []
    for position in range(PROJECTOR_LAYERS - 1):
        layers += [nn.Linear(width if position == 0 else hidden, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, hidden, bias=False))
