"""Measuring a detector: its images under each condition, and the boxes that are found in them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lisard_ros.attacks import store
from lisard_ros.evaluation.average_precision import Matches, ap50
from lisard_ros.inference.postprocess import Boxes

from ....data.detection import Scenes
from ....evaluation import versions
from ....evaluation.cache import Arrays, ResultKey, digest
from ....evaluation.deployed import TORCH
from ....evaluation.results import EvaluationResult
from ....evaluation.runner import Answerer, EvaluationContext, ImageRange, View, batches_of
from . import crafting, metrics, patches
from .metrics import Precision, match
from .models import DetectorSource, DetectorUnderTest
from .suites import DetectionCondition

BATCH_SIZE = 32  # images that are attacked together and kept in one file
CRAFTING = "lisard_trainer.tasks.detection.evaluation.crafting"
METRICS = "lisard_trainer.tasks.detection.evaluation.metrics"
NETWORK_CODE = ("lisard_trainer.backbones", "lisard_trainer.tasks.detection.network", METRICS)
ATTACK_CODE = (
    *NETWORK_CODE,
    CRAFTING,
    "lisard_ros.attacks",
    "lisard_trainer.evaluation.draws",
    "lisard_trainer.tasks.detection.attack_model",
    "lisard_trainer.tasks.detection.assign",
    "lisard_trainer.tasks.detection.losses",
)
VIEW_CODE = ("lisard_ros.corruptions", "lisard_ros.injection", CRAFTING)


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
        key = ResultKey("view", images=self.scenes_sha256, settings=change, code=versions.of(*VIEW_CODE))
        return View(digest(key), lambda: self._images(condition, batch, source))

    def _images(
        self, condition: DetectionCondition, batch: ImageRange, source: DetectorUnderTest | None
    ) -> NDArray[np.float32]:
        """Images of a batch as a model meets them, [n,3,H,W] in [0,1]."""
        if condition.where:
            return patches.patched(self.workshop.print_of(condition, source), condition, self.scenes, batch)
        x = crafting.changed(self.scenes, condition, batch)
        if source is None:
            return x
        key = self._attack_key(condition, source, batch)
        arrays = self.cache.remember(key, lambda: crafting.craft(self.scenes, condition, source, batch))
        return store.add(x, arrays["deltas"].astype(np.int16))

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
