"""`lisard evaluate` for a classifier: reads, checks, measures and judges."""

from __future__ import annotations

import torch

from lisard_ros.attacks import store
from lisard_ros.errors import UsageError

from .... import data
from ....evaluation.models import SHIPPED, NetworkSource, labelled
from ....evaluation.request import Circumstances, EvaluationOutcome, EvaluationRequest
from ....evaluation.runner import measure, ticks
from ....training.checkpoint import Checkpoint
from . import contrasts, dataset, ensemble, markdown, models, page, probe, report, samples, suites
from .measuring import ClassificationContext
from .rows import ClassificationResults


def evaluate(task: NetworkSource, request: EvaluationRequest) -> EvaluationOutcome:
    """Measures a bundle and its controls under gray-box and white-box attacks, judges, and writes the pages."""
    surrogates, controls, bundle = request.surrogates, request.controls, request.bundle
    attackers = ensemble.named(list(surrogates)) if request.ensemble else list(surrogates)
    conditions = suites.conditions(request.suite, attackers, request.seed, request.only, _budget(request.eps_255))
    pairs = contrasts.parse(request.compare, [SHIPPED, *controls])
    everybody = models.ClassifierLoader(task, _device(request.device)).load(bundle, surrogates, controls)
    everybody = ensemble.joined(everybody) if request.ensemble else everybody
    first = next(iter(surrogates.values()))
    images, origin = _images(request, first)
    models.check_same_labels(bundle, first.recipe.data.labels, images)
    context = ClassificationContext(everybody, request.cache, images, request.exported)
    measured = ClassificationResults(measure(context, conditions, request.begin(ticks(context, conditions))))
    probes = probe.probe(context)
    card = bundle.manifest.card
    mismatch = dataset.split_mismatch(labelled(surrogates, controls), card.data_sha256 if card else "")
    about = Circumstances(
        request.command, request.suite, origin, request.seed, mismatch, request.eps_255, request.title
    )
    found = report.build(measured, probes, everybody, conditions, images, about, pairs)
    html = ""
    if request.page:
        html = page.render(found, samples.attacked(context, measured), samples.corrupted(context, measured))
    return EvaluationOutcome(found, found.passed, markdown.page(found), html)


def _budget(eps_255: float) -> float:
    """The budget itself; a usage error if nothing is left of it in an image of 8 bit."""
    if not 1 <= eps_255 <= store.GREY_LEVELS:
        raise UsageError(
            "--eps",
            found=f"{eps_255:g}",
            expected=f"1 to {store.GREY_LEVELS} grey levels",
            cure="attacked images are rounded to whole grey levels",
        )
    return eps_255


def _images(request: EvaluationRequest, saved: Checkpoint) -> tuple[data.ImageDataset, str]:
    """The images to measure on, and what they are in words."""
    if request.images:
        given = dataset.of_folder(request.images, saved)
        return dataset.limited(given, request.limit), f"{dataset.unit(given)} of {request.images}"
    images, words = dataset.unseen(saved, request.data)
    return dataset.limited(images, request.limit), words


def _device(name: str) -> str:
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device", found="cuda, but torch sees no GPU", expected="cpu", cure="leave --device out")
    if name == "cpu" or not torch.cuda.is_available():
        return "cpu"
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # the report says float32
    return "cuda"
