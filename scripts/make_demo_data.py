"""Make the recordings under data/ that the demonstration plays, from the public data archives.

Run it from anywhere: `python scripts/make_demo_data.py --source FOLDER_WITH_ARCHIVES`; the same archives give the same
images, stamps and boxes. data/README.md says where the images come from and under which terms they ship.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tarfile
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "demo")]

from lisard_ros.bags import writer as bags  # noqa: E402
from lisard_ros.bags.messages import typestore  # noqa: E402

ROAD_SIGNS_PERIOD_NS = 10**8
ROAD_SIGNS_IMAGES = {"stop": 12, "speedlimit": 22, "trafficlight": 3, "crosswalk": 3}
ROAD_DRIVE_FRAMES = 80
ROAD_DRIVE_TOPICS = ("/camera/image_raw/compressed", "/camera/camera_info")


def select(annotations: dict[str, Any]) -> list[dict[str, Any]]:
    """Choose images: for each class in turn, evenly spaced among those that hold it and were not chosen yet."""
    names = {category["id"]: category["name"] for category in annotations["categories"]}
    holds: dict[int, set[str]] = defaultdict(set)
    for box in annotations["annotations"]:
        holds[box["image_id"]].add(names[box["category_id"]])
    chosen: dict[int, dict[str, Any]] = {}
    for label, count in ROAD_SIGNS_IMAGES.items():
        pool = [i for i in annotations["images"] if label in holds[i["id"]] and i["id"] not in chosen]
        for index in range(count):
            image = pool[index * len(pool) // count]
            chosen[image["id"]] = image
    return [chosen[key] for key in sorted(chosen)]


def road_signs(folder: Path) -> list[bags.JpegImage]:
    """Read the chosen images and their boxes from an unpacked road_signs/val folder."""
    annotations = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
    names = {category["id"]: category["name"] for category in annotations["categories"]}
    boxes: dict[int, list[bags.LabelledBox]] = defaultdict(list)
    for item in annotations["annotations"]:
        box = bags.LabelledBox(str(item["id"]), names[item["category_id"]], *map(float, item["bbox"]))
        boxes[item["image_id"]].append(box)
    return [
        bags.JpegImage(
            stamp_ns=bags.START_NS + index * ROAD_SIGNS_PERIOD_NS,
            frame_id="camera",
            jpeg=(folder / "images" / image["file_name"]).read_bytes(),
            boxes=tuple(boxes[image["id"]]),
        )
        for index, image in enumerate(select(annotations))
    ]


def unpack(archive: Path, member: str, target: Path) -> Path:
    """Unpack the part of `archive` below `member`; return its folder."""
    with tarfile.open(archive) as tar:
        tar.extractall(target, [m for m in tar.getmembers() if m.name.startswith(member)], filter="data")
    return target / member


def make(source: Path, data: Path) -> None:
    """Write data/road_signs and data/road_drive anew."""
    store = typestore()
    with tempfile.TemporaryDirectory() as scratch:
        signs = unpack(source / "road_signs_coco.tar", "road_signs/val", Path(scratch))
        drive = unpack(source / "bags_dev.tar.xz", "dev_road_compressed_mcap", Path(scratch))
        for name in ("road_signs", "road_drive"):
            shutil.rmtree(data / name, ignore_errors=True)
        signs_written = bags.write_jpeg_bag(
            data / "road_signs", store, road_signs(signs), "/camera/image_raw/compressed", "/camera/boxes", mcap=False
        )
        drive_written = bags.write_excerpt(
            data / "road_drive", store, drive, ROAD_DRIVE_TOPICS, ROAD_DRIVE_FRAMES, mcap=True
        )
    print(f"data/road_signs: {signs_written} images; data/road_drive: {drive_written} messages")


def main() -> int:
    """Parse the command line and write the data."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the archives")
    parser.add_argument("--data", type=Path, default=ROOT / "data", help="where the recordings go")
    arguments = parser.parse_args()
    make(arguments.source, arguments.data)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
