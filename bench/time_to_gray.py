"""Training time to equal gray-box accuracy: how short may ours be, to stand where the published training ends?

    python bench/time_to_gray.py --data CIFAR10    # trains what is missing of the grid first

The grid's faithful variant runs at its full length; ours (--variant) is trained anew at rising lengths, each with a
whole schedule of its own, until its worst gray-box condition and its clean accuracy are both at least those of the
faithful run; the shortest that has the gray-box accuracy alone is named too. Training seconds are those of the
epochs, validation included, of one processor thread.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from typing import Any

import evaluation_json
import grid
import grid_table

from lisard_ros.cli import EXIT_CHECK_FAILED, EXIT_DONE
from lisard_trainer import provenance
from lisard_trainer.training import checkpoint

GRID = grid.CIFAR10
FAITHFUL, PLAIN, SURROGATE = "faithful_1", grid_table.STANDARD, "surrogate_plain101"
LENGTHS = (2, 3, 5, 8, 12)
RESULT = grid.RESULTS / "time_to_gray.json"


@dataclass(frozen=True)
class Line:
    """One training: its length, and what it is worth on the same images; shares in [0, 1]."""

    name: str
    epochs: int
    seconds: float
    clean: float
    worst_gray: float

    def resists(self, other: Line) -> bool:
        """Whether it is at least as good as another one under attack."""
        return self.worst_gray >= other.worst_gray

    def reaches(self, other: Line) -> bool:
        """Whether it is at least as good in both figures."""
        return self.clean >= other.clean and self.resists(other)


def shortened(variant: str, epochs: int) -> grid.Item:
    """A variant of the grid in fewer epochs; a term that begins late begins after the same share of them."""
    whole = grid.merged(GRID.base, grid.VARIANTS[variant])
    share = epochs / whole["optimizer"]["epochs"]
    changes: dict[str, Any] = {"optimizer": {"epochs": epochs}}
    if whole.get("gradient", {}).get("after"):
        changes["gradient"] = {"after": round(share * whole["gradient"]["after"])}
    return grid.Item(GRID, f"short_{variant}_{epochs}", grid.merged(grid.VARIANTS[variant], changes), 1)


def trained(item: grid.Item, data: str) -> None:
    """Trains what is not done; ends the program when that fails."""
    if not item.done and grid.train(item, data, 1):
        raise SystemExit(f"{item.name}: not trained")


def measured(item: grid.Item, data: str) -> Line:
    """Clean accuracy and worst gray-box condition of one training; `lisard evaluate` keeps what it has measured."""
    bundle, report = grid.RUNS / GRID.name / "bundle_short", item.folder / "gray.json"
    shown = grid.in_checkout
    if grid.lisard("export", item.folder, "--out", bundle, "--data", data):
        raise SystemExit(f"{item.name}: not exported")
    status = grid.lisard(
        "evaluate",
        shown(bundle),
        "--surrogate",
        f"plain101={shown(grid.RUNS / GRID.name / SURROGATE)}",
        "--baseline",
        f"{grid_table.PLAIN}={shown(grid.RUNS / GRID.name / PLAIN)}",
        "--suite",
        "grid",
        "--only",
        "gray_*",
        "--data",
        data,
        "--json",
        report,
    )
    if status not in (EXIT_DONE, EXIT_CHECK_FAILED):  # an older report may lie there
        raise SystemExit(f"{item.name}: not measured")
    content = evaluation_json.read(report)
    found = grid_table.figures(content, content["model"])
    history = checkpoint.read(item.folder).history
    return Line(
        item.name,
        len(history),
        sum(record.seconds for record in history),
        found[grid_table.CLEAN],
        found[grid_table.GRAY_WORST],
    )


def until_reached(variant: str, faithful: Line, data: str) -> list[Line]:
    """Ours at rising lengths, until one reaches the faithful run."""
    lines: list[Line] = []
    for epochs in LENGTHS:
        item = shortened(variant, epochs)
        trained(item, data)
        lines.append(measured(item, data))
        if lines[-1].reaches(faithful):
            break
    return lines


def markdown(found: dict[str, Any]) -> str:
    """The page, from the results alone."""
    faithful, lines = Line(**found["faithful"]), [Line(**line) for line in found["ours"]]
    rows = [
        [f"`{x.name}`", str(x.epochs), f"{x.seconds:.0f}", f"{100 * x.clean:.1f}", f"{100 * x.worst_gray:.1f}"]
        for x in (faithful, *lines)
    ]
    verdict = " ".join(
        [
            _verdict(next((x for x in lines if x.resists(faithful)), None), faithful, "gray-box accuracy"),
            _verdict(next((x for x in lines if x.reaches(faithful)), None), faithful, "gray-box and clean accuracy"),
        ]
    )
    header = ["training", "epochs", "training s", "clean, %", "worst gray-box condition, %"]
    return (
        "\n\n".join(
            [
                "# Training time to equal gray-box accuracy",
                "CIFAR-10, ResNet-8, one thread of a processor that others use too; gray-box: FGSM, PGD-10, MI-, DI- "
                f"and TI-FGSM on `{SURROGATE}` at 8/255, {found['pictures']} images; one seed. "
                "Generated by bench/time_to_gray.py.",
                grid_table.table(header, rows),
                verdict,
                f"`{found['command']}` · commit {found['commit'][:10]}",
            ]
        )
        + "\n"
    )


def _verdict(first: Line | None, faithful: Line, what: str) -> str:
    if first is None:
        return f"No length that was tried has its {what}."
    share = faithful.seconds / first.seconds
    return f"`{first.name}` has the {what} of the faithful run after {share:.1f} times less training."


def main() -> int:
    """Trains, measures and writes the result files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of CIFAR-10")
    parser.add_argument(
        "--variant", default="linear", choices=sorted(grid.VARIANTS), help="ours (default: %(default)s)"
    )
    args = parser.parse_args()
    items = {item.name: item for item in grid.queue(GRID, 1)}
    for name in (SURROGATE, PLAIN, FAITHFUL):
        trained(items[name], args.data)
    faithful = measured(items[FAITHFUL], args.data)
    ours = until_reached(args.variant, faithful, args.data)
    images = evaluation_json.read(items[FAITHFUL].folder / "gray.json")["images"]
    found = {
        "command": f"python bench/time_to_gray.py --data DATA --variant {args.variant}",
        "commit": provenance.commit(),
        "pictures": images,
        "faithful": asdict(faithful),
        "ours": [asdict(line) for line in ours],
    }
    RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    RESULT.with_suffix(".md").write_text(markdown(found), encoding="utf-8")
    return 0 if ours[-1].reaches(faithful) else 1


if __name__ == "__main__":
    sys.exit(main())
