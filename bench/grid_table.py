"""The table of a control grid, generated from the JSON report of `lisard evaluate` alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from lisard_trainer import provenance
from lisard_trainer.tasks.classification.evaluation import validity

SHIPPED, PLAIN = "lisard", "plain"
PLAIN_ARM = "ce_1"
CLEAN, GRAY_WORST, WHITE, WHITE_ALL = "clean", "gray_worst", "white_pgd10", "white_all"
COUNTING_WORST = "counting_worst"  # the lowest of the gray-box columns whose attacks count
# What is asked of the grid: an arm and its control. What they differ in beside what a question names (length, loop,
# terms) is in the recipes; the test of the grid says which pairs differ in one thing alone.
QUESTIONS = {
    ("published", "noise_rising"): "the similarity term as published",
    ("normalised", "noise"): "a similarity term that does not fade",
    ("linear", "noise_separate"): "the linear term",
    ("linear_half", "linear"): "half the weight of the linear term",
    ("linear_quiet", "linear"): "noise of 0.1 in place of 0.177, beside the linear term",
    ("linear_float32", "linear"): "the linear term in 32 bits",
    ("noise_separate", "noise"): "each view in a pass of its own",
    ("noise_rising", "noise_separate"): "a cross entropy that rises",
    ("published", "faithful"): "our loop for the published one",
    ("linear", "published"): "the linear term for the similarity term as published, in our loop",
    ("linear", "faithful"): "our arm of the same length for the published training",
    ("shipped", "faithful"): "what ships for the published training",
    ("shipped", "faithful_long"): "what ships for the published training of 27 epochs",
    ("linear_stage", "noise_stage"): "the linear term in a second stage",
    ("shipped", "linear_stage"): "the similarity term beside the linear one",
    ("linear", "adversarial"): "the linear term for adversarial examples",
    ("stages", "normalised"): "the similarity of pooled stages too",
    ("kl", "noise"): "a consistency of the two views' predictions",
    ("slope", "noise"): "a term on the slope of the loss",
}
COMPARED = (CLEAN, GRAY_WORST, WHITE)
COLUMNS = {
    CLEAN: "clean",
    "gray_fgsm": "gray-box FGSM, hardest surrogate",
    "gray_pgd10": "gray-box PGD-10, hardest surrogate",
    COUNTING_WORST: "worst gray-box column that counts",
    GRAY_WORST: "worst gray-box column",
    WHITE: "white-box PGD-10",
    WHITE_ALL: "all white-box attacks at once",
}


@dataclass(frozen=True)
class Pair:
    """An arm, its control, and the seeds whose mean is compared."""

    arms: tuple[str, str]
    seeds: tuple[str, ...]

    @classmethod
    def of(cls, contrast: Mapping[str, Any], reference: str) -> Pair:
        """From the names that a report gives the models; reference: the arm that it calls the bundle."""
        own, theirs = (
            [arm_of(model, reference).rpartition("_") for model in contrast[side]] for side in ("models", "controls")
        )
        return cls((own[0][0], theirs[0][0]), tuple(seed for _, _, seed in own))

    def __str__(self) -> str:
        """`linear` - `noise`, 3 seeds."""
        many = f"{len(self.seeds)} seed" + ("s" if len(self.seeds) > 1 else "")
        return f"`{self.arms[0]}` - `{self.arms[1]}`, {many}"


def markdown(report: Mapping[str, Any]) -> str:
    """The page: accuracies of every arm over its seeds, and paired differences between an arm and its control."""
    rows = [
        [arm, str(len(seeds)), *(_cell([seed.get(c) for seed in seeds]) for c in COLUMNS)]
        for arm, seeds in by_arm(report).items()
    ]
    sampled = "tracks" if report["tracks"] < report["pictures"] else "pictures"
    what = f"What each thing adds, in points, 95 % interval by bootstrap over {report['tracks']} {sampled}"
    parts = [
        f"# Control grid of {_networks(report)}: {report['pictures']} images",
        _preface(report),
        table(["arm", "seeds", *COLUMNS.values()], rows),
        "## Each attack of each surrogate: mean over seeds in %",
        _judgement(report),
        _by_surrogate(report),
        *filter(None, [_strangers(report)]),
        f"## {what}",
        "Accuracy of the first arm minus that of the second on the same images, each the mean over the seeds that "
        "both have; the interval is about other images, not about other seeds.",
        _contrasts(report),
        *_seed_by_seed(report),
        "## The same, attack by attack",
        _attack_by_attack(report),
    ]
    return "\n\n".join(parts) + "\n"


def _preface(report: Mapping[str, Any]) -> str:
    origin = report["origin"]
    return (
        f"{origin[:1].upper()}{origin[1:]}; commit {provenance.short(report['commit'])}; {report['device']}; "
        f"{report['made_at']}. Linf 8/255. Accuracy in %: mean over seeds and, in brackets, lowest and highest. The "
        "hardest surrogate: the one whose attack leaves a model least. Generated by bench/grid.py."
    )


def _networks(report: Mapping[str, Any]) -> str:
    """Names of the networks whose arms are compared."""
    return ", ".join(dict.fromkeys(s["architecture"] for s in report["sources"] if s["role"] != "surrogate"))


def reference_of(report: Mapping[str, Any]) -> str:
    """Name in the queue of the arm that was measured as the bundle."""
    return next(source["recipe"] for source in report["sources"] if source["model"] == SHIPPED)


def by_arm(report: Mapping[str, Any]) -> dict[str, list[dict[str, float]]]:
    """Arm -> for each of its seeds, the accuracy in each of COLUMNS."""
    models = [s["model"] for s in report["sources"] if s["role"] != "surrogate"]
    arms: dict[str, list[dict[str, float]]] = {}
    for model in models:
        arm = arm_of(model, reference_of(report)).rpartition("_")[0]
        arms.setdefault(arm, []).append(figures(report, model))
    return arms


def _by_surrogate(report: Mapping[str, Any]) -> str:
    """A row per gray-box column, ATTACK@SURROGATE; a column per arm."""
    attackers = {source["model"] for source in report["sources"] if source["role"] == "surrogate"}
    lines = [
        x for x in report["lines"] if "@" in x["condition"] and x["backend"] == "torch" and x["model"] not in attackers
    ]
    arms = list(by_arm(report))
    shares: dict[tuple[str, str], list[float]] = {}
    for line in lines:
        arm = arm_of(line["model"], reference_of(report)).rpartition("_")[0]
        shares.setdefault((line["condition"], arm), []).append(line["accuracy"]["share"])
    doubtful = {name for name in dict.fromkeys(line["condition"] for line in lines) if not counts(report, name)}
    rows = [
        [f"({name})" if name in doubtful else name, *(_cell(shares.get((name, arm), [])) for arm in arms)]
        for name in dict.fromkeys(line["condition"] for line in lines)
    ]
    return table(["attack@surrogate", *arms], rows)


def counts(report: Mapping[str, Any], column: str) -> bool:
    """Whether an attack is strong enough to count, by the report's conditions on its surrogate and on itself."""
    return validity.counts(_conditions(report), column.partition("@")[2], column)


def _conditions(report: Mapping[str, Any]) -> tuple[validity.TransferRequirement, ...]:
    return tuple(validity.TransferRequirement(**condition) for condition in report["conditions"])


def _judgement(report: Mapping[str, Any]) -> str:
    """Which attacks count, and the conditions that the others fail."""
    columns = dict.fromkeys(line["condition"] for line in report["lines"] if "@" in line["condition"])
    doubtful = [name for name in columns if not counts(report, name)]
    if not doubtful:
        return f"All {len(columns)} attacks count: surrogates are good, fall to them, and an ordinary network is hurt."
    found = _conditions(report)
    failed = [
        f"{name}: {validity.reasons(found, name)}"
        for name in dict.fromkeys(c.surrogate for c in found)
        if validity.reasons(found, name)
    ]
    verdict = "counts" if report["valid"] else "does NOT count"
    many = f"{len(columns) - len(doubtful)} of {len(columns)} attacks count"
    return (
        f"By the protocol, which asks for a good surrogate that falls to its own attack, {many}, and with the first "
        f"surrogate this evaluation {verdict}. Those in brackets do not ({' | '.join(failed)}). "
        "An attacker may use them all the same, so the worst column is over all."
    )


def _strangers(report: Mapping[str, Any]) -> str:
    """Which arms meet no surrogate that was trained like them, as an attacker who knows the recipe would have one."""
    attackers = {source["training"] for source in report["sources"] if source["role"] == "surrogate"}
    alone = [
        arm_of(s["model"], reference_of(report)).rpartition("_")[0]
        for s in report["sources"]
        if s["role"] != "surrogate" and s["training"] not in attackers
    ]
    names = ", ".join(f"`{name}`" for name in dict.fromkeys(alone))
    return f"No surrogate has the terms of {names}: who knows their recipe can do more to them." if alone else ""


def arm_of(model: str, reference: str) -> str:
    """Name in the queue of a model of the report; reference: the arm that is the bundle."""
    return {SHIPPED: reference, PLAIN: PLAIN_ARM}.get(model, model)


def model_of(arm: str, reference: str) -> str:
    """Name in the report of a training of the queue."""
    return {reference: SHIPPED, PLAIN_ARM: PLAIN}.get(arm, arm)


def figures(report: Mapping[str, Any], model: str) -> dict[str, float]:
    """Accuracy of one model in each of COLUMNS that was measured; one attack alone is not `all at once`."""
    own = {
        x["condition"]: x["accuracy"]["share"]
        for x in report["lines"]
        if x["model"] == model and x["backend"] == "torch"
    }
    counting = [share for name, share in own.items() if "@" in name and counts(report, name)]
    own |= {COUNTING_WORST: min(counting)} if counting else {}
    own |= {
        x["condition"]: x["accuracy"]["share"]
        for x in report["worst"]
        if x["model"] == model and (x["condition"] != WHITE_ALL or len(x["columns"]) > 1)
    }
    found = {}
    for column in COLUMNS:
        values = [share for name, share in own.items() if name.partition("@")[0] == column]
        if values:
            found[column] = min(values)
    return found


def _cell(values: Sequence[float | None]) -> str:
    known = [100 * value for value in values if value is not None]
    if not known:
        return "not run"
    return f"{mean(known):.1f}" + (f" [{min(known):.1f}, {max(known):.1f}]" if len(known) > 1 else "")


def contrasts(names: Sequence[str], reference: str) -> list[str]:
    """What `lisard evaluate --contrast` is asked: each question over the seeds that both arms have among `names`."""
    asked = []
    for arm, control in QUESTIONS:
        seeds = [set(_seeds(names, each)) for each in (arm, control)]
        both = sorted(seeds[0] & seeds[1])
        sides = [[model_of(f"{each}_{seed}", reference) for seed in both] for each in (arm, control)]
        asked += [":".join(map(",".join, sides))] if sides[0] else []
    return asked


def _seeds(names: Sequence[str], arm: str) -> list[str]:
    return [seed for own, _, seed in (name.rpartition("_") for name in names) if own == arm]


def _contrasts(report: Mapping[str, Any]) -> str:
    """A row per question."""
    found = _found(report)
    rows = [
        [QUESTIONS[pair.arms], str(pair), *(_points(found.get((pair, name))) for name in COMPARED)]
        for pair in dict.fromkeys(pair for pair, _ in found)
    ]
    return table(["what is added or exchanged", "arms", *(COLUMNS[name] for name in COMPARED)], rows)


def _seed_by_seed(report: Mapping[str, Any]) -> list[str]:
    """A section with each seed's own difference, for what has several: what another seed would change."""
    rows = []
    for pair, contrast in {Pair.of(x, reference_of(report)): x for x in report["contrasts"]}.items():
        if len(pair.seeds) > 1:
            sides = [[figures(report, model) for model in contrast[side]] for side in ("models", "controls")]
            cells = [_differences(name, *sides) for name in COMPARED]
            rows.append([QUESTIONS[pair.arms], f"`{pair.arms[0]}` - `{pair.arms[1]}`, {', '.join(pair.seeds)}", *cells])
    header = ["what is added or exchanged", "arms, seeds", *(COLUMNS[name] for name in COMPARED)]
    return ["## The same, seed by seed", table(header, rows)] if rows else []


def _differences(name: str, arms: Sequence[Mapping[str, float]], controls: Sequence[Mapping[str, float]]) -> str:
    """Of each arm from its control in one column, in points."""
    pairs = [
        (arm[name], control[name])
        for arm, control in zip(arms, controls, strict=True)
        if name in arm and name in control
    ]
    return ", ".join(f"{100 * (arm - control):+.1f}" for arm, control in pairs)


def _attack_by_attack(report: Mapping[str, Any]) -> str:
    found = _found(report)
    pairs = list(dict.fromkeys(pair for pair, _ in found))
    attacks = dict.fromkeys(name for _, name in found if "@" in name)
    rows = [[name, *(_points(found.get((pair, name))) for pair in pairs)] for name in attacks]
    return table(["attack@surrogate", *map(str, pairs)], rows)


def _found(report: Mapping[str, Any]) -> dict[tuple[Pair, str], Any]:
    """Arms that are compared, and column -> difference."""
    reference = reference_of(report)
    return {(Pair.of(x, reference), x["condition"]): x["difference"] for x in report["contrasts"]}


def _points(value: Mapping[str, float] | None) -> str:
    if value is None:
        return ""
    return f"{100 * value['value']:+.1f} [{100 * value['low']:+.1f}, {100 * value['high']:+.1f}]"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *rows])
