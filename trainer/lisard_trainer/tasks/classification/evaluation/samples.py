"""Images for the page: clean, the perturbation made loud, attacked, and what the bundle answered to both."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lisard_ros.evaluation.references import of_different_labels
from lisard_ros.frames import GREY_LEVELS
from lisard_ros.reporting.display import png, words

from ....evaluation.conditions import CLEAN
from ....evaluation.page import CaptionedImage, Gallery, ImageCard
from .measuring import ClassificationContext
from .results import ClassificationResult, ClassificationResults, worst
from .suites import title

AMPLIFICATION = 12
MIDDLE_GREY = 128
EACH = 3  # images that fell, and that held, for each attack


def attacked(context: ClassificationContext, measured: ClassificationResults) -> tuple[Gallery, ...]:
    """The worst gray-box and the worst white-box condition of the bundle, images that fell and that held."""
    galleries = []
    for group in ("gray", "white"):
        result = worst(measured.of_groups(context.models.of_bundle.name, group))
        if result is not None:
            right = _clean_hits(measured, result)
            labels = context.labels[result.positions]
            pools = [np.flatnonzero(right & (result.hits == held)) for held in (False, True)]
            shown = [pool[place] for pool in pools for place in of_different_labels(labels[pool].tolist(), EACH)]
            cards = tuple(_card(context, measured, result, int(place)) for place in shown)
            galleries.append(Gallery(title(result.condition.name), cards))
    return tuple(galleries)


def corrupted(context: ClassificationContext, measured: ClassificationResults) -> Gallery | None:
    """One image under every corruption, at the highest severity that was measured."""
    results = measured.of_groups(context.models.of_bundle.name, "corruption")
    by_corruption = {result.condition.corruption: result for result in results if result.condition.corruption}
    if not by_corruption:
        return None
    severity = max(corruption.severity for corruption in by_corruption)
    shown = {c.name.replace("_", " "): r for c, r in by_corruption.items() if c.severity == severity}
    first = next(iter(shown.values()))
    right = np.flatnonzero(_clean_hits(measured, first))  # one that is right when clean, near the middle
    place = int(right[len(right) // 2]) if len(right) else 0
    cards = {name: _card(context, measured, result, place) for name, result in shown.items()}
    clean = ImageCard(next(iter(cards.values())).images[:1])
    named = [
        ImageCard((CaptionedImage(card.images[-1].uri, name),), answer=card.answer, right=card.right)
        for name, card in cards.items()
    ]
    return Gallery(f"One image under every corruption, severity {severity}", (clean, *named))


def _clean_hits(measured: ClassificationResults, result: ClassificationResult) -> NDArray[np.bool_]:
    """Which of its images the same model has right when clean."""
    clean = measured.result(result.model, CLEAN)
    assert clean is not None, "clean images are always measured"
    return clean.hits[np.searchsorted(clean.positions, result.positions)]


def _card(
    context: ClassificationContext, measured: ClassificationResults, result: ClassificationResult, place: int
) -> ImageCard:
    """One image: clean, its change, as the model met it; and the answers to the first and the last."""
    batch, met = context.as_met(result.condition, place)
    within = place - batch.start
    x, y = (np.rint(images[within] * GREY_LEVELS) for images in (batch.x, met))
    change = np.clip(MIDDLE_GREY + AMPLIFICATION * (y - x), 0, GREY_LEVELS)
    names = context.models.bundle.manifest.labels
    clean = measured.result(result.model, CLEAN)
    assert clean is not None, "clean images are always measured"
    before = int(np.searchsorted(clean.positions, result.positions[place]))
    answers = [f"{words(names[r.answers[at]])} {r.scores[at]:.2f}" for r, at in ((clean, before), (result, place))]
    shown = zip(("clean", f"change x {AMPLIFICATION}", "attacked"), (x, change, y), strict=True)
    return ImageCard(
        tuple(CaptionedImage(png(levels.transpose(1, 2, 0).astype(np.uint8)), caption) for caption, levels in shown),
        f"{answers[0]} →",
        answers[1],
        bool(result.hits[place]),
    )
