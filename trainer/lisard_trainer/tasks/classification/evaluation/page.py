"""The report as one HTML file with everything in it: flags, tables as heat maps, curves, images and a glossary."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape

from lisard_ros.reporting import pages
from lisard_ros.reporting.display import Tile

from ....evaluation import charts
from ....evaluation.conditions import CLEAN
from ....evaluation.models import SHIPPED
from . import tables
from .conditions import GRAY_WORST, WHITE_ALL, title
from .report import ClassificationReport
from .samples import AMPLIFICATION, AnswerGallery
from .tables import Cell

TEMPLATE = "page.html.j2"
LOW, MIDDLE, HIGH = (190, 50, 40), (222, 165, 45), (35, 135, 85)  # heat: red, amber, green
SHORT_HASH = 12
CLOSEST_TICK = 0.12  # of the axis, to the tick at zero


@dataclass(frozen=True)
class Chart:
    """A drawing, its title and the names of its lines in the order of their colours."""

    title: str
    about: str
    drawing: Markup
    names: tuple[str, ...]


def render(report: ClassificationReport, galleries: Sequence[AnswerGallery], corrupted: AnswerGallery | None) -> str:
    """The whole page."""
    environment = pages.environment(Path(__file__).parent)
    environment.filters["heat"], environment.filters["wrapped"] = heat, wrapped
    return environment.get_template(TEMPLATE).render(
        report=report,
        tiles=tiles(report),
        accuracy=tables.accuracy(report),
        paired=[grid for grid in (tables.differences(report), tables.contrasts(report)) if grid],
        gray_box=tables.gray_box(report),
        corruptions=tables.corruptions(report),
        details=[
            grid
            for grid in (tables.sweep(report), tables.noise(report), tables.smoothed(report), tables.certified(report))
            if grid
        ],
        by_class=tables.by_class(report),
        evidence=[grid for grid in (tables.conditions(report), tables.attacks(report), tables.sources(report)) if grid],
        charts=drawings(report),
        galleries=[gallery for gallery in galleries if gallery.samples],
        corrupted=corrupted,
        amplification=AMPLIFICATION,
        short=SHORT_HASH,
        not_run=tables.NOT_RUN,
    )


def wrapped(text: str) -> Markup:
    """Lines may break behind the underscores of a long name."""
    return escape(text).replace("_", Markup("_<wbr>"))


def heat(cell: Cell) -> str:
    """A background for a share: red at 0, amber at one half, green at 1; faint, so that text stays readable."""
    if cell.share is None or math.isnan(cell.share):
        return ""
    ends, at = ((LOW, MIDDLE), 2 * cell.share) if cell.share < 0.5 else ((MIDDLE, HIGH), 2 * cell.share - 1)
    red, green, blue = (round(a + (b - a) * at) for a, b in zip(*ends, strict=True))
    return f"background: rgba({red}, {green}, {blue}, {0.12 if cell.weak else 0.34})"


def tiles(report: ClassificationReport) -> list[Tile]:
    """The bundle's key figures, as far as they were measured."""
    found = []
    clean = report.line(SHIPPED, CLEAN)
    if clean:
        found.append(Tile("clean", _percent(clean.accuracy.share), f"{clean.accuracy.n} images"))
    for condition, name in ((GRAY_WORST, "worst gray-box column"), (WHITE_ALL, "every white-box attack")):
        worst = next((w for w in report.worst if (w.model, w.condition) == (SHIPPED, condition)), None)
        if worst:
            together = f"together, {report.eps_255:g}/255"
            note = title(worst.columns[0]).partition(" ")[2] if len(worst.columns) == 1 else together
            alone = condition == WHITE_ALL and len(worst.columns) == 1
            found.append(Tile("white-box" if alone else name, _percent(worst.accuracy.share), note))
    grids = tables.corruptions(report)
    if grids:
        mean = grids[0].rows[-1][1][-1]
        found.append(Tile("common corruptions", f"{mean.text} %", f"mean of {len(grids[0].rows) - 1} kinds"))
    certified = [c for c in report.certified if c.model == SHIPPED and abs(c.radius_l2 - 0.1) < 1e-6]
    if certified:
        found.append(Tile("certified", _percent(certified[0].accuracy.share), "within L2 radius 0.1"))
    return found


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def drawings(report: ClassificationReport) -> list[Chart]:
    """A chart for every setting that was varied."""
    found = [_sweep(report), _noise(report), _certified(report)]
    return [chart for chart in found if chart is not None]


def _sweep(report: ClassificationReport) -> Chart | None:
    columns = [c for c in tables.sweep_columns(report) if c.attack]
    if not columns:
        return None
    budgets = [c.attack.eps_255 for c in columns if c.attack]
    places = [0.0, *(_on_log_axis(eps, budgets) for eps in budgets)]
    ticks = [charts.Tick(at, text) for at, text in zip(places, ["0", *(f"{eps:g}" for eps in budgets)], strict=True)]
    names = [CLEAN, *(c.name for c in columns)]
    about = tables.sweep(report)
    return _chart(
        report,
        "Accuracy over the attacker's budget",
        about.about if about else "",
        "largest change of a pixel (Linf), in grey levels of 255",
        ticks,
        names,
        places,
    )


def _on_log_axis(value: float, values: Sequence[float]) -> float:
    """Place of a budget: powers of two are equally far apart, after a step from zero."""
    low, high = math.log2(min(values)) - 1, math.log2(max(values))
    return (math.log2(value) - low) / (high - low)


def _noise(report: ClassificationReport) -> Chart | None:
    columns = [c for c in report.columns if c.group == "noise"]
    if not columns:
        return None
    sigmas = [0.0, *(c.noise_sigma_255 for c in columns)]
    places = [sigma / max(sigmas) for sigma in sigmas]
    ticks = [charts.Tick(at, f"{s:g}") for at, s in zip(places, sigmas, strict=True) if s == 0 or at >= CLOSEST_TICK]
    return _chart(
        report,
        "Accuracy under Gaussian noise",
        "Clipped to images; nobody attacks.",
        "standard deviation σ, in grey levels of 255",
        ticks,
        [CLEAN, *(c.name for c in columns)],
        places,
    )


def _chart(
    report: ClassificationReport,
    name: str,
    about: str,
    axis: str,
    ticks: Sequence[charts.Tick],
    columns: Sequence[str],
    places: Sequence[float],
) -> Chart:
    lines = []
    for model in _models(report):
        found = [(at, report.line(model, column)) for at, column in zip(places, columns, strict=True)]
        points = [charts.Point(at, x.accuracy.share, x.accuracy.low, x.accuracy.high) for at, x in found if x]
        if len(points) == len(columns):
            lines.append(charts.Curve(model, tuple(points)))
    drawing = Markup(charts.curves(name, axis, ticks, lines))
    return Chart(name, about, drawing, tuple(line.name for line in lines))


def _certified(report: ClassificationReport) -> Chart | None:
    if not report.certified:
        return None
    furthest = max(c.radius_l2 for c in report.certified)
    lines = []
    for model in _models(report):
        own = [c for c in report.certified if c.model == model]
        points = [charts.Point(c.radius_l2 / furthest, c.accuracy.share, c.accuracy.low, c.accuracy.high) for c in own]
        lines.append(charts.Curve(model, tuple(points)))
    radii = [c.radius_l2 for c in report.certified if c.model == SHIPPED][::4]
    ticks = [charts.Tick(radius / furthest, f"{radius:g}") for radius in radii]
    grid = tables.certified(report)
    name = "Certified accuracy"
    drawing = Markup(charts.curves(name, "L2 radius, pixels in [0, 1]", ticks, lines))
    return Chart(name, grid.about if grid else "", drawing, tuple(line.name for line in lines))


def _models(report: ClassificationReport) -> list[str]:
    return [source.model for source in report.sources if source.role != "surrogate"]
