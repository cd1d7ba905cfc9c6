"""Measuring a classifier: its images under each condition, and the answers to them in PyTorch and ONNX Runtime."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lisard_ros.attacks import store
from lisard_ros.attacks.torch_model import chunk_of

from .... import data
from ....data.dataset import subset
from ....evaluation import versions
from ....evaluation.cache import Arrays, ResultKey, digest
from ....evaluation.deployed import ONNX, TORCH
from ....evaluation.runner import Answerer, EvaluationContext, Meeting, View, batches_of
from . import crafting
from .crafting import ImageBatch, craft
from .models import ClassifierSource, ClassifierUnderTest
from .results import ClassificationResult
from .suites import ClassificationCondition

CRAFTING = "lisard_trainer.tasks.classification.evaluation.crafting"
NETWORK_CODE = (
    "lisard_ros.attacks.torch_model",
    "lisard_trainer.backbones",
    "lisard_trainer.tasks.classification.network",
    "lisard_trainer.losses.dual_norm",
    "lisard_trainer.tasks.classification.evaluation.models",
)
ATTACK_CODE = (
    *NETWORK_CODE,
    CRAFTING,
    "lisard_trainer.evaluation.draws",
    "lisard_ros.attacks",
    "lisard_trainer.tasks.classification.attack_model",
)
ANSWERS_CODE = (*NETWORK_CODE, CRAFTING)
CORRUPTION_CODE, CORRUPTION_PACKAGES = ("lisard_ros.corruptions", CRAFTING), ("cv2", "numpy")
NOISE_CODE = ("lisard_ros.injection", CRAFTING)
CERTIFY_CODE = (*NETWORK_CODE, CRAFTING, "lisard_trainer.tasks.classification.evaluation.smoothing")


@dataclass(frozen=True, eq=False)
class ClassificationContext(
    EvaluationContext[ClassifierSource, ClassificationCondition, ImageBatch, ClassificationResult]
):
    """Labelled images."""

    dataset: data.ImageDataset

    @functools.cached_property
    def labels(self) -> NDArray[np.int64]:
        """Own class of each image."""
        return np.asarray(self.dataset.labels.numpy(), np.int64)

    @property
    def batch_size(self) -> int:
        """What the attack model's device takes at once."""
        return chunk_of(self.models.of_bundle.device)

    def positions(self, limit: int) -> NDArray[np.int64]:
        """Places of the images of a condition that is limited to so many (0: all)."""
        return subset(len(self.dataset), limit or len(self.dataset))

    def count(self, condition: ClassificationCondition) -> int:
        """All images, or its subset."""
        return len(self.positions(condition.images))

    def batches(self, condition: ClassificationCondition) -> Iterator[ImageBatch]:
        """Its images."""
        return self.batches_up_to(condition.images)

    def batches_up_to(self, limit: int) -> Iterator[ImageBatch]:
        """So many images (0: all)."""
        positions = self.positions(limit)
        for batch in batches_of(len(positions), self.batch_size):
            images = self.dataset.images[torch.from_numpy(positions[batch.rows])]
            labels = self.labels[positions[batch.rows]]
            sha256 = hashlib.sha256(images.numpy().tobytes() + labels.tobytes()).hexdigest()
            x = data.to_unit(images).numpy()
            yield ImageBatch(batch.start, batch.stop, batch.total, x, labels, sha256)

    def answerers(
        self, condition: ClassificationCondition, meeting: Meeting[ClassifierSource]
    ) -> list[Answerer[ClassifierSource]]:
        """The bundle's fp32 file is asked too where the bundle is neither attacked itself nor smoothed."""
        who, ours = super().answerers(condition, meeting), self.models.of_bundle
        if self.exported and ours in meeting.models and meeting.source is not ours and not condition.smoothing:
            who.append(Answerer(ours, ONNX))
        return who

    def view(self, condition: ClassificationCondition, batch: ImageBatch, source: ClassifierUnderTest | None) -> View:
        """Attacked, corrupted or noisy images, or the clean ones."""
        if condition.attack and source is not None:
            attack = condition.attack
            settings = {k: v for k, v in asdict(attack).items() if k not in ("name", "surrogate")}
            settings["seed"] = attack.seed if attack.is_random else 0
            rows = (batch.start, batch.total) if attack.is_random else (0, 0)
            code, device = versions.of(*ATTACK_CODE), source.device.type
            key = ResultKey("attack", source.key, batch.sha256, *rows, settings, code, device)
            crafted = self.cache.remember(key, lambda: craft(source, batch, attack))
            deltas = crafted["deltas"].astype(np.int16)
            return View(digest(key), lambda: store.add(batch.x, deltas), crafted["unrounded"])
        if condition.corruption:
            corruption, code = condition.corruption, versions.of(*CORRUPTION_CODE, packages=CORRUPTION_PACKAGES)
            key = ResultKey("view", images=batch.sha256, settings=asdict(corruption), code=code)
            return View(digest(key), lambda: crafting.corrupted(batch, corruption))
        if condition.noise_sigma_255:
            sigma, seed = condition.noise_sigma_255, condition.seed
            change = {"sigma_255": sigma, "seed": seed + batch.start}
            key = ResultKey("view", images=batch.sha256, settings=change, code=versions.of(*NOISE_CODE))
            return View(digest(key), lambda: crafting.noisy(batch, sigma, seed))
        return View(digest(ResultKey("view", images=batch.sha256)), lambda: batch.x)

    def answers(
        self, condition: ClassificationCondition, batch: ImageBatch, view: View, answerer: Answerer[ClassifierSource]
    ) -> Arrays:
        """Classes and scores; certified radii, or what was answered before rounding, where that is known."""
        model, device = answerer.model, answerer.model.device.type
        if condition.certificate:
            certificate, code = condition.certificate, versions.of(*CERTIFY_CODE)
            how = asdict(certificate)
            key = ResultKey("certificate", model.key, batch.sha256, batch.start, 0, how, code, device)
            return self.cache.remember(key, lambda: crafting.certified(model, batch, certificate))
        if answerer.backend != TORCH:
            key = self.files.key(answerer.backend, view.key, CRAFTING)
            return self.cache.remember(
                key, lambda: vars(crafting.predictions(self.files.infer(answerer.backend, view.images)))
            )
        smoothing = condition.smoothing
        how = {**asdict(smoothing), "start": batch.start} if smoothing else {}
        key = ResultKey("answers", model.key, view.key, settings=how, code=versions.of(*ANSWERS_CODE), device=device)

        def make() -> Arrays:
            x = torch.from_numpy(view.images).to(model.device)
            if smoothing is None:
                return vars(crafting.answers(model.network, x))
            random = np.random.default_rng([smoothing.seed, batch.start])
            return vars(crafting.voted(model.network, x, smoothing, random))

        found = self.cache.remember(key, make)
        if condition.attacked == "each model" and view.unrounded is not None and not smoothing:
            return {**found, "unrounded": view.unrounded}
        return found

    def result(
        self, condition: ClassificationCondition, answerer: Answerer[ClassifierSource], answers: Sequence[Arrays]
    ) -> ClassificationResult:
        """Which answers are right."""
        joined = {name: np.concatenate([arrays[name] for arrays in answers]) for name in answers[0]}
        positions = self.positions(condition.images)
        hits = joined["answers"] == self.labels[positions]
        raw, radius = joined.get("unrounded"), joined.get("radius_l2")
        return ClassificationResult(
            answerer.model.name,
            answerer.backend,
            condition,
            positions,
            joined["answers"],
            joined["scores"],
            hits,
            None if raw is None else raw == self.labels[positions],
            None if radius is None else np.where(hits, radius, np.nan).astype(np.float32),
        )
