"""Write the measured tables of README.md and docs/detector.md from docs/results/*.json.

`--check` changes nothing and only says whether they are up to date.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- results:begin{name} -->", "<!-- results:end -->"
CONDITIONS = {
    "clean": "clean",
    "gray_fgsm@ordinary": "gray-box FGSM",
    "gray_pgd10@ordinary": "gray-box PGD-10",
    "gray_pgd10@alike": "PGD-10 of our second stage",
    "gray_worst": "worst gray-box column",
    "white_pgd10": "white-box PGD-10",
    "white_all": "white-box APGD",
    "corrupted": "corruptions",
}
DETECTOR_COLUMNS = {
    "clean": "clean",
    "gray_joint_8": "gray-box PGD-10",
    "gray_mi_joint_8": "gray-box MI-FGSM",
    "gray_ti_joint_8": "gray-box TI-FGSM",
    "white_joint_8": "white-box PGD-10",
    "noise_25": "noise, sigma 25",
}
DETECTORS = {
    "lisard": "LISArD (shipped)",
    "noise": "noise without LISArD's terms",
    "plain": "ordinary training",
    "surrogate": "the attacker's surrogate",
}
MODELS = {
    "lisard": "LISArD (shipped), 27 epochs",
    "noise_only": "noise alone, 27 epochs",
    "faithful": "LISArD as published, 15 epochs",
    "plain": "ordinary training, 15 epochs",
    "adversarial": "adversarial training (FGSM-RS), 15 epochs: reference",
    "ordinary": "surrogate, ordinary training",
    "alike": "surrogate with our second stage, another first one and seed",
}


GRID_ARMS = {
    "plain": "ordinary training", "noise": "noise alone", "levels": "noise and `levels`",
    "instances": "noise and `instances`", "agreement": "noise and `agreement`", "lisard": "all of LISArD",
}  # fmt: skip
GRID_KEPT = {
    "kept under TI-FGSM of two ordinary surrogates": ("gray_plain101_ti_joint_8", "gray_plain102_ti_joint_8"),
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


def readme_tables(results: Path) -> str:
    """Build the tables of README.md."""
    classifier = (_read(results, name) for name in ("robustness", "white_box", "corruptions_accuracy"))
    tables = [_robustness(*classifier), _detector(_read(results, "detector")), _node(_read(results, "node"))]
    return "\n\n".join("\n".join(table) for table in tables)


def detector_tables(results: Path) -> str:
    """Build the tables of docs/detector.md."""
    report, white = _read(results, "detector"), _read(results, "detector_white")
    tables = [_kept(report), _differences(report), _white(white), _patches(report)]
    return "\n\n".join("\n".join(table) for table in tables)


def detector_grid_table(results: Path) -> str:
    """Build the table of the detector's control grid."""
    return "\n".join(_detector_grid(_read(results, "grid_detector")))


def _detector_grid(report: dict[str, Any]) -> Iterator[str]:
    """An arm per row: lowest and highest figure over its seeds and, under transfer, over the surrogates."""
    seeds: dict[str, list[str]] = {}
    for model in dict.fromkeys(line["model"] for line in report["lines"]):
        seeds.setdefault(model.rpartition("_")[0] or model, []).append(model)  # a first seed may be named by its arm
    kept = {(line["model"], line["column"]): line["kept"]["value"] for line in report["lines"]}
    ap50 = {(line["model"], line["column"]): line["ap50"]["value"] for line in report["lines"]}
    rpc = {row["model"]: row["rpc"] for row in report["corrupted"]}
    heads = ("clean AP50", *GRID_KEPT, "white-box AP50", "rPC")
    yield "| arm | seeds | " + " | ".join(heads) + " |"
    yield "|---" * (len(heads) + 2) + "|"
    for arm, words in GRID_ARMS.items():
        own = seeds[arm]
        transfer = [[kept[model, column] for model in own for column in columns] for columns in GRID_KEPT.values()]
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
    found: dict[str, Any] = json.loads((results / f"{name}.json").read_text(encoding="utf-8"))
    return found


def _robustness(report: dict[str, Any], white_box: dict[str, Any], natural: dict[str, Any]) -> Iterator[str]:
    """white_box: the strong white-box attacks, on fewer models and pictures. natural: what nobody attacks."""
    together = [line for line in white_box["worst"] if line["condition"] == "white_all"]
    yield (
        f"Accuracy in % with 95 % intervals on {report['pictures']} GTSRB pictures of {report['tracks']} tracks that "
        "no model was trained on; attacks at 8/255. Gray-box: made on a surrogate, a network that the attacker trains: "
        "ordinary training and another seed where nothing else is said. Worst: the lowest of five attacks on each of "
        "two surrogates. APGD: CE and T (3 "
        f"targets), 100 steps, and PGD-10 at once, on {together[0]['accuracy']['n']} of the pictures. Corruptions: "
        "mean of 15 at 5 severities ([each](docs/results/corruptions_accuracy.md))."
    )
    yield ""
    lines = [line for line in report["lines"] if line["backend"] == "torch"]
    lines += [line for line in report["worst"] if line["condition"] == "gray_worst"] + together
    found = {(line["model"], line["condition"]): _interval(line["accuracy"], "share") for line in lines}
    found |= {(model, "corrupted"): f"{100 * share:.1f}" for model, share in _corrupted(natural).items()}
    names = [name for name in CONDITIONS if any(condition == name for _, condition in found)]
    yield "| model | " + " | ".join(CONDITIONS[name] for name in names) + " |"
    yield "|---" * (len(names) + 1) + "|"
    for model in dict.fromkeys(line["model"] for line in lines):
        cells = [found.get((model, name), "–") for name in names]
        yield f"| {MODELS.get(model, model)} | " + " | ".join(cells) + " |"


def _corrupted(report: dict[str, Any]) -> dict[str, float]:
    """Model -> mean accuracy over all corruptions and severities."""
    shares: dict[str, list[float]] = {}
    for line in report["lines"]:
        if line["condition"].startswith("corruption_") and line["backend"] == "torch":
            shares.setdefault(line["model"], []).append(line["accuracy"]["share"])
    return {model: sum(own) / len(own) for model, own in shares.items()}


def _detector(report: dict[str, Any]) -> Iterator[str]:
    yield (
        f"AP50 of the road-sign detector in %, with 95 % intervals, on {report['n']} road pictures that no model was "
        "trained on; attacks on the joint loss at 8/255, gray-box made on a surrogate of another seed. rPC: mean AP "
        "over the corruptions by clean AP:"
    )
    yield ""
    lines = {(line["model"], line["column"]): line["ap50"] for line in report["lines"]}
    columns = [name for name in DETECTOR_COLUMNS if any(column == name for _, column in lines)]
    corrupted = {row["model"]: f"{100 * row['rpc']:.0f}" for row in report["corrupted"]}
    yield "| model | " + " | ".join([*(DETECTOR_COLUMNS[name] for name in columns), "rPC"]) + " |"
    yield "|---" * (len(columns) + 2) + "|"
    for model in dict.fromkeys(model for model, _ in lines):
        cells = [_interval(lines.get((model, name))) for name in columns]
        yield f"| {DETECTORS.get(model, model)} | " + " | ".join([*cells, corrupted.get(model, "–")]) + " |"


def _kept(report: dict[str, Any]) -> Iterator[str]:
    """What the gray-box attacks leave, and which of them count."""
    yield (
        "Share of its clean AP50 that a model keeps, in %. An attack counts if all of the report's "
        "conditions on it hold, above all that ordinary training keeps at most 80 %, interval included:"
    )
    yield ""
    columns = dict.fromkeys(line["column"] for line in report["lines"] if line["group"] == "gray")
    models = [name for name in DETECTORS if any(line["model"] == name for line in report["lines"])]
    kept = {(line["model"], line["column"]): line["kept"] for line in report["lines"]}
    yield "| attack | " + " | ".join(DETECTORS[name] for name in models) + " | counts |"
    yield "|---" * (len(models) + 2) + "|"
    for column in columns:
        cells = [_interval(kept.get((model, column))) for model in models]
        yield f"| `{column}` | " + " | ".join([*cells, "yes" if _counts(report, column) else "no"]) + " |"


def _counts(report: dict[str, Any], column: str) -> bool:
    """Whether every condition on the surrogate and on this column holds."""
    return all(
        row["holds"]
        for row in report["conditions"]
        if column in row["name"].split() or row["name"].startswith("surrogate is ")
    )


def _differences(report: dict[str, Any]) -> Iterator[str]:
    yield "AP50 of the shipped model minus that of a control, in points, paired picture by picture:"
    yield ""
    controls = [name for name in DETECTORS if any(row["control"] == name for row in report["differences"])]
    found = {(row["control"], row["column"]): row["ap50"] for row in report["differences"]}
    yield "| column | " + " | ".join(f"minus {DETECTORS[name]}" for name in controls) + " |"
    yield "|---" * (len(controls) + 1) + "|"
    for column, words in DETECTOR_COLUMNS.items():
        yield f"| {words} | " + " | ".join(_interval(found.get((name, column))) for name in controls) + " |"


def _white(report: dict[str, Any]) -> Iterator[str]:
    """What attacks on each model itself leave of it."""
    yield (
        "AP50 in % under attacks on the model itself, the number being the budget in grey levels: PGD-10 on the "
        "class, location or joint loss, and TOG's losses ([results](results/detector_white.md)):"
    )
    yield ""
    lines = [line for line in report["lines"] if line["group"] in ("white", "tog")]
    models = [name for name in DETECTORS if any(line["model"] == name for line in lines)]
    found = {(line["model"], line["column"]): line["ap50"] for line in lines}
    yield "| attack | " + " | ".join(DETECTORS[name] for name in models) + " |"
    yield "|---" * (len(models) + 1) + "|"
    for column in dict.fromkeys(line["column"] for line in lines):
        yield f"| `{column}` | " + " | ".join(_interval(found.get((name, column))) for name in models) + " |"


def _patches(report: dict[str, Any]) -> Iterator[str]:
    yield "Printed patches, AP50 in %, beside patches of noise at the same places:"
    yield ""
    yield "| patch | model | under the patch | under noise | difference in points |"
    yield "|---|---|---|---|---|"
    for row in report["patches"]:
        cells = (_interval(row[key]) for key in ("ap50", "noise_ap50", "gain"))
        yield f"| `{row['column']}` | {DETECTORS.get(row['model'], row['model'])} | " + " | ".join(cells) + " |"


def _interval(found: dict[str, float] | None, estimate: str = "value") -> str:
    if found is None:
        return "–"
    return f"{100 * found[estimate]:.1f} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"


def _node(results: dict[str, Any]) -> Iterator[str]:
    yield "The node on two cores, VGA at 30 Hz, ONNX Runtime on the CPU:"
    yield ""
    yield "| what | measured |"
    yield "|---|---|"
    if "overhead" in results:
        r = results["overhead"]
        yield f"| CPU per frame over the bare pipeline | {r['cpu_over_pipeline_ms']:.1f} ms |"
        yield f"| median latency over the bare pipeline, stamp to answer | {r['latency_over_pipeline_ms']:.1f} ms |"
        yield f"| saturated rate over that of a minimal rclpy node | {r['rate_over_minimal']:.2f} |"
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
    ("README.md", "", readme_tables), ("docs/detector.md", "", detector_tables),
    ("docs/detector.md", "grid", detector_grid_table),
)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
