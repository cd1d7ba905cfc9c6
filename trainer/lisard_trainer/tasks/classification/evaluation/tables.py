"""The tables of a report, for Markdown and for the page: cells with their share, so that a page can colour them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lisard_ros.attacks.mifgsm import MIFGSM, InputDiversity
from lisard_ros.evaluation.statistics import Interval, Proportion

from ....evaluation.models import SHIPPED, SURROGATE
from ....evaluation.runner import TORCH
from .by_class import ClassLine
from .conditions import GRAY_ALL, GRAY_WORST, WHITE_ALL, ClassificationCondition, method_title, title
from .methods import TI_RADIUS_PX
from .report import ClassificationReport

NOT_RUN, NONE = "not run", "–"
INTERVAL = "Intervals: Wilson's, for as many independent images as the tracks are worth (frames of one are alike)."
MEAN = "mean"
RADIUS_SHOWN = 0.05
MOMENTUM_METHODS = {"mi_fgsm", "di_fgsm", "ti_fgsm"}


@dataclass(frozen=True)
class Cell:
    """Text of a cell; share in [0,1] for its colour; weak: its attack does not count; hint: more, on demand."""

    text: str
    share: float | None = None
    weak: bool = False
    hint: str = ""


@dataclass(frozen=True)
class Grid:
    """A table: what it shows, names of columns (the first names the rows), rows of a name and cells."""

    title: str
    about: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def percent(value: Proportion) -> str:
    """97.1 [96.1, 97.9]."""
    return f"{100 * value.share:.1f} [{100 * value.low:.1f}, {100 * value.high:.1f}]" if value.n else "no data"


def points(value: Interval) -> str:
    """+1.2 [-0.3, +2.7]."""
    return f"{100 * value.value:+.1f} [{100 * value.low:+.1f}, {100 * value.high:+.1f}]"


def accuracy(report: ClassificationReport) -> Grid:
    """Models against what matters most: clean, gray-box (its worst of several surrogates), white-box, queries."""
    names = _main_names(report)
    rows = []
    for model, backend in _rows(report):
        cells = tuple(_named_cell(report, model, backend, name) for name in names)
        rows.append((model if backend == TORCH else f"{model} on ONNX Runtime", cells))
    header = ("model", *(WORST_TITLES.get(name) or title(name) for name in names))
    return Grid("Accuracy in %, 95 % interval", INTERVAL, header, tuple(rows))


def _rows(report: ClassificationReport) -> list[tuple[str, str]]:
    """Models and backends; several surrogates have a table of their own."""
    several = len([s for s in report.sources if s.role == "surrogate"]) > 1
    left_out = {s.model for s in report.sources if several and s.role == "surrogate"}
    pairs = dict.fromkeys((line.model, line.backend) for line in report.lines)
    return [pair for pair in pairs if pair[0] not in left_out]


def _main_names(report: ClassificationReport) -> list[str]:
    """Columns of the first table: clean, gray-box and its sums, white-box and its sum, queries."""
    groups = [["clean"], [] if _surrogates(report) > 1 else ["gray"], ["white"], ["query"]]
    clean, gray, white, query = ([c.name for c in report.columns if c.group in group] for group in groups)
    sums = {name: [name] if _says_more(report, name) else [] for name in WORST_TITLES}
    return [*clean, *gray, *sums[GRAY_WORST], *sums[GRAY_ALL], *white, *sums[WHITE_ALL], *query]


def _surrogates(report: ClassificationReport) -> int:
    return len({c.attack.surrogate for c in report.columns if c.attack and c.group == "gray"})


def _named_cell(report: ClassificationReport, model: str, backend: str, name: str) -> Cell:
    column = next((c for c in report.columns if c.name == name), None)
    return _worst_cell(report, model, backend, name) if column is None else _cell(report, model, backend, column)


WORST_TITLES = {
    GRAY_WORST: "worst gray-box column", GRAY_ALL: "every gray-box attack at once",
    WHITE_ALL: "every white-box attack at once",
}  # fmt: skip


def _says_more(report: ClassificationReport, name: str) -> bool:
    """Whether a joined figure joins anything that the table does not show one by one."""
    joined = GRAY_ALL if name == GRAY_WORST else name
    fewest = 3 if name == GRAY_WORST else 2
    return any(w.condition == joined and len(w.columns) >= fewest for w in report.worst)


def _cell(report: ClassificationReport, model: str, backend: str, column: ClassificationCondition) -> Cell:
    line = report.line(model, column.name, backend)
    if line is None:
        return Cell(NOT_RUN)
    hint = f"n = {line.accuracy.n}"
    if line.unrounded and line.unrounded.hits != line.accuracy.hits:
        hint += f"; {100 * line.unrounded.share:.1f} before rounding to 8 bit"
    return Cell(percent(line.accuracy), line.accuracy.share, not report.counts(column), hint)


def _worst_cell(report: ClassificationReport, model: str, backend: str, name: str) -> Cell:
    found = next((w for w in report.worst if (w.model, w.condition) == (model, name)), None)
    if found is None or backend != TORCH:
        return Cell(NOT_RUN)
    hint = f"n = {found.accuracy.n}"
    if name == GRAY_WORST:
        hint += f"; {title(found.columns[0])}"
    return Cell(percent(found.accuracy), found.accuracy.share, hint=hint)


def gray_box(report: ClassificationReport) -> list[Grid]:
    """For each measured model its accuracy by surrogate and attack; empty with a single surrogate."""
    columns = [c for c in report.columns if c.group == "gray"]
    surrogates = list(dict.fromkeys(c.attack.surrogate for c in columns if c.attack))
    if len(surrogates) < 2:
        return []
    methods = list(dict.fromkeys(_method(c) for c in columns))
    own = Grid(
        "The surrogates under their own attacks",
        "A column in brackets does not count: see the conditions below.",
        ("surrogate", *map(method_title, methods)),
        tuple((name, _over(report, name, columns, name, methods)) for name in surrogates),
    )
    measured = [source.model for source in report.sources if source.role != "surrogate"]
    grids = [
        Grid(
            f"Gray-box accuracy of {model} in %",
            "",
            ("made on surrogate", *map(method_title, methods)),
            tuple((name or SURROGATE, _over(report, model, columns, name, methods)) for name in surrogates),
        )
        for model in measured
    ]
    return [*grids, own]


def _method(column: ClassificationCondition) -> str:
    return column.name.partition("@")[0].partition("_")[2]


def _over(
    report: ClassificationReport,
    model: str,
    columns: Iterable[ClassificationCondition],
    surrogate: str,
    methods: Sequence[str],
) -> tuple[Cell, ...]:
    own = {_method(c): c for c in columns if c.attack and c.attack.surrogate == surrogate}
    return tuple(_cell(report, model, TORCH, own[m]) if m in own else Cell(NOT_RUN) for m in methods)


def by_setting(
    report: ClassificationReport, group: str, name: str, setting: Callable[[ClassificationCondition], str], about: str
) -> Grid | None:
    """Models against one setting of a group's columns (budget, sigma); None when the group was not measured."""
    columns = [column for column in report.columns if column.group == group]
    if not columns:
        return None
    models = [s.model for s in report.sources if report.line(s.model, columns[0].name)]
    rows = tuple((model, tuple(_cell(report, model, TORCH, column) for column in columns)) for model in models)
    return Grid(name, about, ("model", *map(setting, columns)), rows)


def sweep_columns(report: ClassificationReport) -> list[ClassificationCondition]:
    """The columns of the sweep, budgets rising."""
    return [column for column in report.columns if column.group == "sweep"]


def sweep(report: ClassificationReport) -> Grid | None:
    """Accuracy over the attacker's budget."""
    columns = sweep_columns(report)
    if not columns:
        return None
    models = [s.model for s in report.sources if report.line(s.model, columns[0].name)]
    rows = tuple((model, tuple(_cell(report, model, TORCH, column) for column in columns)) for model in models)
    header = [f"{c.attack.eps_255:g}/255" for c in columns if c.attack]
    about = f"White-box {method_title(_method(columns[0]).partition('_eps')[0])}; an honest attack reaches 0 %."
    return Grid("Accuracy over the attacker's budget, in %", about, ("model", *header), rows)


def corruptions(report: ClassificationReport) -> list[Grid]:
    """For each measured model the accuracy by corruption and severity."""
    columns = [c for c in report.columns if c.corruption]
    if not columns:
        return []
    severities = sorted({c.corruption.severity for c in columns if c.corruption})
    names = list(dict.fromkeys(c.corruption.name for c in columns if c.corruption))
    found = {(c.corruption.name, c.corruption.severity): c for c in columns if c.corruption}
    models = [s.model for s in report.sources if report.line(s.model, columns[0].name)]
    grids = []
    for model in models:
        rows = []
        for name in names:
            cells = [
                _cell(report, model, TORCH, found[name, s]) if (name, s) in found else Cell(NOT_RUN) for s in severities
            ]
            rows.append((name.replace("_", " "), _brief([*cells, _mean(cells)])))
        over = [_mean([row[1][at] for row in rows]) for at in range(len(severities) + 1)]
        rows.append((MEAN, _brief(over)))
        header = ("corruption", *(f"severity {s}" for s in severities), MEAN)
        grids.append(Grid(f"Accuracy of {model} under common corruptions, in %", "", header, tuple(rows)))
    return grids


def _mean(cells: Sequence[Cell]) -> Cell:
    shares = [cell.share for cell in cells if cell.share is not None]
    if not shares:
        return Cell(NOT_RUN)
    share = sum(shares) / len(shares)
    return Cell(f"{100 * share:.1f}", share)


def _brief(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Figures without their intervals, which go into the hint: heat maps have no room."""
    return tuple(
        cell
        if cell.share is None
        else Cell(f"{100 * cell.share:.1f}", cell.share, cell.weak, f"{cell.text}; {cell.hint}".strip("; "))
        for cell in cells
    )


def noise(report: ClassificationReport) -> Grid | None:
    """Accuracy over the noise's standard deviation."""
    return by_setting(
        report,
        "noise",
        "Accuracy under Gaussian noise, in %",
        lambda c: f"σ {c.noise_sigma_255:g}/255",
        "Clipped to images; nobody attacks.",
    )


def smoothed(report: ClassificationReport) -> Grid | None:
    """The prediction by votes over noisy copies."""
    column = next((c for c in report.columns if c.smoothing), None)
    if column is None or column.smoothing is None:
        return None
    about = (
        f"A majority over {column.smoothing.votes} copies with noise of σ {column.smoothing.sigma_255:g}/255; the "
        "attacker has the weights and follows the mean gradient over noise (EOT)."
    )
    return by_setting(report, "smoothed", "Accuracy of a smoothed prediction, in %", lambda c: title(c.name), about)


def certified(report: ClassificationReport) -> Grid | None:
    """Share that is right and certified, over the radius."""
    shown = [c for c in report.certified if abs(c.radius_l2 / RADIUS_SHOWN - round(c.radius_l2 / RADIUS_SHOWN)) < 1e-6]
    if not shown:
        return None
    column = next(c for c in report.columns if c.certificate)
    assert column.certificate is not None
    radii = list(dict.fromkeys(c.radius_l2 for c in shown))
    rows = tuple(
        (
            model,
            tuple(
                Cell(percent(c.accuracy), c.accuracy.share, hint=f"n = {c.accuracy.n}")
                for c in shown
                if c.model == model
            ),
        )
        for model in dict.fromkeys(c.model for c in shown)
    )
    about = (
        f"Randomised smoothing with σ {column.certificate.sigma_255:g}/255, {column.certificate.draws} draws for each "
        f"of {shown[0].accuracy.n} images, failure probability {column.certificate.alpha:g}. No attack within the "
        "radius changes a certified answer."
    )
    return Grid("Certified accuracy over the L2 radius, in %", about, ("model", *(f"r {r:g}" for r in radii)), rows)


def by_class(report: ClassificationReport) -> Grid | None:
    """The bundle's accuracy for each class, the worst under the strongest attacker first; None for a single class."""
    names = list(dict.fromkeys(line.condition for line in report.classes))
    found = {(line.label, line.condition): line for line in report.classes}
    labels = list(dict.fromkeys(line.label for line in report.classes))
    if len(labels) < 2:
        return None
    count = {label: max(line.accuracy.n for line in report.classes if line.label == label) for label in labels}
    shown = [(label, [_of_class(found.get((label, name))) for name in names]) for label in labels]
    shown.sort(key=lambda row: [1.0 if cell.share is None else cell.share for cell, _ in reversed(row[1])])
    rows = tuple(
        (label, (Cell(str(count[label])), *(cell for pair in pairs for cell in pair))) for label, pairs in shown
    )
    header = ("class", "images", *(head for name in names for head in (title(name), "mostly taken for")))
    about = "A class of few tracks has a wide interval. Worst under the last attack first. " + INTERVAL
    means = (cell for name in names for cell in _over_classes(report, name))
    first = ("mean over classes", (Cell(str(sum(count.values()))), *means))
    return Grid(f"Accuracy of {SHIPPED} by class, in %", about, header, (first, *rows))


def _of_class(line: ClassLine | None) -> tuple[Cell, Cell]:
    """A class may have no image in a column that is on a subset."""
    if line is None:
        return Cell(NOT_RUN), Cell(NONE)
    n = line.accuracy.n
    accuracy = Cell(percent(line.accuracy), line.accuracy.share, hint=f"n = {n}")
    return accuracy, Cell(f"{line.taken_for}, {line.often} of {n}" if line.often else NONE)


def _over_classes(report: ClassificationReport, name: str) -> tuple[Cell, Cell]:
    return _mean([_of_class(line)[0] for line in report.classes if line.condition == name]), Cell(NONE)


def differences(report: ClassificationReport) -> Grid | None:
    """Paired differences to the controls in the columns of the first table."""
    found = {(f"{SHIPPED} minus {d.control}", d.condition): d.difference for d in report.differences}
    about = "The same images met both models; frames of one track are resampled together."
    return _paired(report, found, "Paired differences in points, 95 % interval by bootstrap over tracks", about)


def contrasts(report: ClassificationReport) -> Grid | None:
    """The comparisons that were asked for, in the columns of the first table."""
    found = {
        (f"{_mean_of(c.models)} minus {_mean_of(c.controls)}", c.condition): c.difference for c in report.contrasts
    }
    about = "The interval is about other images; the models that took part are given."
    return _paired(report, found, "Contrasts in points, 95 % interval by bootstrap over tracks", about)


def _mean_of(models: Sequence[str]) -> str:
    return models[0] if len(models) == 1 else f"mean of {', '.join(models)}"


def _paired(
    report: ClassificationReport, found: Mapping[tuple[str, str], Interval], name: str, about: str
) -> Grid | None:
    """Rows by the first part of the keys, columns by the second, as far as the first table has them."""
    compared = {condition for _, condition in found}
    names = [condition for condition in _main_names(report) if condition in compared]
    rows = []
    for what in dict.fromkeys(what for what, _ in found):
        cells = tuple(Cell(points(found[what, n])) if (what, n) in found else Cell(NOT_RUN) for n in names)
        rows.append((what, cells))
    header = ("difference", *(WORST_TITLES.get(n) or title(n) for n in names))
    return Grid(name, about, header, tuple(rows)) if rows else None


def flags(report: ClassificationReport) -> Grid:
    """Reasons for doubt; the table says so when there are none."""
    rows = tuple((flag.severity, (Cell(flag.model or "evaluation"), Cell(flag.text))) for flag in report.flags)
    about = "A warning about the bundle fails the evaluation." if rows else "None was found."
    return Grid("Flags", about, ("severity", "about", "what was found"), rows)


def conditions(report: ClassificationReport) -> Grid | None:
    """Whether the gray-box columns count, and why; None without such columns."""
    if not any(column.group == "gray" for column in report.columns):
        return None
    rows = tuple(
        (c.what, (Cell(f"{c.found:.3f}"), Cell(c.required), Cell("yes" if c.holds else "NO", weak=not c.holds)))
        for c in report.conditions
    )
    verdict = "It counts." if report.valid else "It does NOT count: strengthen the surrogate or the attack first."
    return Grid("Does the gray-box attack count?", verdict, ("condition", "found", "required", "holds"), rows)


def sources(report: ClassificationReport) -> Grid:
    """Who took part."""
    rows = tuple(
        (
            s.model,
            tuple(map(Cell, (s.role, s.recipe, s.training, s.architecture, str(s.seed), str(s.epochs), s.sha256[:12]))),
        )
        for s in report.sources
    )
    header = ("model", "part", "recipe", "training", "network", "seed", "epochs", "sha256")
    return Grid("What took part", "", header, rows)


def attacks(report: ClassificationReport) -> Grid:
    """Every attack with the attacker's knowledge and budget."""
    counted = {c.name: c for c in report.columns}
    shown = {line.condition: line.accuracy.n for line in report.lines}
    rows = tuple(
        (
            title(a.name),
            tuple(
                map(
                    Cell,
                    (
                        a.knowledge,
                        f"{a.eps_255:g}/255",
                        f"{a.step_255:g}/255" if a.step_255 else "adaptive",
                        str(a.steps),
                        str(a.restarts),
                        str(a.draws),
                        str(a.queries) if a.queries else "–",
                        f"{a.seed}" if a.is_random else "–",
                        str(shown.get(a.name, 0)),
                    ),
                )
            ),
        )
        for a in report.attacks
        if a.name in counted
    )
    header = (
        "attack",
        "knowledge",
        "budget (Linf)",
        "step",
        "steps",
        "restarts",
        "draws per gradient",
        "queries",
        "seed",
        "n",
    )
    return Grid("The attacks", _particulars(report), header, rows)


def _particulars(report: ClassificationReport) -> str:
    """What the table has no column for, of the attacks that are there."""
    told = list(_told(report))
    return "; ".join(told) + "." if told else ""


def _told(report: ClassificationReport) -> Iterator[str]:
    there = {attack.method: attack for attack in report.attacks}
    if MOMENTUM_METHODS & there.keys():
        yield f"MI-, DI- and TI-FGSM keep a momentum of {MIFGSM().decay:g}"
    if "di_fgsm" in there:
        drawn = InputDiversity()
        yield (
            f"DI shows each step each image, with probability {drawn.probability:g}, shrunk to "
            f"{drawn.smallest:.2f} to 1 of its size on black, drawn for each image"
        )
    if "ti_fgsm" in there:
        width = 2 * TI_RADIUS_PX + 1
        yield f"TI smooths the gradient with {width} x {width} pixels"
    if "apgd_t" in there:
        yield f"APGD-T goes for {there['apgd_t'].targets} classes"


def all_of(report: ClassificationReport) -> list[Grid]:
    """Every table, in the order of the page."""
    found = [
        flags(report),
        accuracy(report),
        differences(report),
        contrasts(report),
        *gray_box(report),
        sweep(report),
        *corruptions(report),
        noise(report),
        smoothed(report),
        certified(report),
        by_class(report),
        conditions(report),
        attacks(report),
        sources(report),
    ]
    return [grid for grid in found if grid is not None]
