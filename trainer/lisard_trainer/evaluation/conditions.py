"""What every condition of an evaluation has: a name, and who is attacked in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal, Protocol, TypeVar

from lisard_ros.errors import UsageError, nearest, unknown_name

CLEAN = "clean"
Attacked = Literal["nobody", "surrogate", "each model"]


class EvaluationCondition(ABC):
    """One condition: what is done to the images or to the model. Its type is a frozen dataclass of the task."""

    name: str

    @property
    @abstractmethod
    def attacked(self) -> Attacked:
        """On whom the images are made."""

    @property
    @abstractmethod
    def surrogate_name(self) -> str:
        """The surrogate that is attacked; '' for the only one, and where none is."""

    @property
    def answered_by_surrogates(self) -> bool:
        """Whether surrogates answer although none of them is attacked."""
        return self.name == CLEAN

    @property
    def answered_by_int8(self) -> bool:
        """Whether the bundle's int8 file is asked: about clean images and gray-box attacks."""
        return self.name == CLEAN or self.attacked == "surrogate"


DEFAULT_SUITE = "quick"


class Described(Protocol):
    """A suite."""

    @property
    def about(self) -> str:
        """What it holds, for the help text."""


C = TypeVar("C", bound=EvaluationCondition)
T = TypeVar("T", bound=Described)


def suite_of(name: str, suites: Mapping[str, T]) -> T:
    """The suite of this name; UsageError if there is none."""
    if name not in suites:
        raise unknown_name("suite", name, suites)
    return suites[name]


def select(
    suite: str, planned: Sequence[C], only: Sequence[str], baseline: Callable[[C], str | None] = lambda _: None
) -> tuple[C, ...]:
    """The conditions that --only wants; the clean one always stays.

    Args:
        suite: Name of the suite, for the error.
        planned: All conditions of the suite.
        only: Patterns of which one must fit a name; none select everything.
        baseline: Name of the condition that another one is compared with, which then stays too.

    Raises:
        UsageError: A pattern fits no condition.
    """
    names = [condition.name for condition in planned]
    for pattern in only:
        if not any(fnmatchcase(name, pattern) for name in names):
            guess = nearest(pattern, names)
            raise UsageError(
                f"no condition of suite {suite} fits --only",
                found=repr(pattern),
                expected="one of " + ", ".join(names),
                cure=f"did you mean '{guess}'?" if guess else "a pattern such as 'white_*'; other suites have more",
            )
    wanted = [c for c in planned if not only or any(fnmatchcase(c.name, pattern) for pattern in only)]
    stay = {CLEAN, *(c.name for c in wanted), *(baseline(c) for c in wanted)}
    return tuple(c for c in planned if c.name in stay)
