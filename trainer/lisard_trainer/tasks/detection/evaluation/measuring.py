"""Measuring a detector: its images under each condition, and the boxes that are found in them.

Corruptions and noise act on the letterboxed input, padding included.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lisard_ros import injection
from lisard_ros.attacks import store
from lisard_ros.attacks.gradient import PGD, pgd
from lisard_ros.attacks.mifgsm import MIFGSM, GradientSmoothing, mifgsm
from lisard_ros.attacks.model import BoxCriterion
from lisard_ros.corruptions import corrupt
from lisard_ros.evaluation.average_precision import Matches, ap50
from lisard_ros.inference.postprocess import Boxes

from ....data.detection import Scenes
from ....evaluation import versions
from ....evaluation.cache import Arrays, ResultKey, digest
from ....evaluation.deployed import TORCH
from ....evaluation.draws import RowsOfAll
from ....evaluation.results import EvaluationResult
from ....evaluation.runner import Answerer, EvaluationContext, ImageRange, View, batches_of
from . import metrics, patches
from .metrics import Precision, match
from .models import DetectorSource, DetectorUnderTest
from .suites import DetectionCondition

BATCH_SIZE = 32  # images that are attacked together and kept in one file
METRICS = "lisard_trainer.tasks.detection.evaluation.metrics"
NETWORK_CODE = ("lisard_trainer.backbones", "lisard_trainer.tasks.detection.network", METRICS)
ATTACK_CODE = (
    *NETWORK_CODE,
    "lisard_ros.attacks",
    "lisard_trainer.evaluation.draws",
    "lisard_trainer.tasks.detection.attack_model",
    "lisard_trainer.tasks.detection.assign",
    "lisard_trainer.tasks.detection.losses",
)


@dataclass(frozen=True, eq=False)
class DetectionResult(EvaluationResult[DetectionCondition]):
    """One model in one condition: what it found and how that matches the truth."""

    found: tuple[Boxes, ...]
    matches: Matches
    precision: Precision

    @functools.cached_property
    def ap50(self) -> float:
        """AP50 in [0,1]."""
        return ap50(self.matches)


@dataclass(frozen=True, eq=False)
class DetectionContext(EvaluationContext[DetectorSource, DetectionCondition, ImageRange, DetectionResult]):
    """Scenes with boxes. training: gives the images that patches are made on; asked only if there are some."""

    scenes: Scenes
    training: Callable[[], Scenes]

    @functools.cached_property
    def scenes_sha256(self) -> str:
        """Hash of the images and their boxes."""
        return self.scenes.sha256()

    @functools.cached_property
    def workshop(self) -> patches.Workshop:
        """Where patches are made."""
        return patches.Workshop(patches.attackers(self.training()), self.cache)

    @property
    def threshold(self) -> float:
        """Score from which the bundle shows a box."""
        decode = self.models.bundle.manifest.decode
        return decode.score_threshold if decode else 0.0

    @property
    def batch_size(self) -> int:
        """The same for every model."""
        return BATCH_SIZE

    def count(self, condition: DetectionCondition) -> int:
        """All scenes."""
        return len(self.scenes)

    def batches(self, condition: DetectionCondition) -> Iterator[ImageRange]:
        """All scenes."""
        return batches_of(len(self.scenes), BATCH_SIZE)

    def view(self, condition: DetectionCondition, batch: ImageRange, source: DetectorUnderTest | None) -> View:
        """Images with patches, attacked, noisy or corrupted ones, or the clean ones."""
        if condition.where:
            made_by = digest(self.workshop.key(condition, source, condition.steps))
        else:
            made_by = digest(self._attack_key(condition, source, batch)) if source is not None else ""
        change = {**condition.settings(), "start": batch.start, "attacked": made_by}
        code = versions.of("lisard_ros.corruptions")
        key = ResultKey("view", images=self.scenes_sha256, settings=change, code=code)
        return View(digest(key), lambda: self._images(condition, batch, source))

    def _images(
        self, condition: DetectionCondition, batch: ImageRange, source: DetectorUnderTest | None
    ) -> NDArray[np.float32]:
        """Images of a batch as a model meets them, [n,3,H,W] in [0,1]."""
        if condition.where:
            return patches.patched(self.workshop.print_of(condition, source), condition, self.scenes, batch)
        images = self.scenes.images[batch.rows]
        x = images.float().div(255)
        if source is not None:
            key = self._attack_key(condition, source, batch)
            arrays = self.cache.remember(key, lambda: craft(self, condition, source, batch))
            return store.add(x.contiguous().numpy(), arrays["deltas"].astype(np.int16))
        if condition.group == "noise":
            return (
                injection.NoiseInjection(condition.sigma_255, seed=condition.seed).apply(x.contiguous().numpy(), ()).x
            )
        if condition.group == "corruption":
            rows = images.permute(0, 2, 3, 1).contiguous().numpy()
            changed = corrupt(rows, condition.corruption, condition.severity, condition.seed)
            x = torch.from_numpy(changed).permute(0, 3, 1, 2).float().div(255)
        return np.asarray(x.numpy())

    def _attack_key(self, condition: DetectionCondition, source: DetectorUnderTest, batch: ImageRange) -> ResultKey:
        rows, code = (batch.start, batch.total), versions.of(*ATTACK_CODE)
        how, device = condition.settings(), source.device.type
        return ResultKey("attack", source.key, self.scenes_sha256, *rows, how, code, device)

    def answers(
        self, condition: DetectionCondition, batch: ImageRange, view: View, answerer: Answerer[DetectorSource]
    ) -> Arrays:
        """The boxes of each image."""
        if answerer.backend != TORCH:
            key, decode = self.files.key(answerer.backend, view.key, METRICS), metrics.boxes_of
            return self.cache.remember(key, lambda: packed(decode(self.files.infer(answerer.backend, view.images))))
        model = answerer.model
        code = versions.of(*NETWORK_CODE)
        key = ResultKey("answers", model.key, view.key, code=code, device=model.device.type)
        return self.cache.remember(key, lambda: packed(metrics.detect(model.network, torch.from_numpy(view.images))))

    def result(
        self, condition: DetectionCondition, answerer: Answerer[DetectorSource], answers: Sequence[Arrays]
    ) -> DetectionResult:
        """What was found, and how good that is."""
        found = [boxes for arrays in answers for boxes in unpacked(arrays)]
        matches = match(found, self.scenes, self.threshold)
        precision = metrics.precision_of(found, self.scenes)
        return DetectionResult(answerer.model.name, answerer.backend, condition, tuple(found), matches, precision)


def craft(
    context: DetectionContext, condition: DetectionCondition, source: DetectorUnderTest, batch: ImageRange
) -> Arrays:
    """Attacks a model: deltas in grey levels [n,3,H,W]."""
    x = context.scenes.images[batch.rows].float().div(255).contiguous()
    random = RowsOfAll(condition.seed, batch.start, batch.stop, batch.total)
    aim, eps, step = criterion(context.scenes, condition, batch), condition.eps_255 / 255, condition.step_255 / 255
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
    labels = np.asarray(scenes.labels[batch.rows].numpy(), np.int64)
    targets = mislabelled(labels, len(scenes.classes)) if condition.loss == "mislabel" else None
    return BoxCriterion(scenes.boxes[batch.rows].numpy(), labels, condition.loss, targets)


def mislabelled(labels: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Targets of a mislabelling attack: the next class for each true one."""
    return np.where(labels >= 0, (labels + 1) % classes, labels).astype(np.int64)


def packed(found: Sequence[Boxes]) -> Arrays:
    """Answers as arrays that can be kept."""
    return {
        "counts": np.array([len(one.scores) for one in found], np.int64),
        "boxes": np.concatenate([one.boxes_xyxy_px for one in found]).astype(np.float32),
        "scores": np.concatenate([one.scores for one in found]),
        "classes": np.concatenate([one.classes for one in found]).astype(np.int64),
    }


def unpacked(arrays: Arrays) -> list[Boxes]:
    """What `packed` packed."""
    ends = np.cumsum(arrays["counts"])[:-1]
    rows = (np.split(arrays[name], ends) for name in ("boxes", "scores", "classes"))
    return [Boxes(b.astype(np.float64), s, c.astype(np.intp)) for b, s, c in zip(*rows, strict=True)]
