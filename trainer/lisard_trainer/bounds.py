"""Bounds of recipe keys: a value outside its own is refused by name, with what was expected."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
SHARE_BELOW_ONE = Bounds(high=1, open_high=True)


def check(section: str, settings: object, **allowed: Bounds) -> None:
    """UsageError for the first field of `settings` that is out of its bounds; section: where the recipe has it."""
    for name, bounds in allowed.items():
        value = getattr(settings, name)
        if value not in bounds:
            raise UsageError(f"recipe key {section}.{name}", found=value, expected=str(bounds))


def check_order(section: str, settings: object, low: str, high: str) -> None:
    """UsageError when a lower end lies above its upper end."""
    least, most = getattr(settings, low), getattr(settings, high)
    if least > most:
        raise UsageError(f"recipe key {section}.{low}", found=least, expected=f"at most {section}.{high}, {most:g}")
