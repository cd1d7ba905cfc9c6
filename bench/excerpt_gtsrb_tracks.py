"""Writes data/gtsrb_tracks: whole validation tracks of GTSRB, one for each of 30 classes, for the demo and its tests.

    python bench/excerpt_gtsrb_tracks.py --data FOLDER

The images are never trained on (same split as the recipes). Tracks are drawn by a fixed seed, without any model.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np

from lisard_trainer import data
from lisard_trainer.data import folders

CLASSES = 30
FRAMES_PER_TRACK = 10
SEED = 0
NOTICE = """Excerpt of GTSRB, the German Traffic Sign Recognition Benchmark (INI, Ruhr-Universitaet Bochum).

J. Stallkamp, M. Schlipsing, J. Salmen, C. Igel: Man vs. computer: Benchmarking machine learning algorithms for traffic
sign recognition. Neural Networks 32 (2012) 323-332.

The data set is offered for research; its terms were not verified at the source. These images are test and demo data,
are no part of the installed package, and are not covered by the licence of this project.

Contents: 300 images, 32x32 (rescaled), <class>/<track>_<frame>.png: every third frame of 30 whole tracks of the
official training part, one track for each of 30 classes. They belong to the validation part of the recipes' split: no
shipped model was trained on them.
"""


def main() -> None:
    """Copies the files byte for byte."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, default=Path("data/gtsrb_tracks"))
    args = parser.parse_args()
    folder, settings = folders.training_folder(folders.find_root(args.data)), data.Data()
    dataset = data.read(folder, settings.size_px)
    held_back = data.split_by_track(dataset, settings.validation_share, settings.split_seed).validation
    for name in chosen_tracks(held_back):
        for path in (p for p, track in zip(held_back.paths, held_back.tracks, strict=True) if track == name):
            target = args.out / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / path, target)
    (args.out / "LICENCE.txt").write_text(NOTICE)


def chosen_tracks(held_back: data.ImageDataset) -> list[str]:
    """One whole track of each of the drawn classes."""
    sizes = {track: held_back.tracks.count(track) for track in sorted(set(held_back.tracks))}
    first: dict[str, str] = {}
    for track, size in sizes.items():
        if size == FRAMES_PER_TRACK:
            first.setdefault(track.partition("/")[0], track)
    drawn = np.random.default_rng(SEED).permutation(len(first))[:CLASSES]
    return [list(first.values())[position] for position in sorted(drawn)]


if __name__ == "__main__":
    main()
