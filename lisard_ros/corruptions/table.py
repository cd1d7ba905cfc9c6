"""Which corruptions there are and how strong each is at severity 1 to 5, for small and for large images.

Strengths follow those published with CIFAR-10-C (32 px) and ImageNet-C (224 px), Hendrycks and Dietterich 2019
(arXiv 1903.12261), wherever a model here has the same parameter; the others were set to a like change of the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from lisard_ros.corruptions import blur, digital, ice, noise, weather
from lisard_ros.corruptions.fields import Image
from lisard_ros.corruptions.noise import Batch, Randoms

SEVERITIES = (1, 2, 3, 4, 5)
SMALL_PX, LARGE_PX = 32, 224
_LENGTH = "_px"

Apply = Callable[[Batch, Any, Randoms], Batch]


@dataclass(frozen=True, slots=True)
class Corruption:
    """One corruption: its strengths at severity 1 to 5 for SMALL_PX and LARGE_PX images, and how it is applied.

    random: whether the result depends on a draw. prepare: what can be done before the first image comes.
    """

    name: str
    small: tuple[Any, ...]
    large: tuple[Any, ...]
    apply: Apply
    random: bool = True
    prepare: Callable[[], None] | None = None

    def strength(self, severity: int, height: int, width: int) -> Any:
        """Return the strength for images of this size.

        Between SMALL_PX and LARGE_PX (geometric mean of the sides) every parameter is interpolated over the logarithm
        of the size; below, the small one holds. Above, lengths (`_px`) grow with the image and all others stay.
        """
        side = math.sqrt(height * width)
        share = min(max(math.log(side / SMALL_PX) / math.log(LARGE_PX / SMALL_PX), 0.0), 1.0)
        small, large = self.small[severity - 1], self.large[severity - 1]
        growth = max(1.0, side / LARGE_PX)
        values = {
            f.name: ((1 - share) * getattr(small, f.name) + share * getattr(large, f.name))
            * (growth if f.name.endswith(_LENGTH) else 1.0)
            for f in fields(small)
        }
        return type(small)(**values)


def _each(one: Callable[[Image, Any, np.random.Generator], Image]) -> Apply:
    """Lift a corruption of one image to batches."""

    def on_batch(x: Batch, strength: Any, randoms: Randoms) -> Batch:
        return np.stack([one(image, strength, random) for image, random in zip(x, randoms, strict=True)])

    return on_batch


def _rows(kind: Callable[..., Any], *columns: tuple[float, ...]) -> tuple[Any, ...]:
    """Five strengths from one column of five numbers per field."""
    return tuple(kind(*row) for row in zip(*columns, strict=True))


TABLE: tuple[Corruption, ...] = (
    Corruption(
        "gaussian_noise",
        _rows(noise.Gaussian, (0.04, 0.06, 0.08, 0.09, 0.10)),
        _rows(noise.Gaussian, (0.08, 0.12, 0.18, 0.26, 0.38)),
        noise.gaussian,
    ),
    Corruption(
        "shot_noise",
        _rows(noise.Shot, (500, 250, 100, 75, 50)),
        _rows(noise.Shot, (60, 25, 12, 5, 3)),
        noise.shot,
    ),
    Corruption(
        "impulse_noise",
        _rows(noise.Impulse, (0.01, 0.02, 0.03, 0.05, 0.07)),
        _rows(noise.Impulse, (0.03, 0.06, 0.09, 0.17, 0.27)),
        noise.impulse,
    ),
    Corruption(
        "defocus_blur",
        _rows(blur.Defocus, (0.3, 0.4, 0.5, 1.0, 1.5), (0.4, 0.5, 0.6, 0.2, 0.1)),
        _rows(blur.Defocus, (3, 4, 6, 8, 10), (0.1, 0.5, 0.5, 0.5, 0.5)),
        blur.defocus,
        random=False,
    ),
    Corruption(
        "glass_blur",
        _rows(blur.Glass, (0.3, 0.3, 0.3, 0.3, 0.3), (0.1, 0.2, 0.35, 0.55, 0.8), (1, 1, 1, 1, 1)),
        _rows(blur.Glass, (0.7, 0.9, 1.0, 1.1, 1.5), (1.0, 1.5, 2.0, 3.0, 4.0), (2, 2, 3, 2, 2)),
        _each(blur.glass),
    ),
    Corruption(
        "motion_blur",
        _rows(blur.Motion, (2.5, 3.5, 4.5, 5.5, 6.5)),
        _rows(blur.Motion, (9, 14, 20, 26, 33)),
        _each(blur.motion),
    ),
    Corruption(
        "zoom_blur",
        _rows(blur.Zoom, (0.05, 0.10, 0.15, 0.20, 0.25)),
        _rows(blur.Zoom, (0.10, 0.15, 0.20, 0.25, 0.30)),
        blur.zoom,
        random=False,
    ),
    Corruption(
        "snow",
        _rows(
            weather.Snow,
            (0.02, 0.03, 0.05, 0.08, 0.11),
            (1.0, 1.1, 1.2, 1.3, 1.4),
            (3, 3.5, 4, 4.5, 5),
            (0.10, 0.15, 0.2, 0.25, 0.3),
        ),
        _rows(
            weather.Snow,
            (0.03, 0.06, 0.09, 0.12, 0.15),
            (1.8, 2.0, 2.3, 2.6, 2.8),
            (5, 6, 7, 8, 9),
            (0.2, 0.3, 0.4, 0.45, 0.5),
        ),
        _each(weather.snow),
    ),
    Corruption(
        "frost",
        _rows(weather.Frost, (0.25, 0.35, 0.45, 0.55, 0.65)),
        _rows(weather.Frost, (0.40, 0.55, 0.65, 0.75, 0.85)),
        _each(weather.frost),
        prepare=ice.draw,
    ),
    Corruption(
        "fog",
        _rows(weather.Fog, (0.12, 0.25, 0.4, 0.6, 0.9), (0.5, 0.5, 0.5, 0.55, 0.6)),
        _rows(weather.Fog, (0.75, 1.0, 1.25, 1.5, 1.8), (0.5, 0.5, 0.5, 0.55, 0.6)),
        _each(weather.fog),
    ),
    Corruption(
        "brightness",
        _rows(digital.Brightness, (0.05, 0.10, 0.15, 0.20, 0.30)),
        _rows(digital.Brightness, (0.10, 0.20, 0.30, 0.40, 0.50)),
        digital.brightness,
        random=False,
    ),
    Corruption(
        "contrast",
        _rows(digital.Contrast, (0.75, 0.50, 0.40, 0.30, 0.15)),
        _rows(digital.Contrast, (0.40, 0.30, 0.20, 0.10, 0.05)),
        digital.contrast,
        random=False,
    ),
    Corruption(
        "elastic_transform",
        _rows(digital.Elastic, (0.4, 0.55, 0.7, 0.85, 1.0), (5, 5, 5, 5, 5)),
        _rows(digital.Elastic, (1.3, 1.7, 2.1, 2.6, 3.1), (14, 14, 14, 14, 14)),
        _each(digital.elastic),
    ),
    Corruption(
        "pixelate",
        _rows(digital.Pixelate, (1.067, 1.185, 1.333, 1.524, 1.778)),
        _rows(digital.Pixelate, (1.6, 2.1, 2.6, 3.3, 4.1)),
        digital.pixelate,
        random=False,
    ),
    Corruption(
        "jpeg_compression",
        _rows(digital.Jpeg, (80, 65, 58, 50, 40)),
        _rows(digital.Jpeg, (25, 18, 15, 10, 7)),
        digital.jpeg,
        random=False,
    ),
)

BY_NAME = {corruption.name: corruption for corruption in TABLE}
NAMES = tuple(BY_NAME)
