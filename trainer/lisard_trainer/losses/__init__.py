"""Loss terms and the views of an image that they compare; the terms of LISArD are in lisard.py."""

from __future__ import annotations

from .lisard import (
    BARLOW_OFF_WEIGHT,
    BATCH_NORM_EPS,
    OFFICIAL_EPOCHS,
    OFFICIAL_NOISE_VARIANCE,
    OFFICIAL_RATE_ONE_DIM,
    OFFICIAL_RATE_WEIGHTS,
    OFFICIAL_TEMPERATURE,
    OFFICIAL_WARM_UP_EPOCHS,
    CorrelationSums,
    Rates,
    alpha_generalised,
    alpha_official,
    combine,
    compare,
    cross_correlation,
    cross_entropies,
    cross_entropy,
    rates_official,
    rates_one_cycle,
    standardise,
)

__all__ = [
    "BARLOW_OFF_WEIGHT",
    "BATCH_NORM_EPS",
    "OFFICIAL_EPOCHS",
    "OFFICIAL_NOISE_VARIANCE",
    "OFFICIAL_RATE_ONE_DIM",
    "OFFICIAL_RATE_WEIGHTS",
    "OFFICIAL_TEMPERATURE",
    "OFFICIAL_WARM_UP_EPOCHS",
    "CorrelationSums",
    "Rates",
    "alpha_generalised",
    "alpha_official",
    "combine",
    "compare",
    "cross_correlation",
    "cross_entropies",
    "cross_entropy",
    "rates_official",
    "rates_one_cycle",
    "standardise",
]
