"""All surrogates at once, as one more surrogate: what hurts several networks hurts another one more often.

Source: Dong et al. 2018 (arXiv 1710.06081) eq. 9: networks are joined by the mean of their logits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lisard_ros.errors import UsageError

from ....evaluation import versions
from ....evaluation.models import key_of
from .models import ClassifierSource, ClassifiersUnderTest

NAME = "ensemble"
FEWEST = 2


class Mean(nn.Module):
    """The mean of the logits [N,K] of several networks of the same classes."""

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        """RGB [N,3,H,W] in [0,1] -> logits [N,K]."""
        return torch.stack([network(x) for network in self.networks]).mean(0)


def joined(models: ClassifiersUnderTest) -> ClassifiersUnderTest:
    """All models, and the ensemble of the surrogates as the last of them."""
    members = tuple(models.surrogates.values())
    source = ClassifierSource(
        model=NAME,
        role="surrogate",
        recipe=f"mean of {', '.join(member.name for member in members)}",
        seed=0,
        epochs=0,
        sha256=key_of(*(member.about.sha256 for member in members)),
        training="theirs",
        architecture=f"{len(members)} networks",
    )
    ensemble = dataclasses.replace(
        members[0],
        about=source,
        key=key_of(versions.of(__name__), *(member.key for member in members)),
        build=lambda: Mean(member.network for member in members).eval(),
    )
    return dataclasses.replace(models, surrogates={**models.surrogates, NAME: ensemble})


def named(names: list[str]) -> list[str]:
    """Names of the surrogates and of their ensemble; UsageError for fewer than two, or one that has its name."""
    if len(names) < FEWEST:
        raise UsageError(
            "--ensemble",
            found=f"{len(names)} surrogate",
            expected=f"{FEWEST} or more to join",
            cure="give --surrogate NAME=RUN several times",
        )
    if NAME in names:
        raise UsageError("--ensemble", found=f"a surrogate called {NAME}", expected="another name for it")
    return [*names, NAME]
