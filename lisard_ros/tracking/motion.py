"""Where boxes will be: a Kalman filter with constant velocity on centre, aspect ratio and height, for many at once.

The state is that of Wojke et al. 2017 (DeepSORT): centre x and y, width by height, height, and their velocities. Noise
is a share of the box's height. Time is in seconds, not in frames: velocity is disturbed by white noise, so two steps
amount to one of their sum, and a frame that is missing changes nothing but the uncertainty.

No quantity is measured together with another and none disturbs another, so the filter of eight dimensions is four of
two, without a matrix.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
_MIN_HEIGHT_PX = 1.0
_MIN_ASPECT = 1e-3


@dataclass(frozen=True, slots=True)
class MotionNoise:
    """How boxes move and how exactly they are measured.

    box: standard deviation of a measured centre or height, in heights of the box. aspect: that of the aspect ratio, as
    a share of it. speed: of the velocity of a box that was seen once, in heights per second. acceleration: what its
    velocity changes in a second, in heights per second. aspect_rate: what the aspect ratio does in a second.
    """

    box: float = 0.05
    aspect: float = 0.1
    speed: float = 2.0
    acceleration: float = 1.5
    aspect_rate: float = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """N boxes: values and rates [N, 4] (centre x, centre y, width by height, height; per second) and what is known of
    them: variance of the value, of the rate, and their covariance, each [N, 4].
    """

    values: Numbers
    rates: Numbers
    variances: Numbers
    rate_variances: Numbers
    covariances: Numbers

    @property
    def boxes_xyxy_px(self) -> Numbers:
        """Corners [N, 4] in pixels."""
        half_height = self.values[:, 3] / 2
        half = np.stack([half_height * self.values[:, 2], half_height], axis=1)
        centre = self.values[:, :2]
        return np.concatenate([centre - half, centre + half], axis=1)

    def rows(self, numbers: list[int]) -> Motion:
        """Return some of the boxes, in this order."""
        return Motion(*(part[numbers] for part in self._parts()))

    def joined(self, other: Motion) -> Motion:
        """Return these boxes and then those of `other`."""
        return Motion(*(np.concatenate(pair) for pair in zip(self._parts(), other._parts(), strict=True)))

    def after(self, seconds: float, noise: MotionNoise) -> Motion:
        """Predict where the boxes are after so many seconds (0 or more)."""
        values = self.values + self.rates * seconds
        values[:, 2] = np.maximum(values[:, 2], _MIN_ASPECT)
        values[:, 3] = np.maximum(values[:, 3], _MIN_HEIGHT_PX)
        disturbance = _variances(self.values, noise.acceleration, noise.aspect_rate)
        return Motion(
            values,
            self.rates,
            self.variances
            + 2 * seconds * self.covariances
            + seconds**2 * self.rate_variances
            + disturbance * seconds**3 / 3,
            self.rate_variances + disturbance * seconds,
            self.covariances + seconds * self.rate_variances + disturbance * seconds**2 / 2,
        )

    def corrected(self, boxes_xyxy_px: Numbers, noise: MotionNoise) -> Motion:
        """Return what is known after the boxes [N, 4] were measured."""
        measured = measurements(boxes_xyxy_px)
        total = self.variances + _measured_variances(measured, noise)
        gain, rate_gain = self.variances / total, self.covariances / total
        surprise = measured - self.values
        return Motion(
            self.values + gain * surprise,
            self.rates + rate_gain * surprise,
            (1 - gain) * self.variances,
            self.rate_variances - rate_gain * self.covariances,
            (1 - gain) * self.covariances,
        )

    def keeping_size(self) -> Motion:
        """Return the boxes with a size that does not change: that of a box that is not seen would run away."""
        rates = self.rates.copy()
        rates[:, 2:] = 0.0
        return replace(self, rates=rates)

    def _parts(self) -> tuple[Numbers, ...]:
        return self.values, self.rates, self.variances, self.rate_variances, self.covariances


def begin(boxes_xyxy_px: Numbers, noise: MotionNoise) -> Motion:
    """Return boxes [N, 4] that were seen once: at rest, as far as is known."""
    measured = measurements(boxes_xyxy_px)
    nothing = np.zeros_like(measured)
    return Motion(
        measured,
        nothing,
        _measured_variances(measured, noise),
        _variances(measured, noise.speed, noise.aspect_rate),
        nothing,
    )


def measurements(boxes_xyxy_px: Numbers) -> Numbers:
    """Return centre x, centre y, width by height and height [N, 4] of boxes that have an area."""
    sizes = boxes_xyxy_px[:, 2:] - boxes_xyxy_px[:, :2]
    centre = boxes_xyxy_px[:, :2] + sizes / 2
    return np.concatenate([centre, sizes[:, :1] / sizes[:, 1:], sizes[:, 1:]], axis=1)


def _measured_variances(measured: Numbers, noise: MotionNoise) -> Numbers:
    deviations = noise.box * measured[:, [3, 3, 3, 3]]
    deviations[:, 2] = noise.aspect * measured[:, 2]
    return deviations**2


def _variances(values: Numbers, of_heights: float, of_aspect: float) -> Numbers:
    """Squares of `of_heights` heights, and of `of_aspect` for the aspect ratio [N, 4]."""
    deviations = of_heights * values[:, [3, 3, 3, 3]]
    deviations[:, 2] = of_aspect
    return deviations**2
