"""Builds a bundle's variants and RTX engines on a copy, measures them in one run, and writes docs/results/engines.*.

    nice -n 0 python bench/engines.py models/traffic_signs --calibration TRAINING_IMAGES
    python bench/engines.py --table        only writes engines.md from engines.json again

Ratios are medians over rounds in which all models were measured in turn; absolute times are those of a busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
JSON, TABLE = ROOT / "docs/results/engines.json", ROOT / "docs/results/engines.md"
SCHEMA_VERSION = 1
BACKENDS = (
    "onnxruntime:fp32",
    "onnxruntime:int8",
    "onnxruntime:int8/s8s8",
    "onnxruntime:fp16",
    "openvino:fp32",
    "openvino:int8",
    "torch:fp32",
)
ASKED = {"int8_speed": 2.0, "clean_loss": 1.0, "robust_loss": 1.5, "build_s": 5.0}


def main() -> int:
    """Measure everything, or only write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", default=ROOT / "models/traffic_signs")
    parser.add_argument("--calibration", type=Path, help="folder of training images")
    parser.add_argument("--images", type=Path, default=ROOT / "data/gtsrb_tracks")
    parser.add_argument("--method", help="of calibration (default: that of `lisard build`)")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--table", action="store_true", help="only write the table")
    args = parser.parse_args()
    if not args.table:
        if args.calibration is None:
            parser.error("--calibration is needed")
        JSON.write_text(json.dumps(measure(args), indent=2) + "\n", encoding="utf-8")
    TABLE.write_text(table(json.loads(JSON.read_text(encoding="utf-8"))), encoding="utf-8")
    return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run build, verify and bench on a copy of the bundle."""
    with tempfile.TemporaryDirectory(prefix="lisard_engines_") as folder:
        copy = f"{folder}/bundle"
        environ = {**os.environ, "LISARD_CACHE": f"{folder}/cache"}

        def lisard(*words: str) -> Any:
            command = [sys.executable, "-m", "lisard_ros", *words, "--json"]
            done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode not in (0, 1):
                raise SystemExit(f"`lisard {' '.join(words)}` ended with status {done.returncode}")
            return json.loads(done.stdout)

        images = ("--images", str(args.images))
        build = lisard(
            "build",
            str(args.bundle),
            "--out",
            copy,
            "--calibration",
            str(args.calibration),
            *images,
            *(("--method", args.method) if args.method else ()),
            "--engines",
            "tensorrt_rtx",
        )
        for engine in build["plans"]:
            engine["folder"] = Path(engine["folder"]).name
        build["bundle"] = args.bundle.name
        openvino = [
            lisard("verify", copy, "--backend", "openvino", "--precision", precision, *images)
            for precision in ("fp32", "int8")
        ]
        bench = lisard(
            "bench",
            copy,
            "--backends",
            ",".join(_offered(build)),
            "--batches",
            "1,8,16",
            "--threads",
            "1",
            "--rounds",
            str(args.rounds),
        )
    return {"schema_version": SCHEMA_VERSION, "commit": commit(), "build": build, "openvino": openvino, "bench": bench}


def _offered(build: Mapping[str, Any]) -> list[str]:
    """The models but for those whose file the gate left out."""
    models = [one["model"] for one in build["variants"] if not one["installed"]]
    left_out = {(model["precision"], model["flavour"]) for model in models}
    return [backend for backend in BACKENDS if _file(backend) not in left_out]


def _file(backend: str) -> tuple[str, str]:
    """Precision and scheme of a model's file: int8 without a scheme is the one for processors."""
    precision, _, scheme = backend.partition(":")[2].partition("/")
    return precision, scheme or ("u8s8" if precision == "int8" else "plain")


def commit() -> str:
    """Return the commit of this checkout."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def table(results: Mapping[str, Any]) -> str:
    """Return the whole page."""
    return "\n".join(
        [
            *_head(results),
            "",
            *_asked(results),
            "",
            *_variants(results),
            "",
            *_times(results),
            "",
            *_stages(results),
            "",
            *_engines(results),
            "",
        ]
    )


def _head(results: Mapping[str, Any]) -> Iterator[str]:
    bench = results["bench"]
    m = bench["machine"]
    yield "# Figures of variants, engines and backends"
    yield ""
    yield "Generated from engines.json by bench/engines.py. No engine was run: there was no GPU."
    yield ""
    yield (
        f"{bench['bundle']} ({results['build']['bundle_sha256'][:12]} with its variants), {bench['made_on']}, "
        f"commit {results['commit'][:10]}, {m['cpu']}, {m['cores']} cores, load {m['load_1min']}, "
        f"{bench['threads']} thread, {bench['rounds']} rounds. A busy machine: read the ratios, not the times."
    )


def _asked(results: Mapping[str, Any]) -> Iterator[str]:
    int8 = _variant(results, "int8", "u8s8")["model"]["verification"]
    speed = 1 / _timing(results, "int8/u8s8 ", "ONNX Runtime")["batches"][0]["ratio"]
    slowest = max((engine["build_s"] for engine in results["build"]["plans"]), default=float("nan"))
    rows = [
        ("int8 (u8s8) on ONNX Runtime over fp32, batch 1", f"{speed:.2f}x", speed >= ASKED["int8_speed"], ">= 2x"),
        (
            "its loss of clean accuracy, points",
            f"{int8['clean_loss_points']:.2f}",
            int8["clean_loss_points"] <= ASKED["clean_loss"],
            "<= 1",
        ),
        (
            "its loss under the worst stored gray-box attack, points",
            f"{int8['robust_loss_points']:.2f}",
            int8["robust_loss_points"] <= ASKED["robust_loss"],
            "<= 1.5",
        ),
        ("slowest RTX engine for 86, 89 and 120, s", f"{slowest:.2f}", slowest < ASKED["build_s"], "< 5"),
    ]
    yield "| figure | measured | asked | reached |"
    yield "|---|---|---|---|"
    for what, value, reached, asked in rows:
        yield f"| {what} | {value} | {asked} | {'yes' if reached else 'no'} |"


def _variants(results: Mapping[str, Any]) -> Iterator[str]:
    made = results["build"]["variants"]
    rows = made[0]["measured"]["rows"]
    yield (
        f"Accuracy in % on {made[0]['measured']['pictures']} real images, fp32 -> variant, and the paired loss in "
        "points with its 95 % interval (by track). Attacks are gray-box, stored in the bundle, 8/255. fp16 is "
        "measured on the CPU with every layer's output rounded to half precision."
    )
    yield ""
    yield "| variant | " + " | ".join(row["injection"] for row in rows) + " | same answers | offered |"
    yield "|---" * (len(rows) + 3) + "|"
    for one in made:
        model = one["model"]
        cells = [_loss(row) for row in one["measured"]["rows"]]
        yield _line(f"{model['precision']} {model['flavour']}", cells, one["measured"]["agreement"], one["installed"])
    for one, precision in zip(results["openvino"], ("fp32", "int8 u8s8"), strict=True):
        cells = [_loss(row) for row in one["measured"]["rows"]]
        yield _line(
            f"OpenVINO {precision}, against {one['measured']['reference'].split()[0]}",
            cells,
            one["measured"]["agreement"],
            one["verification"]["passed"],
        )
    calibration = _variant(results, "int8", "u8s8")["model"]["calibration"]
    yield ""
    yield (
        f"Calibration: {calibration['pictures']} images of {calibration['data']}, {calibration['method']}, set "
        f"{calibration['sha256'][:12]}; images of the gate {made[0]['measured']['pictures_sha256'][:12]}."
    )


def _line(name: str, cells: list[str], agreement: float, offered: bool) -> str:
    return f"| {name} | " + " | ".join(cells) + f" | {100 * agreement:.2f} | {'yes' if offered else 'no'} |"


def _loss(row: Mapping[str, Any]) -> str:
    loss = row["loss_points"]
    return (
        f"{100 * row['reference']:.1f} -> {100 * row['judged']:.1f}, {loss['value']:+.2f} "
        f"[{loss['low']:+.2f}, {loss['high']:+.2f}]"
    )


def _times(results: Mapping[str, Any]) -> Iterator[str]:
    first = results["bench"]["measured"][0]
    sizes = [batch["batch"] for batch in first["batches"]]
    yield "Speed of the runtime alone, as a multiple of ONNX Runtime fp32 in the same rounds (higher is faster), and"
    yield "its percentiles in ms at batch 1."
    yield ""
    yield "| backend | " + " | ".join(f"batch {size}" for size in sizes) + " | p50 / p95 / p99 ms | memory MiB |"
    yield "|---" * (len(sizes) + 3) + "|"
    for one in results["bench"]["measured"]:
        latency = one["batches"][0]["latency"]
        cells = " | ".join(f"{1 / batch['ratio']:.2f}x" for batch in one["batches"])
        times = " / ".join(f"{latency[p]:.2f}" for p in ("p50_ms", "p95_ms", "p99_ms"))
        yield f"| {one['backend']} | {cells} | {times} | {one['memory_mib']:.0f} |"


def _stages(results: Mapping[str, Any]) -> Iterator[str]:
    yield (
        "Where a frame's time goes (p50 ms of wall time, one frame), and the whole pipeline by the raw runtime. "
        "Other work weighs on these: [overhead.md](overhead.md) measures the pipeline's share in processor time."
    )
    yield ""
    yield "| backend | pre | infer | post | pipeline by raw |"
    yield "|---|---|---|---|---|"
    for one in results["bench"]["measured"]:
        stages = [f"{one[name]['p50_ms']:.3f}" for name in ("preprocess", "infer", "postprocess")]
        yield f"| {one['backend']} | {' | '.join(stages)} | {one['pipeline_by_raw']:.2f} |"


def _engines(results: Mapping[str, Any]) -> Iterator[str]:
    yield "| engine | built for | build s | KiB | state |"
    yield "|---|---|---|---|---|"
    for engine in results["build"]["plans"]:
        yield (
            f"| {engine['model']}, {engine['product']} {engine['version']} | {engine['device']} | "
            f"{engine['build_s']:.2f} | {engine['plan_bytes'] / 1024:.0f} | {engine['state']} |"
        )


def _variant(results: Mapping[str, Any], precision: str, scheme: str) -> Mapping[str, Any]:
    made: list[Mapping[str, Any]] = results["build"]["variants"]
    return next(v for v in made if (v["model"]["precision"], v["model"]["flavour"]) == (precision, scheme))


def _timing(results: Mapping[str, Any], variant: str, runtime: str) -> Mapping[str, Any]:
    measured: list[Mapping[str, Any]] = results["bench"]["measured"]
    return next(m for m in measured if variant in m["backend"] and m["backend"].startswith(runtime))


if __name__ == "__main__":
    sys.exit(main())
