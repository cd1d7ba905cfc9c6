"""Write the measured tables of README.md, the model cards, docs/detector.md and docs/results/shipped_models.md.

The figures come from docs/results/*.json. `--check` changes nothing and only reports whether the tables are up to date.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import evaluation_json
from node_report import machine_of

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- results:begin{name} -->", "<!-- results:end -->"
CONDITIONS = {
    "clean": "clean",
    "gray_fgsm@ordinary": "gray-box FGSM",
    "gray_pgd10@ordinary": "gray-box PGD-10",
    "gray_pgd10@alike": "PGD-10 of our second stage",
    "gray_worst": "worst gray-box condition",
    "white_pgd10": "white-box PGD-10",
    "white_all": "white-box APGD",
    "corrupted": "corruptions",
}
DETECTOR_CONDITIONS = {
    "clean": "clean",
    "gray_joint_8": "gray-box PGD-10",
    "gray_mi_joint_8": "gray-box MI-FGSM",
    "gray_ti_joint_8": "gray-box TI-FGSM",
    "white_joint_8": "white-box PGD-10",
    "noise_25": "noise, sigma 25",
}
BUNDLE = ""  # stands for the model under test, which each report names
# Models, as reports call them and as tables do.
DETECTORS = {
    BUNDLE: "LISArD (shipped)",
    "noise": "noise without LISArD's terms",
    "plain": "standard training",
    "surrogate": "the attacker's surrogate",
}
CLASSIFIERS = {
    BUNDLE: "LISArD (shipped), 27 epochs",
    "noise_only": "noise alone, 27 epochs",
    "faithful": "LISArD as published, 15 epochs",
    "plain": "standard training, 15 epochs",
    "adversarial": "adversarial training (FGSM-RS), 15 epochs: reference",
    "ordinary": "surrogate, standard training",
    "alike": "surrogate with our second stage, another first stage and seed",
}

# Perturbations of the shipped bundles.
STORED = {
    "clean": "clean",
    "gray_fgsm": "FGSM",
    "gray_pgd10": "PGD-10",
    "gray_ti_fgsm": "TI-FGSM",
    "universal": "universal perturbation",
    "patch": "printed patch, anywhere in the image",
}

SUMMARY_CLASSIFIERS = {
    BUNDLE: "**classifier, shipped (LISArD)**",
    "noise_only": "classifier, noise alone",
    "plain": "classifier, standard training",
}
SUMMARY_DETECTORS = {
    BUNDLE: "**detector, shipped (LISArD)**",
    "noise": "detector, noise without LISArD's terms",
    "plain": "detector, standard training",
}

GRID_VARIANTS = {
    "plain": "standard training", "noise": "noise alone", "levels": "noise and `levels`",
    "instances": "noise and `instances`", "agreement": "noise and `agreement`", "lisard": "all of LISArD",
}  # fmt: skip
GRID_KEPT = {
    "kept under TI-FGSM of two standard surrogates": ("gray_plain101_ti_joint_8", "gray_plain102_ti_joint_8"),
    "of our own recipe's": ("gray_lisard101_ti_joint_8",),
}


def main() -> int:
    """Rewrite the pages, or with --check exit with 1 when one differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 when a table is stale")
    args = parser.parse_args()
    stale = False
    for page, block, tables in BLOCKS:
        path = ROOT / page
        current = path.read_text(encoding="utf-8")
        wanted = filled(current, tables(ROOT / "docs/results"), block)
        stale |= current != wanted
        if not args.check:
            path.write_text(wanted, encoding="utf-8")
    return int(args.check and stale)


def filled(text: str, block: str, name: str = "") -> str:
    """Replace what stands between the two marks; `name` tells the blocks of a page apart."""
    begin = BEGIN.format(name=f" {name}" if name else "")
    before, rest = text.split(begin, 1)
    after = rest.split(END, 1)[1]
    return f"{before}{begin}\n{block}\n{END}{after}"


def readme_table(results: Path) -> str:
    """Build the one table of README.md: at most six rows."""
    return "\n".join(_summary(_report(results, "robustness"), _report(results, "detector")))


def shipped_tables(results: Path) -> str:
    """Build docs/results/shipped_models.md: everything that is measured of what ships, in full."""
    titles = ("Traffic-sign classifier", "Road-sign detector", "Node")
    tables = (classifier_table(results), detector_table(results), "\n".join(_node(_read(results, "node"))))
    return "\n\n".join(f"## {title}\n\n{table}" for title, table in zip(titles, tables, strict=True))


def classifier_table(results: Path) -> str:
    """Build the tables of the traffic-sign classifier: what it is compared with, and its int8 file beside fp32."""
    reports = (_report(results, name) for name in ("robustness", "white_box", "corruptions_accuracy"))
    return "\n".join([*_robustness(*reports), "", *_int8(_read(results, "int8")["models"]["traffic_signs"])])


def detector_table(results: Path) -> str:
    """Build the tables of the road-sign detector: what it is compared with, and its int8 file beside fp32."""
    int8 = _read(results, "int8")["models"]["road_signs"]
    return "\n".join([*_detector(_report(results, "detector")), "", *_int8(int8)])


def detector_tables(results: Path) -> str:
    """Build the tables of docs/detector.md."""
    report, white = _report(results, "detector"), _report(results, "detector_white")
    tables = [_kept(report), _differences(report), _white(white), _patches(report)]
    return "\n\n".join("\n".join(table) for table in tables)


def detector_grid_table(results: Path) -> str:
    """Build the table of the detector's grid of variants."""
    return "\n".join(_detector_grid(_report(results, "grid_detector")))


def _detector_grid(report: dict[str, Any]) -> Iterator[str]:
    """A variant per row: lowest and highest figure over its seeds and, under transfer, over the surrogates."""
    seeds: dict[str, list[str]] = {}
    for source in report["sources"]:
        seeds.setdefault(source["recipe"].rpartition("_")[0], []).append(source["model"])
    kept = {(line["model"], line["condition"]): line["kept"]["value"] for line in report["lines"]}
    ap50 = {(line["model"], line["condition"]): line["ap50"]["value"] for line in report["lines"]}
    rpc = {row["model"]: row["rpc"] for row in report["corrupted"]}
    heads = ("clean AP50", *GRID_KEPT, "white-box AP50", "rPC")
    yield "| variant | seeds | " + " | ".join(heads) + " |"
    yield "|---" * (len(heads) + 2) + "|"
    for variant, words in GRID_VARIANTS.items():
        own = seeds[variant]
        transfer = [[kept[model, name] for model in own for name in conditions] for conditions in GRID_KEPT.values()]
        figures = [
            [ap50[model, "clean"] for model in own],
            *transfer,
            [ap50[model, "white_joint_8"] for model in own],
            [rpc[model] for model in own],
        ]
        yield f"| {words} | {len(own)} | " + " | ".join(map(_span, figures)) + " |"


def _span(shares: list[float]) -> str:
    """Lowest and highest, in whole percent."""
    low, high = (f"{100 * share:.0f}" for share in (min(shares), max(shares)))
    return low if low == high else f"{low} to {high}"


def _read(results: Path, name: str) -> dict[str, Any]:
    """The figures of something else than `lisard evaluate`."""
    found: dict[str, Any] = json.loads((results / f"{name}.json").read_text(encoding="utf-8"))
    return found


def _report(results: Path, name: str) -> dict[str, Any]:
    """A report of `lisard evaluate`."""
    return evaluation_json.read(results / f"{name}.json")


def named(report: dict[str, Any], names: dict[str, str]) -> dict[str, str]:
    """One of the tables of names, with the name that the report gives the model under test."""
    return {name or report["model"]: words for name, words in names.items()}


def _summary(classifier: dict[str, Any], detector: dict[str, Any]) -> Iterator[str]:
    """The shipped models beside their two main baselines, in the conditions that both tasks have."""
    yield (
        f"Accuracy of the classifier on {classifier['images']} GTSRB images, and AP50 of the detector on "
        f"{detector['n']} road images, in % with 95 % intervals. No model was trained on these images. Attacks have a "
        "budget of 8/255. Gray-box attacks are made on other networks of the same kind, white-box attacks on the "
        "model itself."
    )
    yield ""
    yield "| model | clean | gray-box PGD-10 | worst gray-box attack | white-box PGD-10 |"
    yield "|---|---|---|---|---|"
    accuracies = {
        (line["model"], line["condition"]): _interval(line["accuracy"], "share")
        for line in [*(line for line in classifier["lines"] if line["backend"] == "torch"), *classifier["worst"]]
    }
    for model, words in named(classifier, SUMMARY_CLASSIFIERS).items():
        conditions = ("clean", "gray_pgd10@ordinary", "gray_worst", "white_pgd10")
        yield f"| {words} | " + " | ".join(accuracies[model, condition] for condition in conditions) + " |"
    ap50 = {(line["model"], line["condition"]): line["ap50"] for line in detector["lines"]}
    gray = dict.fromkeys(line["condition"] for line in detector["lines"] if line["group"] == "gray")
    for model, words in named(detector, SUMMARY_DETECTORS).items():
        worst = min((ap50[model, condition] for condition in gray), key=lambda found: found["value"])
        cells = (ap50[model, "clean"], ap50[model, "gray_joint_8"], worst, ap50[model, "white_joint_8"])
        yield f"| {words} | " + " | ".join(map(_interval, cells)) + " |"


def _robustness(report: dict[str, Any], white_box: dict[str, Any], natural: dict[str, Any]) -> Iterator[str]:
    """white_box: the strong white-box attacks, on fewer models and images. natural: common corruptions."""
    together = [line for line in white_box["worst"] if line["condition"] == "white_all"]
    yield (
        f"Accuracy in % with 95 % intervals on {report['images']} GTSRB images of {report['tracks']} tracks that "
        "no model was trained on. Attacks have a budget of 8/255. Gray-box attacks are made on a surrogate, a network "
        "that the attacker trains: with standard training and another seed, unless the table names another one. Worst: "
        "the lowest figure under five attacks on each of two surrogates. White-box APGD: APGD-CE, APGD-T (3 targets) "
        f"of 100 steps and PGD-10 together, on {together[0]['accuracy']['n']} of the images. Corruptions: mean of 15 "
        "corruptions at 5 severities."
    )
    yield ""
    lines = [line for line in report["lines"] if line["backend"] == "torch"]
    lines += [line for line in report["worst"] if line["condition"] == "gray_worst"] + together
    found = {(line["model"], line["condition"]): _interval(line["accuracy"], "share") for line in lines}
    found |= {(model, "corrupted"): f"{100 * share:.1f}" for model, share in _corrupted(natural).items()}
    names = [name for name in CONDITIONS if any(condition == name for _, condition in found)]
    yield "| model | " + " | ".join(CONDITIONS[name] for name in names) + " |"
    yield "|---" * (len(names) + 1) + "|"
    words = named(report, CLASSIFIERS)
    for model in dict.fromkeys(line["model"] for line in lines):
        cells = [found.get((model, name), "–") for name in names]
        yield f"| {words.get(model, model)} | " + " | ".join(cells) + " |"


def _corrupted(report: dict[str, Any]) -> dict[str, float]:
    """Model -> mean accuracy over all corruptions and severities."""
    shares: dict[str, list[float]] = {}
    for line in report["lines"]:
        if line["condition"].startswith("corruption_") and line["backend"] == "torch":
            shares.setdefault(line["model"], []).append(line["accuracy"]["share"])
    return {model: sum(own) / len(own) for model, own in shares.items()}


def _detector(report: dict[str, Any]) -> Iterator[str]:
    yield (
        f"AP50 of the road-sign detector in %, with 95 % intervals, on {report['n']} road images that no model was "
        "trained on. Attacks raise the joint loss, with a budget of 8/255. Gray-box attacks are made on a surrogate of "
        "another seed. rPC: mean AP over the corruptions, divided by clean AP."
    )
    yield ""
    lines = {(line["model"], line["condition"]): line["ap50"] for line in report["lines"]}
    conditions = [name for name in DETECTOR_CONDITIONS if any(condition == name for _, condition in lines)]
    words = named(report, DETECTORS)
    corrupted = {row["model"]: f"{100 * row['rpc']:.0f}" for row in report["corrupted"]}
    yield "| model | " + " | ".join([*(DETECTOR_CONDITIONS[name] for name in conditions), "rPC"]) + " |"
    yield "|---" * (len(conditions) + 2) + "|"
    for model in dict.fromkeys(model for model, _ in lines):
        cells = [_interval(lines.get((model, name))) for name in conditions]
        yield f"| {words.get(model, model)} | " + " | ".join([*cells, corrupted.get(model, "–")]) + " |"


def _int8(report: dict[str, Any]) -> Iterator[str]:
    """The int8 file minus fp32 on the same images, and how it was calibrated."""
    what = {"accuracy": "Accuracy", "AP50": "AP50"}[report["metric"]]
    resampled = {"accuracy": "tracks", "AP50": "images"}[report["metric"]]
    calibration = report["calibration"]
    yield (
        "The figures above are those of the fp32 model. On a CPU `precision: auto` of the node may take the bundle's "
        f"int8 file. {what} of both in %, on {report['images']} images with which neither was trained or calibrated: "
        f"{report['images_are']}. Attacks are those that the bundle stores, with a budget of 8/255; the pixels of a "
        "printed patch may have any value. Both models answer the same n images of a line: those that the attack was "
        f"made for or applies to. Differences are paired, with 95 % intervals over {resampled}. int8 was calibrated on "
        f"{calibration['pictures']} training images. It gives the same answer as fp32 in "
        f"{100 * report['agreement']:.1f} % of all cases."
    )
    yield ""
    yield "| condition | knowledge | n | fp32 | int8 | int8 minus fp32, points |"
    yield "|---|---|---|---|---|---|"
    for line in report["lines"]:
        shares = (f"{100 * line['fp32']:.1f}", f"{100 * line['int8']:.1f}", _signed(line["difference"]))
        cells = (STORED[line["condition"]], line["knowledge"], str(line["n"]), *shares)
        yield f"| {' | '.join(cells)} |"


def _signed(difference: dict[str, float]) -> str:
    """A difference in points with its interval; what rounds to zero has no sign."""
    value, low, high = (f"{round(100 * difference[key], 1) + 0.0:+.1f}" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]".replace("+0.0", "0.0")


def _kept(report: dict[str, Any]) -> Iterator[str]:
    """What the gray-box attacks leave, and which of them count."""
    yield (
        "Share of its clean AP50 that a model keeps, in %. An attack counts if all of the report's "
        "conditions on it hold, above all that standard training keeps at most 80 %, interval included:"
    )
    yield ""
    attacks = dict.fromkeys(line["condition"] for line in report["lines"] if line["group"] == "gray")
    words = named(report, DETECTORS)
    models = [name for name in words if any(line["model"] == name for line in report["lines"])]
    kept = {(line["model"], line["condition"]): line["kept"] for line in report["lines"]}
    yield "| attack | " + " | ".join(words[name] for name in models) + " | counts |"
    yield "|---" * (len(models) + 2) + "|"
    for attack in attacks:
        cells = [_interval(kept.get((model, attack))) for model in models]
        yield f"| `{attack}` | " + " | ".join([*cells, "yes" if _counts(report, attack) else "no"]) + " |"


def _counts(report: dict[str, Any], condition: str) -> bool:
    """Whether every requirement on the surrogate and in this condition holds."""
    return all(
        row["holds"]
        for row in report["requirements"]
        if condition in row["name"].split() or row["name"].startswith("surrogate is ")
    )


def _differences(report: dict[str, Any]) -> Iterator[str]:
    yield "AP50 of the shipped model minus that of a baseline, in points, paired image by image:"
    yield ""
    baselines = [name for name in DETECTORS if any(row["baseline"] == name for row in report["differences"])]
    found = {(row["baseline"], row["condition"]): row["ap50"] for row in report["differences"]}
    yield "| condition | " + " | ".join(f"minus {DETECTORS[name]}" for name in baselines) + " |"
    yield "|---" * (len(baselines) + 1) + "|"
    for condition, words in DETECTOR_CONDITIONS.items():
        yield f"| {words} | " + " | ".join(_interval(found.get((name, condition))) for name in baselines) + " |"


def _white(report: dict[str, Any]) -> Iterator[str]:
    """What attacks on each model itself leave of it."""
    yield (
        "AP50 in % under attacks on the model itself, the number being the budget in grey levels: PGD-10 on the "
        "class, location or joint loss, and TOG's losses ([results](results/detector_white.md)):"
    )
    yield ""
    lines = [line for line in report["lines"] if line["group"] in ("white", "tog")]
    words = named(report, DETECTORS)
    models = [name for name in words if any(line["model"] == name for line in lines)]
    found = {(line["model"], line["condition"]): line["ap50"] for line in lines}
    yield "| attack | " + " | ".join(words[name] for name in models) + " |"
    yield "|---" * (len(models) + 1) + "|"
    for attack in dict.fromkeys(line["condition"] for line in lines):
        yield f"| `{attack}` | " + " | ".join(_interval(found.get((name, attack))) for name in models) + " |"


def _patches(report: dict[str, Any]) -> Iterator[str]:
    yield "Printed patches, AP50 in %, beside patches of noise at the same places:"
    yield ""
    yield "| patch | model | under the patch | under noise | difference in points |"
    yield "|---|---|---|---|---|"
    words = named(report, DETECTORS)
    for row in report["patches"]:
        cells = (_interval(row[key]) for key in ("ap50", "noise_ap50", "gain"))
        yield f"| `{row['condition']}` | {words.get(row['model'], row['model'])} | " + " | ".join(cells) + " |"


def _interval(found: dict[str, float] | None, estimate: str = "value") -> str:
    if found is None:
        return "–"
    return f"{100 * found[estimate]:.1f} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"


def _node(results: dict[str, Any]) -> Iterator[str]:
    yield "The node on two cores, VGA, ONNX Runtime on the CPU:"
    yield ""
    yield "| what | measured |"
    yield "|---|---|"
    for case in results.get("load", {}).get("cases", []):
        precision = "in int8" if "int8" in case["case"] else "in fp32"
        yield (
            f"| {case['case']}: highest rate over that of a plain rclpy node {precision} ({machine_of(case)}) | "
            f"{case['rate_over_plain']:.2f} |"
        )
    if "overhead" in results:
        r = results["overhead"]
        yield f"| CPU per frame over the bare pipeline, at 30 Hz | {r['cpu_over_pipeline_ms']:.1f} ms |"
        yield f"| median latency over it, stamp to answer, at 30 Hz | {r['latency_over_pipeline_ms']:.1f} ms |"
    for case in results.get("accounting", {}).get("cases", []):
        yield (
            f"| 60 s, {case['case']} | published {case['published']} = received {case['received']} + lost "
            f"{case['lost_in_transport']}; answered {case['answered']} |"
        )
    if "soak" in results:
        r = results["soak"]
        yield f"| memory growth over {r['published']} frames ({r['answered']} answered) | {r['growth_mb']:+.1f} MB |"


# Page, name of the block in it, and who builds it.
BLOCKS = (
    ("README.md", "", readme_table),
    ("docs/results/shipped_models.md", "", shipped_tables),
    ("docs/model_card_traffic_signs.md", "", classifier_table),
    ("docs/model_card_road_signs.md", "", detector_table),
    ("docs/detector.md", "", detector_tables),
    ("docs/detector.md", "grid", detector_grid_table),
)


if __name__ == "__main__":
    sys.exit(main())
