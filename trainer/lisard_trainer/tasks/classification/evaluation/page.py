"""What the page of a classifier's report shows: key figures, tables, curves and images."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lisard_ros.reporting.display import Tile

from ....evaluation import charts
from ....evaluation.charts import Chart, Curve, Point, Tick
from ....evaluation.conditions import CLEAN
from ....evaluation.models import SHIPPED
from ....evaluation.report import SHORT_HASH, Gallery, ReportPage, Section
from ....evaluation.tables import Table
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
    evidence = present(tables.conditions(report), tables.attacks(report), tables.sources(report))
    curves = present(tables.sweep(report), tables.noise(report), tables.smoothed(report), tables.certified(report))
    compared = present(tables.accuracy(report), tables.differences(report), tables.contrasts(report))
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
            ("Commit", report.commit[:SHORT_HASH] + (" with changes" if "+" in report.commit else "")),
            ("Made", f"{report.made_at}, schema {report.schema}"),
        ),
        passed=report.passed,
        tiles=tuple(tiles(report)),
        sections=(
            Section("Flags", tables=(tables.flags(report),)),
            Section(compared[0].title, tables=compared),
            Section("Gray-box, by surrogate and attack", PALE, tuple(gray_box[:1]), folded=tuple(gray_box[1:])),
            Section("Over budget, noise and radius", charts=tuple(drawings(report)), folded=curves),
            Section("By class", tables=short(by_class), folded=long(by_class)),
            Section(
                "Common corruptions",
                CHANGED,
                tuple(corruptions[:1]),
                folded=tuple(corruptions[1:]),
                galleries=(corrupted,) if corrupted else (),
            ),
            Section("Images", FIRST_FALLEN, galleries=tuple(gallery for gallery in attacked if gallery.cards)),
            Section("What the figures rest on", tables=short(evidence), folded=long(evidence)),
        ),
    )


def present(*found: Table | None) -> tuple[Table, ...]:
    """Those that there are."""
    return tuple(table for table in found if table is not None)


def short(found: Sequence[Table]) -> tuple[Table, ...]:
    """Those that can be shown at once."""
    return tuple(table for table in found if len(table.rows) <= MOST_ROWS)


def long(found: Sequence[Table]) -> tuple[Table, ...]:
    """The others."""
    return tuple(table for table in found if len(table.rows) > MOST_ROWS)


def tiles(report: ClassificationReport) -> list[Tile]:
    """The bundle's key figures, as far as they were measured."""

    def percent(share: float) -> str:
        return f"{100 * share:.1f} %"

    shown = []
    clean = report.line(SHIPPED, CLEAN)
    if clean:
        shown.append(Tile("clean", percent(clean.accuracy.share), f"{clean.accuracy.n} images"))
    for condition, name in ((GRAY_WORST, "worst gray-box column"), (WHITE_ALL, "every white-box attack")):
        worst = next((w for w in report.worst if (w.model, w.condition) == (SHIPPED, condition)), None)
        if worst:
            single = len(worst.columns) == 1
            note = title(worst.columns[0]).partition(" ")[2] if single else f"together, {report.eps_255:g}/255"
            called = "white-box" if single and condition == WHITE_ALL else name
            shown.append(Tile(called, percent(worst.accuracy.share), note))
    corruptions = tables.corruptions(report)
    if corruptions:
        mean = corruptions[0].rows[-1][1][-1]
        shown.append(Tile("common corruptions", f"{mean.text} %", f"mean of {len(corruptions[0].rows) - 1} kinds"))
    certified = [c for c in report.certified if c.model == SHIPPED and abs(c.radius_l2 - 0.1) < 1e-6]
    if certified:
        shown.append(Tile("certified", percent(certified[0].accuracy.share), "within L2 radius 0.1"))
    return shown


def drawings(report: ClassificationReport) -> list[Chart]:
    """A chart for every setting that was varied."""
    shown = [_sweep(report), _noise(report), _certified(report)]
    return [chart for chart in shown if chart is not None]


def _sweep(report: ClassificationReport) -> Chart | None:
    budgets = {c.name: c.attack.eps_255 for c in report.columns if c.group == "sweep" and c.attack}
    table = tables.sweep(report)
    if table is None:
        return None
    # Powers of two are equally far apart, after a step from zero.
    low, high = math.log2(min(budgets.values())) - 1, math.log2(max(budgets.values()))
    places = {CLEAN: 0.0, **{name: (math.log2(eps) - low) / (high - low) for name, eps in budgets.items()}}
    ticks = [Tick(0.0, "0"), *(Tick(places[name], f"{eps:g}") for name, eps in budgets.items())]
    axis = "largest change of a pixel (Linf), in grey levels of 255"
    return charts.chart("Accuracy over the attacker's budget", table.about, axis, ticks, _curves(report, places))


def _noise(report: ClassificationReport) -> Chart | None:
    sigmas = {CLEAN: 0.0, **{c.name: c.noise_sigma_255 for c in report.columns if c.group == "noise"}}
    table = tables.noise(report)
    if table is None:
        return None
    places = {name: sigma / max(sigmas.values()) for name, sigma in sigmas.items()}
    ticks = [Tick(at, f"{sigmas[name]:g}") for name, at in places.items() if name == CLEAN or at >= CLOSEST_TICK]
    axis = "standard deviation σ, in grey levels of 255"
    return charts.chart("Accuracy under Gaussian noise", table.about, axis, ticks, _curves(report, places))


def _curves(report: ClassificationReport, places: dict[str, float]) -> list[Curve]:
    """A line for each measured model that has a figure in every condition; places: of the conditions on the axis."""
    curves = []
    for model in _models(report):
        lines = [(at, report.line(model, name)) for name, at in places.items()]
        points = [Point(at, x.accuracy.share, x.accuracy.low, x.accuracy.high) for at, x in lines if x]
        if len(points) == len(places):
            curves.append(Curve(model, tuple(points)))
    return curves


def _certified(report: ClassificationReport) -> Chart | None:
    table = tables.certified(report)
    if table is None:
        return None
    furthest = max(c.radius_l2 for c in report.certified)
    curves = [
        Curve(
            model,
            tuple(
                Point(c.radius_l2 / furthest, c.accuracy.share, c.accuracy.low, c.accuracy.high)
                for c in report.certified
                if c.model == model
            ),
        )
        for model in _models(report)
    ]
    radii = [c.radius_l2 for c in report.certified if c.model == SHIPPED][::4]
    ticks = [Tick(radius / furthest, f"{radius:g}") for radius in radii]
    return charts.chart("Certified accuracy", table.about, "L2 radius, pixels in [0, 1]", ticks, curves)


def _models(report: ClassificationReport) -> list[str]:
    return [source.model for source in report.sources if source.role != "surrogate"]
