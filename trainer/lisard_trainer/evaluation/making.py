"""Making the attacked pictures of one part, rounded to grey levels, and asking a network for its answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lisard_ros.injection import store
from lisard_ros.injection.oracle import Label
from lisard_ros.preprocess import Tensor as Pictures

from .cache import Arrays
from .columns import Attack
from .methods import METHODS, RowsOfAll
from .subjects import Subject

PART = 256  # pictures that are attacked together and kept in one file
NARROW_255 = 127  # budgets up to here fit into int8


@dataclass(frozen=True, eq=False)
class Part:
    """Pictures start..stop of `total` in a column: x float32 [n,3,H,W] on the 8-bit grid, own classes int64 [n]."""

    start: int
    total: int
    x: Pictures
    own: NDArray[np.int64]
    sha256: str

    @property
    def stop(self) -> int:
        """Where it ends."""
        return self.start + len(self.own)


def craft(subject: Subject, part: Part, attack: Attack) -> Arrays:
    """Attacks a model: `deltas` in grey levels [n,3,H,W], and its answers to the pictures before they were rounded."""
    random = RowsOfAll(attack.seed, part.start, part.stop, part.total)
    x = torch.from_numpy(part.x).to(subject.device)
    made = METHODS[attack.method](subject.oracle, x, Label(part.own), attack, random)
    deltas = store.quantise(part.x, made.cpu().numpy(), attack.eps_255)
    narrow = np.int8 if attack.eps_255 <= NARROW_255 else np.int16
    return {"deltas": deltas.astype(narrow), "unrounded": answers(subject.network, made).answers}


@dataclass(frozen=True, eq=False)
class Given:
    """Answers: class int16 [n] and the softmax of that class float32 [n]."""

    answers: NDArray[np.int16]
    scores: NDArray[np.float32]


@torch.no_grad()
def answers(network: nn.Module, x: Tensor) -> Given:
    """What a network says to pictures [n,3,H,W] in [0,1]."""
    logits = torch.cat([network(some) for some in x.split(PART)]).float().cpu()
    scores = logits.softmax(1).amax(1)
    return Given(logits.argmax(1).numpy().astype(np.int16), scores.numpy())
