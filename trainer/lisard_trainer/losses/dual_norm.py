"""Batch norm with statistics and scales of its own for the noisy view; a deployed network keeps the clean half.

Source of the idea: Xie et al. 2020 (arXiv 1911.09665), there for adversarial examples.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

from torch import Tensor, nn

View = Literal["clean", "noisy"]


class DualBatchNorm(nn.Module):
    """Two batch norms that begin as copies of one; `view` says which of them is in use."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.clean = norm
        self.noisy = copy.deepcopy(norm)
        self.view: View = "clean"

    def forward(self, x: Tensor) -> Tensor:
        return self.noisy(x) if self.view == "noisy" else self.clean(x)


def split(network: nn.Module) -> None:
    """Replaces every batch norm of the network by a dual one, in place."""
    for name, child in list(network.named_children()):
        if isinstance(child, nn.BatchNorm2d | nn.BatchNorm1d):
            setattr(network, name, DualBatchNorm(child))
        else:
            split(child)


@contextmanager
def using(network: nn.Module, view: View) -> Iterator[None]:
    """The network sees this view inside the block, the clean one after it."""
    norms = [module for module in network.modules() if isinstance(module, DualBatchNorm)]
    for norm in norms:
        norm.view = view
    try:
        yield
    finally:
        for norm in norms:
            norm.view = "clean"


def clean_half(weights: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Weights of the plain `network` from those of its dual form, as far as they are there."""
    found = {}
    for key in network.state_dict():
        owner, _, leaf = key.rpartition(".")
        there = next((name for name in (f"{owner}.clean.{leaf}", key) if name in weights), None)
        if there is not None:
            found[key] = weights[there]
    return found
