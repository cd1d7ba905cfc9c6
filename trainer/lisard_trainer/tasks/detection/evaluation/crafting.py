"""Making the images of a batch as a detector meets them: attacked in whole grey levels, noisy or corrupted.

Corruptions and noise act on the letterboxed input, padding included.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lisard_ros import injection
from lisard_ros.attacks import store
from lisard_ros.attacks.gradient import PGD, pgd
from lisard_ros.attacks.mifgsm import MIFGSM, GradientSmoothing, mifgsm
from lisard_ros.attacks.model import BoxCriterion
from lisard_ros.corruptions import corrupt
from lisard_ros.frames import GREY_LEVELS

from ....data.detection import Scenes
from ....evaluation.cache import Arrays
from ....evaluation.draws import RowsOfAll
from ....evaluation.runner import ImageRange
from .models import DetectorUnderTest
from .suites import DetectionCondition


def craft(scenes: Scenes, condition: DetectionCondition, source: DetectorUnderTest, batch: ImageRange) -> Arrays:
    """Attacks a model: `deltas` in grey levels [n,3,H,W]."""
    x = scenes.images[batch.rows].float().div(GREY_LEVELS).contiguous()
    random = RowsOfAll(condition.seed, batch.start, batch.stop, batch.total)
    aim, eps, step = criterion(scenes, condition, batch), condition.eps_255 / 255, condition.step_255 / 255
    if condition.method == "pgd":
        made = pgd(source.attack_model, x, aim, PGD(eps, step, condition.steps), random)
    else:
        smoothing = GradientSmoothing() if condition.method == "ti_fgsm" else None
        settings = MIFGSM(eps, condition.steps, step=step, smoothing=smoothing)
        made = mifgsm(source.attack_model, x, aim, settings, random)
    return {"deltas": store.quantise(x.numpy(), made.numpy(), condition.eps_255).astype(np.int8)}


def criterion(scenes: Scenes, condition: DetectionCondition, batch: ImageRange) -> BoxCriterion:
    """What an attack of this condition wants."""
    assert condition.loss is not None
    found = scenes.criterion(condition.loss, batch.rows)
    if condition.loss != "mislabel":
        return found
    return replace(found, targets=mislabelled(scenes.labels[batch.rows].numpy(), len(scenes.classes)))


def mislabelled(labels: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Targets of a mislabelling attack: the next class for each true one."""
    return np.where(labels >= 0, (labels + 1) % classes, labels).astype(np.int64)


def changed(scenes: Scenes, condition: DetectionCondition, batch: ImageRange) -> NDArray[np.float32]:
    """The images [n,3,H,W] in [0,1] in noise, under a common corruption, or as they are."""
    levels = scenes.images[batch.rows]
    if condition.group == "corruption":
        rows = levels.permute(0, 2, 3, 1).contiguous().numpy()
        made = corrupt(rows, condition.corruption, condition.severity, condition.seed)
        return np.ascontiguousarray(made.transpose(0, 3, 1, 2), np.float32) / np.float32(GREY_LEVELS)
    x = np.asarray(levels.contiguous().numpy() / np.float32(GREY_LEVELS), np.float32)
    if condition.group == "noise":
        return injection.NoiseInjection(condition.sigma_255, seed=condition.seed).apply(x, ()).x
    return x
