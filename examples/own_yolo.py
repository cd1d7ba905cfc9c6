"""Own YOLO-type ONNX file: make a bundle of it, answer an image, and save the image with its boxes.

    python examples/own_yolo.py yolo.onnx street.jpg --labels labels.txt

The file's layout, size and, where it has them, class names are read from it; what was concluded is printed.
Exit status: 0 done, 2 for what cannot be used.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import lisard_ros
from lisard_ros import cli
from lisard_ros.errors import DataError, LisardError


def main() -> int:
    """Make the bundle and answer the image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="ONNX file of a detector (YOLOv5 to v11, YOLOX, YOLO-NAS, ...)")
    parser.add_argument("image", type=Path, help="an image to answer")
    parser.add_argument("--labels", help="file with one label per line (default: those in the ONNX file)")
    parser.add_argument("--out", type=Path, help="folder of the bundle (default: models/NAME of the file)")
    args = parser.parse_args()
    out = args.out or Path("models") / args.model.stem
    try:
        for path, what in ((args.model, "ONNX file"), (args.image, "image")):
            if not path.is_file():
                raise DataError(f"no {what}", found=f"nothing at {path}", expected=f"an {what}", cure="give its path")
        words = ["bundle", str(args.model), "--task", "detection", "--check", str(args.image), "--out", str(out)]
        status = cli.main([*words, *(["--labels", args.labels] if args.labels else [])])
        if status != cli.EXIT_DONE:
            return status
        with lisard_ros.load(out) as model:
            for box in model(args.image):
                left, top, right, bottom = box.box_xyxy
                print(f"{box.label} {box.score:.2f} at {left:.0f},{top:.0f} to {right:.0f},{bottom:.0f}")
    except LisardError as error:
        print(f"own_yolo: error: {error}", file=sys.stderr)
        return cli.EXIT_WRONG_USE
    print(f"start the node: perception_node --ros-args -p bundle:={out} -p image_topics:=/camera/image_raw")
    return cli.EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
