"""Writes bench/tracks/gtsrb_{selection,report}.txt: the held-back tracks of GTSRB in two halves, fixed before training.

    python bench/track_halves.py --data FOLDER

Recipes are chosen on the first half (`lisard evaluate --tracks bench/tracks/gtsrb_selection.txt`). The other half is
measured once, for the model that ships and its baselines. Drawn by a fixed seed, without any model.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lisard_trainer import data, recipes

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "bench" / "tracks"
RECIPE = ROOT / "trainer" / "recipes" / "traffic_signs.yaml"
HALVES = ("selection", "report")
SEED = 25


def halves(by_class: Mapping[int, Sequence[str]], seed: int) -> tuple[list[str], list[str]]:
    """Half of the tracks of each class on each side; where their number is odd, the sides take turns with the one more.

    Args:
        by_class: Tracks of each class; a track has one class.
        seed: Of the order of classes and of tracks within them.

    Returns:
        The tracks of both halves, sorted. Their numbers differ by one at most.
    """
    generator = np.random.default_rng(seed)
    sides: tuple[list[str], list[str]] = ([], [])
    turn = 0
    for label in generator.permutation(sorted(by_class)):
        tracks = sorted(by_class[label])
        for place in generator.permutation(len(tracks)):
            sides[turn].append(tracks[place])
            turn = 1 - turn
    return sorted(sides[0]), sorted(sides[1])


def main() -> None:
    """Draws the halves and writes both lists."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of GTSRB")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the lists (default: bench/tracks)")
    args = parser.parse_args()
    settings = recipes.read(RECIPE).data
    held_back = data.load(settings, args.data).validation
    by_class: dict[int, set[str]] = {}
    for track, label in zip(held_back.tracks, held_back.labels.tolist(), strict=True):
        by_class.setdefault(label, set()).add(track)
    args.out.mkdir(parents=True, exist_ok=True)
    drawn = halves({label: sorted(tracks) for label, tracks in by_class.items()}, SEED)
    for name, tracks in zip(HALVES, drawn, strict=True):
        head = f"# {len(tracks)} held-back tracks of GTSRB (split_seed {settings.split_seed}): the half `{name}`"
        (args.out / f"gtsrb_{name}.txt").write_text("\n".join([head, *tracks]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
