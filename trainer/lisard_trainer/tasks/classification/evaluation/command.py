"""`lisard evaluate` for a classifier: reads, checks, measures and judges."""

from __future__ import annotations

import torch

from lisard_ros.attacks import store
from lisard_ros.errors import UsageError

from ....evaluation.models import SHIPPED, NetworkSource, labelled
from ....evaluation.request import Circumstances, EvaluationOutcome, EvaluationRequest
from ....evaluation.runner import measure, ticks
from . import contrasts, dataset, ensemble, page, probe, report, samples, suites
from .measuring import ClassificationContext
from .models import ClassifierLoader, check_same_labels
from .results import ClassificationResults


def evaluate(task: NetworkSource, request: EvaluationRequest) -> EvaluationOutcome:
    """Measures a bundle and its controls under gray-box and white-box attacks, and judges."""
    surrogates, controls, bundle = request.surrogates, request.controls, request.bundle
    if not 1 <= request.eps_255 <= store.GREY_LEVELS:
        raise UsageError(
            "--eps",
            found=f"{request.eps_255:g}",
            expected=f"1 to {store.GREY_LEVELS} grey levels",
            cure="attacked images are rounded to whole grey levels",
        )
    attackers = ensemble.named(list(surrogates)) if request.ensemble else list(surrogates)
    conditions = suites.conditions(request.suite, attackers, request.seed, request.only, request.eps_255)
    pairs = contrasts.parse(request.compare, [SHIPPED, *controls])
    models = ClassifierLoader(task, _device(request.device)).load(bundle, surrogates, controls)
    models = ensemble.joined(models) if request.ensemble else models
    first = next(iter(surrogates.values()))
    if request.images:
        images = dataset.of_folder(request.images, first)
        origin = f"{dataset.unit(images)} of {request.images}"
    else:
        images, origin = dataset.unseen(first, request.data)
    images = dataset.limited(images, request.limit)
    check_same_labels(bundle, first.recipe.data.labels, images)
    context = ClassificationContext(models, request.cache, images, request.exported)
    measured = ClassificationResults(measure(context, conditions, request.begin(ticks(context, conditions))))
    card = bundle.manifest.card
    mismatch = dataset.split_mismatch(labelled(surrogates, controls), card.data_sha256 if card else "")
    about = Circumstances(
        request.command, request.suite, origin, request.seed, mismatch, request.eps_255, request.title
    )
    found = report.build(measured, probe.probe(context), models, conditions, images, about, pairs)
    attacked = samples.attacked(context, measured) if request.galleries else ()
    corrupted = samples.corrupted(context, measured) if request.galleries else None
    return EvaluationOutcome(found, page.page_of(found, attacked, corrupted))


def _device(name: str) -> str:
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device", found="cuda, but torch sees no GPU", expected="cpu", cure="leave --device out")
    if name == "cpu" or not torch.cuda.is_available():
        return "cpu"
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # the report says float32
    return "cuda"
