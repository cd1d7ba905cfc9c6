"""Certified L2 radii by randomised smoothing for the images of one batch, in the form in which results are kept."""

from __future__ import annotations

import numpy as np
import torch

from lisard_ros.frames import GREY_LEVELS

from ....evaluation.cache import Arrays
from . import smoothing
from .conditions import CertificateConfig
from .crafting import ImageBatch
from .models import ClassifierUnderTest

ABSTAINED = -1


def certify(model: ClassifierUnderTest, batch: ImageBatch, certificate: CertificateConfig) -> Arrays:
    """For each image the smoothed answer (-1: abstained), the share of its votes, and its radius in pixel units."""
    settings = smoothing.SmoothingSettings(
        sigma=certificate.sigma_255 / GREY_LEVELS,
        choose=certificate.choose,
        draws=certificate.draws,
        alpha=certificate.alpha,
        seed=certificate.seed + batch.start,
    )
    with torch.no_grad():
        found = list(smoothing.certify(model.network, torch.from_numpy(batch.x).to(model.device), settings))
    return {
        "answers": np.array([ABSTAINED if c.answer is None else c.answer for c in found], np.int16),
        "scores": np.array([c.hits / c.draws for c in found], np.float32),
        "radius_l2": np.array([np.nan if c.answer is None else c.radius_l2 for c in found], np.float32),
    }
