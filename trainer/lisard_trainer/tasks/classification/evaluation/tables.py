"""The tables of a classifier's report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from lisard_ros.attacks.mifgsm import MIFGSM, InputDiversity
from lisard_ros.evaluation.statistics import Interval, Proportion

from ....evaluation.deployed import TORCH
from ....evaluation.models import SURROGATE
from ....evaluation.tables import NONE, NOT_RUN, Cell, Table, mean, percent, points, requirements, texts
from .crafting import TI_RADIUS_PX
from .report import ClassificationReport
from .results import ClassLine
from .suites import GRAY_ALL, GRAY_WORST, MOMENTUM_METHODS, WHITE_ALL, ClassificationCondition, method_title, title

INTERVAL = "Intervals: Wilson's, for as many independent images as the tracks are worth (frames of one are alike)."
MEAN = "mean"
RADIUS_SHOWN = 0.05
WORST_TITLES = {
    GRAY_WORST: "worst gray-box condition", GRAY_ALL: "every gray-box attack at once",
    WHITE_ALL: "every white-box attack at once",
}  # fmt: skip


def accuracy(report: ClassificationReport) -> Table:
    """Models against what matters most: clean, gray-box (its worst of several surrogates), white-box, queries."""
    names = _main_names(report)
    several = len([source for source in report.sources if source.role == "surrogate"]) > 1
    # Several surrogates have a table of their own.
    left_out = {source.model for source in report.sources if several and source.role == "surrogate"}
    by_name = {condition.name: condition for condition in report.conditions}
    rows = []
    for model, backend in dict.fromkeys((line.model, line.backend) for line in report.lines):
        if model not in left_out:
            cells = tuple(
                _cell(report, model, by_name[name], backend)
                if name in by_name
                else _worst_cell(report, model, name, backend)
                for name in names
            )
            rows.append((model if backend == TORCH else f"{model} on ONNX Runtime", cells))
    return Table("Accuracy in %, 95 % interval", INTERVAL, ("model", *map(_heading, names)), tuple(rows))


def _main_names(report: ClassificationReport) -> list[str]:
    """Columns of the first table: clean, gray-box and its sums, white-box and its sum, queries."""
    surrogates = {c.attack.surrogate for c in report.conditions if c.attack and c.group == "gray"}
    groups = [["clean"], [] if len(surrogates) > 1 else ["gray"], ["white"], ["query"]]
    clean, gray, white, query = ([c.name for c in report.conditions if c.group in group] for group in groups)
    sums: dict[str, list[str]] = {}
    for name in WORST_TITLES:
        # Only a figure that joins something that the table does not show one by one.
        joined, fewest = (GRAY_ALL, 3) if name == GRAY_WORST else (name, 2)
        shown = any(worst.condition == joined and len(worst.conditions) >= fewest for worst in report.worst)
        sums[name] = [name] if shown else []
    return [*clean, *gray, *sums[GRAY_WORST], *sums[GRAY_ALL], *white, *sums[WHITE_ALL], *query]


def _heading(name: str) -> str:
    return WORST_TITLES.get(name) or title(name)


def share_cell(accuracy: Proportion, hint: str = "", weak: bool = False) -> Cell:
    """An accuracy with its interval; n is told on demand."""
    return Cell(percent(accuracy), accuracy.share, weak, f"n = {accuracy.n}{hint}")


def _cell(
    report: ClassificationReport, model: str, condition: ClassificationCondition | None, backend: str = TORCH
) -> Cell:
    line = report.line(model, condition.name, backend) if condition else None
    if condition is None or line is None:
        return Cell(NOT_RUN)
    rounded = line.unrounded and line.unrounded.hits != line.accuracy.hits
    hint = f"; {100 * line.unrounded.share:.1f} before rounding to 8 bit" if line.unrounded and rounded else ""
    return share_cell(line.accuracy, hint, not report.counts(condition))


def _worst_cell(report: ClassificationReport, model: str, name: str, backend: str) -> Cell:
    worst = next((w for w in report.worst if (w.model, w.condition) == (model, name)), None)
    if worst is None or backend != TORCH:
        return Cell(NOT_RUN)
    return share_cell(worst.accuracy, f"; {title(worst.conditions[0])}" if name == GRAY_WORST else "")


def gray_box(report: ClassificationReport) -> list[Table]:
    """For each measured model its accuracy by surrogate and attack; empty with a single surrogate."""
    by_attack = {(c.attack.surrogate, _method(c)): c for c in report.conditions if c.attack and c.group == "gray"}
    surrogates, methods = (list(dict.fromkeys(key[part] for key in by_attack)) for part in (0, 1))
    if len(surrogates) < 2:
        return []

    def row(model: str, surrogate: str) -> tuple[Cell, ...]:
        return tuple(_cell(report, model, by_attack.get((surrogate, method))) for method in methods)

    titles = tuple(map(method_title, methods))
    measured = [
        Table(
            f"Gray-box accuracy of {source.model} in %",
            "",
            ("made on surrogate", *titles),
            tuple((name or SURROGATE, row(source.model, name)) for name in surrogates),
        )
        for source in report.sources
        if source.role != "surrogate"
    ]
    about = "A figure in brackets does not count: see the requirements below."
    themselves = tuple((name or SURROGATE, row(name or SURROGATE, name)) for name in surrogates)
    return [*measured, Table("The surrogates under their own attacks", about, ("surrogate", *titles), themselves)]


def _method(condition: ClassificationCondition) -> str:
    return condition.name.partition("@")[0].partition("_")[2]


def by_setting(
    report: ClassificationReport, group: str, name: str, about: str, setting: Callable[[ClassificationCondition], str]
) -> Table | None:
    """Models against one setting of a group's conditions (budget, sigma); None when the group was not measured."""
    conditions = [condition for condition in report.conditions if condition.group == group]
    if not conditions:
        return None
    models = [source.model for source in report.sources if report.line(source.model, conditions[0].name)]
    rows = tuple((model, tuple(_cell(report, model, condition) for condition in conditions)) for model in models)
    return Table(name, about, ("model", *map(setting, conditions)), rows)


def sweep(report: ClassificationReport) -> Table | None:
    """Accuracy over the attacker's budget."""
    method = next((_method(condition) for condition in report.conditions if condition.group == "sweep"), "")
    about = f"White-box {method_title(method.partition('_eps')[0])}; a sound attack should reach 0 %."
    return by_setting(
        report,
        "sweep",
        "Accuracy over the attacker's budget, in %",
        about,
        lambda condition: f"{condition.attack.eps_255:g}/255" if condition.attack else "",
    )


def noise(report: ClassificationReport) -> Table | None:
    """Accuracy over the noise's standard deviation."""
    return by_setting(
        report,
        "noise",
        "Accuracy under Gaussian noise, in %",
        "Clipped to images; nobody attacks.",
        lambda condition: f"σ {condition.noise_sigma_255:g}/255",
    )


def smoothed(report: ClassificationReport) -> Table | None:
    """The prediction by votes over noisy copies."""
    smoothing = next((condition.smoothing for condition in report.conditions if condition.smoothing), None)
    if smoothing is None:
        return None
    about = (
        f"A majority over {smoothing.votes} copies with noise of σ {smoothing.sigma_255:g}/255; the "
        "attacker has the weights and follows the mean gradient over noise (EOT)."
    )
    return by_setting(report, "smoothed", "Accuracy of a smoothed prediction, in %", about, lambda c: title(c.name))


def certified(report: ClassificationReport) -> Table | None:
    """Share that is right and certified, over the radius."""
    shown = [c for c in report.certified if abs(c.radius_l2 / RADIUS_SHOWN - round(c.radius_l2 / RADIUS_SHOWN)) < 1e-6]
    certificate = next((condition.certificate for condition in report.conditions if condition.certificate), None)
    if not shown or certificate is None:
        return None
    radii = dict.fromkeys(c.radius_l2 for c in shown)
    rows = tuple(
        (model, tuple(share_cell(c.accuracy) for c in shown if c.model == model))
        for model in dict.fromkeys(c.model for c in shown)
    )
    about = (
        f"Randomised smoothing with σ {certificate.sigma_255:g}/255, {certificate.draws} draws for each "
        f"of {shown[0].accuracy.n} images, failure probability {certificate.alpha:g}. No attack within the "
        "radius changes a certified answer."
    )
    return Table("Certified accuracy over the L2 radius, in %", about, ("model", *(f"r {r:g}" for r in radii)), rows)


def corruptions(report: ClassificationReport) -> list[Table]:
    """For each measured model the accuracy by corruption and severity."""
    by_setting = {(c.corruption.name, c.corruption.severity): c for c in report.conditions if c.corruption}
    if not by_setting:
        return []
    severities = sorted({severity for _, severity in by_setting})
    header = ("corruption", *(f"severity {severity}" for severity in severities), MEAN)
    first = next(iter(by_setting.values())).name
    tables = []
    for model in (source.model for source in report.sources if report.line(source.model, first)):
        rows = []
        for name in dict.fromkeys(name for name, _ in by_setting):
            cells = [_cell(report, model, by_setting.get((name, severity))) for severity in severities]
            rows.append((name.replace("_", " "), _brief([*cells, mean(cells)])))
        over_all = [mean(cells[at] for _, cells in rows) for at in range(len(severities) + 1)]
        rows.append((MEAN, _brief(over_all)))
        tables.append(Table(f"Accuracy of {model} under common corruptions, in %", "", header, tuple(rows)))
    return tables


def _brief(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Figures without their intervals, which go into the hint: heat maps have no room."""
    return tuple(
        cell
        if cell.share is None
        else Cell(f"{100 * cell.share:.1f}", cell.share, cell.weak, f"{cell.text}; {cell.hint}".strip("; "))
        for cell in cells
    )


def by_class(report: ClassificationReport) -> Table | None:
    """The bundle's accuracy for each class, the worst under the strongest attacker first; None for a single class."""
    conditions = list(dict.fromkeys(line.condition for line in report.classes))
    by_label: dict[str, dict[str, ClassLine]] = {}
    for one in report.classes:
        by_label.setdefault(one.label, {})[one.condition] = one
    if len(by_label) < 2:
        return None
    rows: list[tuple[str, tuple[Cell, ...]]] = []
    for label, lines in by_label.items():
        cells = [Cell(str(max(line.accuracy.n for line in lines.values())))]
        for condition in conditions:
            line = lines.get(condition)  # a class may have no image in a condition that is on a subset
            n = line.accuracy.n if line else 0
            cells.append(share_cell(line.accuracy) if line else Cell(NOT_RUN))
            cells.append(Cell(f"{line.taken_for}, {line.often} of {n}" if line and line.often else NONE))
        rows.append((label, tuple(cells)))
    means = [cell for at in range(len(conditions)) for cell in (mean(row[1][1 + 2 * at] for row in rows), Cell(NONE))]
    first = ("mean over classes", (Cell(str(sum(int(cells[0].text) for _, cells in rows))), *means))
    rows.sort(key=lambda row: [1.0 if cell.share is None else cell.share for cell in row[1][-2::-2]])
    header = ("class", "images", *(head for name in conditions for head in (title(name), "mostly taken for")))
    about = "A class of few tracks has a wide interval. Worst under the last attack first. " + INTERVAL
    return Table(f"Accuracy of {report.model} by class, in %", about, header, (first, *rows))


def differences(report: ClassificationReport) -> Table | None:
    """Paired differences to the baselines in the columns of the first table."""
    by_pair = {(f"{d.model} minus {d.baseline}", d.condition): d.difference for d in report.differences}
    about = "The same images met both models; frames of one track are resampled together."
    return _paired(report, by_pair, "Paired differences in points, 95 % interval by bootstrap over tracks", about)


def comparisons(report: ClassificationReport) -> Table | None:
    """The comparisons that were asked for, in the columns of the first table."""

    def side(models: Sequence[str]) -> str:
        return models[0] if len(models) == 1 else f"mean of {', '.join(models)}"

    by_pair = {(f"{side(c.models)} minus {side(c.baselines)}", c.condition): c.difference for c in report.comparisons}
    about = "The interval is about other images; the models that took part are given."
    return _paired(report, by_pair, "Comparisons in points, 95 % interval by bootstrap over tracks", about)


def _paired(
    report: ClassificationReport, by_pair: Mapping[tuple[str, str], Interval], name: str, about: str
) -> Table | None:
    """Rows by the first part of the keys, columns by the second, as far as the first table has them."""
    compared = {condition for _, condition in by_pair}
    names = [condition for condition in _main_names(report) if condition in compared]
    rows = []
    for pair in dict.fromkeys(pair for pair, _ in by_pair):
        cells = [by_pair.get((pair, condition)) for condition in names]
        rows.append((pair, tuple(Cell(NOT_RUN) if cell is None else Cell(points(cell)) for cell in cells)))
    return Table(name, about, ("difference", *map(_heading, names)), tuple(rows)) if rows else None


def flags(report: ClassificationReport) -> Table:
    """Reasons for doubt; the table says so when there are none."""
    rows = tuple(
        (flag.severity, (Cell(flag.model or "evaluation", badge=flag.severity), Cell(flag.text)))
        for flag in report.flags
    )
    about = "A warning about the bundle fails the evaluation." if rows else "None was found."
    return Table("Flags", about, ("severity", "about", "what was found"), rows)


def transfer_requirements(report: ClassificationReport) -> Table | None:
    """Whether the gray-box conditions count, and why; None without such conditions."""
    if not any(condition.group == "gray" for condition in report.conditions):
        return None
    return requirements(((c.what, f"{c.found:.3f}", c.required, c.holds) for c in report.requirements), report.valid)


def attacks(report: ClassificationReport) -> Table:
    """Every attack with the attacker's knowledge and budget."""
    measured = {line.condition: line.accuracy.n for line in report.lines}
    rows = tuple(
        (
            title(a.name),
            texts(
                a.knowledge,
                f"{a.eps_255:g}/255",
                f"{a.step_255:g}/255" if a.step_255 else "adaptive",
                a.steps,
                a.restarts,
                a.draws,
                a.queries or NONE,
                a.seed if a.is_random else NONE,
                measured.get(a.name, 0),
            ),
        )
        for a in report.attacks
    )
    header = (
        "attack", "knowledge", "budget (Linf)", "step", "steps", "restarts", "draws per gradient", "queries", "seed",
        "n",
    )  # fmt: skip
    particulars = "; ".join(_particulars(report))
    return Table("The attacks", f"{particulars}." if particulars else "", header, rows)


def _particulars(report: ClassificationReport) -> Iterator[str]:
    """What the table has no column for, of the attacks that are there."""
    by_method = {attack.method: attack for attack in report.attacks}
    if by_method.keys() & set(MOMENTUM_METHODS):
        yield f"MI-, DI- and TI-FGSM keep a momentum of {MIFGSM().decay:g}"
    if "di_fgsm" in by_method:
        diversity = InputDiversity()
        yield (
            f"DI shows each step each image, with probability {diversity.probability:g}, shrunk to "
            f"{diversity.smallest:.2f} to 1 of its size on black, drawn for each image"
        )
    if "ti_fgsm" in by_method:
        width = 2 * TI_RADIUS_PX + 1
        yield f"TI smooths the gradient with {width} x {width} pixels"
    if "apgd_t" in by_method:
        yield f"APGD-T goes for {by_method['apgd_t'].targets} classes"
