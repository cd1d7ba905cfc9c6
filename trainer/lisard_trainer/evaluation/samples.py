"""Pictures for the page: clean, the perturbation made loud, attacked, and what the bundle answered to both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lisard_ros.reporting.display import png, words

from .columns import CLEAN, Column, title
from .making import Part
from .rows import Measured, Row, worst
from .run import Bench, column_parts, view
from .subjects import SHIPPED

AMPLIFICATION = 12
MIDDLE_GREY = 128
EACH = 3  # pictures that fell, and that held, for each attack
GREY_LEVELS = 255


@dataclass(frozen=True)
class Sample:
    """One picture: its label, three images as data URIs, and the answers (label, score) to the clean and last one."""

    truth: str
    clean_uri: str
    delta_uri: str
    attacked_uri: str
    clean_answer: tuple[str, float]
    attacked_answer: tuple[str, float]

    @property
    def held(self) -> bool:
        """Whether the answer to the attacked picture is right."""
        return self.attacked_answer[0] == self.truth


@dataclass(frozen=True)
class Gallery:
    """Samples of one column."""

    title: str
    samples: tuple[Sample, ...]


def attacked(bench: Bench, measured: Measured) -> tuple[Gallery, ...]:
    """The worst gray-box and the worst white-box column of the bundle, pictures that fell and that held."""
    rows = [worst(measured.columns(SHIPPED, group)) for group in ("gray", "white")]
    return tuple(_gallery(bench, measured, row) for row in rows if row is not None)


def corrupted(bench: Bench, measured: Measured) -> Gallery | None:
    """One picture under every corruption, at the highest severity that was measured."""
    rows = [r for r in measured.columns(SHIPPED, "corruption") if r.column.corruption]
    if not rows:
        return None
    severity = max(r.column.corruption.severity for r in rows if r.column.corruption)
    chosen = [r for r in rows if r.column.corruption and r.column.corruption.severity == severity]
    place = _middle(measured, chosen[0])
    samples = [(r, _sample(bench, measured, r, place)) for r in chosen]
    named = [
        Sample(_name(r.column), s.clean_uri, s.delta_uri, s.attacked_uri, (s.truth, 1.0), s.attacked_answer)
        for r, s in samples
    ]
    return Gallery(f"One picture under every corruption, severity {severity}", tuple(named))


def _name(column: Column) -> str:
    return column.corruption.name.replace("_", " ") if column.corruption else column.name


def _middle(measured: Measured, row: Row) -> int:
    """The index in a row of a picture that is right when clean, near the middle."""
    clean = _clean(measured, row)
    right = np.flatnonzero(clean.hits[np.searchsorted(clean.positions, row.positions)])
    return int(right[len(right) // 2]) if len(right) else 0


def _clean(measured: Measured, row: Row) -> Row:
    found = measured.row(row.model, CLEAN)
    assert found is not None, "clean pictures are always measured"
    return found


def _gallery(bench: Bench, measured: Measured, row: Row) -> Gallery:
    clean = _clean(measured, row)
    right = clean.hits[np.searchsorted(clean.positions, row.positions)]
    labels = bench.labels[row.positions]
    fell, held = (_spread(np.flatnonzero(right & (row.hits == kept)), labels, EACH) for kept in (False, True))
    return Gallery(title(row.column.name), tuple(_sample(bench, measured, row, at) for at in (*fell, *held)))


def _spread(places: NDArray[np.int64], labels: NDArray[np.int64], count: int) -> list[int]:
    """Up to `count` places of different classes, from all over."""
    ordered = [*places[:: max(1, len(places) // max(1, 3 * count))], *places]
    taken: list[int] = []
    for place in ordered:
        if len(taken) < count and labels[place] not in labels[taken]:
            taken.append(int(place))
    return taken


def _sample(bench: Bench, measured: Measured, row: Row, at: int) -> Sample:
    part, within = _part(bench, row.column, at), at % bench.part_size
    clean = _clean(measured, row)
    before = int(np.searchsorted(clean.positions, row.positions[at]))
    x, y = (np.rint(pictures[within] * GREY_LEVELS) for pictures in (part.x, _pictures(bench, row.column, part)))
    loud = np.clip(MIDDLE_GREY + AMPLIFICATION * (y - x), 0, GREY_LEVELS)
    names = bench.subjects.bundle.manifest.labels
    answers = [(words(names[int(r.answers[i])]), float(r.scores[i])) for r, i in ((clean, before), (row, at))]
    return Sample(words(names[int(part.own[within])]), _shown(x), _shown(loud), _shown(y), answers[0], answers[1])


def _part(bench: Bench, column: Column, at: int) -> Part:
    parts: Iterator[Part] = column_parts(bench, column.pictures)
    return next(part for number, part in enumerate(parts) if number == at // bench.part_size)


def _pictures(bench: Bench, column: Column, part: Part) -> NDArray[np.float32]:
    """What the bundle met: found among the kept results."""
    subjects = bench.subjects
    surrogate = column.attack.surrogate if column.attack and column.group == "gray" else None
    source = subjects.shipped if surrogate is None else subjects.surrogates[surrogate]
    return view(bench, column, part, source if column.attack else None).make()


def _shown(levels: NDArray[np.floating]) -> str:
    """[3,H,W] in grey levels -> data URI."""
    return png(levels.transpose(1, 2, 0).astype(np.uint8))
