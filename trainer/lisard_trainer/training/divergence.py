"""Losses of the steps, read from the device in groups, and what stops a training that has gone wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lisard_ros.errors import LisardError

from .distributed import Team
from .records import Epoch

# Cross entropy this far (nats) above that of guessing: the right class gets e^5, 150 times, less than its share.
EXCESS_NATS = 5.0
PATIENCE_STEPS = 50


class TrainingError(LisardError):
    """Training cannot go on."""


def arithmetic(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Autocast to bfloat16, or plain float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


@dataclass(frozen=True, eq=False)
class StepLoss:
    """`total` to be minimised; `parts` [T], detached: the unweighted terms of `names`, clean and noisy first.

    With one view, noisy is clean.
    """

    total: Tensor
    parts: Tensor
    names: tuple[str, ...] = ("clean", "noisy")

    def part(self, name: str) -> float:
        """One of the terms as a number."""
        return float(self.parts[self.names.index(name)])


@dataclass(frozen=True)
class StepValues:
    """Numbers of one step: `total` was minimised, `parts` are the unweighted terms of StepLoss."""

    step: int
    rate: float
    total: float
    parts: tuple[float, ...]

    @property
    def cross_entropy(self) -> float:
        """Mean over the two views."""
        clean, noisy = self.parts[:2]
        return (clean + noisy) / 2


class Meter:
    """Keeps losses on the device until they are asked for: reading each step's would make a GPU wait."""

    def __init__(self, team: Team) -> None:
        self.team = team
        self._losses: list[Tensor] = []
        self._places: list[tuple[int, float]] = []

    def __len__(self) -> int:
        return len(self._losses)

    def add(self, loss: StepLoss, step: int, rate: float) -> None:
        """Notes the loss of a step (counted from 1)."""
        self._losses.append(torch.cat([loss.total.detach().reshape(1), loss.parts.to(loss.total.dtype)]))
        self._places.append((step, rate))

    def read(self) -> list[StepValues]:
        """The steps since the last call, averaged over the processes."""
        if not self._losses:
            return []
        rows = self.team.mean(torch.stack(self._losses)).tolist()
        found = [StepValues(s, r, row[0], tuple(row[1:])) for (s, r), row in zip(self._places, rows, strict=True)]
        self._losses, self._places = [], []
        return found


class DivergenceGuard:
    """Raises TrainingError when a loss is not finite, or when the network has long been far worse than guessing."""

    def __init__(self, classes: int, guessing: float | None = None) -> None:
        """guessing: loss of a network that knows nothing, where it is not the logarithm of the classes."""
        self.limit = (math.log(classes) if guessing is None else guessing) + EXCESS_NATS
        self._bad_steps = 0

    def check(self, values: Sequence[StepValues], epoch: int, cure: str) -> None:
        """values: the next steps of epoch number `epoch` (from 1)."""
        for value in values:
            if not math.isfinite(value.total):
                raise _stopped(f"loss {value.total}", value, epoch, "a finite loss", cure)
            self._bad_steps = self._bad_steps + 1 if value.cross_entropy > self.limit else 0
            if self._bad_steps >= PATIENCE_STEPS:
                found = f"cross entropy {value.cross_entropy:.1f} after {PATIENCE_STEPS} steps above {self.limit:.1f}"
                raise _stopped(found, value, epoch, f"less than guessing has, {self.limit - EXCESS_NATS:.1f}", cure)


def check_epoch(network: nn.Module, record: Epoch, cure: str) -> None:
    """Raises TrainingError when the last step of an epoch destroyed the network, which no loss has seen."""
    wrong = [f"weights {name}" for name, value in network.state_dict().items() if not bool(value.isfinite().all())]
    wrong += [] if math.isfinite(record.score) else ["answers on the validation images"]
    if wrong:
        raise TrainingError(
            f"training stopped after epoch {record.epoch}, learning rate {record.rate:.3g}",
            found=f"{wrong[0]} that are not finite",
            expected="finite ones",
            cure=cure,
        )


def _stopped(found: str, value: StepValues, epoch: int, expected: str, cure: str) -> TrainingError:
    place = f"epoch {epoch}, step {value.step}, learning rate {value.rate:.3g}"
    return TrainingError(f"training stopped in {place}", found=found, expected=expected, cure=cure)
