"""The table of a grid of variants, generated from the JSON report of `lisard evaluate` alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from lisard_trainer import provenance
from lisard_trainer.tasks.classification.evaluation import validity

PLAIN, STANDARD = "plain", "ce_1"  # the plain baseline: its name in a report, and in the queue
CLEAN, GRAY_WORST, WHITE, WHITE_ALL = "clean", "gray_worst", "white_pgd10", "white_all"
COUNTING_WORST = "counting_worst"  # the lowest of the gray-box conditions whose attacks count
# What is asked of the grid: a variant and its baseline. What they differ in beside what a question names (length, loop,
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
    ("linear", "faithful"): "our variant of the same length for the published training",
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
    COUNTING_WORST: "worst gray-box condition that counts",
    GRAY_WORST: "worst gray-box condition",
    WHITE: "white-box PGD-10",
    WHITE_ALL: "all white-box attacks at once",
}


@dataclass(frozen=True)
class Pair:
    """A variant, its baseline, and the seeds whose mean is compared."""

    variants: tuple[str, str]
    seeds: tuple[str, ...]

    @classmethod
    def of(cls, comparison: Mapping[str, Any], report: Mapping[str, Any]) -> Pair:
        """From the names that a report gives the models."""
        own, theirs = (
            [name_in_queue(model, report).rpartition("_") for model in comparison[side]]
            for side in ("models", "baselines")
        )
        return cls((own[0][0], theirs[0][0]), tuple(seed for _, _, seed in own))

    def __str__(self) -> str:
        """`linear` - `noise`, 3 seeds."""
        many = f"{len(self.seeds)} seed" + ("s" if len(self.seeds) > 1 else "")
        return f"`{self.variants[0]}` - `{self.variants[1]}`, {many}"


def markdown(report: Mapping[str, Any]) -> str:
    """The page: accuracies of every variant over its seeds, and paired differences from baselines."""
    rows = [
        [variant, str(len(seeds)), *(_cell([seed.get(c) for seed in seeds]) for c in COLUMNS)]
        for variant, seeds in by_variant(report).items()
    ]
    sampled = "tracks" if report["tracks"] < report["images"] else "images"
    what = f"What each thing adds, in points, 95 % interval by bootstrap over {report['tracks']} {sampled}"
    parts = [
        f"# Variants of {_networks(report)}: {report['images']} images",
        _preface(report),
        table(["variant", "seeds", *COLUMNS.values()], rows),
        "## Each attack of each surrogate: mean over seeds in %",
        _judgement(report),
        _by_surrogate(report),
        *filter(None, [_unmet_recipes(report)]),
        f"## {what}",
        "Accuracy of the first variant minus that of the second on the same images, each the mean over the seeds that "
        "both have; the interval is about other images, not about other seeds.",
        _comparisons(report),
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
    """Names of the networks whose variants are compared."""
    return ", ".join(dict.fromkeys(s["architecture"] for s in report["sources"] if s["role"] != "surrogate"))


def by_variant(report: Mapping[str, Any]) -> dict[str, list[dict[str, float]]]:
    """Variant -> for each of its seeds, the accuracy in each of COLUMNS."""
    models = [s["model"] for s in report["sources"] if s["role"] != "surrogate"]
    variants: dict[str, list[dict[str, float]]] = {}
    for model in models:
        variant = name_in_queue(model, report).rpartition("_")[0]
        variants.setdefault(variant, []).append(figures(report, model))
    return variants


def _by_surrogate(report: Mapping[str, Any]) -> str:
    """A row per gray-box condition, ATTACK@SURROGATE; a column per variant."""
    attackers = {source["model"] for source in report["sources"] if source["role"] == "surrogate"}
    lines = [
        x for x in report["lines"] if "@" in x["condition"] and x["backend"] == "torch" and x["model"] not in attackers
    ]
    variants = list(by_variant(report))
    shares: dict[tuple[str, str], list[float]] = {}
    for line in lines:
        variant = name_in_queue(line["model"], report).rpartition("_")[0]
        shares.setdefault((line["condition"], variant), []).append(line["accuracy"]["share"])
    doubtful = {name for name in dict.fromkeys(line["condition"] for line in lines) if not counts(report, name)}
    rows = [
        [f"({name})" if name in doubtful else name, *(_cell(shares.get((name, variant), [])) for variant in variants)]
        for name in dict.fromkeys(line["condition"] for line in lines)
    ]
    return table(["attack@surrogate", *variants], rows)


def counts(report: Mapping[str, Any], condition: str) -> bool:
    """Whether an attack is strong enough to count, by the report's requirements on its surrogate and on itself."""
    return validity.counts(_requirements(report), condition.partition("@")[2], condition)


def _requirements(report: Mapping[str, Any]) -> tuple[validity.TransferRequirement, ...]:
    return tuple(validity.TransferRequirement(**requirement) for requirement in report["requirements"])


def _judgement(report: Mapping[str, Any]) -> str:
    """Which attacks count, and the requirements that the others fail."""
    attacks = dict.fromkeys(line["condition"] for line in report["lines"] if "@" in line["condition"])
    doubtful = [name for name in attacks if not counts(report, name)]
    if not doubtful:
        return f"All {len(attacks)} attacks count: surrogates are good, fall to them, and an ordinary network is hurt."
    found = _requirements(report)
    failed = [
        f"{name}: {validity.reasons(found, name)}"
        for name in dict.fromkeys(c.surrogate for c in found)
        if validity.reasons(found, name)
    ]
    verdict = "counts" if report["valid"] else "does NOT count"
    many = f"{len(attacks) - len(doubtful)} of {len(attacks)} attacks count"
    return (
        f"By the protocol, which asks for a good surrogate that falls to its own attack, {many}, and with the first "
        f"surrogate this evaluation {verdict}. Those in brackets do not ({' | '.join(failed)}). "
        "An attacker may use them all the same, so the worst condition is over all."
    )


def _unmet_recipes(report: Mapping[str, Any]) -> str:
    """Which variants meet no surrogate that was trained like them, as an attacker who knows the recipe has one."""
    attackers = {source["training"] for source in report["sources"] if source["role"] == "surrogate"}
    alone = [
        name_in_queue(s["model"], report).rpartition("_")[0]
        for s in report["sources"]
        if s["role"] != "surrogate" and s["training"] not in attackers
    ]
    names = ", ".join(f"`{name}`" for name in dict.fromkeys(alone))
    return f"No surrogate has the terms of {names}: who knows their recipe can do more to them." if alone else ""


def name_in_queue(model: str, report: Mapping[str, Any]) -> str:
    """Name of a model of the report as a training of the queue; the bundle is called by its recipe there."""
    if model == report["model"]:
        return next(source["recipe"] for source in report["sources"] if source["model"] == model)
    return STANDARD if model == PLAIN else model


def name_in_report(training: str) -> str:
    """Name in the report of a training of the queue."""
    return PLAIN if training == STANDARD else training


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
        if x["model"] == model and (x["condition"] != WHITE_ALL or len(x["conditions"]) > 1)
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


def comparisons(names: Sequence[str]) -> list[str]:
    """What `lisard evaluate --compare` is asked: each question over the seeds that both variants have among `names`."""
    asked = []
    for variant, baseline in QUESTIONS:
        seeds = [set(_seeds(names, each)) for each in (variant, baseline)]
        both = sorted(seeds[0] & seeds[1])
        sides = [[name_in_report(f"{each}_{seed}") for seed in both] for each in (variant, baseline)]
        asked += [":".join(map(",".join, sides))] if sides[0] else []
    return asked


def _seeds(names: Sequence[str], variant: str) -> list[str]:
    return [seed for own, _, seed in (name.rpartition("_") for name in names) if own == variant]


def _comparisons(report: Mapping[str, Any]) -> str:
    """A row per question."""
    found = _found(report)
    rows = [
        [QUESTIONS[pair.variants], str(pair), *(_points(found.get((pair, name))) for name in COMPARED)]
        for pair in dict.fromkeys(pair for pair, _ in found)
    ]
    return table(["what is added or exchanged", "variants", *(COLUMNS[name] for name in COMPARED)], rows)


def _seed_by_seed(report: Mapping[str, Any]) -> list[str]:
    """A section with each seed's own difference, for what has several: what another seed would change."""
    rows = []
    for pair, comparison in {Pair.of(x, report): x for x in report["comparisons"]}.items():
        if len(pair.seeds) > 1:
            sides = [[figures(report, model) for model in comparison[side]] for side in ("models", "baselines")]
            cells = [_differences(name, *sides) for name in COMPARED]
            rows.append(
                [
                    QUESTIONS[pair.variants],
                    f"`{pair.variants[0]}` - `{pair.variants[1]}`, {', '.join(pair.seeds)}",
                    *cells,
                ]
            )
    header = ["what is added or exchanged", "variants, seeds", *(COLUMNS[name] for name in COMPARED)]
    return ["## The same, seed by seed", table(header, rows)] if rows else []


def _differences(name: str, variants: Sequence[Mapping[str, float]], baselines: Sequence[Mapping[str, float]]) -> str:
    """Of each variant from its baseline in one condition, in points."""
    pairs = [
        (variant[name], baseline[name])
        for variant, baseline in zip(variants, baselines, strict=True)
        if name in variant and name in baseline
    ]
    return ", ".join(f"{100 * (variant - baseline):+.1f}" for variant, baseline in pairs)


def _attack_by_attack(report: Mapping[str, Any]) -> str:
    found = _found(report)
    pairs = list(dict.fromkeys(pair for pair, _ in found))
    attacks = dict.fromkeys(name for _, name in found if "@" in name)
    rows = [[name, *(_points(found.get((pair, name))) for pair in pairs)] for name in attacks]
    return table(["attack@surrogate", *map(str, pairs)], rows)


def _found(report: Mapping[str, Any]) -> dict[tuple[Pair, str], Any]:
    """Variants that are compared, and condition -> difference."""
    return {(Pair.of(x, report), x["condition"]): x["difference"] for x in report["comparisons"]}


def _points(value: Mapping[str, float] | None) -> str:
    if value is None:
        return ""
    return f"{100 * value['value']:+.1f} [{100 * value['low']:+.1f}, {100 * value['high']:+.1f}]"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *rows])
