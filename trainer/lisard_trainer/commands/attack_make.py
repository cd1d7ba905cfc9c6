"""lisard attack make BUNDLE: stores gray-box FGSM and PGD-10 and one universal perturbation in a bundle.

Made on a surrogate: a network of the same kind, trained on the same data in the ordinary way with another seed. For a
detector they go against the true boxes of its self-test images. A patch can be made on the bundle's own network too.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lisard_ros.commands.output import OutputPath, try_outputs
from lisard_ros.errors import UsageError

from ..tasks import stored_attacks
from ..training import checkpoint

HELP = "make stored perturbations on a surrogate: gray-box FGSM and PGD-10 and a universal one, or a printed patch"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `lisard attack make`."""
    parser.add_argument("bundle", type=Path, help="model bundle (folder); its self-test images are always covered")
    parser.add_argument(
        "--surrogate",
        type=Path,
        metavar="RUN",
        help="run folder of the surrogate's training (gray-box); a patch without one is made on the bundle itself "
        "(white-box)",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="more images to cover, of a classifier: <class>/<track>_<frame>.png",
    )
    parser.add_argument("--data", help="training images for the universal perturbation (default: LISARD_DATA)")
    parser.add_argument("--eps-255", type=int, default=8, help="budget in grey levels, Linf (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random start (default: %(default)s)")
    parser.add_argument(
        "--patch",
        type=float,
        metavar="SHARE",
        help="make a printed patch instead, at most this share of the image's area, for example 0.1",
    )
    parser.add_argument(
        "--on-objects",
        action="store_true",
        help="make the patch on the objects of a detector, of at most SHARE of each, instead of beside them",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the perturbations into the bundle and extends its self test by them."""
    try_outputs(OutputPath("BUNDLE", args.bundle, "bundle"))
    if args.on_objects and args.patch is None:
        raise UsageError("--on-objects without a patch", found="no --patch", expected="--patch SHARE")
    surrogate = None if args.surrogate is None else checkpoint.read(args.surrogate)
    if args.patch is not None:
        request = stored_attacks.PatchRequest(args.patch, seed=args.seed, on_objects=args.on_objects)
        bundle = stored_attacks.add_patch(args.bundle, surrogate, args.data, request)
    elif surrogate is None:
        raise UsageError(
            "stored perturbations without a surrogate",
            found="no --surrogate",
            expected="--surrogate RUN, or --patch SHARE",
            cure="train one: lisard train RECIPE --set seed=101 --no-export",
        )
    else:
        settings = stored_attacks.PerturbationSettings(eps_255=args.eps_255, seed=args.seed)
        bundle = stored_attacks.add(args.bundle, surrogate, args.images, args.data, settings)
    for about in bundle.manifest.perturbations:
        print(f"{about.name}: {about.attack}, {about.knowledge}, eps {about.eps_255:g}/255, {about.count} deltas")
    print(f"bundle {bundle.path} ({bundle.sha256[:12]})")
    return 0
