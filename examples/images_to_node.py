"""Own images to node, in one script: train, look at one answer, start the node with the model.

    python examples/images_to_node.py IMAGES --image-topic /camera/image_raw

IMAGES has a folder for each class. Exit status: that of the node, or 2 for what cannot be used.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import lisard_ros
from lisard_ros import cli
from lisard_ros.errors import DataError, LisardError

RECIPE = Path(__file__).resolve().parents[1] / "trainer/recipes/own_images.yaml"
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm")


def main() -> int:
    """Train, answer, start."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="folder with one folder of images for each class")
    parser.add_argument("--name", default="own", help="name of the model; the bundle is written to models/NAME")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another value of the recipe")
    parser.add_argument("--image-topic", default="", metavar="TOPIC", help="start the node on this topic")
    args = parser.parse_args()
    try:
        first = first_image(args.images)
        train(args.images, args.name, args.set)
        show(Path("models") / args.name, first)
    except LisardError as error:
        print(f"images_to_node: error: {error}", file=sys.stderr)
        return cli.EXIT_WRONG_USE
    if not args.image_topic:
        return cli.EXIT_DONE
    parameters = [f"bundle:=models/{args.name}", f"image_topics:=[{args.image_topic}]"]
    return subprocess.run(
        ["perception_node", "--ros-args", *(word for value in parameters for word in ("-p", value))], check=False
    ).returncode


def first_image(folder: Path) -> Path:
    """Return an image below FOLDER; DataError where there is none."""
    found = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise DataError(
            "no images to train on",
            found=f"none at {folder}/CLASS/*.jpg",
            expected="a folder with one folder of images for each class",
            cure="data/gtsrb_tracks of the checkout is one to try (with --set data.tracks=none)",
        )
    return found[0]


def train(images: Path, name: str, changes: list[str]) -> None:
    """Train with the recipe for own images; LisardError when the training failed."""
    words = ["train", str(RECIPE), "--data", str(images), "--set", f"name={name}"]
    status = cli.main([*words, *(word for change in changes for word in ("--set", change))])
    if status != cli.EXIT_DONE:
        raise LisardError("the training failed", found=f"status {status}", cure="see above")


def show(bundle: Path, image: Path) -> None:
    """Print the likeliest class of an image."""
    with lisard_ros.load(bundle) as model:
        best = model(image)[0]
        print(f"{image}: {best.label}, score {best.score:.2f}")


if __name__ == "__main__":
    sys.exit(main())
