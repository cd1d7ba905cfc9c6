"""Images for the page: clean, the perturbation made loud, attacked, and what the bundle answered to both."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lisard_ros.reporting.display import png, words

from ....evaluation.conditions import CLEAN
from ....evaluation.gallery import Gallery
from ....evaluation.models import SHIPPED
from .conditions import ClassificationCondition, title
from .crafting import ImageBatch
from .measuring import ClassificationContext
from .rows import ClassificationResult, ClassificationResults, worst

AMPLIFICATION = 12
MIDDLE_GREY = 128
EACH = 3  # images that fell, and that held, for each attack
GREY_LEVELS = 255


@dataclass(frozen=True)
class AnswerSample:
    """One image: its label, three images as data URIs, and the answers (label, score) to the clean and last one."""

    truth: str
    clean_uri: str
    delta_uri: str
    attacked_uri: str
    clean_answer: tuple[str, float]
    attacked_answer: tuple[str, float]

    @property
    def held(self) -> bool:
        """Whether the answer to the attacked image is right."""
        return self.attacked_answer[0] == self.truth


AnswerGallery: TypeAlias = Gallery[AnswerSample]


def attacked(context: ClassificationContext, measured: ClassificationResults) -> tuple[AnswerGallery, ...]:
    """The worst gray-box and the worst white-box column of the bundle, images that fell and that held."""
    rows = [worst(measured.columns(SHIPPED, group)) for group in ("gray", "white")]
    return tuple(_gallery(context, measured, row) for row in rows if row is not None)


def corrupted(context: ClassificationContext, measured: ClassificationResults) -> AnswerGallery | None:
    """One image under every corruption, at the highest severity that was measured."""
    rows = [r for r in measured.columns(SHIPPED, "corruption") if r.column.corruption]
    if not rows:
        return None
    severity = max(r.column.corruption.severity for r in rows if r.column.corruption)
    chosen = [r for r in rows if r.column.corruption and r.column.corruption.severity == severity]
    place = _middle(measured, chosen[0])
    samples = [(r, _sample(context, measured, r, place)) for r in chosen]
    named = [
        AnswerSample(_name(r.column), s.clean_uri, s.delta_uri, s.attacked_uri, (s.truth, 1.0), s.attacked_answer)
        for r, s in samples
    ]
    return Gallery(f"One image under every corruption, severity {severity}", tuple(named))


def _name(column: ClassificationCondition) -> str:
    return column.corruption.name.replace("_", " ") if column.corruption else column.name


def _middle(measured: ClassificationResults, row: ClassificationResult) -> int:
    """The index in a row of an image that is right when clean, near the middle."""
    clean = _clean(measured, row)
    right = np.flatnonzero(clean.hits[np.searchsorted(clean.positions, row.positions)])
    return int(right[len(right) // 2]) if len(right) else 0


def _clean(measured: ClassificationResults, row: ClassificationResult) -> ClassificationResult:
    found = measured.row(row.model, CLEAN)
    assert found is not None, "clean images are always measured"
    return found


def _gallery(
    context: ClassificationContext, measured: ClassificationResults, row: ClassificationResult
) -> AnswerGallery:
    clean = _clean(measured, row)
    right = clean.hits[np.searchsorted(clean.positions, row.positions)]
    labels = context.labels[row.positions]
    fell, held = (_spread(np.flatnonzero(right & (row.hits == kept)), labels, EACH) for kept in (False, True))
    return Gallery(title(row.column.name), tuple(_sample(context, measured, row, at) for at in (*fell, *held)))


def _spread(places: NDArray[np.int64], labels: NDArray[np.int64], count: int) -> list[int]:
    """Up to `count` places of different classes, from all over."""
    ordered = [*places[:: max(1, len(places) // max(1, 3 * count))], *places]
    taken: list[int] = []
    for place in ordered:
        if len(taken) < count and labels[place] not in labels[taken]:
            taken.append(int(place))
    return taken


def _sample(
    context: ClassificationContext, measured: ClassificationResults, row: ClassificationResult, at: int
) -> AnswerSample:
    batch, within = _batch(context, row.column, at), at % context.batch_size
    clean = _clean(measured, row)
    before = int(np.searchsorted(clean.positions, row.positions[at]))
    x, y = (np.rint(dataset[within] * GREY_LEVELS) for dataset in (batch.x, _images(context, row.column, batch)))
    loud = np.clip(MIDDLE_GREY + AMPLIFICATION * (y - x), 0, GREY_LEVELS)
    names = context.models.bundle.manifest.labels
    answers = [(words(names[int(r.answers[i])]), float(r.scores[i])) for r, i in ((clean, before), (row, at))]
    return AnswerSample(
        words(names[int(batch.own[within])]), _shown(x), _shown(loud), _shown(y), answers[0], answers[1]
    )


def _batch(context: ClassificationContext, condition: ClassificationCondition, at: int) -> ImageBatch:
    return next(islice(context.batches(condition), at // context.batch_size, None))


def _images(
    context: ClassificationContext, condition: ClassificationCondition, batch: ImageBatch
) -> NDArray[np.float32]:
    """What the bundle met: found among the kept results."""
    models = context.models
    source = models.surrogates[condition.surrogate_name] if condition.attacked == "surrogate" else models.shipped
    return context.view(condition, batch, source if condition.attack else None).images


def _shown(levels: NDArray[np.floating]) -> str:
    """[3,H,W] in grey levels -> data URI."""
    return png(levels.transpose(1, 2, 0).astype(np.uint8))
