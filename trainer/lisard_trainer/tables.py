"""The robustness table in Markdown, generated from the report alone."""

from __future__ import annotations

from collections.abc import Sequence

from lisard_ros.statistics import Interval, Proportion

from .evaluate import CLEAN, GRAY_FGSM, GRAY_PGD, WHITE_PGD, Report

COLUMNS = {
    CLEAN: "clean",
    GRAY_FGSM: "gray-box FGSM",
    GRAY_PGD: "gray-box PGD-10",
    WHITE_PGD: "white-box PGD-10",
}


def markdown(report: Report) -> str:
    """The whole page."""
    parts = [
        "# Robustness of the shipped model",
        _preface(report),
        "## Accuracy in %, 95 % Wilson interval",
        _accuracies(report),
        "## Paired differences in points, 95 % interval by bootstrap over tracks",
        _differences(report),
        "## Does the gray-box attack count?",
        _conditions(report),
        "## What took part",
        _sources(report),
    ]
    return "\n\n".join(parts) + "\n"


def _preface(report: Report) -> str:
    budget = "; ".join(
        f"{a.name}: {a.knowledge}, {a.method}, eps {a.eps_255:g}/255, step {a.step_255:g}/255, {a.steps} steps"
        + (f", random start (seed {a.seed})" if a.random_start else "")
        for a in report.attacks
    )
    return (
        f"{report.pictures} pictures of {report.tracks} validation tracks that no model was trained on "
        f"(data sha256 `{report.data_sha256[:12]}`), all of them attacked, rounded to 8 bit within the budget. "
        f"{report.device}; commit `{report.commit[:12]}`; {report.made_at}.\n\n{budget}.\n\n"
        "Gray-box: the attacker knows architecture and training data, not the weights (surrogate: ordinary training, "
        "another seed). White-box: the attacker has the weights.\n\n"
        f"Made with `{report.command}`; bench/robustness.sh does everything, training included. This page is generated."
    )


def _accuracies(report: Report) -> str:
    rows = []
    for model, backend in dict.fromkeys((line.model, line.backend) for line in report.lines):
        own = {x.condition: x.accuracy for x in report.lines if (x.model, x.backend) == (model, backend)}
        rows.append([model, backend, *(_share(own.get(at)) for at in COLUMNS)])
    return _table(["model", "backend", *COLUMNS.values()], rows)


def _share(value: Proportion | None) -> str:
    if value is None:
        return "not run"
    return f"{100 * value.share:.1f} [{100 * value.low:.1f}, {100 * value.high:.1f}]"


def _differences(report: Report) -> str:
    rows = []
    for model, control in dict.fromkeys((d.model, d.control) for d in report.differences):
        own = {x.condition: x.difference for x in report.differences if x.control == control}
        rows.append([f"{model} minus {control}", *(_points(own.get(at)) for at in COLUMNS)])
    return _table(["difference", *COLUMNS.values()], rows)


def _points(value: Interval | None) -> str:
    return "" if value is None else f"{100 * value.value:+.1f} [{100 * value.low:+.1f}, {100 * value.high:+.1f}]"


def _conditions(report: Report) -> str:
    rows = [[c.what, f"{c.found:.3f}", c.required, "yes" if c.holds else "NO"] for c in report.conditions]
    verdict = "It counts." if report.valid else "It does NOT count: strengthen the surrogate or the attack first."
    return verdict + "\n\n" + _table(["condition", "found", "required", "holds"], rows)


def _sources(report: Report) -> str:
    rows = [[s.model, s.recipe, str(s.seed), str(s.epochs), f"`{s.sha256[:12]}`"] for s in report.sources]
    return _table(["model", "recipe", "seed", "epochs", "sha256"], rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
