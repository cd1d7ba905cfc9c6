"""`lisard evaluate` for a detector: reads, checks, measures and judges."""

from __future__ import annotations

import numpy as np

from lisard_ros.evaluation.references import spread

from ....data import checks
from ....data.detection import Scenes
from ....data.detection.kinds import evaluation, load
from ....evaluation.models import NetworkSource
from ....evaluation.request import Circumstances, EvaluationOutcome, EvaluationRequest
from ....evaluation.runner import measure, ticks
from ....training.checkpoint import Checkpoint
from . import models, page, report, samples, suites
from .measuring import DetectionContext


def evaluate(task: NetworkSource, request: EvaluationRequest) -> EvaluationOutcome:
    """Measures a bundle and its controls under gray-box and white-box attacks, judges, and writes the pages."""
    conditions = suites.conditions(request.suite, list(request.surrogates), request.seed, request.only)
    everybody = models.DetectorLoader(task).load(request.bundle, request.surrogates, request.controls)
    first = next(iter(request.surrogates.values()))
    scenes, origin = _scenes(first, request.data, request.limit)
    context = DetectionContext(everybody, request.cache, scenes, lambda: _training(first, request.data))
    results = measure(context, conditions, request.begin(ticks(context, conditions)))
    about = Circumstances(request.command, request.suite, origin, request.seed)
    found = report.build(context, results, conditions, about)
    galleries = samples.galleries(context, results) if request.galleries else ()
    return EvaluationOutcome(found, page.page_of(found, galleries))


def _scenes(saved: Checkpoint, folder: str | None, limit: int | None) -> tuple[Scenes, str]:
    scenes, words = evaluation(saved.recipe.data, folder, saved.classes)
    return (scenes, words) if limit is None else (scenes.take(spread(np.arange(len(scenes)), limit)), words)


def _training(saved: Checkpoint, folder: str | None) -> Scenes:
    """Training images of the same data: what an attacker of a gray box knows."""
    training = load(saved.recipe.data, folder).train
    checks.same_classes(saved.classes, training.classes, "the training images")
    return training
