"""Random numbers of an attack that is made batch by batch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FEWEST_DIMS = 2  # [N, ...]: what each image has of its own


class RowsOfAll(np.random.Generator):
    """Draws of rows start..stop as if all `total` rows had been drawn at once: batches do not change the result.

    Holds for `uniform` with a row for each image, of two dimensions or more; every other draw is a fresh one.
    """

    def __init__(self, seed: int, start: int, stop: int, total: int) -> None:
        """Draws what numpy.random.default_rng(seed) would."""
        super().__init__(np.random.default_rng(seed).bit_generator)
        self._before, self._rows, self._after = start, stop - start, total - stop

    def uniform(self, low=0.0, high=1.0, size=None):  # type: ignore[no-untyped-def,override]
        """Like numpy's, for some of the rows."""
        if not isinstance(size, tuple) or len(size) < FEWEST_DIMS or size[0] != self._rows:
            return super().uniform(low, high, size)
        each = int(np.prod(size[1:], dtype=np.int64))
        self._skip(self._before * each)
        values: NDArray[np.float64] = super().uniform(low, high, size)
        self._skip(self._after * each)
        return values

    def _skip(self, draws: int) -> None:
        """A float64 of PCG64 takes one step of its state."""
        if draws:
            self.bit_generator.advance(draws)  # type: ignore[attr-defined]
