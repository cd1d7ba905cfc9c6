"""What fp16 and int8 cost the shipped detector on kept-back images, clean and attacked, and how fast they are.

    python bench/detector_variants.py --data ROAD_SIGNS
    python bench/detector_variants.py --table       only writes detector_variants.md from detector_variants.json again

Variants are compared with fp32 in AP50 by the true boxes of the images of docs/results/detector.md. Attacked ones are
the same as there: made in fp32 on the surrogate (runs/road_signs_surrogate), kept by `lisard evaluate` and taken from
there; the bundle itself stores perturbations of its 10 reference images alone. The gate is that of `lisard build`
with these images. Calibration is on training images. Speed is that of the runtime alone, all models in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs/results/detector_variants.json"
SCHEMA_VERSION = 1
VARIANTS = {"fp16": "fp16 plain", "u8s8": "int8 u8s8", "s8s8": "int8 s8s8"}
BACKENDS = ("onnxruntime:fp32", "onnxruntime:int8", "onnxruntime:int8/s8s8", "openvino:fp32", "openvino:int8")
CONDITIONS = ("gray_joint_8", "gray_mi_joint_8", "gray_ti_joint_8")
ASKED = {"speed": 2.0, "clean_points": 1.0, "gray_points": 1.5}
DRAWS, SEED, BATCH = 1000, 0, 8


@dataclass(frozen=True)
class Loss:
    """One variant in a condition: AP50 of fp32 and of the variant in %, paired loss in points with a 95 % interval."""

    variant: str
    column: str
    reference_ap50: float
    ap50: float
    loss_points: float
    low_points: float
    high_points: float


def main() -> int:
    """Measure, or only write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", default=ROOT / "models/road_signs")
    parser.add_argument("--data", help="folder of road_signs")
    parser.add_argument("--surrogate", type=Path, default=ROOT / "runs/road_signs_surrogate")
    parser.add_argument("--method", help="of calibration (default: that of `lisard build`)")
    parser.add_argument("--calibration-count", type=int, default=256, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=100, help="of the speed (default: %(default)s)")
    parser.add_argument("--table", action="store_true", help="only write the table")
    args = parser.parse_args()
    if not args.table:
        if args.data is None:
            parser.error("--data is needed")
        RESULTS.write_text(json.dumps(measure(args), indent=1) + "\n", encoding="utf-8")
    RESULTS.with_suffix(".md").write_text(table(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")
    return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Builds the variants on a copy, then judges and times them."""
    from lisard_trainer import provenance

    with tempfile.TemporaryDirectory(prefix="lisard_variants_") as folder:
        copy, training = Path(folder, "bundle"), Path(folder, "training.npz")
        context = context_of(args)
        images = context.training().images
        np.savez(training, frames=images.permute(0, 2, 3, 1).numpy())
        build = lisard(
            "build",
            args.bundle,
            "--out",
            copy,
            "--calibration",
            training,
            "--calibration-count",
            args.calibration_count,
            *(("--method", args.method) if args.method else ()),
            "--images",
            Path(args.data, "val"),
            "--force",
        )
        losses = judged(copy, context)
        speed = lisard(
            "bench", copy, "--backends", ",".join(BACKENDS), "--batches", "1", "--threads", "1", "--rounds", args.rounds
        )
    return {
        "schema_version": SCHEMA_VERSION,
        "commit": provenance.commit(),
        "bundle": args.bundle.name,
        "fp32_sha256": context.models.of_bundle.about.sha256,
        "pictures": len(context.scenes),
        "pictures_sha256": context.scenes_sha256,
        "calibration": calibration(build),
        "gate": [gate(made) for made in build["variants"]],
        "losses": [asdict(one) for one in losses],
        "speed": speed,
    }


def lisard(*words: object) -> Any:
    """Runs a `lisard` command and returns its JSON."""
    command = [sys.executable, "-m", "lisard_ros", *map(str, words), "--json"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"`lisard {words[0]}` ended with status {done.returncode}")
    return json.loads(done.stdout)


def calibration(build: Mapping[str, Any]) -> dict[str, Any]:
    """What the int8 files were calibrated on."""
    found: dict[str, Any] = next(m["model"]["calibration"] for m in build["variants"] if m["model"]["calibration"])
    return found


def gate(made: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict of `lisard build`."""
    verdict = made["model"]["verification"]
    kept = ("pictures", "attacked", "clean_loss_points", "robust_loss_points", "passed")
    return {"variant": f"{made['model']['precision']} {made['model']['flavour']}", **{k: verdict[k] for k in kept}}


def context_of(args: argparse.Namespace) -> Any:
    """The bundle, its surrogate and the images, as `lisard evaluate` sees them."""
    from lisard_ros import bundle as bundles
    from lisard_trainer import task_registry
    from lisard_trainer.data.detection.kinds import evaluation, load
    from lisard_trainer.evaluation import cache
    from lisard_trainer.tasks.detection.evaluation import measuring, models
    from lisard_trainer.training import checkpoint

    saved = checkpoint.read(args.surrogate)
    everybody = models.DetectorLoader(task_registry.of(saved.recipe)).load(bundles.read(args.bundle), {"": saved}, {})
    scenes, _ = evaluation(saved.recipe.data, args.data, saved.classes)
    kept = cache.Cache(cache.default_folder())
    return measuring.DetectionContext(everybody, kept, scenes, lambda: load(saved.recipe.data, args.data).train)


def judged(copy: Path, context: Any) -> list[Loss]:
    """AP50 of every variant in every condition, beside that of fp32 on the same images."""
    from lisard_engines.quantization import fp16
    from lisard_engines.verification import variants
    from lisard_ros import backends
    from lisard_ros import bundle as bundles
    from lisard_trainer.tasks.detection.evaluation import suites

    bundle = bundles.read(copy)
    conditions = suites.conditions("standard", [""], SEED, CONDITIONS)
    reference = backends.choose(bundle, "onnxruntime", precision="fp32").backend
    candidates = {
        VARIANTS[name]: fp16.on_cpu(bundle, variants.entry(bundle, variants.KINDS[name]), 1) for name in VARIANTS
    }
    candidates["OpenVINO int8 u8s8"] = backends.choose(bundle, "openvino", precision="int8").backend
    return [loss for condition in conditions for loss in in_condition(context, condition, reference, candidates)]


def in_condition(context: Any, condition: Any, reference: Any, candidates: Mapping[str, Any]) -> Iterator[Loss]:
    """The variants in one condition."""
    from lisard_ros.evaluation.average_precision import ap50s
    from lisard_ros.evaluation.statistics import resamples

    source = context.models.surrogates[""] if condition.group == "gray" else None
    x = np.concatenate([context.view(condition, batch, source).images for batch in context.batches(condition)])
    weights = np.concatenate([np.ones((1, len(x))), resamples(np.arange(len(x)), DRAWS, SEED)])
    before = 100 * ap50s(matches(context, reference, x), weights)
    for name, backend in candidates.items():
        after = 100 * ap50s(matches(context, backend, x), weights)
        low, high = np.percentile((before - after)[1:], [2.5, 97.5])
        yield Loss(name, condition.name, *map(float, (before[0], after[0], before[0] - after[0], low, high)))


def matches(context: Any, backend: Any, x: NDArray[np.float32]) -> Any:
    """What a backend's boxes meet."""
    from lisard_trainer.tasks.detection.evaluation import metrics

    outputs = np.concatenate([backend.infer(x[at : at + BATCH]) for at in range(0, len(x), BATCH)])
    return metrics.match(metrics.boxes_of(outputs), context.scenes, context.threshold)


def table(results: Mapping[str, Any]) -> str:
    """The whole page."""
    return "\n".join([*_head(results), "", *_losses(results), "", *_speed(results), ""])


def _head(results: Mapping[str, Any]) -> Iterator[str]:
    machine, how = results["speed"]["machine"], results["calibration"]
    yield "# Variants of the detector"
    yield ""
    yield "Generated from detector_variants.json by bench/detector_variants.py."
    yield ""
    yield (
        f"{results['bundle']} {results['fp32_sha256'][:12]}, {results['speed']['made_on']}, commit "
        f"{results['commit'][:10]}, {machine['cpu']}, {machine['cores']} cores, load {machine['load_1min']}, "
        f"{results['speed']['threads']} thread. int8 is calibrated on {how['pictures']} training images "
        f"({how['method']}, set {how['sha256'][:12]})."
    )


def _losses(results: Mapping[str, Any]) -> Iterator[str]:
    columns = list(dict.fromkeys(one["column"] for one in results["losses"]))
    yield (
        f"AP50 in % on {results['pictures']} kept-back images ({results['pictures_sha256'][:12]}), fp32 -> "
        "variant, and the paired loss in points with its 95 % interval over images. `gray_`: gray-box, 8/255, "
        f"made on the surrogate in fp32. Kept: loses at most {ASKED['clean_points']:g} point clean and "
        f"{ASKED['gray_points']:g} in the worst gray-box condition. Gate: what `lisard build` said of these and the "
        "bundle's own 10 images: points of AP50 lost clean, and under the worst attack that the bundle stores, "
        "three of which are for those 10 alone."
    )
    yield ""
    yield "| variant | " + " | ".join(f"`{name}`" for name in columns) + " | kept | gate |"
    yield "|---" * (len(columns) + 3) + "|"
    verdicts = {one["variant"]: one for one in results["gate"]}
    for variant in dict.fromkeys(one["variant"] for one in results["losses"]):
        own = {one["column"]: one for one in results["losses"] if one["variant"] == variant}
        cells = " | ".join(_cell(own[name]) for name in columns)
        yield f"| {variant} | {cells} | {'yes' if _is_kept(own) else 'no'} | {_gate(verdicts.get(variant))} |"


def _cell(one: Mapping[str, Any]) -> str:
    return (
        f"{one['reference_ap50']:.1f} -> {one['ap50']:.1f}, {one['loss_points']:+.2f} "
        f"[{one['low_points']:+.2f}, {one['high_points']:+.2f}]"
    )


def _is_kept(own: Mapping[str, Mapping[str, Any]]) -> bool:
    clean = own["clean"]["loss_points"]
    gray = max(one["loss_points"] for name, one in own.items() if name != "clean")
    return bool(clean <= ASKED["clean_points"] and gray <= ASKED["gray_points"])


def _gate(verdict: Mapping[str, Any] | None) -> str:
    if verdict is None:
        return "–"
    said = "passes" if verdict["passed"] else "refuses"
    return f"{said}: {verdict['clean_loss_points']:.2f}, {verdict['robust_loss_points']:.2f}"


def _speed(results: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"Speed of the runtime alone at batch 1 as a multiple of ONNX Runtime fp32, median of "
        f"{results['speed']['rounds']} rounds (asked of int8: {ASKED['speed']:g}x)."
    )
    yield ""
    yield "| backend | speed | p50 / p95 / p99 ms |"
    yield "|---|---|---|"
    for one in results["speed"]["measured"]:
        batch = one["batches"][0]
        times = " / ".join(f"{batch['latency'][p]:.1f}" for p in ("p50_ms", "p95_ms", "p99_ms"))
        yield f"| {one['backend']} | {1 / batch['ratio']:.2f}x | {times} |"


if __name__ == "__main__":
    sys.exit(main())
