"""Linear maps of images that act on rows and columns alone: resize and pad, Gaussian blur.

Such a map is two small matrices. So one code serves every array library, torch differentiates it, and a model without
automatic differentiation uses `adjoint`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import ArrayLike, NDArray

from lisard_ros.attacks.model import Array, like

Matrix = NDArray[np.float64]
FOR_EACH_DIMS = 3  # [N, H', H]: a matrix for each image


@dataclass(frozen=True, slots=True, eq=False)
class Separable:
    """x -> rows @ x @ columns^T on each channel. rows: [H', H], columns: [W', W], or one for each image, [N, ...]."""

    rows: Matrix
    columns: Matrix

    def __call__(self, x: Array) -> Array:
        """Apply to images [N, C, H, W]; gives [N, C, H', W']."""
        return _both(self.rows, x, self.columns)

    def adjoint(self, gradient: Array) -> Array:
        """Turn a gradient with respect to the result, [N, C, H', W'], into one with respect to the image."""
        return _both(np.swapaxes(self.rows, -1, -2), gradient, np.swapaxes(self.columns, -1, -2))

    def of_rows(self, rows: slice) -> Separable:
        """The maps of some of the images."""
        return Separable(self.rows[rows], self.columns[rows]) if self.rows.ndim == FOR_EACH_DIMS else self


def _both(rows: Matrix, x: Array, columns: Matrix) -> Array:
    xp = array_namespace(x)
    first, last = (matrix[..., None, :, :] for matrix in (rows, np.swapaxes(columns, -1, -2)))
    return xp.matmul(xp.matmul(like(np.ascontiguousarray(first), x), x), like(np.ascontiguousarray(last), x))


def blur(length: int, radius: int) -> Matrix:
    """Return the [length, length] matrix of a Gaussian filter with 2 radius + 1 weights, zeros beyond the border.

    Its standard deviation is radius / sqrt(3) pixels (Dong et al. 2019, arXiv 1904.02884, section 3.2).
    """
    offset = np.arange(length)[:, None] - np.arange(length)[None, :]
    weight = np.exp(-1.5 * (np.arange(-radius, radius + 1) / radius) ** 2)
    inside = np.abs(offset) <= radius
    return np.where(inside, np.exp(-1.5 * (offset / radius) ** 2), 0.0) / weight.sum()


def placed(length: int, size: ArrayLike, first: ArrayLike) -> Matrix:
    """Return the [length, length] matrix that resizes to `size` <= length bilinearly and puts it at `first`.

    Pixel centres are aligned as in OpenCV's INTER_LINEAR; what lies outside is zero. Several sizes and places, [N],
    give [N, length, length]; the whole size at 0 gives the identity.
    """
    size, first = (np.asarray(value)[..., None, None] for value in (size, first))
    row = np.arange(length)[:, None] - first
    centre = np.clip((row + 0.5) * length / size - 0.5, 0, length - 1)
    weights = np.maximum(0, 1 - np.abs(centre - np.arange(length)))
    return np.where((row >= 0) & (row < size), weights, 0.0)
