"""Divides training images into training and validation parts, by whole tracks, every class on both sides.

An image without a track is a track of its own, so this is also the stratified split by image.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from lisard_ros.errors import DataError

from .dataset import ImageDataset, Split

MIN_TRACKS_PER_CLASS = 2


def split(dataset: ImageDataset, share: float, seed: int) -> Split:
    """Holds back `share` of the tracks of every class; tracks may hold several classes, as crops of one image do."""
    classes_of = defaultdict(set)
    for track, label in zip(dataset.tracks, dataset.labels.tolist(), strict=True):
        classes_of[track].add(label)
    if all(len(labels) == 1 for labels in classes_of.values()):
        return split_by_track(dataset, share, seed)
    return _split_mixed(dataset, share, seed)


def split_by_track(dataset: ImageDataset, share: float, seed: int) -> Split:
    """Holds back `share` of the tracks of every class, at least one; the same seed gives the same split."""
    generator = np.random.default_rng(seed)
    held_back: set[str] = set()
    for label, tracks in enumerate(_tracks_by_class(dataset)):
        count = _wanted(tracks, share, dataset.classes[label])
        held_back.update(tracks[i] for i in generator.permutation(len(tracks))[:count])
    return _divide(dataset, held_back)


def _split_mixed(dataset: ImageDataset, share: float, seed: int) -> Split:
    """Class by class, the rarest first; each keeps one track for training, and counts what others held back."""
    generator = np.random.default_rng(seed)
    by_class = _tracks_by_class(dataset)
    held_back: set[str] = set()
    kept: set[str] = set()
    for label in sorted(range(len(by_class)), key=lambda number: len(by_class[number])):
        own = by_class[label]
        count = _wanted(own, share, dataset.classes[label])
        order = [own[i] for i in generator.permutation(len(own))]
        kept.update([track for track in order if track not in held_back][-1:])
        free = [track for track in order if track not in held_back and track not in kept]
        held_back.update(free[: max(0, count - len(held_back.intersection(own)))])
        if not held_back.intersection(own) or held_back.issuperset(own):
            raise DataError(
                f"class {dataset.classes[label]}",
                found="images that other classes need on one side",
                expected="some for training and some for validation",
                cure="change data.split_seed, or leave rare classes out",
            )
    return _divide(dataset, held_back)


def _tracks_by_class(dataset: ImageDataset) -> list[list[str]]:
    """The tracks of each class, in order."""
    found: list[set[str]] = [set() for _ in dataset.classes]
    for track, label in zip(dataset.tracks, dataset.labels.tolist(), strict=True):
        found[label].add(track)
    return [sorted(tracks) for tracks in found]


def _wanted(tracks: list[str], share: float, name: str) -> int:
    """How many tracks of a class to hold back."""
    if len(tracks) < MIN_TRACKS_PER_CLASS:
        raise DataError(
            f"class {name}",
            found=f"{len(tracks)} track",
            expected=f"at least {MIN_TRACKS_PER_CLASS} tracks, to split by track",
            cure="add images or leave the class out; without tracks set data: {kind: folder, tracks: none}",
        )
    return min(max(1, round(share * len(tracks))), len(tracks) - 1)


def _divide(dataset: ImageDataset, held_back: set[str]) -> Split:
    is_held = np.array([track in held_back for track in dataset.tracks])
    return Split(dataset.take(np.flatnonzero(~is_held)), dataset.take(np.flatnonzero(is_held)))
