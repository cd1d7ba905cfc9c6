"""Which of many images are taken when not all are wanted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def subset(count: int, wanted: int) -> NDArray[np.int64]:
    """Positions of `wanted` of `count` images, evenly spread; a smaller subset lies within every larger one.

    Columns of different sizes can so be compared on the smaller. The order is van der Corput's (bits reversed).
    """
    bits = max(1, (count - 1).bit_length())
    numbers = np.arange(2**bits, dtype=np.int64)
    order = sum(((numbers >> bit) & 1) << (bits - 1 - bit) for bit in range(bits))
    return np.sort(np.asarray(order)[np.asarray(order) < count][:wanted])
