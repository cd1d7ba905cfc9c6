"""What `lisard evaluate` asks of a task, and what it gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lisard_ros.bundle import Bundle

from ..training.checkpoint import Checkpoint
from .cache import Cache
from .conditions import DEFAULT_SUITE
from .runner import Tick

EPS_255 = 8.0  # the budget where nothing else is said


@dataclass(frozen=True)
class UnsupportedOption:
    """An option of `lisard evaluate` that the evaluation of a task does not have, and why.

    option: as on the command line. expected: what has it, or is accepted. cure: what to do instead. value: the only
    value that is refused; empty: all but the default.
    """

    option: str
    expected: str
    cure: str = ""
    value: str = ""


@dataclass(frozen=True)
class SuiteHelp:
    """The suites of a task for the help text: whose they are, and name -> what each holds."""

    heading: str
    suites: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class EvaluationRequest:
    """The command line, read.

    surrogates: by name in conditions, '' for the only one. only: patterns of conditions. tracks: a file of the tracks
    that are measured (none: all). limit: of images, evenly spread. eps_255: budget in grey levels. compare: models
    against others, as the user wrote it. exported: ask the bundle's ONNX file too. begin: told how many batches there
    are, gives what is to be called for each. galleries: whether images are wanted for the page. command: the command
    line without what does not change the figures.
    """

    bundle: Bundle
    surrogates: Mapping[str, Checkpoint]
    baselines: Mapping[str, Checkpoint]
    cache: Cache
    begin: Callable[[int], Tick]
    command: str = ""
    suite: str = DEFAULT_SUITE
    only: tuple[str, ...] = ()
    data: str | None = None
    images: Path | None = None
    tracks: Path | None = None
    limit: int | None = None
    seed: int = 0
    eps_255: float = EPS_255
    compare: tuple[str, ...] = ()
    ensemble: bool = False
    exported: bool = True
    device: str = "auto"
    title: str = ""
    galleries: bool = False
