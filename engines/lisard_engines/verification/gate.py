"""The gate: a variant or engine that loses more points of clean or robust accuracy than declared is not installed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lisard_ros import injection
from lisard_ros.bundle.manifest import Verification
from lisard_ros.errors import UsageError

from .comparison import EngineComparison


@dataclass(frozen=True, slots=True)
class Limits:
    """Percentage points that may be lost: on clean images, and under the worst of the stored perturbations."""

    clean_points: float = 1.0
    robust_points: float = 1.5

    def __post_init__(self) -> None:
        """Refuse limits that no loss can be compared with."""
        if not (0 <= self.clean_points <= 100 and 0 <= self.robust_points <= 100):
            raise UsageError("limits of the gate out of range", found=self, expected="0 to 100 points")


def judge(measured: EngineComparison, limits: Limits, forced: bool = False) -> Verification:
    """Hold a comparison against the limits. A NaN never passes."""
    clean = measured.row(injection.CLEAN).loss_points.value
    attacked = [row for row in measured.rows if row.injection != injection.CLEAN and row.n]
    losses = [row.loss_points.value for row in attacked]
    robust = max(losses, default=0.0)
    finite = all(map(math.isfinite, (clean, *losses, measured.max_abs_difference)))
    passed = finite and clean <= limits.clean_points and robust <= limits.robust_points
    return Verification(
        against=measured.reference,
        backend=measured.judged,
        pictures=measured.pictures,
        attacked=sum(row.n for row in attacked),
        pictures_sha256=measured.pictures_sha256,
        max_abs_difference=measured.max_abs_difference,
        agreement=measured.agreement,
        clean_loss_points=round(clean, 3),
        robust_loss_points=round(robust, 3),
        clean_limit_points=limits.clean_points,
        robust_limit_points=limits.robust_points,
        passed=passed,
        forced=forced and not passed,
    )
