"""Gradient attacks on public ONNX files that nobody here wrote, by the commands that a user types.

    python bench/public_models.py resnet_2b --file resnet_2b.onnx --images CIFAR10/test --count 1000
    python bench/public_models.py yolox_nano --file yolox_nano.onnx --images COCO128/train2017 --labels NAMES --count 6
    python bench/public_models.py page

MODELS says where the files come from; NAMES is a file with the 80 names of COCO, one a line. Each is wrapped (`lisard
bundle`), differentiated (`lisard build --gradient`) and attacked on labelled images (`lisard attack run`). Writes its
part of docs/results/public_models.json, and the page.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lisard_trainer import provenance

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "docs" / "results" / "public_models.json"
CIFAR10 = "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck"


@dataclass(frozen=True)
class PublicModel:
    """A file, how `lisard bundle` is told to read it, what attacks it, and what its authors report."""

    about: str
    source: str
    sha256: str
    words: tuple[str, ...]
    attacks: tuple[str, ...]
    published: str


MODELS = {
    "resnet_2b": PublicModel(
        "ResNet-2B, a classifier of CIFAR-10, trained adversarially at 2/255",
        "github stanleybak/vnncomp2021, benchmarks/cifar10_resnet/onnx/resnet_2b.onnx",
        "791aa24d77917ecda16809fbbd48e7739616f88ebf74cf358b2d1bf911dc4a6d",
        (
            *("--task", "classification", "--labels", CIFAR10, "--input", "32x32"),
            *("--mean", "0.4914,0.4822,0.4465", "--std", "0.2471,0.2435,0.2616"),
        ),
        ("fgsm/2", "pgd10/1", "pgd10/2", "apgd20/2", "square100/2", "pgd10/8"),
        "Its authors report 69.25 % on clean images, 62.24 % under PGD at 1/255 and 54.82 % at 2/255, on the whole "
        "test set without JPEG.",
    ),
    "yolox_nano": PublicModel(
        "YOLOX-Nano, a detector of the 80 classes of COCO",
        "github Kazuhito00/YOLOX-ONNX-TFLite-Sample, model/yolox_nano.onnx",
        "695e750a5d5754bb5a8d5325643b59282191a7e7a564e435a415fd3c578eab14",
        (
            *("--task", "detection", "--input", "416x416", "--layout", "yolox_grid"),
            *("--colour", "bgr", "--resize", "letterbox", "--std", "0.00392156862745098"),
        ),
        ("fgsm/2", "pgd10/2", "fgsm", "pgd10", "pgd10_vanish", "uniform"),
        "The images are of its training set, so the clean figure says nothing of other images.",
    ),
}


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Wrap, differentiate and attack one file; the result of `lisard attack run` and where it comes from."""
    model, sha256 = MODELS[name], hashlib.sha256(args.file.read_bytes()).hexdigest()
    if sha256 != model.sha256:
        raise SystemExit(f"{args.file} is another file: sha256 {sha256}, expected {model.sha256}")
    commit, labels = provenance.commit(), ("--labels", str(args.labels)) if args.labels else ()
    with tempfile.TemporaryDirectory(prefix="lisard_public_") as work:
        bundle = str(Path(work) / name)
        lisard("bundle", str(args.file), "--out", bundle, *model.words, *labels)
        lisard("build", bundle, "--variants", "none", "--gradient", cache=work)
        attack = ("--attack", ",".join(model.attacks), "--count", str(args.count), "--threads", str(args.threads))
        report = json.loads(lisard("attack", "run", bundle, str(args.images), *attack, "--json", cache=work))
    report["origin"] = args.images.name  # the path of this machine says nothing
    about = {"date": datetime.now(timezone.utc).date().isoformat(), "commit": commit, "onnx_sha256": sha256}
    return {**about, "report": report}


def lisard(*words: str, cache: str = "") -> str:
    """Run a command and return what it prints."""
    environment = {**os.environ, **({"LISARD_CACHE": cache} if cache else {})}
    command = [sys.executable, "-m", "lisard_ros", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"lisard {words[0]} ended with {done.returncode}")
    return done.stdout


def page(kept: dict[str, Any]) -> str:
    """The Markdown page."""
    lines = [
        "# Gradient attacks on public models",
        "",
        "Generated from public_models.json by bench/public_models.py. Nobody here wrote or trained these files. "
        "Budgets are in grey levels (Linf); all attacks with gradients are white-box. Shares with 95 % intervals.",
    ]
    for name, result in kept.items():
        model, cases = MODELS[name], result["report"]["cases"]
        counted = "true boxes found" if cases[0]["counted"] == "boxes" else "right class"
        lines += ["", f"## {name}", "", f"{model.about}. {model.published}", ""]
        lines += [f"- file: {model.source}, sha256 {result['onnx_sha256'][:12]}"]
        lines += [f"- images: {cases[0]['cost']['images']} of the folder `{result['report']['origin']}`"]
        lines += [f"- {result['date']}, commit {result['commit'][:10]}, {result['report']['backend']}", ""]
        lines += [
            f"| attack | {counted}, % | attack succeeds, % | gradients and queries an image |",
            "|---|---|---|---|",
        ]
        for case in cases:
            cost, images = case["cost"], max(1, case["cost"]["images"])
            spent = f"{cost['gradients'] / images:.3g} and {cost['queries'] / images:.3g}"
            lines.append(f"| `{case['injection']}` | {share(case['accuracy'])} | {share(case['success'])} | {spent} |")
    return "\n".join(lines) + "\n"


def share(value: dict[str, Any]) -> str:
    """A share with its interval."""
    if not value["n"]:
        return "-"
    return f"{100 * value['share']:.1f} [{100 * value['low']:.1f}, {100 * value['high']:.1f}] of {value['n']}"


def main() -> None:
    """Measure, or write the page again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=(*MODELS, "page"))
    parser.add_argument("--file", type=Path, help="the ONNX file")
    parser.add_argument("--images", type=Path, help="folders named after classes, or a folder with a COCO list")
    parser.add_argument("--labels", type=Path, help="file with the labels of a detector, one a line")
    parser.add_argument("--count", type=int, default=0, help="images, spread evenly; 0: all (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    args = parser.parse_args()
    kept = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    if args.model != "page":
        if not args.file or not args.images:
            parser.error("--file and --images are needed")
        kept[args.model] = measure(args.model, args)
        RESULT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    RESULT.with_suffix(".md").write_text(page(kept), encoding="utf-8")


if __name__ == "__main__":
    main()
