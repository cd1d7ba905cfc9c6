"""`lisard evaluate` for a classifier: reads, checks, measures and judges.

Measured are the data set's test or held-back images, or a folder of others.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lisard_ros.attacks import store
from lisard_ros.errors import DataError, UsageError, unknown_name
from lisard_ros.evaluation.references import spread

from .... import data
from ....evaluation.models import NetworkSource
from ....evaluation.report import EvaluationOutcome
from ....evaluation.request import EvaluationRequest
from ....evaluation.runner import measure, ticks
from ....training import checkpoint
from ....training.checkpoint import Checkpoint
from . import page, report, samples, suites
from .measuring import ClassificationContext
from .models import ClassifierLoader, check_same_labels, names_with_ensemble, with_ensemble
from .results import ClassificationResults, parse_comparisons


def evaluate(task: NetworkSource, request: EvaluationRequest) -> EvaluationOutcome:
    """Measures a bundle and its baselines under gray-box and white-box attacks, and judges."""
    surrogates, baselines, bundle = request.surrogates, request.baselines, request.bundle
    if not 1 <= request.eps_255 <= store.GREY_LEVELS:
        raise UsageError(
            "--eps",
            found=f"{request.eps_255:g}",
            expected=f"1 to {store.GREY_LEVELS} grey levels",
            cure="attacked images are rounded to whole grey levels",
        )
    attackers = names_with_ensemble(list(surrogates)) if request.ensemble else list(surrogates)
    conditions = suites.conditions(request.suite, attackers, request.seed, request.only, request.eps_255)
    pairs = parse_comparisons(request.compare, [bundle.manifest.name, *baselines])
    loader = ClassifierLoader(task, _device(request.device))
    loader.check_names(bundle, list(baselines), attackers)
    models = loader.load(bundle, surrogates, baselines)
    models = with_ensemble(models) if request.ensemble else models
    first = next(iter(surrogates.values()))
    if request.images:
        images = of_folder(request.images, first)
        origin = f"{unit(images)} of {request.images}"
    else:
        images, origin = unseen(first, request.data)
    if request.tracks:
        images = of_tracks(images, request.tracks)
        origin = f"{origin}, those of {request.tracks.name}"
    if request.limit is not None:
        images = images.take(spread(np.arange(len(images)), request.limit))
    check_same_labels(bundle, first.recipe.data.labels, images)
    context = ClassificationContext(models, request.cache, images, exported=request.exported)
    measured = ClassificationResults(measure(context, conditions, request.begin(ticks(context, conditions))))
    found = report.build(context, measured, conditions, request, origin, pairs)
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


def unseen(saved: Checkpoint, folder: str | None) -> tuple[data.ImageDataset, str]:
    """Images that a checkpoint was not trained on, and what they are in words: the test set where there is one.

    DataError where the data set is not that of the training, so that what it holds back may have been learnt from.
    """
    found = data.evaluation(saved.recipe.data, folder)
    what = f"data to evaluate {saved.recipe.name} on"
    checkpoint.check_classes(saved, found.dataset.classes, what, "check --data")
    if found.training_sha256:
        cure = "give the training's own --data, or other --images"
        checkpoint.check_images(saved, found.training_sha256, what, cure)
    return found.dataset, f"{unit(found.dataset)} that no model was trained on ({found.name})"


def unit(dataset: data.ImageDataset) -> str:
    """What is drawn independently: tracks where several images are of one, else images."""
    return "tracks" if len(set(dataset.tracks)) < len(dataset) else "images"


def of_tracks(images: data.ImageDataset, path: Path) -> data.ImageDataset:
    """The images whose tracks a file lists, one a line; lines that begin with # are comments."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("--tracks", found=f"no readable text in {path}", expected="one track a line") from error
    wanted = {line for line in lines if line and not line.startswith("#")}
    unknown = sorted(wanted - set(images.tracks))
    if unknown or not wanted:
        raise UsageError(
            f"--tracks {path}",
            found=f"{unknown[0]}, which no measured image has" if unknown else "no track",
            expected=f"tracks of the {len(images)} measured images, for example {images.tracks[0]}",
            cure="check --data, or list other tracks",
        )
    return images.take(np.flatnonzero([track in wanted for track in images.tracks]))


def of_folder(folder: Path, saved: Checkpoint) -> data.ImageDataset:
    """Images <class>/<track>_<frame>.png; class folders are named as in training, some may be missing."""
    if not folder.is_dir():
        raise DataError("--images", found=f"no folder {folder}", expected="<folder>/<class>/<track>_<frame>.png")
    read = data.read(folder, saved.recipe.data.size_px)
    for name in read.classes:
        if name not in saved.classes:
            raise unknown_name(f"class folder of {folder}", name, saved.classes, DataError)
    place = torch.tensor([saved.classes.index(name) for name in read.classes])
    return replace(read, labels=place[read.labels], classes=saved.classes)
