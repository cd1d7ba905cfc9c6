"""The report as Markdown, and as one HTML file with tables and images of boxes before and after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from lisard_ros.evaluation.statistics import Interval
from lisard_ros.inference.postprocess import Boxes
from lisard_ros.reporting import pages
from lisard_ros.reporting.display import png

from ....evaluation.conditions import CLEAN
from ....evaluation.gallery import Gallery
from ....evaluation.models import SHIPPED
from .measuring import DetectionContext, DetectionResult
from .models import DetectorUnderTest
from .report import DetectionReport, PrecisionLine
from .suites import DetectionCondition

TEMPLATE = "page.html.j2"
SHOWN_PER_COLUMN = 3
PRINT_ZOOM = 4  # pixels for one square of a patch
TRUE_COLOUR, FOUND_COLOUR = (250, 210, 40), (60, 220, 110)  # RGB
HEADER = ("column", "knowledge", "model", "AP50 [95 %]", "AP", "small", "medium", "large", "kept [95 %]", "lost")
PATCH_HEADER = (
    "column",
    "knowledge",
    "area of the box",
    "steps",
    "model",
    "AP50 [95 %]",
    "under noise [95 %]",
    "patch minus noise [95 %]",
)


@dataclass(frozen=True)
class BoxSample:
    """One image for the page: clean and changed, each with true boxes and answers drawn, as data URIs."""

    path: str
    clean: str
    changed: str
    words: str


BoxGallery: TypeAlias = Gallery[BoxSample]


def table(report: DetectionReport) -> list[tuple[str, ...]]:
    """One row of texts for each line, corruptions left out (they are summed up)."""
    return [_cells(line) for line in report.lines if line.group != "corruption"]


def _cells(line: PrecisionLine) -> tuple[str, ...]:
    sizes = tuple("-" if value is None else f"{value:.3f}" for value in (line.ap_small, line.ap_medium, line.ap_large))
    lost = "-" if not np.isfinite(line.lost) else f"{100 * line.lost:.0f} %"
    return (line.column, line.knowledge, line.model, shown(line.ap50), f"{line.ap:.3f}", *sizes, shown(line.kept), lost)


def patch_table(report: DetectionReport) -> list[tuple[str, ...]]:
    """One row of texts for each patch and model."""
    return [
        (
            e.column,
            e.knowledge,
            f"{e.where}, {100 * e.share_low:g} to {100 * e.share_high:g} %",
            str(e.steps),
            e.model,
            shown(e.ap50),
            shown(e.noise_ap50),
            shown(e.gain),
        )
        for e in report.patches
    ]


def patch_words(report: DetectionReport) -> str:
    """What holds for all patches of the report, and what those of each kind hide."""
    first, kinds = report.patches[0], {(e.where, e.share_high): e for e in report.patches}
    hidden = "; ".join(
        f"{e.where} the box, up to {100 * e.share_high:g} % of its area: {e.patches} of {e.boxes} true boxes had room "
        f"for one, {100 * e.most_hidden:.0f} % of a box is hidden at most and {100 * e.mean_hidden:.0f} % on average"
        for e in kinds.values()
    )
    return (
        f"Printed patches of {first.side}x{first.side} squares that raise the class loss, one for each true box, "
        f"made on {first.made_on} training images with expectation over placement (place, size, brightness, "
        f"contrast, turned up to {first.turn_deg:g} degrees), measured on {first.n} others at fresh places. "
        f"The control is a patch of noise at the same places. {hidden}. Digital: nothing was printed."
    )


def shown(interval: Interval) -> str:
    """A value with its interval."""
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def markdown(report: DetectionReport) -> str:
    """Tables for docs and terminal."""
    lines = [
        f"# Detection: {report.sources[0].recipe}",
        "",
        f"{report.n} images ({report.pictures}), {report.device}, seed {report.seed}, commit "
        f"{report.commit[:12]}. Attacks: PGD, {report.lines[0].steps or 10} steps of eps/4 from a random start; "
        "mi: MI-FGSM, steps of eps/10; ti: the same with gradients smoothed over 15 pixels (TI), steps of eps/4. "
        "Linf, rounded to grey levels. kept: AP50 over the model's own clean AP50. lost: share of the "
        "true boxes met in the clean images that are no longer met.",
        "",
    ]
    lines += _markdown(HEADER, table(report))
    if report.corrupted:
        rows = [(c.model, str(c.columns), f"{c.mpc:.3f}", f"{100 * c.rpc:.1f} %") for c in report.corrupted]
        lines += ["", "## Corruptions", "", *_markdown(("model", "columns", "mPC (AP)", "rPC"), rows)]
    if report.patches:
        lines += ["", "## Printed patches", "", patch_words(report), "", *_markdown(PATCH_HEADER, patch_table(report))]
    rows = [
        (d.control, d.column, shown(d.ap50), shown(d.kept))
        for d in report.differences
        if not any(line.column == d.column and line.group == "corruption" for line in report.lines)
    ]
    if rows:
        header = ("minus control", "column", "AP50 difference", "difference of the share kept")
        lines += ["", f"## {SHIPPED} minus its controls, paired", "", *_markdown(header, rows)]
    lines += ["", "## Conditions", ""]
    lines += [
        f"- {'holds' if c.holds else 'FAILS'}: {c.name} (found {c.found}, expected {c.expected})"
        for c in report.conditions
    ]
    return "\n".join(lines) + "\n"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(header)} |", "|" + "---|" * len(header), *(f"| {' | '.join(row)} |" for row in rows)]


def html(report: DetectionReport, galleries: Sequence[BoxGallery]) -> str:
    """The whole page."""
    return pages.render(
        Path(__file__).parent,
        TEMPLATE,
        report=report,
        header=HEADER,
        rows=table(report),
        galleries=galleries,
        shown=shown,
        patch_header=PATCH_HEADER,
        patch_rows=patch_table(report),
        patch_words=patch_words(report) if report.patches else "",
    )


# Images -------------------------------------------------------------------------------------------------------------


def galleries(context: DetectionContext, rows: Sequence[DetectionResult]) -> tuple[BoxGallery, ...]:
    """For every attacked or noisy column the bundle's images where most was lost, before and after."""
    found = {(row.model, row.column.name): row for row in rows}
    clean = found[SHIPPED, CLEAN]
    columns = [row.column for row in rows if row.model == SHIPPED and row.column.group not in ("clean", "corruption")]
    return tuple(_gallery(context, column, clean, found[SHIPPED, column.name]) for column in columns)


def _gallery(
    context: DetectionContext, column: DetectionCondition, clean: DetectionResult, row: DetectionResult
) -> BoxGallery:
    lost = [int((a & ~b).sum()) for a, b in zip(clean.matches.met, row.matches.met, strict=True)]
    places = np.argsort(-np.array(lost), kind="stable")[:SHOWN_PER_COLUMN]
    samples = tuple(_sample(context, column, int(place), clean, row) for place in places)
    return Gallery(column.name, samples, _print(context, column) if column.where else "")


def _print(context: DetectionContext, column: DetectionCondition) -> str:
    """The print, enlarged."""
    patch = context.workshop.print_of(column, _source(context, column))
    levels = np.rint(patch.transpose(1, 2, 0) * 255).astype(np.uint8)
    return png(levels.repeat(PRINT_ZOOM, 0).repeat(PRINT_ZOOM, 1))


def _sample(
    context: DetectionContext, column: DetectionCondition, place: int, clean: DetectionResult, row: DetectionResult
) -> BoxSample:
    batch = next(islice(context.batches(column), place // context.batch_size, None))
    changed = context.view(column, batch, _source(context, column)).images[place - batch.start]
    before = context.scenes.images[place].numpy().astype(np.float32) / 255
    met = [int(r.matches.met[place].sum()) for r in (clean, row)]
    total = len(row.matches.met[place])
    drawn = [png(draw(image, found.found[place], context, place)) for image, found in ((before, clean), (changed, row))]
    return BoxSample(context.scenes.paths[place], drawn[0], drawn[1], f"{met[0]} of {total} met clean, {met[1]} after")


def _source(context: DetectionContext, column: DetectionCondition) -> DetectorUnderTest | None:
    if column.attacked == "surrogate":
        return context.models.surrogates[column.surrogate_name]
    return context.models.shipped if column.loss else None


def draw(image: NDArray[np.floating], found: Boxes, context: DetectionContext, place: int) -> NDArray[np.uint8]:
    """RGB [H,W,3] with the true boxes and the answers that the bundle would show."""
    canvas = np.ascontiguousarray(np.rint(np.clip(image, 0, 1).transpose(1, 2, 0) * 255).astype(np.uint8))
    labels = context.scenes.labels[place].numpy()
    for box in context.scenes.boxes[place].numpy()[labels >= 0]:
        _rectangle(canvas, box, TRUE_COLOUR)
    for box, score, label in _visible(found, context.threshold):
        _rectangle(canvas, box, FOUND_COLOUR)
        corner = (max(0, int(box[0])), max(10, int(box[1]) - 3))
        cv2.putText(canvas, f"{context.scenes.classes[label]} {score:.2f}", corner, 0, 0.35, FOUND_COLOUR, 1)
    return canvas


def _visible(found: Boxes, threshold: float) -> Iterator[tuple[NDArray[np.float64], float, int]]:
    for box, score, label in zip(found.boxes_xyxy_px, found.scores, found.classes, strict=True):
        if score >= threshold:
            yield box, float(score), int(label)


def _rectangle(canvas: NDArray[np.uint8], box: NDArray[np.floating], colour: tuple[int, int, int]) -> None:
    left, top, right, bottom = (round(float(v)) for v in box)
    cv2.rectangle(canvas, (left, top), (right, bottom), colour, 1)
