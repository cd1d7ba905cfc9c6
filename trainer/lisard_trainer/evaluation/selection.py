"""What every suite has in common: it is found by its name, and --only selects some of its conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Protocol, TypeVar

from lisard_ros.errors import UsageError, nearest, unknown_name

from .conditions import CLEAN, EvaluationCondition

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
                f"no column of suite {suite} fits --only",
                found=repr(pattern),
                expected="one of " + ", ".join(names),
                cure=f"did you mean '{guess}'?" if guess else "a pattern such as 'white_*'; other suites have more",
            )
    wanted = [c for c in planned if not only or any(fnmatchcase(c.name, pattern) for pattern in only)]
    stay = {CLEAN, *(c.name for c in wanted), *(baseline(c) for c in wanted)}
    return tuple(c for c in planned if c.name in stay)
