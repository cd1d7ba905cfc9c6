"""Certified radius of randomised smoothing, for networks that were trained on Gaussian noise.

Source: Cohen et al. 2019 (arXiv 1902.02918), theorem 1 and section 3.2: sigma Phi^-1(lower bound of the share).
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

BISECTIONS = 100


def lower_bound(hits: int, n: int, alpha: float) -> float:
    """One-sided Clopper-Pearson lower bound of a share: the p for which `hits` or more of n has probability alpha."""
    if hits == 0:
        return 0.0
    low, high = 0.0, 1.0
    coefficients = _log_binomials(hits, n)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if _log_upper_tail(middle, hits, n, coefficients) < math.log(alpha):
            low = middle
        else:
            high = middle
    return (low + high) / 2


def radius_l2(hits: int, n: int, alpha: float, sigma: float) -> float | None:
    """Certified L2 radius in pixel units, or None (abstain) when the bound does not exceed one half."""
    bound = lower_bound(hits, n, alpha)
    return sigma * NormalDist().inv_cdf(bound) if bound > 0.5 else None


def _log_binomials(hits: int, n: int) -> np.ndarray:
    """log of n over k for k = hits..n."""
    k = np.arange(hits, n + 1)
    ratios = np.log(n - k[:-1]) - np.log(k[:-1] + 1)
    first = math.lgamma(n + 1) - math.lgamma(hits + 1) - math.lgamma(n - hits + 1)
    return first + np.concatenate([[0.0], np.cumsum(ratios)])


def _log_upper_tail(p: float, hits: int, n: int, coefficients: np.ndarray) -> float:
    """log P(X >= hits) for X ~ Binomial(n, p)."""
    k = np.arange(hits, n + 1)
    terms = coefficients + k * math.log(p) + (n - k) * math.log1p(-p)
    top = terms.max()
    return float(top + np.log(np.exp(terms - top).sum()))
