"""Bounds of recipe keys: a value outside its own is refused by name, with what was expected."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from lisard_ros.errors import UsageError


@dataclass(frozen=True)
class Bounds:
    """From `low` to `high`, both allowed unless `open_low` or `open_high`."""

    low: float = 0.0
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        """Whether a number lies within; NaN never does."""
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def __str__(self) -> str:
        """`above 0, at most 1`."""
        low = f"above {self.low:g}" if self.open_low else f"{self.low:g} or more"
        if math.isinf(self.high):
            return low
        return f"{low}, {'below' if self.open_high else 'at most'} {self.high:g}"


POSITIVE = Bounds(open_low=True)
NOT_NEGATIVE = Bounds()
SHARE = Bounds(high=1)
PART = Bounds(high=1, open_low=True, open_high=True)
SHARE_BELOW_ONE = Bounds(high=1, open_high=True)


def bounded(default: Any, bounds: Bounds) -> Any:
    """A key of a RecipeSection: its default, and the bounds of every value."""
    return dataclasses.field(default=default, metadata={"bounds": bounds})


class RecipeSection:
    """A section of a recipe, or a whole one: a frozen dataclass whose values lie within their bounds, and `NAME_low`
    below `NAME_high`.

    section: its name in the recipe; empty: the recipe itself.
    """

    _section = ""

    def __init_subclass__(cls, section: str = "") -> None:
        """Notes what the recipe calls it."""
        cls._section = section

    def __post_init__(self) -> None:
        """UsageError for the first value that is out of its bounds."""
        known = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}  # type: ignore[arg-type]
        for one in dataclasses.fields(self):  # type: ignore[arg-type]
            if "bounds" in one.metadata:
                check(self._section, one.name, known[one.name], one.metadata["bounds"])
        for name, low in known.items():
            upper = f"{name.removesuffix('_low')}_high"
            if name.endswith("_low") and upper in known and low > known[upper]:
                raise UsageError(
                    f"recipe key {self._section}.{name}",
                    found=low,
                    expected=f"at most {self._section}.{upper}, {known[upper]:g}",
                )


def check(section: str, name: str, value: float, bounds: Bounds) -> None:
    """UsageError for a value of a recipe key that is out of its bounds."""
    if value not in bounds:
        raise UsageError(
            f"recipe key {section}.{name}" if section else f"recipe key {name}", found=value, expected=str(bounds)
        )
