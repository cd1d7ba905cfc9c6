"""Measures what the pipeline adds to its networks, in CPU time, and writes docs/results/overhead.*.

    python bench/untrained_detector.py /tmp/untrained      # while no detector is shipped
    python bench/overhead.py --detector /tmp/untrained
    python bench/overhead.py --table        only writes overhead.md from overhead.json again

A ratio is the median over rounds of a frame's whole time by the time of the runtime alone on the same input; both are
CPU times of this process, each after a pause as between a camera's frames, so that other work on the machine counts for
little. int8 files are made on the spot where a bundle has none: their answers are not judged here, only their speed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
JSON, TABLE = ROOT / "docs/results/overhead.json", ROOT / "docs/results/overhead.md"
SCHEMA_VERSION = 1
CAMERAS = ((640, 480), (1280, 720))
FRAMES = 32
ASKED = {"classifier": 1.3, "detector": 1.15, "two stages": 1.25}


def main() -> int:
    """Measure, or only write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", default=ROOT / "models/traffic_signs")
    parser.add_argument("--detector", type=Path, default=ROOT / "models/road_signs")
    parser.add_argument("--rounds", type=int, default=100, help="of the classifier; half of it for what has a detector")
    parser.add_argument("--table", action="store_true", help="only write the table")
    args = parser.parse_args()
    if not args.table:
        JSON.write_text(measure(args.bundle, args.detector, args.rounds) + "\n", encoding="utf-8")
    TABLE.write_text(table(json.loads(JSON.read_text(encoding="utf-8"))), encoding="utf-8")
    return 0


def measure(classifier: Path, detector: Path, rounds: int) -> str:
    """Run every case; JSON."""
    from lisard_engines import benchmark, image_sets
    from lisard_engines.commands.bench import as_camera
    from lisard_engines.verification import ModelUnderTest
    from lisard_ros import bundle as bundles
    from lisard_ros.commands.output import to_json
    from lisard_trainer import provenance

    road = _road_frames()
    first = _with_int8(bundles.read(detector), image_sets.of_frames("data/road_signs", road))
    own = bundles.read(classifier)
    references = image_sets.of_bundle(own)
    last = _with_int8(own, references)
    models = [ModelUnderTest("onnxruntime", precision, threads=1) for precision in ("fp32", "int8")]
    cases = [
        _case(
            "classifier",
            benchmark.measure(
                last,
                models,
                references.frames,
                f"{len(references)} reference images",
                batches=(1,),
                rounds=rounds,
                clock="cpu",
            ),
        )
    ]
    for width, height in CAMERAS:
        frames = tuple(as_camera(frame, width, height) for frame in road)
        seen = _with_crops(frames, first, last)
        for name, bundle, front, chosen in (("detector", first, None, frames), ("two stages", last, first, seen)):
            what = f"{len(chosen)} frames of data/road_signs at {width}x{height} bgr8"
            cases.append(
                _case(
                    name,
                    benchmark.measure(
                        bundle,
                        models,
                        chosen,
                        what,
                        batches=(1,),
                        rounds=max(1, rounds // 2),
                        detector=front,
                        clock="cpu",
                    ),
                )
            )
    return to_json({"schema_version": SCHEMA_VERSION, "commit": provenance.commit(), "cases": cases})


def _case(name: str, report: object) -> dict[str, object]:
    return {"name": name, "report": report}


def _road_frames() -> tuple[Any, ...]:
    from lisard_ros.bags.reader import open_bag

    with open_bag(ROOT / "data/road_signs") as bag:
        found = (item.frame for item in bag.frames() if item.frame is not None)
        return tuple(frame for frame, _ in zip(found, range(FRAMES), strict=False))


def _with_crops(frames: tuple[Any, ...], detector: Any, classifier: Any) -> tuple[Any, ...]:
    """The frames in which the detector finds something to classify: without a crop there is no second stage."""
    from lisard_ros.backends import choose
    from lisard_ros.inference.pipeline import Pipeline

    first, last = (choose(bundle, "onnxruntime", 1) for bundle in (detector, classifier))
    pipeline = Pipeline(classifier, last, detector=Pipeline(detector, first))
    kept = tuple(frame for frame in frames if pipeline.prepare([frame]).crops)
    pipeline.close()
    if not kept:
        raise SystemExit("the detector finds nothing to classify in data/road_signs; give another --detector")
    return kept


def _with_int8(bundle: Any, calibration: Any) -> Any:
    """The bundle in memory with an int8 file for CPUs."""
    from lisard_engines.quantization import int8
    from lisard_engines.verification import variants
    from lisard_ros.bundle.manifest import ModelFile

    if any(model.precision == "int8" and model.scheme == "u8s8" for model in bundle.manifest.models):
        return bundle
    plain = bundle.manifest.models[0]
    data = int8.to_int8(bundle.data(plain.file), plain.file, "u8s8", calibration, bundle.manifest.input)
    return variants.with_model(bundle, ModelFile(file="model_u8s8.onnx", precision="int8", scheme="u8s8"), data)


def table(results: Mapping[str, Any]) -> str:
    """Return the whole page."""
    return "\n".join([*_head(results), "", *_rows(results), ""])


def _head(results: Mapping[str, Any]) -> Iterator[str]:
    reports = [case["report"] for case in results["cases"]]
    m = reports[0]["machine"]
    names = {report["bundle"]: report["bundle_sha256"][:12] for report in reports}
    yield "# What the pipeline adds to its networks"
    yield ""
    yield "Generated from overhead.json by bench/overhead.py, which says how it is measured."
    yield ""
    yield (
        f"{', '.join(f'{name} {sha}' for name, sha in names.items())}, {reports[0]['made_on']}, commit "
        f"{results['commit'][:10]}, {m['cpu']}, {m['cores']} cores, load {m['load_1min']}, {reports[0]['threads']} "
        "thread, ONNX Runtime, batch 1. Ratios and the p50 of the pipeline are CPU time; pre and post are wall time "
        "on a machine that other work kept busy."
    )
    if "untrained" in names:
        yield ""
        yield (
            "The detector is untrained (bench/untrained_detector.py): the network of recipe road_signs at 320x320, "
            "with scores laid so that 5 of its 2100 positions pass on average over frames, very unevenly. No "
            "trained one was measured yet. Two stages: only frames with something to classify."
        )


def _rows(results: Mapping[str, Any]) -> Iterator[str]:
    yield (
        "| what | on | precision | pipeline p50 ms | by raw runtime | asked | reached | pre p50 ms | post p50 ms | "
        "images classified per frame |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for case in results["cases"]:
        asked = ASKED[case["name"]]
        for one in case["report"]["measured"]:
            ratio, looks = one["pipeline_by_raw"], f"{one['looks']:.1f}" if case["name"] == "two stages" else "–"
            times = [f"{one[part]['p50_ms']:.2f}" for part in ("pipeline", "preprocess", "postprocess")]
            reached = "yes" if ratio <= asked else "no"
            yield (
                f"| {case['name']} | {case['report']['frames']} | {one['subject']['precision']} | {times[0]} | "
                f"{ratio:.2f} | <= {asked} | {reached} | {times[1]} | {times[2]} | {looks} |"
            )


if __name__ == "__main__":
    sys.exit(main())
