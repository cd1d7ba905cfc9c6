"""Is the printed patch of a shipped bundle stronger than plain prints in its places?

    python bench/patches.py traffic_signs
    python bench/patches.py road_signs --images ROAD_SIGNS/val
    python bench/patches.py page

Each print goes onto every object by `attack/patch_object`, which draws its place from the image and the seed alone, so
that all prints lie at the same places. Baselines: random print and the eight plain colours. Counted are images with the
right class, or true boxes that are found, clean and under each print, over the images that the print applies to.
Writes its part of docs/results/patches.json, and the page.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lisard_ros import backends, injection
from lisard_ros import bundle as bundles
from lisard_ros.attacks import patch_store
from lisard_ros.attacks.aims import answers_of
from lisard_ros.attacks.patch import noise
from lisard_ros.attacks.patch_start import PLAIN_COLOURS, plain
from lisard_ros.bundle import Bundle
from lisard_ros.commands import attack_images
from lisard_ros.evaluation import scoring
from lisard_ros.evaluation.case_run import MOST_IMAGES
from lisard_ros.evaluation.live_images import LiveFrame
from lisard_ros.evaluation.statistics import Proportion, clustered_counts, paired_difference
from lisard_ros.inference.pipeline import Pipeline, Settings
from lisard_trainer import provenance

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "docs" / "results" / "patches.json"
IMAGES = {"traffic_signs": ROOT / "data" / "gtsrb_tracks", "road_signs": None}
ATTACK, SEED = "attack/patch_object", 0
PATCH, RANDOM = "the patch", "random print"


@dataclass(frozen=True)
class PrintResult:
    """One print. images: it applies to so many; right: of n things under it, clean: of the same things without it."""

    name: str
    images: int
    right: Proportion
    clean: Proportion
    false_boxes: int


@dataclass(frozen=True, eq=False)
class Scored:
    """Answers to all images under one print; None where it does not apply."""

    scores: tuple[scoring.Score | None, ...]

    def counts(self, rows: Sequence[int]) -> tuple[list[int], list[int]]:
        """How many things are right in some images, and how many there are."""
        chosen = [score for row in rows if (score := self.scores[row]) is not None]
        return [score.hits for score in chosen], [score.n for score in chosen]


def prints_of(stored: patch_store.StoredPatch) -> dict[str, patch_store.Levels]:
    """The patch and what it is compared with."""
    side = stored.levels.shape[1]
    baselines = {RANDOM: noise(side, SEED), **{name: plain(name, side) for name in PLAIN_COLOURS}}
    return {PATCH: stored.levels, **{name: patch_store.quantise(one) for name, one in baselines.items()}}


def scored(pipeline: Pipeline, frames: Sequence[LiveFrame], name: str) -> Scored:
    """Answer all frames under an injection of the pipeline's bundle."""
    made = injection.make(
        pipeline.bundle, name, seed=SEED, sources=injection.AttackSources(engine=pipeline.choice.backend)
    )
    known = injection.truths_for(made)
    if known is not None and pipeline.finds_boxes:
        spec = pipeline.bundle.manifest.input
        known.told = answers_of((one.frame.rgb() for one in frames), (one.truth for one in frames), spec)
    scores: list[scoring.Score | None] = []
    for start in range(0, len(frames), MOST_IMAGES):
        part = frames[start : start + MOST_IMAGES]
        answers = pipeline.attack([one.frame for one in part], made)
        scores += [
            scoring.score(answer.outcome, one.truth) if answer.applied else None
            for answer, one in zip(answers, part, strict=True)
        ]
    return Scored(tuple(scores))


def with_print(bundle: Bundle, levels: patch_store.Levels) -> Bundle:
    """The same bundle with another print in place of its patch."""
    about = patch_store.find(bundle)
    stored = replace(patch_store.load(bundle, about), levels=levels)
    return replace(bundle, contents={**bundle.contents, about.file: patch_store.dump(stored)})


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """All prints on one bundle."""
    bundle = bundles.read(ROOT / "models" / name)
    choice = backends.choose(bundle, precision="fp32", threads=args.threads)
    pipeline = Pipeline(bundle, choice, Settings(top_k=1))
    folder = args.images or IMAGES[name]
    assert folder is not None, "main() asks for it"
    given = attack_images.of_files([folder], pipeline, args.count)
    frames, about = given.frames, patch_store.find(bundle)
    stored = patch_store.load(bundle, about)
    clean = scored(pipeline, frames, injection.CLEAN)
    under = {
        key: scored(Pipeline(with_print(bundle, levels), choice, Settings(top_k=1)), frames, ATTACK)
        for key, levels in prints_of(stored).items()
    }
    rows = [row for row, score in enumerate(under[PATCH].scores) if score is not None]
    of_clean = [score for row in rows if (score := clean.scores[row]) is not None]
    tracks = [frames[row].block for row in rows]
    results = [_result(key, one, clean, rows, tracks) for key, one in under.items()]
    strongest = min(results[1:], key=lambda one: one.right.share)
    (ours, sizes), (theirs, _) = under[PATCH].counts(rows), under[strongest.name].counts(rows)
    difference = paired_difference(ours, theirs, tracks, SEED, sizes=sizes)
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "commit": provenance.commit(),
        "onnx_sha256": choice.backend.model_sha256,
        "patch_sha256": bundle.manifest.files[about.file],
        "knowledge": about.knowledge,
        "made_on": about.made_on,
        "steps": about.steps,
        "counted": bundle.manifest.runtime_task.counted,
        "images": len(frames),
        "clean_false_boxes": sum(score.false_boxes for score in of_clean),
        "prints": [asdict(one) for one in results],
        "strongest_control": strongest.name,
        "minus_control": asdict(difference),
    }


def _result(name: str, under: Scored, clean: Scored, rows: Sequence[int], tracks: Sequence[int | None]) -> PrintResult:
    right, of_clean = (clustered_counts(*one.counts(rows), tracks) for one in (under, clean))
    false = sum(score.false_boxes for score in under.scores if score is not None)
    return PrintResult(name, len(rows), right, of_clean, false)


def page(kept: dict[str, Any]) -> str:
    """The Markdown page."""
    lines = [
        "# Printed patches beside plain prints",
        "",
        "Generated from patches.json by bench/patches.py. Each print lies on every object, over a fifth of its area, "
        "turned, tilted and lit by `attack/patch_object`. All prints of a table lie at the same places of the same "
        "images. Shares with 95 % intervals, by track. No network was trained on these images, and the patch was not "
        "made on them.",
    ]
    for name, result in kept.items():
        lines += ["", f"## {name}", "", *_about(result), "", *_table(result)]
    return "\n".join(lines) + "\n"


def _about(result: dict[str, Any]) -> list[str]:
    first, baseline, difference = result["prints"][0], result["strongest_control"], result["minus_control"]
    verdict = "stronger" if difference["high"] < 0 else "not shown to be stronger"
    made_on = result["made_on"] or "the bundle itself"
    return [
        f"- {result['date']}, commit {result['commit'][:10]}, model {result['onnx_sha256'][:12]}",
        f"- patch {result['patch_sha256'][:12]}: {result['knowledge']}, made on {made_on}, {result['steps']} steps",
        f"- {first['images']} of {result['images']} images have an object with room for a print",
        "",
        f"The patch minus the strongest baseline ({baseline}): {interval(difference)} points, paired. "
        f"It is **{verdict}**.",
    ]


def _table(result: dict[str, Any]) -> list[str]:
    boxes = result["counted"] == "boxes"
    heads = ["print", "true boxes found, %" if boxes else "right class, %", *["false boxes"] * boxes]
    rows = [["none (clean)", share(result["prints"][0]["clean"]), *[str(result["clean_false_boxes"])] * boxes]]
    rows += [[one["name"], share(one["right"]), *[str(one["false_boxes"])] * boxes] for one in result["prints"]]
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]


def share(value: dict[str, Any]) -> str:
    """A share with its interval."""
    return f"{100 * value['share']:.1f} [{100 * value['low']:.1f}, {100 * value['high']:.1f}] of {value['n']}"


def interval(value: dict[str, Any]) -> str:
    """A difference in points with its interval."""
    return f"{100 * value['value']:+.1f} [{100 * value['low']:+.1f}, {100 * value['high']:+.1f}]"


def main() -> None:
    """Measure, or write the page again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", choices=(*IMAGES, "page"))
    parser.add_argument("--images", type=Path, help="held-back images (traffic_signs: data/gtsrb_tracks)")
    parser.add_argument("--count", type=int, default=0, help="images, spread evenly; 0: all (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    args = parser.parse_args()
    kept = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    if args.bundle != "page":
        if args.images is None and IMAGES[args.bundle] is None:
            parser.error("--images is needed")
        kept[args.bundle] = measure(args.bundle, args)
        RESULT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    RESULT.with_suffix(".md").write_text(page(dict(sorted(kept.items()))), encoding="utf-8")


if __name__ == "__main__":
    main()
