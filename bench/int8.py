"""Builds the int8 file of a shipped bundle into the bundle, and writes what it costs to docs/results/int8.json.

    python bench/int8.py traffic_signs --calibration GTSRB
    python bench/int8.py road_signs --calibration ROAD_SIGNS/train --images ROAD_SIGNS/val

`lisard build` does both: it calibrates on training images (of GTSRB, one folder, on those of the recipe's split),
compares int8 with fp32 on the bundle's reference images and on --images, clean and under each stored perturbation, and
installs what stays within its limits. bench/readme_results.py makes the tables. For times see bench/node_load.py.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from lisard_ros import host_cpu
from lisard_trainer import data, provenance, recipes

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs/results/int8.json"
SCHEMA_VERSION = 1
IMAGES = {"traffic_signs": ROOT / "data/gtsrb_tracks", "road_signs": None}
IMAGES_ARE = {
    "traffic_signs": "those of `data/gtsrb_tracks` and the bundle's reference images",
    "road_signs": "the held-back ones and, once more in the size of the network, the ten reference images among them",
}
SCHEME = "u8s8"


def main() -> int:
    """Build one bundle's file; exit status 1 when the gate refused it, and nothing is written then."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", choices=IMAGES)
    parser.add_argument("--calibration", type=Path, required=True, help="folder of training images")
    parser.add_argument("--images", type=Path, help="held-back images (traffic_signs: data/gtsrb_tracks)")
    args = parser.parse_args()
    images = args.images or IMAGES[args.bundle]
    if images is None:
        parser.error("--images is needed")
    commit = provenance.commit()  # before the bundle changes
    with tempfile.TemporaryDirectory(prefix="lisard_int8_") as work:
        calibration = args.calibration
        if args.bundle == "traffic_signs":
            calibration = training_images(args.bundle, calibration, Path(work))
        words = ["--variants", SCHEME, "--calibration", str(calibration), "--images", str(images), "--json"]
        command = [sys.executable, "-m", "lisard_ros", "build", str(ROOT / "models" / args.bundle), *words]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        return done.returncode
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {"models": {}}
    results["schema_version"] = SCHEMA_VERSION
    results["models"][args.bundle] = {"commit": commit, **entry(args.bundle, json.loads(done.stdout))}
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return 0


def training_images(name: str, folder: Path, work: Path) -> Path:
    """Write the training images of a folder that holds the held-back ones as well, split as for the shipped model."""
    recipe = recipes.read(ROOT / f"trainer/recipes/{name}.yaml")
    images = data.load(recipe.data, str(folder)).train.images
    target = work / f"{name}_training.npz"
    np.savez(target, frames=images.permute(0, 2, 3, 1).numpy())
    return target


def entry(name: str, build: dict[str, Any]) -> dict[str, Any]:
    """What was measured of one bundle; shares in [0, 1], differences int8 minus fp32 with 95 % intervals."""
    (made,) = build["variants"]
    measured = made["measured"]
    files = json.loads((ROOT / "models" / name / "bundle.json").read_text(encoding="utf-8"))["files"]
    lines = []
    for row in measured["rows"]:
        loss = row["loss_points"]
        lines.append(
            {
                "condition": row["injection"],
                "knowledge": row["knowledge"],
                "n": row["n"],
                "fp32": row["reference"],
                "int8": row["judged"],
                "difference": {
                    "value": -loss["value"] / 100,
                    "low": -loss["high"] / 100,
                    "high": -loss["low"] / 100,
                },
            }
        )
    return {
        "made_on": datetime.now(timezone.utc).date().isoformat(),
        "machine": {"cpu": host_cpu.cpu_name(), "instruction_sets": host_cpu.instruction_sets()},
        "backend": measured["judged"],
        "fp32_sha256": files["model.onnx"],
        "int8_sha256": files[made["model"]["file"]],
        "calibration": made["model"]["calibration"],
        "metric": measured["metric"],
        "images": measured["pictures"],
        "images_are": IMAGES_ARE[name],
        "images_sha256": measured["pictures_sha256"],
        "agreement": measured["agreement"],
        "lines": lines,
    }


if __name__ == "__main__":
    sys.exit(main())
