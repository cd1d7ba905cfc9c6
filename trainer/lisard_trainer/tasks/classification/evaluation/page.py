"""What the page of a classifier's report shows: key figures, tables, curves and images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lisard_ros.reporting.display import Tile

from ....evaluation import int8
from ....evaluation.charts import Chart, Curve
from ....evaluation.conditions import CLEAN
from ....evaluation.page import Gallery, ReportPage, Section, present, short_commit
from ....evaluation.tables import SHORT_HASH, Table, sources
from . import tables
from .report import ClassificationReport
from .suites import GRAY_WORST, WHITE_ALL, title

CLOSEST_TICK = 0.12  # of the axis, to the tick at zero
MOST_ROWS = 14  # of a table that is shown at once
NOTES = (
    "Gray-box: the attacker knows architecture and training data, not the weights (it attacks a surrogate of its own). "
    "White-box: the attacker has the weights. Query: it may only ask for answers.",
)
PALE = (
    "Each row is another attacker. Pale cells in brackets do not count: the attack is too weak on its own surrogate or "
    "on an ordinary network of another seed."
)
CHANGED = "Weather, optics, sensors and encoders; nobody attacks."
FIRST_FALLEN = (
    "The bundle's answers before and after. First images that fell, then images that held; all were right when clean."
)


def page_of(
    report: ClassificationReport, attacked: Sequence[Gallery] = (), corrupted: Gallery | None = None
) -> ReportPage:
    """The report as it is read; attacked, corrupted: images of the bundle's answers, where they are wanted."""
    gray_box, corruptions = tables.gray_box(report), tables.corruptions(report)
    by_class = present(tables.by_class(report))
    evidence = present(
        tables.transfer_requirements(report),
        tables.attacks(report),
        sources(report.sources, {"training": "training", "network": "architecture"}),
    )
    curves = present(tables.sweep(report), tables.noise(report), tables.smoothed(report), tables.certified(report))
    compared = present(
        tables.accuracy(report),
        tables.differences(report),
        tables.comparisons(report),
        int8.table(report.int8, "tracks"),
    )
    return ReportPage(
        title=report.title,
        lead=f"{report.measured_on}; attacks cover all of them unless n says otherwise, rounded to 8 bit within the "
        f"budget of {report.eps_255:g}/255",
        notes=NOTES,
        command=report.command,
        facts=(
            ("Suite", report.suite),
            ("Data", f"sha256 {report.data_sha256[:SHORT_HASH]}"),
            ("Device", report.device),
            ("Commit", short_commit(report.commit)),
            ("Made", f"{report.made_at}, schema {report.schema}"),
        ),
        passed=report.passed,
        tiles=tuple(tiles(report)),
        sections=(
            Section("Flags", tables=(tables.flags(report),)),
            Section(compared[0].title, tables=compared),
            Section("Gray-box, by surrogate and attack", PALE, tuple(gray_box[:1]), folded=tuple(gray_box[1:])),
            Section("Over budget, noise and radius", charts=drawings(report), folded=curves),
            folded("By class", by_class),
            Section(
                "Common corruptions",
                CHANGED,
                tuple(corruptions[:1]),
                folded=tuple(corruptions[1:]),
                galleries=(corrupted,) if corrupted else (),
            ),
            Section("Images", FIRST_FALLEN, galleries=tuple(gallery for gallery in attacked if gallery.cards)),
            folded("What the figures rest on", evidence),
        ),
    )


def folded(title: str, found: Sequence[Table]) -> Section:
    """A section of tables, of which long ones are shown on demand."""
    long = tuple(table for table in found if len(table.rows) > MOST_ROWS)
    return Section(title, tables=tuple(table for table in found if table not in long), folded=long)


def tiles(report: ClassificationReport) -> list[Tile]:
    """The bundle's key figures, as far as they were measured."""

    def percent(share: float) -> str:
        return f"{100 * share:.1f} %"

    shown = []
    clean = report.line(report.model, CLEAN)
    if clean:
        shown.append(Tile("clean", percent(clean.accuracy.share), f"{clean.accuracy.n} images"))
    for condition, name in ((GRAY_WORST, "worst gray-box condition"), (WHITE_ALL, "every white-box attack")):
        worst = next((w for w in report.worst if (w.model, w.condition) == (report.model, condition)), None)
        if worst:
            single = len(worst.conditions) == 1
            note = title(worst.conditions[0]).partition(" ")[2] if single else f"together, {report.eps_255:g}/255"
            called = "white-box" if single and condition == WHITE_ALL else name
            shown.append(Tile(called, percent(worst.accuracy.share), note))
    corruptions = tables.corruptions(report)
    if corruptions:
        mean = corruptions[0].rows[-1][1][-1]
        shown.append(Tile("common corruptions", f"{mean.text} %", f"mean of {len(corruptions[0].rows) - 1} kinds"))
    certified = [c for c in report.certified if c.model == report.model and abs(c.radius_l2 - 0.1) < 1e-6]
    if certified:
        shown.append(Tile("certified", percent(certified[0].accuracy.share), "within L2 radius 0.1"))
    return shown


def drawings(report: ClassificationReport) -> tuple[Chart, ...]:
    """A chart for every setting that was varied."""
    budgets = {c.name: c.attack.eps_255 for c in report.conditions if c.group == "sweep" and c.attack}
    sigmas = {c.name: c.noise_sigma_255 for c in report.conditions if c.group == "noise"}
    models = [source.model for source in report.sources if source.role != "surrogate"]
    shown, sweep, noise, certified = [], tables.sweep(report), tables.noise(report), tables.certified(report)
    if sweep:
        # Powers of two are equally far apart, after a step from zero.
        low, high = math.log2(min(budgets.values())) - 1, math.log2(max(budgets.values()))
        places = {CLEAN: 0.0, **{name: (math.log2(eps) - low) / (high - low) for name, eps in budgets.items()}}
        ticks = [(0.0, "0"), *((places[name], f"{eps:g}") for name, eps in budgets.items())]
        axis = "largest change of a pixel (Linf), in grey levels of 255"
        curves = _curves(report, models, places)
        shown.append(Chart("Accuracy over the attacker's budget", sweep.about, axis, tuple(ticks), curves))
    if noise:
        places = {CLEAN: 0.0, **{name: sigma / max(sigmas.values()) for name, sigma in sigmas.items()}}
        ticks = [(0.0, "0"), *((places[name], f"{s:g}") for name, s in sigmas.items() if places[name] >= CLOSEST_TICK)]
        axis, curves = "standard deviation σ, in grey levels of 255", _curves(report, models, places)
        shown.append(Chart("Accuracy under Gaussian noise", noise.about, axis, tuple(ticks), curves))
    if certified:
        furthest = max(c.radius_l2 for c in report.certified)
        radii = [c.radius_l2 for c in report.certified if c.model == report.model][::4]
        ticks = [(radius / furthest, f"{radius:g}") for radius in radii]
        curves = tuple(
            Curve(model, tuple((c.radius_l2 / furthest, c.accuracy) for c in report.certified if c.model == model))
            for model in models
        )
        axis = "L2 radius, pixels in [0, 1]"
        shown.append(Chart("Certified accuracy", certified.about, axis, tuple(ticks), curves))
    return tuple(shown)


def _curves(report: ClassificationReport, models: Sequence[str], places: Mapping[str, float]) -> tuple[Curve, ...]:
    """A line for each model that has a figure in every condition; places: of the conditions on the axis."""
    curves = []
    for model in models:
        lines = [(at, report.line(model, name)) for name, at in places.items()]
        points = tuple((at, line.accuracy) for at, line in lines if line)
        if len(points) == len(places):
            curves.append(Curve(model, points))
    return tuple(curves)
