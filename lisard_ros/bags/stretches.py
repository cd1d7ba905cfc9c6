"""Frames of a camera in stretches of equal time, for drawings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lisard_ros.message_fields import NS_PER_S

MOST_STRETCHES = 120


@dataclass(frozen=True, slots=True, eq=False)
class Stretches:
    """In which of `count` stretches each frame is. length_s: from the first frame to the last one."""

    places: NDArray[np.int64]
    count: int
    length_s: float

    def shares(self, part: ArrayLike, whole: ArrayLike) -> tuple[tuple[float, float, float], ...]:
        """Return (begin in s, length in s, share) of each stretch with a whole.

        Args:
            part: Of each frame, in the order of its stamps.
            whole: The same.
        """
        parts, wholes = (np.bincount(self.places, weights=w, minlength=self.count) for w in (part, whole))
        step_s = self.length_s / self.count
        return tuple((n * step_s, step_s, float(parts[n] / wholes[n])) for n in np.flatnonzero(wholes).tolist())


def stretches(stamps_ns: Sequence[int]) -> Stretches:
    """Cut the time of frames, one or more; of a few each has a stretch of its own."""
    stamps_s = (np.array(stamps_ns, np.int64) - min(stamps_ns)) / NS_PER_S
    length_s, count = max(float(stamps_s.max()), 1e-3), min(MOST_STRETCHES, len(stamps_s))
    return Stretches(np.minimum((stamps_s / length_s * count).astype(np.int64), count - 1), count, length_s)
