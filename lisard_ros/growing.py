"""Arrays of one number type that grow, and NumPy."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
from numpy.typing import NDArray


def extend(values: array[Any], more: NDArray[Any]) -> None:
    """Put numbers at the end of an array; they must fit its type."""
    values.frombytes(more.astype(np.dtype(values.typecode)).tobytes())


def as_array(typecode: str, values: NDArray[Any]) -> array[Any]:
    """Return the numbers as an array of this type, which takes less memory than a list."""
    made: array[Any] = array(typecode)
    extend(made, values)
    return made
