"""`lisard evaluate` for a detector: reads, checks, measures and judges."""

from __future__ import annotations

import numpy as np

from lisard_ros.evaluation.references import spread

from ....data import checks
from ....data.detection import Scenes
from ....data.detection.kinds import evaluation, load
from ....evaluation.models import NetworkSource
from ....evaluation.report import EvaluationOutcome
from ....evaluation.request import EvaluationRequest
from ....evaluation.runner import measure, ticks
from . import models, page, report, samples, suites
from .measuring import DetectionContext


def evaluate(task: NetworkSource, request: EvaluationRequest) -> EvaluationOutcome:
    """Measures a bundle and its baselines under gray-box and white-box attacks, judges, and writes the pages."""
    conditions = suites.conditions(request.suite, list(request.surrogates), request.seed, request.only)
    everybody = models.DetectorLoader(task).load(request.bundle, request.surrogates, request.baselines)
    first = next(iter(request.surrogates.values()))
    scenes, origin = evaluation(first.recipe.data, request.data, first.classes)
    if request.limit is not None:
        scenes = scenes.take(spread(np.arange(len(scenes)), request.limit))

    def training() -> Scenes:
        """Training images of the same data: what an attacker of a gray box knows."""
        dataset = load(first.recipe.data, request.data).train
        checks.same_classes(first.classes, dataset.classes, "the training images")
        return dataset

    context = DetectionContext(everybody, request.cache, scenes, training, exported=request.exported)
    results = measure(context, conditions, request.begin(ticks(context, conditions)))
    found = report.build(context, results, conditions, request, origin)
    galleries = samples.galleries(context, results) if request.galleries else ()
    return EvaluationOutcome(found, page.page_of(found, galleries))
