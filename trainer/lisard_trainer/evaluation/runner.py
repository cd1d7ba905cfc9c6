"""Measuring: every model in every condition, batch by batch, each result kept as soon as it is there.

Attacked images are made once on the model they attack (gray-box: the surrogate), then meet every model they are for.
The task provides batches, images, answers and what becomes of them.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from .cache import Arrays, Cache
from .conditions import EvaluationCondition
from .deployed import INT8, TORCH, DeployedFiles
from .models import ModelSource, ModelsUnderTest, ModelUnderTest

S = TypeVar("S", bound=ModelSource)
C = TypeVar("C", bound=EvaluationCondition)
B = TypeVar("B", bound="ImageRange")
R = TypeVar("R")
Tick = Callable[[str], object]


@dataclass(frozen=True, eq=False)
class View:
    """Images as a model meets them: a key, and float32 [n,3,H,W] made only where somebody must answer, and once.

    unrounded: answers of the attacked model before the images were rounded to grey levels, where they are known.
    """

    key: str
    make: Callable[[], NDArray[np.float32]]
    unrounded: NDArray[np.int16] | None = None

    @functools.cached_property
    def images(self) -> NDArray[np.float32]:
        """RGB in [0,1]."""
        return self.make()


@dataclass(frozen=True, eq=False)
class ImageRange:
    """Images start..stop of `total` in a condition: attacked together, and kept in one file."""

    start: int
    stop: int
    total: int

    @property
    def rows(self) -> slice:
        """Their places."""
        return slice(self.start, self.stop)


def batches_of(count: int, size: int) -> Iterator[ImageRange]:
    """All of `count` images."""
    yield from (ImageRange(at, min(at + size, count), count) for at in range(0, count, size))


@dataclass(frozen=True, eq=False)
class Meeting(Generic[S]):
    """Models that answer the same images. source: the model on which these were made; None where none is attacked."""

    models: tuple[ModelUnderTest[S], ...]
    source: ModelUnderTest[S] | None


def meetings(models: ModelsUnderTest[S], condition: EvaluationCondition) -> Iterator[Meeting[S]]:
    """Who answers in a condition, and on whom its images are made."""
    if condition.attacked == "each model":
        yield from (Meeting((model,), model) for model in models.measured)
    elif condition.attacked == "surrogate":
        source = models.surrogates[condition.surrogate_name]
        yield Meeting((*models.measured, source), source)
    else:
        yield Meeting(models.everybody if condition.answered_by_surrogates else models.measured, None)


@dataclass(frozen=True, eq=False)
class Answerer(Generic[S]):
    """A model on a backend."""

    model: ModelUnderTest[S]
    backend: str = TORCH


@dataclass(frozen=True, eq=False)
class EvaluationContext(ABC, Generic[S, C, B, R]):
    """All that measuring needs of a task: the models, and images, answers and results of a condition C.

    exported: the bundle's ONNX files are asked too.
    """

    models: ModelsUnderTest[S]
    cache: Cache
    exported: bool = field(default=True, kw_only=True)

    @functools.cached_property
    def files(self) -> DeployedFiles:
        """The bundle's ONNX files."""
        return DeployedFiles(self.models.bundle)

    @abstractmethod
    def count(self, condition: C) -> int:
        """How many images a condition has."""

    @property
    @abstractmethod
    def batch_size(self) -> int:
        """How many images are attacked together."""

    @abstractmethod
    def batches(self, condition: C) -> Iterator[B]:
        """The images of a condition, `batch_size` at a time."""

    @abstractmethod
    def view(self, condition: C, batch: B, source: ModelUnderTest[S] | None) -> View:
        """The images of a batch as models meet them, made on `source`."""

    @abstractmethod
    def answers(self, condition: C, batch: B, view: View, answerer: Answerer[S]) -> Arrays:
        """Answers to a view, from the cache or asked for now."""

    @abstractmethod
    def result(self, condition: C, answerer: Answerer[S], answers: Sequence[Arrays]) -> R:
        """What the answers to all batches amount to."""

    def answerers(self, condition: C, meeting: Meeting[S]) -> list[Answerer[S]]:
        """Who is asked: every model in PyTorch, and the bundle's int8 file where it has one."""
        who, ours = [Answerer(model) for model in meeting.models], self.models.of_bundle
        if self.exported and condition.answered_by_int8 and ours in meeting.models and self.files.has_int8:
            who.append(Answerer(ours, INT8))
        return who

    def as_met(self, condition: C, position: int) -> tuple[B, NDArray[np.float32]]:
        """The batch that holds an image of a condition, and its images as the bundle met them, from the cache."""
        batch = next(islice(self.batches(condition), position // self.batch_size, None))
        return batch, self.view(condition, batch, self.source_for_bundle(condition)).images

    def source_for_bundle(self, condition: C) -> ModelUnderTest[S] | None:
        """On whom the images that the bundle meets are made; None where none is attacked."""
        if condition.attacked == "surrogate":
            return self.models.surrogates[condition.surrogate_name]
        return self.models.of_bundle if condition.attacked == "each model" else None

    def close(self) -> None:
        """Frees what the evaluation has opened."""
        self.files.close()


def measure(context: EvaluationContext[S, C, Any, R], conditions: Sequence[C], tick: Tick = lambda _: None) -> list[R]:
    """Every model in every condition; `tick` hears of each batch before it is worked on."""
    results = [
        result
        for condition in conditions
        for meeting in meetings(context.models, condition)
        for result in _meet(context, condition, meeting, tick)
    ]
    context.close()
    return results


def _meet(context: EvaluationContext[S, C, Any, R], condition: C, meeting: Meeting[S], tick: Tick) -> list[R]:
    who = context.answerers(condition, meeting)
    gathered: list[list[Arrays]] = [[] for _ in who]
    for batch in context.batches(condition):
        tick(condition.name)
        view = context.view(condition, batch, meeting.source)
        for answerer, arrays in zip(who, gathered, strict=True):
            arrays.append(context.answers(condition, batch, view, answerer))
    return [context.result(condition, answerer, arrays) for answerer, arrays in zip(who, gathered, strict=True)]


def ticks(context: EvaluationContext[S, C, Any, R], conditions: Sequence[C]) -> int:
    """How often `measure` will tick."""
    return sum(
        len(list(meetings(context.models, condition))) * len(range(0, context.count(condition), context.batch_size))
        for condition in conditions
    )
