"""What the page of a detector's report shows: tables, and images with boxes before and after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ....evaluation import int8
from ....evaluation.page import Gallery, ReportPage, Section, present, short_commit
from ....evaluation.tables import Table, fraction, requirements, sources, texts
from .report import DetectionReport, PatchEffect

ABOUT_CHANGES = (
    "mPC: mean AP over corruptions and severities. rPC: mPC over clean AP. They act on the letterboxed input."
)
ABOUT_IMAGES = (
    "The bundle's answers on the images that lost most in each condition: true boxes in yellow, answers in green. Left "
    "clean, right changed."
)


def page_of(report: DetectionReport, galleries: Sequence[Gallery] = ()) -> ReportPage:
    """The report as it is read; galleries: images of the bundle's answers, where they are wanted."""
    return ReportPage(
        title=report.title or f"Detection: {report.sources[0].recipe}",
        lead=f"{report.n} images ({report.origin}), classes {', '.join(report.classes)}",
        notes=(
            "AP as COCO defines it; AP50 with a 95 % bootstrap interval over images. "
            f"Attacks: PGD, {report.lines[0].steps or 10} steps of eps/4 from a random start; "
            "mi: MI-FGSM, steps of eps/10; ti: the same with gradients smoothed over 15 pixels (TI), steps of eps/4. "
            "Linf, rounded to grey levels; the number is the budget in 1/255. "
            "kept: AP50 over the model's own clean AP50. lost: share of the "
            "true boxes met in the clean images that are no longer met.",
        ),
        command=report.command,
        facts=(
            ("Suite", report.suite),
            ("Seed", str(report.seed)),
            ("Device", report.device),
            ("Commit", short_commit(report.commit)),
            ("Made", report.created),
        ),
        passed=report.passed,
        sections=(
            *(Section(table.title, tables=(table,)) for table in tables(report)),
            Section("Boxes before and after", ABOUT_IMAGES, galleries=tuple(galleries)),
        ),
    )


def tables(report: DetectionReport) -> Iterator[Table]:
    """Those that have rows."""
    if report.requirements:
        yield requirements(((c.name, c.found, c.expected, c.holds) for c in report.requirements), report.passed)
    yield precision(report)
    if report.corrupted:
        summed = tuple((c.model, texts(c.conditions, f"{c.mpc:.3f}", f"{100 * c.rpc:.1f} %")) for c in report.corrupted)
        yield Table("Corruptions", ABOUT_CHANGES, ("model", "conditions", "mPC (AP)", "rPC"), summed)
    if report.patches:
        yield patches(report.patches)
    corruptions = {line.condition for line in report.lines if line.group == "corruption"}
    compared = tuple(
        (d.baseline, texts(d.condition, fraction(d.ap50), fraction(d.kept)))
        for d in report.differences
        if d.condition not in corruptions
    )
    if compared:
        header = ("minus baseline", "condition", "AP50 difference", "difference of the share kept")
        yield Table(f"{report.model} minus its baselines, paired", "", header, compared)
    yield from present(int8.table(report.int8, "images"))
    yield sources(report.sources, {})


def precision(report: DetectionReport) -> Table:
    """A row for each line, corruptions left out (they are summed up)."""
    rows = []
    for line in report.lines:
        if line.group != "corruption":
            by_size = (line.ap_small, line.ap_medium, line.ap_large)
            sizes = ("-" if value is None else f"{value:.3f}" for value in by_size)
            lost = f"{100 * line.lost:.0f} %" if np.isfinite(line.lost) else "-"
            figures = (fraction(line.ap50), f"{line.ap:.3f}", *sizes, fraction(line.kept), lost)
            rows.append((line.condition, texts(line.knowledge, line.model, *figures)))
    header = ("condition", "knowledge", "model", "AP50 [95 %]", "AP", "small", "medium", "large", "kept [95 %]", "lost")
    return Table("Precision", "", header, tuple(rows))


def patches(effects: Sequence[PatchEffect]) -> Table:
    """A row for each patch and model; what holds for all patches, and what those of each kind hide."""
    first, kinds = effects[0], {(e.where, e.share_high): e for e in effects}
    hidden = "; ".join(
        f"{e.where} the box, up to {100 * e.share_high:g} % of its area: {e.patches} of {e.boxes} true boxes had room "
        f"for one, {100 * e.most_hidden:.0f} % of a box is hidden at most and {100 * e.mean_hidden:.0f} % on average"
        for e in kinds.values()
    )
    about = (
        f"Printed patches of {first.side}x{first.side} squares that raise the class loss, one for each true box, "
        f"made on {first.made_on} training images with expectation over placement (place, size, brightness, "
        f"contrast, turned up to {first.turn_deg:g} degrees), measured on {first.n} others at fresh places. "
        f"The baseline is a patch of noise at the same places. {hidden}. Digital: nothing was printed."
    )
    rows = []
    for e in effects:
        area = f"{e.where}, {100 * e.share_low:g} to {100 * e.share_high:g} %"
        figures = (fraction(e.ap50), fraction(e.noise_ap50), fraction(e.gain))
        rows.append((e.condition, texts(e.knowledge, area, e.steps, e.model, *figures)))
    header = (
        "condition", "knowledge", "area of the box", "steps", "model", "AP50 [95 %]", "under noise [95 %]",
        "patch minus noise [95 %]",
    )  # fmt: skip
    return Table("Printed patches", about, header, tuple(rows))
